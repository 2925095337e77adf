package server_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// drains waits until a server drains, which its answers tell.
func (s *testServer) drains(tb testing.TB) {
	tb.Helper()
	eventually(tb, "the server drains", func() bool {
		c, err := net.Dial("tcp", s.tcp)
		if err != nil {
			return true // and is done
		}
		defer c.Close()
		io.WriteString(c, "g is it so?\n")
		got, _ := io.ReadAll(io.LimitReader(c, int64(len("0 Shutting Down: is it so?\n"))))
		return strings.HasPrefix(string(got), "0 Shutting Down: is it so?\n")
	})
}

// draining begins to shut a server down while somebody holds the lock "held".
func (s *testServer) draining(tb testing.TB) (holder *client, done <-chan error) {
	holder = s.dial(tb, "tcp")
	holder.ask("g held", "1 Lock Get Success: held")
	done, cancel := shutdown(s.Server)
	tb.Cleanup(cancel)
	s.drains(tb)
	return holder, done
}

// "0 Shutting Down: NAME for what would take something new (a hold, a place in
// line, units)", and not to a holder who repeats itself. All else goes on.
func TestDrainRefusesWhatIsNew(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		one, two := s.dial(t, transport), s.dial(t, transport)
		one.ask("g mine", "1 Lock Get Success: mine")
		one.ask("sg ours", "1 Shared Lock Get Success: ours")
		two.ask("hello 2", "2 lockd "+server.Version)
		two.send("7 g his\n")
		token, _, _ := strings.Cut(strings.TrimPrefix(two.line(), "7 "), " ")
		two.ask("8 sgl 3 ours", "8 2 Shared Lock Get Success: ours")
		w := dialWS(t, s.webSocketURL)
		w.ask("g framed", "1 Lock Get Success: framed")
		done, cancel := shutdown(s.Server)
		defer cancel()
		s.drains(t)
		for _, request := range []string{"g x", "gw 1000 x", "gw 0 x", "sg x", "sgl 2 x", "sgw 2 1000 x", "rl 10 1000 1 x",
			"g his", "gw 86400000 his"} {
			name := request[strings.LastIndexByte(request, ' ')+1:]
			one.ask(request, "0 Shutting Down: "+name)
			two.ask("9 "+request, "9 0 Shutting Down: "+name)
			w.ask(request, "0 Shutting Down: "+name)
		}
		for _, c := range []struct{ request, reply string }{
			{"g mine", "1 Lock Get Success: mine"},
			{"gw 10 mine", "1 Lock Get Success: mine"},
			{"sg ours", "2 Shared Lock Get Success: ours"},
			{"sgl 1 ours", "2 Shared Lock Get Success: ours"},
			{"sgw 1 10 ours", "2 Shared Lock Get Success: ours"},
			{"rl 10 1000 0 x", "10 Rate Allowed: x"},
			{"ri 10 1000 x", "10 Rate Open: x"},
			{"gw x y", "0 Invalid Argument: gw"},
			{"i his", "1 Lock Is Locked: his"},
			{"si ours", "2 Shared Lock Is Locked: ours"},
			{"t his", "0 Lock Not Held: his"},
			{"d his", "his: " + addrOf(two) + "#7"},
			{"iam me", "1 ok"},
			{"ping", "1 pong"},
			{"r x", "0 Lock Release Failure: x"},
		} {
			one.ask(c.request, c.reply)
		}
		two.ask("7 g his", "7 "+token+" Lock Get Success: his")
		two.ask("7 t his", "7 "+token+" Lock Token: his")
		two.ask("7 r his", "7 1 Lock Release Success: his")
		two.ask("7 g his", "7 0 Shutting Down: his")
		two.ask("8 bye", "8 1 bye")
		two.end()
		w.ask("r framed", "1 Lock Release Success: framed")
		w.expectClose(ws.StatusGoingAway)
		w.Close()
		one.ask("sr ours", "1 Shared Lock Release Success: ours")
		one.ask("r mine", "1 Lock Release Success: mine")
		one.end()
		one.Close()
		two.Close()
		must(t, <-done)
		if n := metric(t, s.Server, "lockd_rejected_total", "reason=shutting_down"); n < 28 {
			t.Errorf("%d counted as refused", n)
		}
		// "g mine" and "g x" of three clients, twice each, and more.
		if n := metric(t, s.Server, "lockd_commands_total", "command=g"); n < 12 {
			t.Errorf("%d requests g are counted", n)
		}
	})
}

// addrOf is a client's address as the server shows it.
func addrOf(c *client) string {
	c.tb.Helper()
	c.send("0 me\n")
	return strings.Fields(c.line())[2]
}

