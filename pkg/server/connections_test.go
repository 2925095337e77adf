package server_test

import (
	"net"
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// Over the bound, a connection is told `0 Too Many Connections` and closed.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{MaxConnections: 2}, func(t *testing.T, s *testServer, transport string) {
		a, b := s.dial(t, transport), s.dial(t, transport)
		a.ask("g foo", "1 Lock Get Success: foo")
		b.ask("g bar", "1 Lock Get Success: bar")
		for range 3 {
			c := s.dial(t, transport)
			if got := c.line(); got != "0 Too Many Connections\n" {
				t.Fatalf("got %q", got)
			}
			c.end()
			c.Close()
		}
		// One that talks at once is told too, and nothing of it is executed.
		c := s.dial(t, transport)
		c.Write([]byte("r foo\ng baz\n"))
		if got := c.line(); got != "0 Too Many Connections\n" {
			t.Fatalf("got %q", got)
		}
		c.end()
		b.ask("i foo", "1 Lock Is Locked: foo")
		b.ask("i baz", "0 Lock Not Locked: baz")
		if n := metric(t, s.Server, "lockd_rejected_total", "reason=too_many_connections"); n != 4 {
			t.Errorf("%d counted, not 4", n)
		}
		// A place is free again after a close.
		a.Close()
		waitConnections(t, s.Server, 1)
		c = s.dial(t, transport)
		c.ask("g foo", "1 Lock Get Success: foo")
		b.ask("g foo", "0 Lock Get Failure: foo")
	})
}

// Who sees a connection end finds its place free, without waiting.
func TestPlaceIsFreeAtTheEnd(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{MaxConnections: 1}, func(t *testing.T, s *testServer, transport string) {
		for range 200 {
			c := s.dial(t, transport)
			c.ask("g foo", "1 Lock Get Success: foo")
			c.closeWrite()
			c.end()
			c.Close()
		}
	})
}

// All transports share the bound.
func TestTooManyConnectionsInAll(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{MaxConnections: 4})
	s.dial(t, "tcp").ask("i foo", "0 Lock Not Locked: foo")
	s.dial(t, "unix").ask("i foo", "0 Lock Not Locked: foo")
	s.dial(t, "memory").ask("i foo", "0 Lock Not Locked: foo")
	w := dialWS(t, s.webSocketURL)
	w.ask("i foo", "0 Lock Not Locked: foo")
	for _, transport := range streams {
		c := s.dial(t, transport)
		if got := c.line(); got != "0 Too Many Connections\n" {
			t.Errorf("%s: got %q", transport, got)
		}
		c.end()
	}
	for _, transport := range []string{"tcp", "unix", "memory", "websocket"} {
		if n := metric(t, s.Server, "lockd_connections", "transport="+transport); n != 1 {
			t.Errorf("%d connections by %s, not 1", n, transport)
		}
	}
}

// A connection that ends in a reset frees its locks like any other.
func TestReset(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	control := s.dial(t, "tcp")
	for _, last := range []string{"", "g half", strings.Repeat("i foo\n", 1000)} {
		c := s.dial(t, "tcp")
		c.ask("g foo", "1 Lock Get Success: foo")
		c.ask("sg foo", "1 Shared Lock Get Success: foo")
		control.ask("g foo", "0 Lock Get Failure: foo")
		waitConnections(t, s.Server, 2)
		c.send(last)
		must(t, c.Conn.(*net.TCPConn).SetLinger(0))
		must(t, c.Close())
		waitConnections(t, s.Server, 1)
		control.ask("i foo", "0 Lock Not Locked: foo")
		control.ask("si foo", "0 Shared Lock Not Locked: foo")
	}
}

// "ADDR is `IP:PORT` of the peer (`[IP]:PORT` for IPv6), `unix:N` with a
// counter for unix sockets."
func TestAddresses(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.dial(t, "tcp")
	addr := c.LocalAddr().String()
	c.ask("me", "1 "+addr+" "+addr)
	seen := make(map[string]bool)
	for _, transport := range []string{"unix", "unix", "memory", "memory"} {
		c := s.dial(t, transport)
		c.send("me\n")
		words := strings.Fields(c.line())
		number, ok := strings.CutPrefix(words[1], transport+":")
		if len(words) != 3 || words[1] != words[2] || seen[words[1]] ||
			!ok || number == "" || strings.Trim(number, "0123456789") != "" {
			t.Errorf("%s: got %q", transport, words)
		}
		seen[words[1]] = true
	}
}

func TestAddressIPv6(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	s := newServer(t, server.Options{})
	done := make(chan error)
	go func() { done <- s.Serve(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	c := newClient(t, conn, err)
	addr := c.LocalAddr().String()
	if !strings.HasPrefix(addr, "[::1]:") {
		t.Fatalf("the client's address is %s", addr)
	}
	c.ask("me", "1 "+addr+" "+addr)
	c.Close()
	must(t, s.Shutdown(t.Context()))
	if err := <-done; err != server.ErrServerClosed {
		t.Errorf("Serve returned %v", err)
	}
}
