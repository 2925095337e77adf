package server_test

import (
	"strconv"
	"strings"
	"testing"

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
