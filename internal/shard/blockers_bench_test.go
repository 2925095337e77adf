package shard

import (
	"fmt"
	"testing"
)

// BenchmarkBlockers walks over as many as may wait, twice a second, for one lock, or
// each for another.
func BenchmarkBlockers(b *testing.B) {
	const waiters = 1 << 20
	for _, names := range []int{1, waiters} {
		b.Run(fmt.Sprintf("locks=%d", names), func(b *testing.B) {
			set := New(16, Config{Notify: func(uint32) {}})
			for i := range names {
				set.Get(&Owner{ID: uint32(i + 1)}, fmt.Append(nil, "name ", i))
			}
			for i := range waiters {
				set.GetWait(&Owner{ID: uint32(names + i + 1)}, fmt.Append(nil, "name ", i%names), 1<<40)
			}
			b.ResetTimer()
			for range b.N {
				var ids []uint32
				walk := set.Blockers()
				for more := true; more; {
					ids, more = walk.Next(ids[:0])
				}
			}
		})
	}
}
