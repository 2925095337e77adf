package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// "A client that half-closes (shutdown of its sending side) still gets every
// reply to what it sent; then it counts as disconnected."
func TestHalfClose(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		const n = 5000
		var requests, replies strings.Builder
		for i := range n {
			fmt.Fprintf(&requests, "g %d\nsg %d\n", i, i)
			fmt.Fprintf(&replies, "1 Lock Get Success: %d\n1 Shared Lock Get Success: %d\n", i, i)
		}
		c := s.dial(t, transport)
		c.sendAll(requests.String()+"d 4999\ng half a line", c.closeWrite)
		for _, want := range strings.SplitAfter(strings.TrimSuffix(replies.String(), "\n"), "\n") {
			if got := c.line(); strings.TrimSuffix(got, "\n") != strings.TrimSuffix(want, "\n") {
				t.Fatalf("got %q, not %q", got, want)
			}
		}
		if got := c.line(); !strings.HasPrefix(got, "4999: ") {
			t.Fatalf("got %q, not who holds 4999", got)
		}
		c.end()
		// Who sees the end finds the locks free, without waiting.
		other := s.dial(t, transport)
		for i := 0; i < n; i += 250 {
			other.ask(fmt.Sprintf("g %d", i), fmt.Sprintf("1 Lock Get Success: %d", i))
			other.ask(fmt.Sprintf("si %d", i), fmt.Sprintf("0 Shared Lock Not Locked: %d", i))
		}
		other.ask("i half a line", "0 Lock Not Locked: half a line")
		other.ask("i half a", "0 Lock Not Locked: half a")
		if got := metric(t, s.Server, "lockd_orphans_total"); got != 2*n {
			t.Errorf("%d orphans, not %d", got, 2*n)
		}
	})
}
