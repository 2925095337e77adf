package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", "a b": "a b", " ": "", "  a": "a", "a ": "a", "a  b": "a b",
		"\ta\v\f b\t": "a b", "a\u00a0b": "a\u00a0b", "\x00\xff": "\x00\xff", "a \xff  ": "a \xff",
	} {
		if got, err := fold(in); got != want || err != nil {
			t.Errorf("fold(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"\n", "a\r", "a\r\nb"} {
		if _, err := fold(in); !errors.Is(err, ErrBadName) {
			t.Errorf("fold(%q): %v", in, err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { fold("an ordinary name") }); n != 0 {
		t.Errorf("folding a folded name costs %v allocations", n)
	}
}

func FuzzFold(f *testing.F) {
	f.Add("a  b")
	f.Add(" \t\xff\n")
	f.Fuzz(func(t *testing.T, in string) {
		once, err := fold(in)
		if err != nil {
			return
		}
		if twice, err := fold(once); err != nil || twice != once {
			t.Errorf("fold(%q) = %q, and of that %q, %v", in, once, twice, err)
		}
	})
}

func TestNumber(t *testing.T) {
	for in, want := range map[string]int64{
		"0 a": 0, "1 ": 1, "17 b c": 17, "999999999999999999 x": 999999999999999999,
	} {
		if n, _, ok := number([]byte(in)); n != want || !ok {
			t.Errorf("number(%q) = %d, %v", in, n, ok)
		}
	}
	for _, in := range []string{"", " ", "1", "x", " 1 ", "+1 a", "-1 a", "1a ", "1000000000000000000 x"} {
		if _, _, ok := number([]byte(in)); ok {
			t.Errorf("number(%q) is taken", in)
		}
	}
}

func TestIsEnd(t *testing.T) {
	const mark = "MARK"
	for in, want := range map[string]bool{
		"0 Lock Not Locked: MARK": true, "1 Lock Is Locked: MARK": true,
		"MARK": false, "": false, "0 Lock Not Locked: ": false, "0 Lock Is Locked: MARK": false,
		"1 Lock Not Locked: MARK": false, "2 Lock Is Locked: MARK": false, "0 Lock Not Locked: xMARK": false,
	} {
		if got := isEnd([]byte(in), mark); got != want {
			t.Errorf("isEnd(%q) = %v", in, got)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for in, want := range map[string][2]string{
		"h:1":               {"tcp", "h:1"},
		":1":                {"tcp", ":1"},
		"9999":              {"tcp", "localhost:9999"},
		"tcp://h:1":         {"tcp", "h:1"},
		"tcp://[::1]:1/":    {"tcp", "[::1]:1"},
		"unix:///run/lockd": {"unix", "/run/lockd"},
		"unix://./socket:":  {"unix", "./socket:"},
		"unix://../x":       {"unix", "../x"},
		"unix://@abstract":  {"unix", "@abstract"},
	} {
		got, err := parseTarget(in)
		if err != nil || got.network != want[0] || got.addr != want[1] {
			t.Errorf("parseTarget(%q) = %v, %v", in, got, err)
		}
	}
	for in, want := range map[string][2]string{
		"ws://h":         {"h:80", "ws://h/"},
		"ws://h:1/a?b=c": {"h:1", "ws://h:1/a?b=c"},
		"ws://[::1]/":    {"[::1]:80", "ws://[::1]/"},
	} {
		got, err := parseTarget(in)
		if err != nil || got.hostPort() != want[0] || got.url.String() != want[1] {
			t.Errorf("parseTarget(%q) = %v, %v", in, got, err)
		}
	}
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte("1 Lock Get Success: x"))
	f.Add([]byte("0 Lock Get Failure: x"))
	f.Add([]byte("0 disabled"))
	f.Add([]byte("0 "))
	f.Fuzz(func(t *testing.T, line []byte) {
		for _, v := range []*verb{get, release, inspect, getShared, releaseShared, inspectShared, me, iam} {
			r, err := parseReply(line, v, "x", v.most)
			if err != nil && !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
			if v == get && err == nil && r.err == nil && string(r.rest) != "x" {
				t.Fatalf("%q gave the lock", line)
			}
		}
		isEnd(line, "mark")
		refused([][]byte{line}, dump)
	})
}

func TestPumpIsBounded(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	p := unblocked(near, forClient)
	defer p.Close()
	var err error
	for n := 0; err == nil && n < 2*pumpRoom; n += 1 << 16 {
		_, err = p.Write(make([]byte, 1<<16))
	}
	if err != errPumpFull {
		t.Error(err)
	}
}

// TestPumpWrites: what a pump is given arrives, also what it is given just
// before it is closed, and nothing else is written.
func TestPumpWrites(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := &counted{Conn: near}
	p := newPump(c, pumpRoom)
	const writers, each = 4, 5000
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				p.Write([]byte("x"))
			}
		})
	}
	go func() {
		wg.Wait()
		p.Close()
	}()
	b, err := io.ReadAll(far)
	if err != nil || len(b) != writers*each {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
	if n := c.empty.Load(); n > 0 {
		t.Errorf("%d empty writes", n)
	}
}

// counted counts the empty writes.
type counted struct {
	net.Conn
	empty atomic.Int32
}

func (c *counted) Write(b []byte) (int, error) {
	if len(b) == 0 {
		c.empty.Add(1)
	}
	return c.Conn.Write(b)
}

// TestPumpClose: a peer that does not read cannot keep a pump from closing.
func TestPumpClose(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	p := newPump(near, pumpRoom)
	p.Write([]byte("x"))
	p.Close()
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
}

// TestMuxEndsRested: of the sessions that a mux ends, nothing stays but their
// numbers, which are used again.
func TestMuxEndsRested(t *testing.T) {
	m := newMux(nil, false, &LockerOptions{Sessions: 1000}, limits{}, time.Now())
	m.mu.Lock()
	for range 1000 {
		m.addLocked()
	}
	for s := range m.sessions.all() {
		m.putLocked(s)
	}
	m.since, m.rested = time.Now().Add(-restTime), len(m.free)
	ended := m.free[:len(m.free)-keptSessions]
	m.endRestedLocked()
	m.mu.Unlock()
	for _, s := range ended {
		if err := m.settle(s, []byte("1 bye")); err != nil {
			t.Fatal(err)
		}
	}
	count := func() (n int) {
		for range m.sessions.all() {
			n++
		}
		return n
	}
	if n := count(); n != 1+keptSessions || len(m.free) != keptSessions {
		t.Errorf("%d sessions, %d are free", n, len(m.free))
	}
	for range 1000 {
		if _, err := m.start(ping, arguments{}, ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.start(ping, arguments{}, ""); err != ErrTooManySessions {
		t.Error(err)
	}
	if n := count(); n != 1001 || m.made != 1001 {
		t.Errorf("%d sessions, %d numbers", n, m.made)
	}
}

// TestMuxForsakenLines: what nobody waits for any more is not kept.
func TestMuxForsakenLines(t *testing.T) {
	m := newMux(nil, false, &LockerOptions{Sessions: 10}, limits{}, time.Now())
	lines := newLines(100, nil)
	s, err := m.start(look, arguments{lines: lines}, "x")
	if err != nil {
		t.Fatal(err)
	}
	lines.add([]byte("before"))
	if !m.forsake(s) {
		t.Fatal("it was answered")
	}
	lines.add([]byte("after"))
	if len(lines.chunks) > 0 {
		t.Errorf("kept %q", lines.chunks)
	}
}

func TestSessionTable(t *testing.T) {
	var d sessionTable
	n := 3*len(page{}) + 1
	for i := range n {
		d.set(uint32(i), &session{number: uint32(i)})
	}
	d.set(300, nil)
	seen := 0
	for s := range d.all() {
		if d.get(int64(s.number)) != s {
			t.Fatal(s.number)
		}
		seen++
	}
	if seen != n-1 {
		t.Errorf("%d sessions", seen)
	}
	for _, i := range []int64{300, int64(n), 1 << 20, 1<<63 - 1} {
		if d.get(i) != nil {
			t.Errorf("there is a session %d", i)
		}
	}
	if (&sessionTable{}).get(0) != nil {
		t.Error("an empty table has a session")
	}
}

// TestMuxLostFirst: whoever holds a lock is told of its loss before a call that
// waits for the lock can go on with another mux, and such a call does not find
// the old one.
func TestMuxLostFirst(t *testing.T) {
	near, far := net.Pipe()
	m := newMux(newLineTransport(near, forMux), false, &LockerOptions{Sessions: 10}, limits{}, time.Now())
	go io.Copy(io.Discard, far)
	s, err := m.start(getWait, arguments{}, "x")
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	ended := false
	m.run(func(err error) {
		ended = true
		if !errors.Is(m.err(), ErrLost) || !errors.Is(m.err(), err) {
			t.Errorf("ended because of %v, and the lock was told %v", err, m.err())
		}
		if s.state.Load() != calling {
			t.Error("the call goes on already")
		}
	})
	if err := m.wait(t.Context(), s); err != nil || !errors.Is(s.err, ErrLost) || !ended {
		t.Error(err, s.err, ended)
	}
}

// A slowClose is a connection whose end takes a while, as that within TLS may.
type slowClose struct {
	net.Conn
	closed chan struct{}
}

func (c slowClose) Close() error {
	<-c.closed
	return c.Conn.Close()
}

// TestMuxLostAtOnce: whoever holds a lock is told of its loss however long it takes to
// close the connection.
func TestMuxLostAtOnce(t *testing.T) {
	near, far := net.Pipe()
	conn := slowClose{near, make(chan struct{})}
	m := newMux(newLineTransport(conn, forMux), false, &LockerOptions{Sessions: 10}, limits{}, time.Now())
	go io.Copy(io.Discard, far)
	var ended sync.WaitGroup
	ended.Go(func() { m.run(func(error) {}) })
	ended.Go(m.giveUp)
	<-m.ctx.Done()
	close(conn.closed)
	ended.Wait()
	if err := m.err(); !errors.Is(err, ErrTimeout) || !errors.Is(err, ErrLost) {
		t.Error(err)
	}
}

func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var expired atomic.Int32
		w := &watchdog{timeout: time.Second, expired: func() { expired.Add(1) }}
		at := func(d time.Duration, want int32) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := expired.Load(); got != want {
				t.Fatalf("expired %d times, want %d", got, want)
			}
		}
		w.expect()
		w.met()
		at(time.Hour, 0)
		w.expect() // the timer rested, and starts again
		at(999*time.Millisecond, 0)
		w.expect() // another line of the reply came
		at(999*time.Millisecond, 0)
		w.met()
		w.expect() // the timer runs on for the next request
		at(999*time.Millisecond, 0)
		at(time.Millisecond, 1)
		w.expect()
		w.stop()
		at(time.Hour, 1)
		w.expect()
		at(time.Hour, 1)

		w = &watchdog{timeout: -1, expired: w.expired}
		w.expect()
		at(time.Hour, 1)
		w.met()
		w.stop()
	})
}

