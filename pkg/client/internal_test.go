package client

import (
	"context"
	"errors"
	"io"
	"net"
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
		"h:1":                {"tcp", "h:1"},
		":1":                 {"tcp", ":1"},
		"9999":               {"tcp", "localhost:9999"},
		"tcp://h:1":          {"tcp", "h:1"},
		"tcp://[::1]:1/":     {"tcp", "[::1]:1"},
		"unix:///run/lockd":  {"unix", "/run/lockd"},
		"unix://rel/socket:": {"unix", "rel/socket:"},
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
			r, err := parseReply(line, v, "x")
			if err != nil && !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
			if v == get && err == nil && r.err == nil && string(r.rest) != "x" {
				t.Fatalf("%q gave the lock", line)
			}
		}
		isEnd(line, "mark")
		refused([]string{string(line)})
	})
}

func TestPumpIsBounded(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	p := unblocked(near)
	defer p.Close()
	var err error
	for n := 0; err == nil && n < 2*pumpRoom; n += 1 << 16 {
		_, err = p.Write(make([]byte, 1<<16))
	}
	if err != errPumpFull {
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
			buf := make([]byte, 100)
			for {
				if _, err := far.Read(buf); err != nil {
					return
				}
				time.Sleep(999 * time.Millisecond)
				io.WriteString(far, "1 Lock Get Success: x\n")
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
