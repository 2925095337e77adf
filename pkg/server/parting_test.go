package server_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// A client that reads slowly gets the replies to all requests that were
// executed, whole ones, when the server shuts down meanwhile.
func TestShutdownSendsAllReplies(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		c := s.dial(t, transport)
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			must(t, tcp.SetReadBuffer(64<<10))
		}
		c.ask("ping", "1 pong")
		executed := func() int { return metric(t, s.Server, "lockd_commands_total", "command=i") }
		go io.WriteString(c, strings.Repeat("i "+strings.Repeat("x", 200)+"\n", 20_000))
		// Until it is not served any more, as it does not read.
		for last, same := -1, 0; same < 10; time.Sleep(20 * time.Millisecond) {
			now := executed()
			if same++; now != last {
				last, same = now, 0
			}
		}
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		s.drains(t)
		got, err := io.ReadAll(c.in) // at once: it has a second
		if err != nil || !strings.HasSuffix(string(got), "\n") {
			t.Errorf("after %d bytes: %v", len(got), err)
		}
		replies := strings.Count(string(got), "\n")
		c.Close()
		must(t, <-done)
		if n := executed(); n != replies || n == 0 {
			t.Errorf("%d requests executed, %d answered", n, replies)
		}
	})
}

// Connections that have not shaken hands yet count to the bound for all.
func TestHandshakesCount(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{MaxConnections: 3})
	var idle []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", s.ws)
		must(t, err)
		defer c.Close()
		idle = append(idle, c)
	}
	eventually(t, "a client is turned away", func() bool {
		c := s.dial(t, "tcp")
		defer c.Close()
		c.send("ping\n")
		return c.line() == "0 Too Many Connections\n"
	})
	for _, c := range idle {
		c.Close()
	}
	eventually(t, "there is room again", func() bool {
		c := s.dial(t, "tcp")
		defer c.Close()
		c.send("ping\n")
		return c.line() == "1 pong\n"
	})
}

// Messages behind a wait are bounded in memory, not only in bytes, and empty
// ones are none.
func TestSmallMessagesBehindAWait(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	holder := s.dial(t, "tcp")
	holder.ask("g foo", "1 Lock Get Success: foo")
	w := dialWS(t, s.webSocketURL)
	w.send(message(ws.OpText, "gw 86400000 foo"))
	w.send(strings.Repeat(message(ws.OpText, ""), 100_000))
	w.send(frames(ws.NewPingFrame([]byte("x"))))
	if f := w.next(); f.Header.OpCode != ws.OpPong {
		t.Fatalf("%v %q", f.Header, f.Payload)
	}
	w.send(strings.Repeat(message(ws.OpText, "?"), 2000))
	w.expect(ws.OpText, "0 Lock Get Canceled: foo\n")
	w.ask("i foo", "1 Lock Is Locked: foo")
}

// A WebSocket client that closes its side of the connection gets the replies
// to what it has sent, and waits no more.
func TestWebSocketHalfClose(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	holder := s.dial(t, "tcp")
	holder.ask("g foo", "1 Lock Get Success: foo")
	w := dialWS(t, s.webSocketURL)
	w.send(message(ws.OpText, "gw 86400000 foo") + message(ws.OpText, "i foo"))
	waitWaiters(t, s.Server, 1)
	must(t, w.Conn.(*net.TCPConn).CloseWrite())
	w.expect(ws.OpText, "0 Lock Get Canceled: foo\n")
	w.expect(ws.OpText, "1 Lock Is Locked: foo\n")
	if _, err := w.in.ReadByte(); err != io.EOF {
		t.Errorf("after the replies: %v", err)
	}
}

// Also one that has only just shaken hands is told why it ends.
func TestWebSocketIsToldOfShutdown(t *testing.T) {
	t.Parallel()
	for range 50 {
		s := listen(t, server.Options{WebSocket: []string{"127.0.0.1:0"}})
		w := dialWS(t, "ws://"+s.Addrs()[0].String()+"/")
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		w.expectClose(ws.StatusGoingAway)
		w.Close()
		must(t, <-done)
	}
}
