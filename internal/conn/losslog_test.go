package conn

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// lostBy waits until so much is in a ledger, and returns it, oldest first.
func lostBy(t *testing.T, s *Server, n int) (texts []string) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if all := s.Hub().LossesSince(0, 1000); len(all) >= n {
			for _, l := range all {
				texts = append(texts, fmt.Sprintf("%v %v %s", l.Why, l.What, l.Name))
			}
			return texts
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("no %d losses: %v", n, s.Hub().LossesSince(0, 1000))
		}
	}
}

// Why what a client held is lost, as the carriers know: on event loops, and with a
// goroutine for each connection.
func TestWhyLost(t *testing.T) {
	type test struct {
		why string
		end func(t *testing.T, s *Server, path string, c net.Conn)
	}
	for _, test := range []test{
		{"disconnect", func(_ *testing.T, _ *Server, _ string, c net.Conn) { c.Close() }},
		{"disconnect", func(_ *testing.T, _ *Server, _ string, c net.Conn) { c.(*net.UnixConn).CloseWrite() }},
		{"cut_off", func(_ *testing.T, _ *Server, _ string, c net.Conn) { io.WriteString(c, "no session\n") }},
		{"cut_off", func(_ *testing.T, _ *Server, _ string, c net.Conn) { io.WriteString(c, strings.Repeat("x", 3<<20)) }},
		{"kick", func(t *testing.T, s *Server, path string, c net.Conn) {
			k := dialUnix(t, path)
			clients, _ := s.Hub().Clients(1)
			io.WriteString(k, "kick "+clients[0].Address()+"\n")
			bufio.NewReader(k).ReadString('\n')
		}},
		{"shutdown", func(_ *testing.T, s *Server, _ string, _ net.Conn) { drainNow(s) }},
	} {
		for _, loops := range []bool{true, false} {
			cfg := testConfig()
			cfg.Session.MaxMemory, cfg.Session.MaxLine = 1<<20, 4<<20
			s := NewServer(cfg)
			path, end := serveUnix(t, s, loops)
			c := dialUnix(t, path)
			in := bufio.NewReader(c)
			io.WriteString(c, "hello 2\n7 g x\n")
			in.ReadString('\n')
			in.ReadString('\n')
			test.end(t, s, path, c)
			if got := lostBy(t, s, 1); len(got) != 1 || got[0] != test.why+" held x" {
				t.Errorf("loops %v: got %q, want %s", loops, got, test.why)
			}
			end()
		}
	}
}

// A drain ends waits for its own sake, and who leaves meanwhile has left by itself.
func TestLostWhileDraining(t *testing.T) {
	for _, loops := range []bool{true, false} {
		s := NewServer(testConfig())
		path, end := serveUnix(t, s, loops)
		a, b := dialUnix(t, path), dialUnix(t, path)
		inA, inB := bufio.NewReader(a), bufio.NewReader(b)
		io.WriteString(a, "g x\n")
		inA.ReadString('\n')
		io.WriteString(b, "g y\ngw 60000 x\n")
		inB.ReadString('\n')
		for s.Hub().Stats().Locks.Waiters == 0 {
			time.Sleep(time.Millisecond)
		}
		ctx, cut := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- s.Drain(ctx) }()
		if got, _ := inB.ReadString('\n'); got != "0 Shutting Down: x\n" {
			t.Errorf("got %q", got)
		}
		lostBy(t, s, 1)
		b.Close()
		lostBy(t, s, 2)
		cut()
		<-done
		if got, want := strings.Join(lostBy(t, s, 3), ", "), "shutdown waited x, disconnect held y, shutdown held x"; got != want {
			t.Errorf("loops %v: got %s, want %s", loops, got, want)
		}
		end()
	}
}

