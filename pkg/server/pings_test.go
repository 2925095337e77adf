package server_test

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// A proxy passes bytes on until it is told to swallow those of clients, and of
// servers: its own connections stand, whatever has become of its client.
type proxy struct {
	net.Listener
	swallow atomic.Bool
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{Listener: l}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				return
			}
			t.Cleanup(func() { near.Close(); far.Close() })
			go p.pass(near, far)
			go p.pass(far, near)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return p
}

func (p *proxy) pass(from, to net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if err != nil {
			to.Close()
			return
		}
		if !p.swallow.Load() {
			to.Write(buf[:n])
		}
	}
}

// TestPings: a WebSocket client behind a proxy is gone when it answers no ping any
// more, if it has answered them by itself. One that answers while it reads, and does
// not read while it works, stays; so does one whose pongs come.
func TestPings(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{DeadPeerTimeout: 2 * time.Second})
	via := startProxy(t, s.ws)
	url := "ws://" + via.Addr().String() + "/"
	gone, reads := dialWS(t, url), dialWS(t, url)
	stays := dialWS(t, s.webSocketURL)
	near := s.dial(t, "tcp")
	gone.ask("g gone", "1 Lock Get Success: gone")
	reads.ask("g reads", "1 Lock Get Success: reads")
	stays.ask("g stays", "1 Lock Get Success: stays")

	pong := func(c *wsClient) {
		t.Helper()
		if f := c.frame(); f.Header.OpCode != ws.OpPing {
			t.Fatalf("got %v %q, want a ping", f.Header.OpCode, f.Payload)
		}
		c.send(frames(ws.NewPongFrame(nil)))
	}
	pong(gone)
	pong(stays)
	end := time.Now().Add(8 * time.Second)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for time.Now().Before(end) {
			pong(stays)
		}
	}()
	// Of this one nothing has come back when it has nothing to ask.
	reads.send(message(ws.OpText, "i x"))
	for range 2 {
		switch f := reads.frame(); {
		case f.Header.OpCode == ws.OpPing:
			reads.send(frames(ws.NewPongFrame(nil)))
		case strings.TrimSpace(string(f.Payload)) != "0 Lock Not Locked: x":
			t.Errorf("got %q", f.Payload)
		}
	}
	via.swallow.Store(true)
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		near.send("i gone\n")
		if strings.TrimSpace(near.line()) == "0 Lock Not Locked: gone" {
			break
		}
		if time.Since(begun) > giveUp {
			t.Fatal("it is still there")
		}
	}
	<-ended
	near.ask("i stays", "1 Lock Is Locked: stays")
	near.ask("i reads", "1 Lock Is Locked: reads")
}
