package server_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/stress"
	"github.com/nylen/lockd/pkg/server"
)

// Waits of one connection that end at the same moment are all answered, and the
// connection's end is noticed whenever it comes: sessions of it wait for what
// other connections hold, and these let go all at once, in the end with the
// waiting one's own end.
func TestWaitsThatEndAtOnce(t *testing.T) {
	stress.Crowd(t)
	for _, transport := range streams {
		t.Run(transport, func(t *testing.T) {
			s := start(t, server.Options{})
			rounds, lives := 0, 0
			for end := time.Now().Add(stress.Time(t) / time.Duration(len(streams))); time.Now().Before(end); lives++ {
				rounds += waitAtOnce(t, s, transport, end)
			}
			t.Logf("%d rounds of %d connections", rounds, lives)
			eventually(t, "no connection, lock, wait or session is left", func() bool {
				return metric(t, s.Server, "lockd_connections") == 0 && metric(t, s.Server, "lockd_locks") == 0 &&
					metric(t, s.Server, "lockd_waiters") == 0 && metric(t, s.Server, "lockd_sessions") == 0
			})
			ctx, cancel := context.WithTimeout(context.Background(), giveUp)
			defer cancel()
			must(t, s.Shutdown(ctx))
		})
	}
}

// waitAtOnce is the life of a connection whose sessions wait. It returns how
// often they did.
func waitAtOnce(t *testing.T, s *testServer, transport string, end time.Time) (rounds int) {
	waiter := s.dial(t, transport)
	defer waiter.Close()
	waiter.ask("hello 2", "2 lockd "+server.Version)
	var holders [4]*client
	for i := range holders {
		holders[i] = s.dial(t, transport)
		defer holders[i].Close()
	}
	// tell sends the same request in each session, the lock named as the
	// session is.
	tell := func(request string) {
		var all string
		for i := range holders {
			all += fmt.Sprintf("%d %s %d\n", i, request, i)
		}
		waiter.send(all)
	}
	wait := func() {
		for i, h := range holders {
			// The life before may not be noticed to be over.
			h.ask(fmt.Sprintf("gw 86400000 %d", i), fmt.Sprintf("1 Lock Get Success: %d", i))
		}
		tell("gw 86400000")
		waiter.ask("9 ping", "9 1 pong")
	}
	atOnce := func(also ...func()) {
		var all sync.WaitGroup
		for i, h := range holders {
			all.Go(func() { h.send(fmt.Sprintf("r %d\n", i)) })
		}
		for _, f := range also {
			all.Go(f)
		}
		all.Wait()
	}
	const life = 100
	for ; rounds < life && time.Now().Before(end); rounds++ {
		wait()
		atOnce()
		var sessions []byte
		for i, h := range holders {
			sessions = append(sessions, waiter.line()[0])
			if got, want := h.line(), fmt.Sprintf("1 Lock Release Success: %d\n", i); got != want {
				t.Fatalf("got %q, not %q", got, want)
			}
		}
		if slices.Sort(sessions); string(sessions) != "0123" {
			t.Fatalf("replies to sessions %s", sessions)
		}
		tell("r")
		for i := range holders {
			if got, want := waiter.line(), fmt.Sprintf("%d 1 Lock Release Success: %d\n", i, i); got != want {
				t.Fatalf("got %q, not %q", got, want)
			}
		}
	}
	wait()
	atOnce(func() { waiter.Close() })
	return rounds + 1
}
