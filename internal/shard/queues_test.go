package shard

import (
	"fmt"
	"testing"
)

// Queues of all sizes are counted, over several pieces, with the longest and the
// oldest of their waits; and what one name has is seen without going over a queue.
func TestQueues(t *testing.T) {
	set := New(4, Config{Notify: func(uint32) {}})
	id := uint32(0)
	owner := func(at uint64) *Owner { id++; return &Owner{ID: id, Now: MomentOf(at)} }
	if got := set.Queues(0); got != (Queues{}) {
		t.Errorf("%+v of nobody", got)
	}
	var want Queues
	line := func(name string, k Kind, length int, from uint64) (first *Owner) {
		set.Get(owner(0), []byte(name))
		set.GetShared(owner(0), []byte(name))
		for i := range length {
			o := owner(from + 16*uint64(i))
			if k == Exclusive {
				set.GetWait(o, []byte(name), 1<<40)
			} else {
				set.GetSharedWait(o, []byte(name), 1, 1<<40)
			}
			if i == 0 {
				first = o
			}
		}
		return first
	}
	for i, length := range []int{1, 2, 9, 10, 99, 100, 999, 1000, 5 * queuesStep} {
		line(fmt.Sprint("queue ", i), Kind(i%2), length, 100_000)
		want.Lengths[[]int{0, 1, 1, 2, 2, 3, 3, 4, 4}[i]]++
	}
	oldest := line("old", Exclusive, 3, 50_000)
	want.Lengths[1]++
	want.Longest, want.Oldest = 5*queuesStep, 150_000&^15-50_000&^15
	const now = 150_000 * msNanos
	if got := set.Queues(now); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if v := set.See([]byte("old"), now); v.Waiters != [Kinds]int{3, 0} || v.Waits[Exclusive] != want.Oldest || v.Holders != [Kinds]int{1, 1} ||
		v.Held[Exclusive] != 150_000&^15 || v.Held[Shared] != 150_000&^15 {
		t.Errorf("sees %+v", v)
	}
	set.Cancel(oldest)
	want.Oldest = 150_000&^15 - 50_016&^15
	if got := set.Queues(now); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	set.Expire(1 << 41)
	if got := set.Queues(1 << 41 * msNanos); got != (Queues{}) {
		t.Errorf("%+v, and nobody waits", got)
	}
}

// What is seen of a rate, and of a name that nobody has used.
func TestSee(t *testing.T) {
	set, r := New(1, Config{}), Rate{10, 1000 * msNanos}
	if v := set.See([]byte("x"), 5); v != (Sight{}) {
		t.Errorf("sees %+v of nothing", v)
	}
	set.Take(nil, []byte("x"), r, 10, 1000*msNanos)
	if v := set.See([]byte("x"), 1000*msNanos); !v.Rate || v.Open != 0 {
		t.Errorf("sees %+v of a rate that is used up", v)
	}
	if v := set.See([]byte("x"), 1300*msNanos); !v.Rate || v.Open != 3 {
		t.Errorf("sees %+v of a rate with 3 units", v)
	}
	if v := set.See([]byte("x"), 2000*msNanos); v.Rate {
		t.Errorf("sees %+v of a rate that is full", v)
	}
	first, second := &Owner{ID: 1, Now: MomentOf(160)}, &Owner{ID: 2, Now: MomentOf(320)}
	set.GetShared(first, []byte("x"))
	set.GetShared(second, []byte("x"))
	if v := set.See([]byte("x"), 1600*msNanos); v.Holders != [Kinds]int{0, 2} || v.Held[Shared] != 1440 {
		t.Errorf("sees %+v of two holders", v)
	}
	set.ReleaseShared(first, []byte("x"))
	if v := set.See([]byte("x"), 1600*msNanos); v.Holders != [Kinds]int{0, 1} || v.Held[Shared] != 1280 {
		t.Errorf("sees %+v of one holder", v)
	}
}

// BenchmarkQueues goes over as many as may wait, as each scrape does.
func BenchmarkQueues(b *testing.B) {
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
			for b.Loop() {
				set.Queues(0)
			}
		})
	}
}