// TestWatchdogOverslept: a process that was stopped reads what came meanwhile
// before a reply counts as late.
func TestWatchdogOverslept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var expired atomic.Bool
		w := &watchdog{timeout: 4 * time.Second, expired: func() { expired.Store(true) }}
		stopped := func(d time.Duration) { // as if the process had been
			w.mu.Lock()
			defer w.mu.Unlock()
			w.due, w.since = w.due.Add(-d), w.since.Add(-d)
		}
		// At whatever moment it begins, and up to a nap before the end.
		for begin := time.Duration(0); begin < 3*time.Second; begin += 100 * time.Millisecond {
			for _, d := range []time.Duration{4 * time.Second, 5 * time.Second, time.Hour} {
				w.expect()
				time.Sleep(begin)
				synctest.Wait()
				stopped(d)
				time.Sleep(time.Second) // it wakes
				synctest.Wait()
				if expired.Load() {
					t.Fatalf("expired when the process had been stopped after %v for %v", begin, d)
				}
				w.met()
				time.Sleep(time.Minute)
				synctest.Wait()
			}
		}
		w.expect()
		stopped(time.Hour)
		time.Sleep(2*time.Second - 1)
		synctest.Wait()
		if expired.Load() {
			t.Error("no time to read the reply")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !expired.Load() {
			t.Error("no reply, and not late")
		}
	})
}

// TestIdle: the read timeout concerns requests, not the time between them.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c, err := New(Options{
			ReadTimeout: time.Second,
			Dial:        func(context.Context) (net.Conn, error) { return near, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			lines := bufio.NewScanner(far)
			for lines.Scan() {
				if lines.Text() == "limits" {
					continue // it is an old one
				}
				time.Sleep(999 * time.Millisecond)
				if name, ok := strings.CutPrefix(lines.Text(), "i "); ok {
					io.WriteString(far, "0 Lock Not Locked: "+name+"\n")
				} else if lines.Text() == "g x" {
					io.WriteString(far, "1 Lock Get Success: x\n")
				}
			}
		}()
		for range 3 {
			if err := c.Get(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
	})
}
