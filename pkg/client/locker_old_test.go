package client_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// An oldServer in memory speaks protocol 1, and all its locks are free.
type oldServer struct {
	silent atomic.Bool // it does not reply
	down   atomic.Bool // and does not even take connections
}

func (s *oldServer) dial(context.Context) (net.Conn, error) {
	if s.down.Load() {
		return nil, errDown
	}
	near, far := net.Pipe()
	replies := make(chan string, 100) // as a socket would have room for
	go func() {
		for reply := range replies {
			far.Write([]byte(reply))
		}
	}()
	go func() {
		defer far.Close()
		defer close(replies)
		r := bufio.NewReader(far)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if reply := oldReply(line); reply != "" && !s.silent.Load() {
				replies <- reply
			}
		}
	}()
	return near, nil
}

// oldReply is what a server says that speaks protocol 1, if all its locks are free.
func oldReply(line string) string {
	verb, name, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch verb {
	case "i":
		return "0 Lock Not Locked: " + name + "\n"
	case "g":
		return "1 Lock Get Success: " + name + "\n"
	case "r":
		return "1 Lock Release Success: " + name + "\n"
	case "iam":
		return "1 ok\n"
	}
	return ""
}

// TestLockerOldServerHeartbeat: locks on a server that speaks protocol 1 only
// are lost in time, too, when it falls silent.
func TestLockerOldServerHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s oldServer
		l := locker(t, client.LockerOptions{Options: client.Options{Dial: s.dial}})
		lock, err := l.TryAcquire(t.Context(), "x")
		must(t, err)
		select {
		case <-lock.Lost():
			t.Error("lost, though the server answers")
		case <-time.After(time.Hour):
		}
		s.silent.Store(true)
		begun := time.Now()
		<-lock.Lost()
		if took := time.Since(begun); took < 7500*time.Millisecond || took > 22500*time.Millisecond {
			t.Errorf("lost after %v", took)
		}
		err = lock.Release(t.Context())
		mustBe(t, err, client.ErrLost)
		mustBe(t, err, client.ErrTimeout)
	})
}

// tired returns options for a server that speaks protocol 1 and hangs up on
// each connection's third request, inspections aside.
func tired(t *testing.T) client.Options {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for requests := 0; requests < 3; {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if verb, _, _ := strings.Cut(line, " "); verb == "g" || verb == "r" {
						requests++
					}
					if reply := oldReply(line); reply != "" && requests < 3 {
						io.WriteString(conn, reply)
					}
				}
			}()
		}
	}()
	return client.Options{Target: l.Addr().String()}
}

// TestLockerOldServerHangsUp: a connection that has ended while nobody held a
// lock over it concerns nobody, unless calls shall fail fast.
func TestLockerOldServerHangsUp(t *testing.T) {
	ctx := within(t)
	opts := fast(tired(t))
	l := locker(t, opts)
	for range 5 {
		lock, err := l.TryAcquire(ctx, "x")
		must(t, err)
		must(t, lock.Release(ctx))
	}
	opts.FailFast = true
	l = locker(t, opts)
	lock, err := l.TryAcquire(ctx, "x")
	must(t, err)
	must(t, lock.Release(ctx))
	mustBe(t, second(l.TryAcquire(ctx, "x")), client.ErrLost)
}

// TestLockerOldServerDown: a server that is down is waited for, though it is
// an old one.
func TestLockerOldServerDown(t *testing.T) {
	ctx := within(t)
	w, opts := wired(client.Options{Target: newFake(t, nodejs).addr})
	l := locker(t, fast(opts))
	must(t, l.Ready(ctx))
	w.cut(true)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	err := second(l.TryAcquire(short, "x"))
	mustBe(t, err, client.ErrLost)
	mustBe(t, err, context.DeadlineExceeded)
	errs := make(chan error, 1)
	go func() { errs <- second(l.TryAcquire(ctx, "x")) }()
	w.cut(false)
	must(t, <-errs)
}
