package client_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// TestFirstLock: nobody hears of a Client's first lock before the client knows for how
// long the server waits: it would be the last to find out that it is cut off.
func TestFirstLock(t *testing.T) {
	for _, c := range []struct {
		name   string
		token  bool
		probe  bool   // an inspection shows whether another may follow a request
		marks  string // the end of the question
		answer string
		beats  string // what the client asks from then on
	}{
		{"lockd", false, true, "i ", "1 dead_peer_ms=20000 max_keep_ms=0", "ping"},
		{"lockd before limits", false, true, "i ", "", ""},
		{"lockd with a token for some locks", true, false, "ping", "1 dead_peer_ms=20000 max_keep_ms=0", "ping"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer far.Close()
				opts := client.Options{Dial: func(context.Context) (net.Conn, error) { return near, nil }}
				lines := bufio.NewScanner(far)
				expect := func(prefix string) string {
					t.Helper()
					if !lines.Scan() || !strings.HasPrefix(lines.Text(), prefix) {
						t.Fatalf("%q, %v, want %q", lines.Text(), lines.Err(), prefix)
					}
					return lines.Text()
				}
				inspected := func(line string) {
					fmt.Fprintln(far, "0 Lock Not Locked: "+strings.TrimPrefix(line, "i "))
				}
				if c.token {
					opts.Token = func(context.Context) (string, error) { return "secret", nil }
				}
				cl := start(t, opts)
				if c.token {
					expect("auth secret")
					fmt.Fprintln(far, "1 ok")
				}
				got := make(chan error, 1)
				go func() { got <- cl.Get(t.Context(), "x") }()
				expect("g x")
				fmt.Fprintln(far, "1 Lock Get Success: x")
				if c.probe {
					inspected(expect("i "))
				}
				expect("limits")
				mark := expect(c.marks)
				synctest.Wait()
				select {
				case err := <-got:
					t.Fatalf("it is told: %v", err)
				default:
				}
				if c.answer != "" {
					fmt.Fprintln(far, c.answer)
				}
				if mark == "ping" {
					fmt.Fprintln(far, "1 pong")
				} else {
					inspected(mark)
				}
				must(t, <-got)
				if c.beats == "" {
					return
				}
				begun := time.Now()
				expect(c.beats)
				if d := time.Since(begun); d > 4*time.Second {
					t.Errorf("after %v", d)
				}
				// And a server that has vanished is given up in time.
				<-cl.Lost()
				if d := time.Since(begun); d != 15*time.Second {
					t.Errorf("lost after %v", d)
				}
			})
		})
	}
}

// TestFirstLockGivenUp: who has given the first lock up meanwhile has it released.
func TestFirstLockGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		cl := start(t, client.Options{Dial: func(context.Context) (net.Conn, error) { return near, nil }})
		lines := bufio.NewScanner(far)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error, 1)
		go func() { got <- cl.Get(ctx, "x") }()
		lines.Scan()
		fmt.Fprintln(far, "1 Lock Get Success: x")
		lines.Scan() // the probe
		cancel()
		mustBe(t, <-got, context.Canceled)
		fmt.Fprintln(far, "0 Lock Not Locked: "+strings.TrimPrefix(lines.Text(), "i "))
		lines.Scan() // limits
		lines.Scan()
		fmt.Fprintln(far, "0 Lock Not Locked: "+strings.TrimPrefix(lines.Text(), "i "))
		if lines.Scan(); lines.Text() != "r x" {
			t.Errorf("%q", lines.Text())
		}
	})
}
