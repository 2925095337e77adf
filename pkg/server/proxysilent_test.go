package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/pkg/server"
)

// A mute is a proxy's server that keeps it, and says nothing else, or does not read
// either: as one that is stopped, or at the other end of a network that has gone.
type mute struct {
	listener net.Listener
	deaf     bool
	away     atomic.Bool // nobody connects
	grants   atomic.Bool // it does answer requests for locks
	over     chan struct{}

	mu    sync.Mutex // guards what follows
	conns []net.Conn
}

// startMute starts one, and a proxy for it.
func startMute(t *testing.T, m *mute, to server.Upstream, own server.Options) *testServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	m.listener, m.over = l, make(chan struct{})
	var all sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		close(m.over)
		m.cut()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			m.mu.Lock()
			m.conns = append(m.conns, c)
			m.mu.Unlock()
			all.Go(func() { m.serve(c) })
		}
	})
	to.Target = "the test's"
	to.Dial = func(ctx context.Context) (net.Conn, error) {
		if m.away.Load() {
			return nil, fmt.Errorf("the network is away")
		}
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
	own.Upstream = &to
	s := start(t, own)
	ctx, stop := context.WithTimeout(context.Background(), giveUp)
	defer stop()
	must(t, s.AwaitUpstream(ctx))
	return s
}

func (m *mute) serve(c net.Conn) {
	defer c.Close()
	for in := bufio.NewReader(c); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		number, request, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		verb, name, _ := strings.Cut(request, " ")
		reply := ""
		switch {
		case number == "hello":
			reply = "2 lockd mute\n"
		case verb == "keep":
			reply = "0 3600000 Kept: 0123456789abcdef0123456789abcdef\n"
		case verb == "resume":
			reply = "0 1 Resumed: 0123456789abcdef0123456789abcdef\n"
		case verb == "claimed":
			reply = "0 1 ok\n"
		case m.grants.Load() && verb == "g":
			reply = number + " 7 Lock Get Success: " + name + "\n"
		case m.grants.Load() && verb == "sg":
			reply = number + " 1 Shared Lock Get Success: " + name + "\n"
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return
		}
		if verb == "claimed" && m.deaf {
			<-m.over
			return
		}
	}
}

// cut ends all connections.
func (m *mute) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		c.Close()
	}
	m.conns = nil
}

// Clients of protocol 1 are answered in time whatever upstream does, holders from what the
// proxy knows. Who may wait is not told anything yet.
func TestProxyOfMuteServer(t *testing.T) {
	t.Parallel()
	var m mute
	m.grants.Store(true)
	s := startMute(t, &m, server.Upstream{}, server.Options{})
	a := s.dial(t, "tcp")
	eventually(t, "it holds them", func() bool { // a busy server's answer is late, too
		a.send("g mine\nsg shared\n")
		mine, shared := a.line(), a.line()
		return mine == "1 Lock Get Success: mine\n" && shared == "1 Shared Lock Get Success: shared\n"
	})
	m.grants.Store(false)
	two := s.two(t, "tcp")
	two.request("5 g x")
	waits := s.dial(t, "unix")
	waits.send("gw 60000 x\n")
	time.Sleep(300 * time.Millisecond) // the proxy looks less often while it is asked for nothing
	for _, c := range []*client{a, s.dial(t, "tcp"), s.dial(t, "unix")} {
		holds, token := "0 Server Recovering", "0 Lock Not Held"
		released := "0 Lock Release Failure: mine"
		if c == a {
			holds, token, released = "1 Lock Get Success", "7 Lock Token", "1 Lock Release Success: mine"
		}
		for _, step := range [][2]string{
			{"g x", "0 Server Recovering: x"},
			{"g mine", holds + ": mine"},
			{"t mine", token + ": mine"},
			{"i x", "1 Lock Is Locked: x"},
			{"si x", "1 Shared Lock Is Locked: x"},
			{"sg x", "0 Server Recovering: x"},
			{"sgl 1 x", "0 Server Recovering: x"},
			{"rl 5 1000 1 x", "0 Server Recovering: x"},
			{"ri 5 1000 x", "0 Server Recovering: x"},
			{"r mine", released},
			{"r mine", "0 Lock Release Failure: mine"},
			{"sr x", "0 Shared Lock Release Failure: x"},
			{"g mine", "0 Server Recovering: mine"},
			{"nonsense\nping", "1 pong"},
		} {
			must(t, c.SetDeadline(time.Now().Add(giveUp/12))) // for which clients would not wait, but a test on a busy machine does
			c.ask(step[0], step[1])
		}
		c.ask("bye", "1 bye")
	}
	for _, c := range []net.Conn{two.peer.(linePeer).c, waits} {
		must(t, c.SetReadDeadline(time.Now().Add(time.Millisecond)))
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == io.EOF {
			t.Errorf("who may wait is told something: %v", err)
		}
	}
}

// A client that sends for ever is not read from any more, instead of that all is kept:
// whether the server is away, says nothing, or does not even read.
func TestProxyBoundsWhatWaits(t *testing.T) {
	for what, begin := range map[string]func(m *mute){
		"away": func(m *mute) {
			m.away.Store(true)
			m.cut()
		},
		"mute": func(*mute) {},
		"deaf": func(*mute) {},
	} {
		for protocol, lines := range map[string][2]string{
			"protocol 1":          {"", "g NAME\n"},
			"protocol 2":          {"hello 2\n", "5 g NAME\n"},
			"many sessions":       {"hello 2\n", "7 g NAME\n8 g NAME\n9 i NAME\n"},
			"behind a wait":       {"gw 86400000 x\n", "g NAME\n"},
			"names for a session": {"hello 2\n", "5 i x\n5 iam NAME\n"},
		} {
			t.Run(what+"/"+protocol, func(t *testing.T) {
				t.Parallel()
				m := mute{deaf: what == "deaf"}
				s := startMute(t, &m, server.Upstream{Patience: giveUp}, server.Options{})
				begin(&m)
				c := s.dial(t, "unix") // which keeps little on the way
				c.send(lines[0])
				chunk := strings.Repeat(strings.ReplaceAll(lines[1], "NAME", strings.Repeat("x", 200)), 50)
				sent, last, deadline := 0, time.Now(), time.Now().Add(giveUp)
				for time.Since(last) < time.Second {
					if sent > 8<<20 || time.Now().After(deadline) {
						t.Fatalf("%d bytes are taken", sent)
					}
					must(t, c.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
					n, err := c.Write([]byte(chunk))
					if sent += n; n > 0 {
						last = time.Now()
					}
					if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

// A client that sends many messages behind a request that is not answered yet keeps
// nobody from being served.
func TestProxyOfMessagesBehindARequest(t *testing.T) {
	t.Parallel()
	var m mute
	to := server.Upstream{}
	to.Unhurried(2 * giveUp)
	s := startMute(t, &m, to, server.Options{})
	c := dialWS(t, s.webSocketURL)
	text := "g " + strings.Repeat("x", 100)
	c.send(strings.Repeat(message(ws.OpText, text), session.MaxBacklog/len(text)))
	for range 4 * runtime.GOMAXPROCS(0) { // who are with that client
		other := s.dial(t, "tcp")
		must(t, other.SetDeadline(time.Now().Add(giveUp/4)))
		me := other.LocalAddr().String()
		other.ask("me", "1 "+me+" "+me)
	}
	m.grants.Store(true)
	m.cut() // it is asked once more
	for range session.MaxBacklog / len(text) {
		c.expect(ws.OpText, "1 Lock Get Success: "+text[2:]+"\n")
	}
}