// A line of the log is a loss, with its time.
func TestLossLog(t *testing.T) {
	cfg := testConfig()
	cfg.LogLosses = true
	cfg.Session.Table.LocksPerOwner = 1
	log := logTo(&cfg)
	s := NewServer(cfg)
	path, end := serveUnix(t, s, true)
	a, b := dialUnix(t, path), dialUnix(t, path)
	inA, inB := bufio.NewReader(a), bufio.NewReader(b)
	io.WriteString(a, "iam \"deploy\" 17\ng x \"y\"\n")
	inA.ReadString('\n')
	inA.ReadString('\n')
	refusedAt := time.Now()
	io.WriteString(a, "g more\n")
	inA.ReadString('\n')
	time.Sleep(100 * time.Millisecond) // the log knows of it
	io.WriteString(a, "g even more\n")
	inA.ReadString('\n')
	within := time.Since(refusedAt) < 900*time.Millisecond // else they may be two
	io.WriteString(b, "gw 1 x \"y\"\ngw 60000 x \"y\"\n")
	inB.ReadString('\n')
	for s.Hub().Stats().Locks.Waiters == 0 {
		time.Sleep(time.Millisecond)
	}
	log.await(t, `"msg":"refused"`, 1) // a second later
	before := time.Now()
	a.Close()
	inB.ReadString('\n')
	lost := log.await(t, `"msg":"lock lost"`, 1)[0]
	var l struct {
		Time                                                  time.Time
		Level, Why, Kind, Lock, Client, Name, Holder, Waiters string
		Token                                                 uint64
		Waiting                                               int
	}
	must := func(line string) {
		t.Helper()
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
	}
	must(lost)
	if l.Why != "disconnect" || l.Level != "INFO" || l.Kind != "exclusive" || l.Lock != `x "y"` || l.Name != `"deploy" 17` || l.Token == 0 ||
		l.Waiting != 1 || !strings.HasPrefix(l.Waiters, "unix:") || l.Time.Before(before) || l.Time.After(time.Now()) {
		t.Errorf("%s", lost)
	}
	wait := log.await(t, `"msg":"wait lost"`, 1)[0]
	must(wait)
	if l.Why != "wait_timeout" || l.Holder != `"deploy" 17` || l.Lock != `x "y"` {
		t.Errorf("%s", wait)
	}
	refused := log.with(`"msg":"refused"`)
	if within && (len(refused) != 1 || !strings.Contains(refused[0], `"lock":"more","bound":"too_many_locks_of_owner","times":2`)) {
		t.Errorf("%q", refused)
	}
	b.Close()
	end() // which loses the lock of b
	log.await(t, `"msg":"lock lost"`, 2)
	if n := s.Stats().Unlogged; n > 0 {
		t.Errorf("%d are missing", n)
	}
}

// Without the option there are no lines.
func TestNoLossLog(t *testing.T) {
	cfg := testConfig()
	log := logTo(&cfg)
	s := NewServer(cfg)
	path, end := serveUnix(t, s, true)
	c := dialUnix(t, path)
	takeLocks(c, 10)
	c.Close()
	lostBy(t, s, 10)
	end()
	if lines := log.with("lost"); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
}

// Of a flood the log has so many lines in a second, and how many are missing; each loss
// is a line or missing. Also when the server ends in the middle of it.
func TestLossLogIsBounded(t *testing.T) {
	for _, loops := range []bool{true, false} {
		cfg := testConfig()
		cfg.LogLosses = true
		cfg.Session.Shards = 1
		log := logTo(&cfg)
		s := NewServer(cfg)
		path, end := serveUnix(t, s, loops)
		const clients, each = 20, 500
		began := time.Now()
		for range 2 {
			var all []net.Conn
			for i := range clients {
				c := dialUnix(t, path)
				in := bufio.NewReader(c)
				var lines strings.Builder
				for k := range each {
					fmt.Fprintf(&lines, "g %d %d\n", i, k)
				}
				go io.WriteString(c, lines.String())
				for range each {
					in.ReadString('\n')
				}
				all = append(all, c)
			}
			for _, c := range all {
				c.Close()
			}
			for s.Hub().Stats().Losses["disconnect"]%(clients*each) != 0 || s.Connections() > 0 {
				time.Sleep(time.Millisecond)
			}
			log.await(t, `"msg":"losses that the log does not have"`, 1)
			n := len(log.with(`"msg":"lock lost"`))
			if most := lossLines * (2 + int(time.Since(began)/time.Second)); n > most {
				t.Errorf("%d lines in %v, and at most %d in a second", n, time.Since(began), lossLines)
			}
		}
		end()
		missing := 0
		for _, line := range log.with(`"msg":"losses that the log does not have"`) {
			var l struct{ Losses int }
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			missing += l.Losses
		}
		lines := len(log.with(`"msg":"lock lost"`))
		if lines+missing != 2*clients*each || uint64(missing) != s.Stats().Unlogged || lines < lossLines {
			t.Errorf("loops %v: %d lines and %d missing, %d counted, of %d", loops, lines, missing, s.Stats().Unlogged, 2*clients*each)
		}
	}
}

// Every kind of loss has a text.
func TestLossTexts(t *testing.T) {
	for _, what := range []session.What{session.LostHold, session.LostWait, session.Refusal} {
		if lossTexts[what] == "" {
			t.Errorf("%v has no text", what)
		}
	}
}
