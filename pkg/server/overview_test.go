package server_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// Clients of all transports that look at the whole server at the same time get what
// they have asked for, and all that they ask behind it, be that more than is kept of
// a client that waits.
func TestTopsOverAll(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	const locks = 30000
	s.hold(t, locks)
	type asker struct {
		peer
		transport string
		behind    int
	}
	var peers []asker
	for _, behind := range []int{1, 2500} {
		for _, transport := range transports {
			peers = append(peers, asker{s.peer(t, transport), transport, behind})
		}
	}
	const long = 50 // bytes of a name
	var all sync.WaitGroup
	for _, p := range peers {
		all.Go(func() {
			all.Go(func() {
				p.request("top 3 oldest")
				for i := range p.behind {
					p.request(fmt.Sprintf("i %0*d", long, locks+i))
				}
			})
			for i := range 3 {
				if got := p.line(i == 0); strings.Count(got, "\t") != 9 || !strings.Contains(got, "\texclusive\t1\t") {
					t.Errorf("%s: %q", p.transport, got)
				}
			}
			if got := p.line(false); got != "1 End\n" {
				t.Errorf("%s: %q", p.transport, got)
			}
			p.done()
			for i := range p.behind {
				if got, want := p.line(true), fmt.Sprintf("0 Lock Not Locked: %0*d\n", long, locks+i); got != want {
					t.Errorf("%s: behind it: %q, want %q", p.transport, got, want)
					return
				}
			}
			p.Close()
		})
	}
	all.Wait()
}
