package server_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/internal/netlab"
	"github.com/nylen/lockd/pkg/server"
)

// shutdown begins to shut a server down and returns where the outcome comes
// and what cuts the rest off.
func shutdown(s *server.Server) (<-chan error, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	return done, cancel
}

// Those that hold no lock end at once; their last replies come.
func TestShutdownIdle(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	var cs []*client
	for _, transport := range streams {
		silent, idle, done := s.dial(t, transport), s.dial(t, transport), s.dial(t, transport)
		idle.ask("i foo", "0 Lock Not Locked: foo")
		done.ask("g "+transport, "1 Lock Get Success: "+transport)
		done.ask("r "+transport, "1 Lock Release Success: "+transport)
		half := s.dial(t, transport)
		half.send("g half")
		cs = append(cs, silent, idle, done, half)
	}
	w := dialWS(t, s.webSocketURL)
	waitConnections(t, s.Server, len(cs)+1)
	ended, cancel := shutdown(s.Server)
	defer cancel()
	for _, c := range cs {
		c.end()
		c.Close()
	}
	w.expectClose(ws.StatusGoingAway)
	w.Close()
	must(t, <-ended)
	if n := metric(t, s.Server, "lockd_connections"); n != 0 {
		t.Errorf("%d connections after Shutdown", n)
	}
}

// Requests that were under way when Shutdown began are answered.
func TestShutdownAnswersWhatWasSent(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	for range 20 {
		c := s.dial(t, "tcp")
		c.ask("i foo", "0 Lock Not Locked: foo")
		c.send("i foo\nsi foo\n")
		defer func() {
			if got := c.line() + c.line(); got != "0 Lock Not Locked: foo\n0 Shared Lock Not Locked: foo\n" {
				t.Errorf("got %q", got)
			}
			c.end()
		}()
	}
	ended, cancel := shutdown(s.Server)
	defer cancel()
	must(t, <-ended)
}

// Those that hold a lock go on until they hold none.
func TestShutdownHolders(t *testing.T) {
	t.Parallel()
	for _, transport := range streams {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s := start(t, server.Options{})
			a, b, c := s.dial(t, transport), s.dial(t, transport), s.dial(t, transport)
			a.ask("g foo", "1 Lock Get Success: foo")
			b.ask("sg foo", "1 Shared Lock Get Success: foo")
			c.ask("si foo", "1 Shared Lock Is Locked: foo")
			ended, cancel := shutdown(s.Server)
			defer cancel()
			c.end()
			a.ask("i foo", "1 Lock Is Locked: foo")
			a.ask("sg foo", "0 Shutting Down: foo")
			b.ask("sr foo", "1 Shared Lock Release Success: foo")
			b.end()
			a.ask("si foo", "0 Shared Lock Not Locked: foo")
			select {
			case err := <-ended:
				t.Fatal("Shutdown is over while a lock is held: ", err)
			default:
			}
			a.ask("r foo", "1 Lock Release Success: foo")
			a.end()
			a.Close()
			b.Close()
			c.Close()
			must(t, <-ended)
		})
	}
}

// A holder that goes ends it too.
func TestShutdownHolderGoes(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.dial(t, "tcp")
	c.ask("g foo", "1 Lock Get Success: foo")
	ended, cancel := shutdown(s.Server)
	defer cancel()
	c.ask("i foo", "1 Lock Is Locked: foo")
	c.Close()
	must(t, <-ended)
}

// What is left when the context is done is cut off, with its error.
func TestShutdownCuts(t *testing.T) {
	t.Parallel()
	for _, transport := range append([]string{"websocket"}, streams...) {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s := start(t, server.Options{})
			p := s.peer(t, transport)
			p.request("g foo")
			p.line(true)
			ended, cancel := shutdown(s.Server)
			p.request("i foo")
			if got := p.line(true); got != "1 Lock Is Locked: foo\n" {
				t.Fatalf("got %q", got)
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, not the context's error", err)
			}
			if n := metric(t, s.Server, "lockd_connections"); n != 0 {
				t.Errorf("%d connections after Shutdown", n)
			}
			if n := metric(t, s.Server, "lockd_orphans_total"); n != 1 {
				t.Errorf("%d orphans, not 1", n)
			}
		})
	}
}

