package server_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// lost waits until the ledger has something of a name, and returns what was lost, why,
// and whose address it is.
func (s *testServer) lost(t *testing.T, name string) (lost, addr string) {
	t.Helper()
	c := s.dial(t, "tcp")
	defer c.Close()
	var fields []string
	eventually(t, name+" is in the ledger", func() bool {
		c.send("losses 1 " + name + "\n")
		line := c.line()
		if line == "1 End\n" {
			return false
		}
		if end := c.line(); end != "1 End\n" {
			t.Fatalf("behind %q comes %q", line, end)
		}
		fields = strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		return true
	})
	return fields[3] + " " + fields[4], fields[8]
}

// Why a lock was lost, over every transport that carries lines.
func TestLosses(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		for i, c := range []struct {
			why string
			end func(c *client, addr string)
		}{
			{"disconnect", func(c *client, _ string) { c.Close() }},
			{"disconnect", func(c *client, _ string) { c.closeWrite() }},
			{"cut_off", func(c *client, _ string) { c.send("hello 2\nno session\n") }},
			{"kick", func(_ *client, addr string) {
				k := s.dial(t, "tcp")
				defer k.Close()
				k.ask("kick "+addr, "1 Kicked: "+addr)
			}},
		} {
			name := fmt.Sprint("lock ", i)
			holder := s.dial(t, transport)
			holder.ask("g "+name, "1 Lock Get Success: "+name)
			holder.send("me\n")
			addr := strings.Fields(holder.line())[1]
			c.end(holder, addr)
			if lost, of := s.lost(t, name); lost != "held "+c.why || of != addr {
				t.Errorf("%s of %s, want held %s of %s", lost, of, c.why, addr)
			}
		}
		quits := s.dial(t, transport)
		quits.ask("g quits", "1 Lock Get Success: quits")
		quits.ask("bye", "1 bye")
		quits.end()
		if n := metric(t, s.Server, "lockd_losses_total"); n != 4 {
			t.Errorf("%d losses are counted", n)
		}
		for why, n := range map[string]int{"disconnect": 2, "cut_off": 1, "kick": 1} {
			if got := metric(t, s.Server, "lockd_losses_total", "why="+why); got != n {
				t.Errorf("%s: %d are counted", why, got)
			}
		}
	})
}

// The same over WebSocket: a client that closes has closed, be it with a frame or
// without, and one that breaks the rules is cut off.
func TestLossesOverWebSocket(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{MaxMessage: 1 << 10})
	for i, c := range []struct {
		why string
		end func(c *wsClient)
	}{
		{"disconnect", func(c *wsClient) { c.Close() }},
		{"disconnect", func(c *wsClient) { c.send(frames(ws.NewCloseFrame(nil))) }},
		{"disconnect", func(c *wsClient) {
			c.send(frames(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusGoingAway, "the tab is closed"))))
		}},
		{"cut_off", func(c *wsClient) { c.send(frames(ws.NewFrame(ws.OpClose, true, []byte{1}))) }},
		{"cut_off", func(c *wsClient) { c.send(strings.Repeat("\xff", 14)) }},
		{"cut_off", func(c *wsClient) { c.send(message(ws.OpText, "\xff")) }},
		{"cut_off", func(c *wsClient) { c.send(message(ws.OpText, strings.Repeat("x", 2<<10))) }},
		{"cut_off", func(c *wsClient) { c.send(message(ws.OpText, "hello 2") + message(ws.OpText, "no session")) }},
	} {
		name := fmt.Sprint("lock ", i)
		holder := dialWS(t, s.webSocketURL)
		holder.ask("g "+name, "1 Lock Get Success: "+name)
		c.end(holder)
		if lost, _ := s.lost(t, name); lost != "held "+c.why {
			t.Errorf("%d: %s, want held %s", i, lost, c.why)
		}
	}
}

// Who keeps too much in memory is cut off, and has lost its lock by that.
func TestLossesForMemory(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"tcp", "memory"} {
		s := start(t, server.Options{MaxMemory: 32 << 20, MaxLine: 32 << 20, MaxShare: []string{"off"}})
		holder := s.dial(t, transport)
		holder.ask("g x", "1 Lock Get Success: x")
		go io.WriteString(holder, strings.Repeat("x", 30<<20)) // the beginning of a line
		io.Copy(io.Discard, holder)                            // until it is cut off: there is no room for one more before
		if lost, _ := s.lost(t, "x"); lost != "held cut_off" {
			t.Errorf("%s: %s", transport, lost)
		}
	}
}

// A connection that is reset is a client that has gone.
func TestLossesOfResets(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	holder := s.dial(t, "tcp")
	holder.ask("g x", "1 Lock Get Success: x")
	holder.send("g y\n") // what it does not read has it reset
	holder.Conn.(*net.TCPConn).SetLinger(0)
	holder.Close()
	if lost, _ := s.lost(t, "x"); lost != "held disconnect" {
		t.Errorf("%s", lost)
	}
}
