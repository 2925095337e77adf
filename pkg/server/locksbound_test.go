package server_test

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// The bound is exact however the names spread over the shards, and whoever
// holds them. See also testdata/scripts/too-many-locks*.txt.
func TestMaxLocksIsExact(t *testing.T) {
	t.Parallel()
	for _, shards := range []int{1, 2, 64, 4096} {
		t.Run(fmt.Sprint(shards, " shards"), func(t *testing.T) {
			t.Parallel()
			s := start(t, server.Options{MaxLocks: 10, Shards: shards})
			cs := []*client{s.dial(t, "memory"), s.dial(t, "memory"), s.dial(t, "memory")}
			for round := range 20 {
				name := func(i int) string { return fmt.Sprintf("%d in round %d", i, round) }
				for i := range 10 {
					cs[i%3].ask("g "+name(i), "1 Lock Get Success: "+name(i))
				}
				for i := 10; i < 20; i++ {
					cs[i%3].ask("g "+name(i), "0 Too Many Locks: "+name(i))
					cs[i%3].ask("sg "+name(i), "0 Too Many Locks: "+name(i))
				}
				for i := range 10 {
					cs[i%3].ask("g "+name(i), "1 Lock Get Success: "+name(i))
					cs[i%3].ask("r "+name(i), "1 Lock Release Success: "+name(i))
					// One less, one more, of the other kind.
					cs[(i+1)%3].ask("sg "+name(i), "1 Shared Lock Get Success: "+name(i))
					cs[i%3].ask("sg "+name(i), "0 Too Many Locks: "+name(i))
				}
				for i := range 10 {
					cs[(i+1)%3].ask("sr "+name(i), "1 Shared Lock Release Success: "+name(i))
				}
			}
		})
	}
}

// Ten that ask for ten locks at the same time all get theirs, and an eleventh
// does not.
func TestMaxLocksConcurrently(t *testing.T) {
	t.Parallel()
	for range 20 {
		s := start(t, server.Options{MaxLocks: 10, Shards: 64})
		var wg sync.WaitGroup
		for i := range 10 {
			c := s.dial(t, "memory")
			wg.Go(func() {
				name := fmt.Sprint("name ", i)
				c.Write([]byte("sg " + name + "\n"))
				if got, err := c.in.ReadString('\n'); got != "1 Shared Lock Get Success: "+name+"\n" {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
		wg.Wait()
		s.dial(t, "memory").ask("g x", "0 Too Many Locks: x")
	}
}

// As long as there is room for all, none is refused, however locks come and
// go in all shards.
func TestMaxLocksWithRoomForAll(t *testing.T) {
	t.Parallel()
	const workers = 10
	s := start(t, server.Options{MaxLocks: workers, Shards: 64})
	var wg sync.WaitGroup
	for w := range workers {
		c := s.dial(t, "memory")
		wg.Go(func() {
			for i := range 200 {
				var requests strings.Builder
				for j := range 100 {
					fmt.Fprintf(&requests, "g %d %d %d\nr %d %d %d\n", w, i, j, w, i, j)
				}
				io.WriteString(c, requests.String())
				for j := range 100 {
					got, err := c.in.ReadString('\n')
					if want := fmt.Sprintf("1 Lock Get Success: %d %d %d\n", w, i, j); got != want {
						t.Errorf("got %q, %v, not %q, with less than %d locks held", got, err, want, workers)
						return
					}
					c.in.ReadString('\n')
				}
			}
		})
	}
	wg.Wait()
}

func TestTooManyLocksAreCounted(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{MaxLocks: 2, MaxLocksPerConnection: 1, MaxShare: []string{"off"}})
	a, b, c := s.dial(t, "tcp"), s.dial(t, "tcp"), s.dial(t, "tcp")
	a.ask("g a", "1 Lock Get Success: a")
	a.ask("sg a", "0 Too Many Locks: a")
	b.ask("sg a", "1 Shared Lock Get Success: a")
	b.ask("g b", "0 Too Many Locks: b")
	c.ask("g c", "0 Too Many Locks: c")
	if n := metric(t, s.Server, "lockd_rejected_total", "reason=too_many_locks"); n != 1 {
		t.Errorf("%d over the bound of all, not 1", n)
	}
	if n := metric(t, s.Server, "lockd_rejected_total", "reason=too_many_locks_of_owner"); n != 2 {
		t.Errorf("%d over a connection's bound, not 2", n)
	}
}
