package shard

import (
	"strconv"
	"testing"
)

// No request allocates, but for the first lock of an owner and what makes the
// table larger than it ever was.
func TestRequestsDoNotAllocate(t *testing.T) {
	for _, shards := range []int{1, 64} {
		t.Run(strconv.Itoa(shards), func(t *testing.T) {
			set := New(shards, Config{LocksPerOwner: 1000})
			a, b, full := &Owner{ID: 1}, &Owner{ID: 2}, &Owner{ID: 3}
			bufs := [2][]byte{make([]byte, 0, 4096), make([]byte, 0, 4096)}
			n := 0
			never := func(size int) []byte {
				n++
				b := append(bufs[0][:0], "never seen "...)
				b = strconv.AppendInt(b, int64(n), 10)
				for len(b) < size {
					b = append(b, '.')
				}
				return b
			}
			held, other := []byte("held"), []byte("held by somebody else, with a name longer than head")
			for i := range 1000 {
				get(set, full, strconv.AppendInt(bufs[1][:0], int64(i), 10))
			}
			// Enough that the indexes do not shrink and grow for the few that
			// follow.
			base := &Owner{ID: 4}
			for i := range 1000 {
				getShared(set, base, strconv.AppendInt(bufs[1][:0], int64(i), 10))
			}
			for _, name := range [][]byte{held, other} {
				getShared(set, b, name)
			}
			get(set, a, held)
			getShared(set, a, held)
			get(set, b, other)
			cycle := func(size int) {
				name := never(size)
				if get(set, a, name) != Acquired || !set.Release(a, name) {
					t.Fatal("get and release of a name never seen")
				}
				if c, _ := getShared(set, a, name); c != 1 || !set.ReleaseShared(a, name) {
					t.Fatal("shared get and release of a name never seen")
				}
			}
			for range 1000 {
				cycle(4000) // so that every shard has seen some
			}
			for _, op := range []struct {
				what string
				do   func()
			}{
				{"get and release, short names never seen", func() { cycle(0) }},
				{"get and release, long names never seen", func() { cycle(1000) }},
				{"get, held by me", func() { get(set, a, held) }},
				{"get, held by somebody else", func() { get(set, a, other) }},
				{"get, owner full", func() { get(set, full, never(100)) }},
				{"release, not held", func() { set.Release(a, never(100)) }},
				{"release, not mine", func() { set.Release(a, other) }},
				{"inspect, held", func() { set.Inspect(other) }},
				{"inspect, not held", func() { set.Inspect(never(100)) }},
				{"holder", func() { set.Holder(other); set.Holder(never(30)) }},
				{"get shared, held by me", func() { getShared(set, a, held) }},
				{"get shared and release, held by somebody else", func() { getShared(set, a, other); set.ReleaseShared(a, other) }},
				{"get shared, owner full", func() { getShared(set, full, never(100)) }},
				{"release shared, not held", func() { set.ReleaseShared(a, never(100)) }},
				{"release shared, not mine", func() { set.ReleaseShared(a, other) }},
				{"inspect shared, held", func() { set.InspectShared(other) }},
				{"inspect shared, not held", func() { set.InspectShared(never(100)) }},
				{"stats", func() { set.Stats() }},
				{"end", func() {
					for i := range 50 {
						get(set, b, strconv.AppendInt(bufs[0][:0], int64(5000+i), 10))
						getShared(set, b, strconv.AppendInt(bufs[0][:0], int64(5000+i), 10))
					}
					set.ReleaseAll(b)
				}},
			} {
				op.do()
				if allocs := testing.AllocsPerRun(1000, op.do); allocs != 0 {
					t.Errorf("%s: %v allocations", op.what, allocs)
				}
			}
		})
	}
}

// A set that is full refuses without allocating.
func TestRefusalsDoNotAllocate(t *testing.T) {
	set := New(16, Config{Locks: 100})
	a := &Owner{ID: 1}
	var buf [32]byte
	for i := range 100 {
		if out := get(set, a, strconv.AppendInt(buf[:0], int64(i), 10)); out != Acquired {
			t.Fatalf("get %d: %v", i, out)
		}
	}
	n := 100
	if allocs := testing.AllocsPerRun(1000, func() {
		n++
		if out := get(set, a, strconv.AppendInt(buf[:0], int64(n), 10)); out != Full {
			t.Fatalf("get %d: %v", n, out)
		}
		if _, out := getShared(set, a, strconv.AppendInt(buf[:0], int64(n), 10)); out != Full {
			t.Fatalf("get shared %d: %v", n, out)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// Lists in pieces use the same piece again and again.
func TestWalkDoesNotAllocateMuch(t *testing.T) {
	set := New(4, Config{})
	a := &Owner{ID: 1}
	var buf [32]byte
	for i := range 10_000 {
		get(set, a, strconv.AppendInt(buf[:0], int64(i), 10))
	}
	var p Piece
	walk := func() {
		w := set.Walk(Exclusive)
		for w.Next(&p) {
		}
		w.Close()
	}
	walk()
	if allocs := testing.AllocsPerRun(20, walk); allocs > 1 {
		t.Errorf("%v allocations for a walk over 10,000 locks, want 1, the walk", allocs)
	}
}
