package server_test

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// "Tokens grow with every grant of a name, also over restarts", and "stay below
// 2^53 (safe in JavaScript)".
func TestTokensGrowOverRestarts(t *testing.T) {
	t.Parallel()
	var last uint64
	for range 3 {
		s := start(t, server.Options{Shards: 1})
		c := s.dial(t, "tcp")
		for range 100 {
			c.ask("g foo", "1 Lock Get Success: foo")
			c.send("t foo\n")
			number, text, _ := strings.Cut(c.line(), " ")
			token, err := strconv.ParseUint(number, 10, 64)
			if err != nil || text != "Lock Token: foo\n" || token <= last || token >= 1<<53 {
				t.Fatalf("%q %q after %d", number, text, last)
			}
			last = token
			c.ask("r foo", "1 Lock Release Success: foo")
		}
		c.Close()
		s.Shutdown(canceled())
	}
}

// Nobody hears of a token before its time, however fast grants come: so a server
// that is killed at any moment and started again, with the clock that begins
// there, gives none that is smaller than one that was seen.
func TestTokensWaitForTheClock(t *testing.T) {
	t.Parallel()
	const n = 100_000
	overStreams(t, server.Options{Shards: 1}, func(t *testing.T, s *testServer, transport string) {
		for _, c := range []struct{ hello, pair string }{
			{"", "g foo\nt foo\nr foo\n"},
			{"hello 2\n", "7 g foo\n7 r foo\n"},
		} {
			client := s.dial(t, transport)
			client.sendAll(c.hello + strings.Repeat(c.pair, n))
			last := uint64(0)
			for tokens := 0; tokens < n; {
				line := client.line()
				fields := strings.Fields(strings.TrimPrefix(line, "7 "))
				token, _ := strconv.ParseUint(fields[0], 10, 64)
				if token < 1<<40 { // no token: a 1, or the 2 of hello
					continue
				}
				tokens++
				if now := uint64(time.Now().UnixMicro()); token > now || token <= last {
					t.Fatalf("%q after token %d, at %d", line, last, now)
				}
				last = token
			}
		}
	})
}

func TestTokensWaitForTheClockOverWebSocket(t *testing.T) {
	t.Parallel()
	const n, messages = 2000, 30
	w := dialWS(t, start(t, server.Options{Shards: 1}).webSocketURL)
	w.ask("hello 2", "2 lockd "+server.Version)
	go w.send(strings.Repeat(message(ws.OpText, strings.Repeat("7 g foo\n7 r foo\n", n)), messages))
	for tokens := 0; tokens < n*messages; {
		_, replies := w.message()
		now := uint64(time.Now().UnixMicro())
		for line := range strings.Lines(replies) {
			if fields := strings.Fields(line); fields[3] == "Get" {
				tokens++
				if token, err := strconv.ParseUint(fields[1], 10, 64); err != nil || token > now {
					t.Fatalf("%q at %d", line, now)
				}
			}
		}
	}
}

// The same by a clock that stands still unless somebody waits for it, and over
// restarts; also that tokens are below 2^53 in a hundred years.
func TestTokensByAFakeClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last := uint64(0)
		for restart := range 5 {
			s := newServer(t, server.Options{})
			for range 3 { // owners, on connections of their own
				c := newClient(t, dialMemory(t, s), nil)
				must(t, c.SetDeadline(time.Time{}))
				c.ask("hello 2", "2 lockd "+server.Version)
				c.sendAll(strings.Repeat("7 g foo\n7 r foo\n", 1000) + "7 bye\n")
				for range 1000 {
					line := c.line()
					token, err := strconv.ParseUint(strings.Fields(line)[1], 10, 64)
					if err != nil || token <= last || token > uint64(time.Now().UnixMicro()) {
						t.Fatalf("%q after token %d, at %d", line, last, time.Now().UnixMicro())
					}
					last = token
					c.line()
				}
				if got := c.line(); got != "7 1 bye\n" {
					t.Fatalf("got %q", got)
				}
				c.Close()
			}
			s.Shutdown(canceled()) // and started again at the same moment
			if restart == 3 {
				time.Sleep(time.Until(time.Date(2126, 12, 31, 0, 0, 0, 0, time.UTC)))
			}
		}
		if last < uint64(time.Now().Add(-time.Hour).UnixMicro()) || last >= 1<<53 {
			t.Errorf("in the end a token is %d", last)
		}
	})
}

// A client whose requests behind a wait are more than are kept for it may lose
// its place in line, but no reply, and the replies are in order.
func TestTooMuchInputBehindAWait(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		holder, c := s.dial(t, transport), s.dial(t, transport)
		holder.ask("g foo", "1 Lock Get Success: foo")
		const n = 60_000 // 360 kB
		c.sendAll("gw 86400000 foo\n"+strings.Repeat("i foo\n", n)+"gw 86400000 foo\n"+strings.Repeat("i foo\n", n), c.closeWrite)
		eventually(t, "it waits, or does not any more", func() bool {
			return metric(t, s.Server, "lockd_waiters") == 1 || metric(t, s.Server, "lockd_wait_total", "result=canceled") > 0
		})
		holder.send("r foo\n")
		for i := range 2*n + 2 {
			got := c.line()
			if i == 0 || i == n+1 {
				switch got {
				case "1 Lock Get Success: foo\n", "0 Lock Get Canceled: foo\n", "0 Lock Get Timeout: foo\n":
				default:
					t.Fatalf("reply %d is %q", i, got)
				}
			} else if got != "1 Lock Is Locked: foo\n" && got != "0 Lock Not Locked: foo\n" {
				t.Fatalf("reply %d is %q", i, got)
			}
		}
		c.end()
	})
}
