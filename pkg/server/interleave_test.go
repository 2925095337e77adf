package server_test

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// Protocol 2: "Reply: `SESSION NUMBER TEXT`, exactly one to each request". A
// reply that takes long to give out is a line like any other: what another
// session waits for meanwhile does not come in the middle of it.

// A session that holds much ends; another waits for one of its locks.
func TestByeOfManyLocksIsOneLine(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		const n = 60_000
		c := s.dial(t, transport)
		var requests strings.Builder
		for i := range n {
			fmt.Fprintf(&requests, "5 sg %d\n", i)
		}
		requests.WriteString("5 g last\n6 gw 86400000 last\n7 sgw 1 86400000 1000\n5 bye\n6 r last\n")
		c.ask("hello 2", "2 lockd "+server.Version)
		c.sendAll(requests.String())
		for i := range n {
			if got, want := c.line(), fmt.Sprintf("5 1 Shared Lock Get Success: %d\n", i); got != want {
				t.Fatalf("got %q, not %q", got, want)
			}
		}
		var nums = make(numbers)
		want := []string{
			"5 {#t>0} Lock Get Success: last\n", "6 {#u>t} Lock Get Success: last\n",
			"7 1 Shared Lock Get Success: 1000\n", "5 1 bye\n",
		}
		busy := "6 0 Session Busy: r\n"
		released := "6 1 Lock Release Success: last\n"
		seen := map[string]bool{}
		for len(seen) < len(want)+1 {
			got := c.line()
			for _, w := range append(want, busy, released) {
				if filled, err := nums.fill(got, w); err == nil && filled == got && !seen[w] {
					seen[w], got = true, ""
				}
			}
			if got != "" {
				t.Fatalf("got %q, which nobody asked for", got)
			}
		}
		c.ask("8 ping", "8 1 pong")
	})
}

// A client that does not read has a long `dump` under way when its other
// session is granted what it waits for.
func TestDumpIsOneLineForSlowReaders(t *testing.T) {
	t.Parallel()
	for _, transport := range streams {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s := start(t, server.Options{})
			holder := s.dial(t, transport)
			const n = 4000
			name := strings.Repeat("x", 4000)
			go func() {
				var b strings.Builder
				for i := range n {
					fmt.Fprintf(&b, "g %s%d\n", name, i)
				}
				io.WriteString(holder, b.String())
			}()
			for range n {
				holder.line()
			}
			holder.ask("g foo", "1 Lock Get Success: foo")
			c := s.dial(t, transport)
			c.ask("hello 2", "2 lockd "+server.Version)
			c.send("1 gw 86400000 foo\n")
			waitWaiters(t, s.Server, 1)
			before := metric(t, s.Server, "lockd_commands_total", "command=dump")
			c.send("2 dump\n3 ping\n")
			eventually(t, "the dump has begun", func() bool {
				return metric(t, s.Server, "lockd_commands_total", "command=dump") == before+1
			})
			holder.ask("r foo", "1 Lock Release Success: foo")
			var granted, pong, dumped bool
			for range 3 {
				switch got := c.line(); {
				case strings.HasPrefix(got, "2 1 map["):
					dumped = true
					if k := strings.Count(got, name); k != n || !strings.HasSuffix(got, "]\n") || strings.Contains(got, "Lock Get") {
						t.Errorf("%d of %d locks in the dump, which ends in %q", k, n, got[len(got)-60:])
					}
				case strings.HasPrefix(got, "1 ") && strings.HasSuffix(got, " Lock Get Success: foo\n"):
					granted = true
				case got == "3 1 pong\n":
					pong = true
				default:
					t.Fatalf("got %.80q", got)
				}
			}
			if !granted || !pong || !dumped {
				t.Errorf("granted %v, pong %v, dumped %v", granted, pong, dumped)
			}
		})
	}
}

// "its disconnect is seen at once and takes it out of the queue", however much
// it has sent meanwhile.
func TestDisconnectBehindMuchInput(t *testing.T) {
	t.Parallel()
	for _, transport := range streams {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s := start(t, server.Options{})
			holder := s.dial(t, transport)
			holder.ask("g foo", "1 Lock Get Success: foo")
			const more = 16 << 20 // than all buffers take
			for _, size := range []int{1000, 15_000, 17_000, 40_000, more} {
				c := s.dial(t, transport)
				c.send("gw 86400000 foo\n")
				waitWaiters(t, s.Server, 1)
				if size == more {
					must(t, c.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
				}
				if _, err := io.WriteString(c, strings.Repeat("i foo\n", size/6)); size != more {
					must(t, err)
				}
				c.Close()
				for end := giveUpSoon(); metric(t, s.Server, "lockd_waiters") > 0; {
					select {
					case <-end:
						t.Fatalf("who is gone waits still, with %d bytes sent behind its wait", size)
					default:
						runtime.Gosched()
					}
				}
			}
		})
	}
}
