package server_test

import (
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// Who waits for a lock when Shutdown begins stops waiting, and goes: what it were
// granted it would lose with the server. Those who hold something stay.
func TestShutdownWithWaiters(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		holder, waiter, shared := s.dial(t, transport), s.dial(t, transport), s.dial(t, transport)
		two := s.dial(t, transport)
		w := dialWS(t, s.webSocketURL)
		two.ask("hello 2", "2 lockd "+server.Version)
		holder.ask("g foo", "1 Lock Get Success: foo")
		waiter.send("gw 86400000 foo\nr foo\n")
		waitWaiters(t, s.Server, 1)
		two.send("5 gw 86400000 foo\n")
		waitWaiters(t, s.Server, 2)
		w.send(message(ws.OpText, "gw 86400000 foo"))
		waitWaiters(t, s.Server, 3)
		holder.ask("sg bar", "1 Shared Lock Get Success: bar")
		shared.ask("g baz", "1 Lock Get Success: baz")
		shared.send("sgw 1 86400000 bar\ni foo\n")
		waitWaiters(t, s.Server, 4)
		done, cancel := shutdown(s.Server)
		defer cancel()
		if got := waiter.line() + waiter.line(); got != "0 Shutting Down: foo\n0 Lock Release Failure: foo\n" {
			t.Errorf("who waited got %q", got)
		}
		waiter.end()
		if got := two.line(); got != "5 0 Shutting Down: foo\n" {
			t.Errorf("who waited got %q", got)
		}
		two.end()
		w.expect(ws.OpText, "0 Shutting Down: foo\n")
		w.expectClose(ws.StatusGoingAway)
		if got := shared.line() + shared.line(); got != "0 Shutting Down: bar\n1 Lock Is Locked: foo\n" {
			t.Errorf("who waited got %q", got)
		}
		if n := metric(t, s.Server, "lockd_waiters"); n != 0 {
			t.Errorf("%d wait", n)
		}
		shared.ask("r baz", "1 Lock Release Success: baz")
		shared.end()
		holder.ask("r foo", "1 Lock Release Success: foo")
		holder.ask("sr bar", "1 Shared Lock Release Success: bar")
		holder.end()
		for _, c := range []*client{holder, waiter, shared, two} {
			c.Close()
		}
		w.Close()
		must(t, <-done)
	})
}

// Cut off while they wait, with and without requests behind the wait.
func TestShutdownCutsWaiters(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	holder := s.dial(t, "tcp")
	holder.ask("g foo", "1 Lock Get Success: foo")
	n := 0
	for _, transport := range streams {
		for _, behind := range []int{0, 10, 5000} {
			c := s.dial(t, transport)
			c.send("gw 86400000 foo\n" + strings.Repeat("i foo\n", behind))
			n++
			waitWaiters(t, s.Server, n)
		}
		two := s.dial(t, transport)
		two.ask("hello 2", "2 lockd "+server.Version)
		two.send("1 gw 86400000 foo\n2 gw 86400000 foo\n")
		n += 2
		waitWaiters(t, s.Server, n)
	}
	w := dialWS(t, s.webSocketURL)
	w.send(message(ws.OpText, "gw 86400000 foo\ni foo"))
	waitWaiters(t, s.Server, n+1)
	done, cancel := shutdown(s.Server)
	cancel()
	if err := <-done; err == nil {
		t.Error("Shutdown ended by itself")
	}
	if n := metric(t, s.Server, "lockd_waiters"); n != 0 {
		t.Errorf("%d wait after Shutdown", n)
	}
}

// "While a connection waits, what it sends next stays unread or queued in
// bounded memory": a client within the bound is answered in order.
func TestMuchInputBehindAWait(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		holder, c := s.dial(t, transport), s.dial(t, transport)
		holder.ask("g foo", "1 Lock Get Success: foo")
		const n = 5000 // 30 kB
		c.sendAll("gw 86400000 foo\n" + strings.Repeat("i foo\n", n) + "r foo\n")
		waitWaiters(t, s.Server, 1)
		holder.ask("r foo", "1 Lock Release Success: foo")
		want := []string{"1 Lock Get Success: foo\n"}
		for range n {
			want = append(want, "1 Lock Is Locked: foo\n")
		}
		for _, want := range append(want, "1 Lock Release Success: foo\n") {
			if got := c.line(); got != want {
				t.Fatalf("got %q, not %q", got, want)
			}
		}
		holder.ask("g foo", "1 Lock Get Success: foo")
	})
}