// "The server accepts and answers questions until the end", and ends new clients
// that look for more than answers.
func TestDrainAnswersNewClients(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		holder, done := s.draining(t)
		silent, asks, wants, two := s.dial(t, transport), s.dial(t, transport), s.dial(t, transport), s.dial(t, transport)
		for range 3 {
			asks.ask("i held", "1 Lock Is Locked: held")
			asks.ask("ping", "1 pong")
		}
		wants.ask("i held", "1 Lock Is Locked: held")
		wants.ask("gw 1000 held", "0 Shutting Down: held")
		wants.end()
		two.ask("hello 2", "2 lockd "+server.Version)
		two.ask("1 i held", "1 1 Lock Is Locked: held")
		two.ask("1 sg held", "1 0 Shutting Down: held")
		two.end()
		w := dialWS(t, s.webSocketURL)
		w.ask("i held", "1 Lock Is Locked: held")
		w.ask("ping", "1 pong")
		greedy := dialWS(t, s.webSocketURL)
		greedy.ask("g other", "0 Shutting Down: other")
		greedy.expectClose(ws.StatusGoingAway)
		select {
		case err := <-done:
			t.Fatal("Shutdown is over while a lock is held: ", err)
		default:
		}
		holder.ask("r held", "1 Lock Release Success: held")
		holder.end()
		silent.end()
		asks.end()
		w.expectClose(ws.StatusGoingAway)
		for _, c := range []io.Closer{holder, silent, asks, wants, two, w, greedy} {
			c.Close()
		}
		must(t, <-done)
		if c, err := net.Dial("tcp", s.tcp); err == nil {
			c.Close()
			t.Error("it still listens")
		}
	})
}

// Nobody waits for a new client that does not read what it asks for.
func TestDrainDoesNotWaitForNewClients(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		holder, done := s.draining(t)
		c := s.dial(t, transport)
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				if _, err := c.Write(bytes.Repeat([]byte("dump\n"), 1000)); err != nil {
					return
				}
			}
		})
		eventually(t, "requests", func() bool {
			return metric(t, s.Server, "lockd_commands_total", "command=dump") > 1000
		})
		holder.ask("r held", "1 Lock Release Success: held")
		must(t, <-done)
		c.Close()
		wg.Wait()
	})
}

// What cuts the holders off cuts new clients off, too.
func TestDrainCutsNewClients(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	holder := s.dial(t, "tcp")
	holder.ask("g held", "1 Lock Get Success: held")
	done, cut := shutdown(s.Server)
	s.drains(t)
	for _, transport := range streams {
		s.dial(t, transport).ask("i held", "1 Lock Is Locked: held")
	}
	cut()
	if err := <-done; err != context.Canceled {
		t.Errorf("Shutdown returned %v", err)
	}
	if n := metric(t, s.Server, "lockd_connections"); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// The log names whom it waits for, and not those who have come to ask.
func TestDrainNamesThoseItWaitsFor(t *testing.T) {
	t.Parallel()
	var log safeBuffer
	s := start(t, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	holder := s.dial(t, "tcp")
	holder.ask("iam the holder", "1 ok")
	holder.ask("g held", "1 Lock Get Success: held")
	done, cut := shutdown(s.Server)
	s.drains(t)
	late := s.dial(t, "tcp")
	late.ask("iam late", "1 ok")
	eventually(t, "a line of the log", func() bool { return strings.Contains(log.String(), "waiting for a client") })
	cut()
	<-done
	got := log.String()
	if strings.Count(got, `name="the holder" locks=1`) != 2 || strings.Count(got, "connections=1 locks=1 waiters=0") != 2 || strings.Contains(got, "late") {
		t.Errorf("log:\n%s", got)
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// /readyz is 503 before anything else changes.
func TestRetire(t *testing.T) {
	t.Parallel()
	s := listen(t, server.Options{TCP: []string{"127.0.0.1:0"}, Admin: "127.0.0.1:0"})
	var tcp, admin string
	for _, a := range s.Addrs() {
		if a.Transport == "admin" {
			admin = a.String()
		} else {
			tcp = a.String()
		}
	}
	ready := func() int {
		t.Helper()
		r, err := http.Get("http://" + admin + "/readyz")
		must(t, err)
		r.Body.Close()
		return r.StatusCode
	}
	if got := ready(); got != 200 {
		t.Errorf("/readyz is %d", got)
	}
	s.Retire()
	if got := ready(); got != 503 {
		t.Errorf("/readyz is %d of a server that retires", got)
	}
	conn, err := net.Dial("tcp", tcp)
	c := newClient(t, conn, err)
	c.ask("g foo", "1 Lock Get Success: foo")
	c.ask("gw 10 foo", "1 Lock Get Success: foo")
	done, cancel := shutdown(s)
	defer cancel()
	c.ask("i foo", "1 Lock Is Locked: foo")
	if got := ready(); got != 503 {
		t.Errorf("/readyz is %d of a server that drains", got)
	}
	c.ask("r foo", "1 Lock Release Success: foo")
	c.end()
	c.Close()
	must(t, <-done)
	http.DefaultClient.CloseIdleConnections()
}
