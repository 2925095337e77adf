package server_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// Clients of all transports that ask for a sorted list at the same time get it, one
// after another, and what they have asked behind it.
func TestDumpsTakeTurns(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	const locks = 30000
	s.hold(t, locks)
	var peers []peer
	for range 3 {
		for _, transport := range transports {
			peers = append(peers, s.peer(t, transport))
		}
	}
	var all sync.WaitGroup
	for _, p := range peers {
		all.Go(func() {
			p.request("dump")
			p.request("i b")
			if got := p.line(true); !strings.HasPrefix(got, "map[00000000:") || strings.Count(got, " 0") != locks-1 || !strings.HasSuffix(got, "]\n") {
				t.Errorf("%d bytes: %.60q", len(got), got)
			}
			p.done()
			if got := p.line(true); got != "0 Lock Not Locked: b\n" {
				t.Errorf("behind it: %q", got)
			}
		})
	}
	all.Wait()
}
