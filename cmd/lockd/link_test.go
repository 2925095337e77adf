package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answered returns a link to a server that answers each request alike, and
// after 1000 of them with nonsense; asked counts them.
func answered(reply string) (l *link, asked *int) {
	near, far := net.Pipe()
	l = &link{conn: near, sessions: true, replies: make(chan string, 1), lost: make(chan struct{})}
	go l.read(bufio.NewReader(near))
	asked = new(int)
	go func() {
		defer far.Close()
		for in := bufio.NewScanner(far); in.Scan(); {
			if *asked++; *asked > 1000 {
				io.WriteString(far, "0 0 Enough\n")
				return
			}
			fmt.Fprintf(far, "0 %s\n", reply)
		}
	}()
	return l, asked
}

// TestRunNumbers: a number that no server can mean is neither a lock nor a
// unit of a rate. At the bounds it is.
func TestRunNumbers(t *testing.T) {
	get := func(c *runCmd, l *link) error {
		token := uint64(0)
		err := c.wait(l, deadline{}, func(int64) string { return "gw 86400000 x" }, &token)
		if err == nil && token == 0 {
			t.Error("no token")
		}
		return err
	}
	share := func(c *runCmd, l *link) error {
		c.Shared = true
		return c.wait(l, deadline{}, func(int64) string { return "sg x" }, nil)
	}
	rate := func(c *runCmd, l *link) error { return c.takeRate(l, deadline{time.Now(), true}) }
	for _, test := range []struct {
		ask   func(*runCmd, *link) error
		reply string
		want  string // part of the error
	}{
		{get, "9007199254740991 Lock Get Success: x", ""},
		{get, "9007199254740992 Lock Get Success: x", `the server said "9007199254740992 Lock`},
		{share, "4294967294 Shared Lock Get Success: x", ""},
		{share, "4294967295 Shared Lock Get Success: x", "the server said"},
		{rate, "7 Rate Allowed: x", ""},
		{rate, "8 Rate Allowed: x", "the server said"},
		{rate, "7 Rate Allowed: y", "the server said"},
		{rate, "0 Rate Limited 86400000 ms: x", "opens in 24h0m0s"},
		{rate, "0 Rate Limited 86400001 ms: x", "the server said"},
		{rate, "0 Rate Limited -5 ms: x", "the server said"},
		{rate, "0 Rate Limited 5 ms: y", "the server said"},
		{rate, "1 Rate Limited 5 ms: x", "the server said"},
	} {
		synctest.Test(t, func(t *testing.T) {
			l, _ := answered(test.reply)
			err := test.ask(&runCmd{name: "x", Rate: rate7, LostAfter: time.Hour}, l)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q: %v", test.reply, err)
			}
			l.conn.Close()
		})
	}
}

var rate7 = rate{n: 7, window: time.Second}

// TestRunPauses: a server that says at once to try again is not asked over and
// over.
func TestRunPauses(t *testing.T) {
	for reply, ask := range map[string]func(*runCmd, *link, deadline) error{
		"0 Lock Get Timeout: x": func(c *runCmd, l *link, until deadline) error {
			return c.wait(l, until, func(ms int64) string { return fmt.Sprintf("gw %d x", ms) }, nil)
		},
		"0 Rate Limited 0 ms: x": func(c *runCmd, l *link, until deadline) error { return c.takeRate(l, until) },
	} {
		synctest.Test(t, func(t *testing.T) {
			l, asked := answered(reply)
			wait := 900 * time.Millisecond
			err := ask(&runCmd{name: "x", Rate: rate7, Wait: &wait, LostAfter: time.Hour}, l, deadline{time.Now().Add(wait), true})
			if _, inTime := err.(errConflict); !inTime {
				t.Errorf("%q: %v after %d requests", reply, err, *asked)
			}
			l.conn.Close()
		})
	}
}

// TestRunBoundsGreeting: a server cannot make a client keep a line that does
// not end.
func TestRunBoundsGreeting(t *testing.T) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		bufio.NewReader(far).ReadString('\n')
		io.WriteString(far, strings.Repeat("x", 2*longestReply))
	}()
	l := &link{conn: near}
	err := l.greet(bufio.NewReaderSize(near, longestReply), time.Minute)
	if err == nil || !strings.Contains(err.Error(), "does not end") {
		t.Error(err)
	}
	near.Close()
}
