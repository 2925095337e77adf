package client_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// TestLockerServerBoundSpread: what a server has no room for on one connection
// goes over another one.
func TestLockerServerBoundSpread(t *testing.T) {
	ctx := within(t)
	log, lines := newLog()
	l := locker(t, client.LockerOptions{
		Options:     transports["tcp"](t, server.Options{MaxSessions: 11}), // session 0 included
		Connections: 3,
		Logger:      log,
	})
	for range 3 {
		<-lines // connected
	}
	for range 3 {
		var held []*client.Lock
		for i := range 30 {
			lock, err := l.Acquire(ctx, fmt.Sprint(i))
			if err != nil {
				t.Fatalf("lock %d of 30: %v", i+1, err)
			}
			held = append(held, lock)
		}
		for range 3 {
			mustBe(t, second(l.TryAcquire(ctx, "one more")), client.ErrTooManySessions)
		}
		for _, lock := range held {
			must(t, lock.Release(ctx))
		}
	}
}

// TestLockerEndsSessions: those that a peak has left behind end, here and on
// the server, and are made again when there is another.
func TestLockerEndsSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s, err := server.New(server.Options{})
		must(t, err)
		defer s.Shutdown(ctx)
		opts := client.LockerOptions{Options: client.Options{
			Dial: func(context.Context) (net.Conn, error) { return s.Dial() },
		}, Sessions: 10_000}
		for _, timeout := range []time.Duration{0, -1} { // with a heartbeat and without
			opts.ReadTimeout = timeout
			l := locker(t, opts)
			for range 2 {
				var held []*client.Lock
				for i := range 10_000 {
					lock, err := l.Acquire(ctx, fmt.Sprint(i))
					must(t, err)
					held = append(held, lock)
				}
				if n := sessions(t, s); n != 10_001 {
					t.Errorf("%d sessions at the peak", n)
				}
				for _, lock := range held[:9900] {
					must(t, lock.Release(ctx))
				}
				time.Sleep(50 * time.Second)
				synctest.Wait()
				if n := sessions(t, s); n != 10_001 {
					t.Errorf("%d sessions 50 s later", n)
				}
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				// Session 0, the 100 that hold a lock, and a few to spare.
				if n := sessions(t, s); n < 101 || n > 200 {
					t.Errorf("%d sessions at last", n)
				}
				for _, lock := range held[9900:] {
					must(t, lock.Release(ctx))
				}
			}
			l.Close()
		}
	})
}

// sessions returns how many a server has.
func sessions(t *testing.T, s *server.Server) int {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(s.Collector())
	families, err := r.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == "lockd_sessions" {
			return int(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	t.Fatal("lockd_sessions is missing")
	return 0
}

// TestLockerUsedSessionsStay: sessions that are used now and then are not made
// anew each time.
func TestLockerUsedSessionsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, accept := pipedLocker(t, client.LockerOptions{})
		s := accept()
		go func() {
			for {
				line, err := s.r.ReadString('\n')
				if err != nil {
					return
				}
				number, request, _ := strings.Cut(strings.TrimSpace(line), " ")
				verb, name, _ := strings.Cut(request, " ")
				reply := map[string]string{
					"ping": "1 pong", "g": "9 Lock Get Success: " + name, "r": "1 Lock Release Success: " + name,
				}[verb]
				if reply == "" {
					t.Errorf("server got %q", line)
				}
				s.reply(number + " " + reply + "\n")
			}
		}()
		for range 10 {
			var held []*client.Lock
			for i := range 500 {
				lock, err := l.TryAcquire(t.Context(), fmt.Sprint(i))
				must(t, err)
				held = append(held, lock)
			}
			for _, lock := range held {
				must(t, lock.Release(t.Context()))
			}
			time.Sleep(40 * time.Second)
		}
	})
}