// Neither does one that does not read what it asked for hold Shutdown up for
// longer than its context.
func TestShutdownCutsSlowReader(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c, err := s.Dial()
	must(t, err)
	defer c.Close()
	stuck := make(chan struct{})
	go func() {
		defer close(stuck)
		for {
			if _, err := c.Write([]byte("dump\n")); err != nil {
				return
			}
		}
	}()
	eventually(t, "requests", func() bool {
		return metric(t, s.Server, "lockd_commands_total", "command=dump") > 1000
	})
	s.Shutdown(canceled())
	if n := metric(t, s.Server, "lockd_connections"); n != 0 {
		t.Errorf("%d connections after Shutdown", n)
	}
	c.Close()
	<-stuck
}

// One that holds nothing is ended even if it asks and asks. ("Those that hold
// no lock at once, after the requests that were under way".)
func TestShutdownEndsTheBusy(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.dial(t, "tcp")
	c.ask("i foo", "0 Lock Not Locked: foo")
	ended, cancel := shutdown(s.Server)
	defer cancel()
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			if _, err := c.Write([]byte("i foo\n")); err != nil {
				return
			}
			if _, err := c.in.ReadString('\n'); err != nil {
				return
			}
		}
	}()
	select {
	case <-over:
		c.Close()
		must(t, <-ended)
	case <-t.Context().Done():
	case <-giveUpSoon():
		t.Error("Shutdown does not end a connection that holds no lock but keeps asking")
		c.Close()
		<-over
		<-ended
	}
}

// Serve, ListenAndServe and Listen say so when it is over, and nothing listens
// any more.
func TestErrServerClosed(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	own := netlab.OwnHost() + ":0"
	s := newServer(t, server.Options{TCP: []string{own}, Unix: []string{path}, WebSocket: []string{own}, Admin: own})
	var ls []net.Listener
	done := make(chan error)
	n := 0
	for _, serve := range []func(net.Listener) error{s.Serve, s.Serve, s.ServeWebSocket} {
		l, err := net.Listen("tcp", own)
		must(t, err)
		ls = append(ls, l)
		n++
		go func() { done <- serve(l) }()
	}
	n++
	go func() { done <- s.ListenAndServe() }()
	eventually(t, "listeners", func() bool { return len(s.Addrs()) == 4 })
	for _, l := range ls[:2] {
		conn, err := net.Dial("tcp", l.Addr().String())
		newClient(t, conn, err).ask("i foo", "0 Lock Not Locked: foo")
		conn.Close()
	}
	dialWS(t, "ws://"+ls[2].Addr().String()).Close()
	must(t, s.Shutdown(t.Context()))
	for range n {
		if err := <-done; err != server.ErrServerClosed {
			t.Errorf("got %v", err)
		}
	}
	for _, a := range s.Addrs() {
		if c, err := net.Dial(a.Network(), a.String()); err == nil {
			c.Close()
			t.Errorf("%s %s is still open", a.Transport, a)
		}
	}
	for _, l := range ls {
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			c.Close()
			t.Errorf("%s is still open", l.Addr())
		}
	}
	// And at once from now on.
	if err := s.ListenAndServe(); err != server.ErrServerClosed {
		t.Errorf("ListenAndServe after Shutdown: %v", err)
	}
	if err := s.Listen(); err != server.ErrServerClosed {
		t.Errorf("Listen after Shutdown: %v", err)
	}
	if _, err := s.Dial(); err != server.ErrServerClosed {
		t.Errorf("Dial after Shutdown: %v", err)
	}
	for _, serve := range []func(net.Listener) error{s.Serve, s.ServeWebSocket} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		if err := serve(l); err != server.ErrServerClosed {
			t.Errorf("after Shutdown: %v", err)
		}
		if l.Close() == nil {
			t.Error("a listener given after Shutdown is still open")
		}
	}
}

// A listener that somebody else closes is no end of the server.
func TestServeOnAClosedListener(t *testing.T) {
	t.Parallel()
	s := newServer(t, server.Options{})
	for _, serve := range []func(net.Listener) error{s.Serve, s.ServeWebSocket} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		l.Close()
		if err := serve(l); err == nil || errors.Is(err, server.ErrServerClosed) {
			t.Errorf("got %v", err)
		}
	}
}

// Any number may shut it down; all return when it is over.
func TestShutdownTwice(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.dial(t, "tcp")
	c.ask("g foo", "1 Lock Get Success: foo")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if n := metric(t, s.Server, "lockd_connections"); n != 0 {
				t.Errorf("Shutdown returned with %d connections", n)
			}
		})
	}
	c.ask("r foo", "1 Lock Release Success: foo")
	c.end()
	c.Close()
	wg.Wait()
	must(t, s.Shutdown(canceled()))
}

// A server that never listened can be shut down.
func TestShutdownUnused(t *testing.T) {
	t.Parallel()
	s := newServer(t, server.Options{})
	must(t, s.Shutdown(t.Context()))
}
