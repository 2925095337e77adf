package bench

import (
	"testing"

	"github.com/nylen/lockd/internal/shard"
)

// Waiters is what a line costs with a million in it: standing in line and
// leaving it, and a grant that passes a lock on. On one name it is one line,
// on a million names a million lines of one.
func BenchmarkWaiters(b *testing.B) {
	const due = 1 << 40 // nobody's patience ends
	all := names()
	for _, line := range []string{"one-name", "million-names"} {
		nameOf := func(i int) []byte { return nameAt(all, i) }
		if line == "one-name" {
			nameOf = func(int) []byte { return nameAt(all, 0) }
		}
		set := shard.New(0, shard.Config{Waiters: 2 * million, Notify: func(uint32) {}})
		holder := &shard.Owner{ID: 1}
		waiters := make([]shard.Owner, million)
		for i := range waiters {
			waiters[i].ID = uint32(i + 2)
			set.Get(holder, nameOf(i))
			if _, out := set.GetWait(&waiters[i], nameOf(i), due); out != shard.Waiting {
				b.Fatal(out)
			}
		}
		at := 0
		b.Run(line+"/wait-and-cancel", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				// Somewhere in the line, and then at its end.
				i := at * 7919 % million
				at++
				if _, out := set.Cancel(&waiters[i]); out != shard.Canceled {
					b.Fatal(out)
				}
				if _, out := set.GetWait(&waiters[i], nameOf(i), due); out != shard.Waiting {
					b.Fatal(out)
				}
			}
		})
		if line != "one-name" {
			continue
		}
		// The line in its order: each who gets the lock gives it to the next
		// one and stands in line again. What is allocated are the lists of
		// owners who hold their first lock.
		set = shard.New(0, shard.Config{Waiters: 2 * million, Notify: func(uint32) {}})
		for i := range waiters {
			waiters[i] = shard.Owner{ID: uint32(i + 2)}
			set.GetWait(&waiters[i], nameOf(i), due)
		}
		at = 0
		b.Run(line+"/grant", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w, next := &waiters[at%million], &waiters[(at+1)%million]
				at++
				if !set.Release(w, nameOf(0)) {
					b.Fatal("it was not this one's turn")
				}
				if _, out := set.Settle(next); out != shard.Acquired {
					b.Fatal(out)
				}
				set.GetWait(w, nameOf(0), due)
			}
		})
	}
}
