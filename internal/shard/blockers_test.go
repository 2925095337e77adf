package shard

import (
	"fmt"
	"slices"
	"testing"
)

// TestBlockers: those who keep somebody waiting are found, once for each lock, in
// pieces, and nobody else is.
func TestBlockers(t *testing.T) {
	set := New(4, Config{Notify: func(uint32) {}})
	id := uint32(0)
	owner := func() *Owner { id++; return &Owner{ID: id} }
	all := func() []uint32 {
		var ids, some []uint32
		b := set.Blockers()
		for more := true; more; {
			some, more = b.Next(some[:0])
			if len(some) > blockersStep+blockersOfOne+1 {
				t.Errorf("a piece of %d", len(some))
			}
			ids = append(ids, some...)
		}
		slices.Sort(ids)
		return ids
	}
	var want []uint32
	for i := range 3 * blockersStep {
		name := []byte(fmt.Sprint("x", i))
		holder := owner()
		set.Get(holder, name)
		if i%2 == 0 {
			want = append(want, holder.ID)
			set.GetWait(owner(), name, 1000)
			set.GetWait(owner(), name, 1000)
		}
	}
	if got := all(); !slices.Equal(got, want) {
		t.Errorf("%d, want %d", len(got), len(want))
	}
	set.Expire(1000)
	if got := all(); len(got) != 0 {
		t.Errorf("%v, and nobody waits", got)
	}
	want = nil
	for i := range blockersOfOne + 10 {
		holder := owner()
		set.GetShared(holder, []byte("pool"))
		if i < blockersOfOne {
			want = append(want, holder.ID)
		}
	}
	first := owner()
	set.GetSharedWait(first, []byte("pool"), 1, 5000)
	if got := all(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	set.GetSharedWait(owner(), []byte("pool"), 1000, 5000)
	if got := all(); !slices.Equal(got, append(want, first.ID)) {
		t.Errorf("%v: without the first one who waits, and keeps another back", got)
	}
}
