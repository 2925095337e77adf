package shard

import (
	"math/rand/v2"
	"reflect"
	"runtime"
	"strconv"
	"testing"
	"unsafe"

	"github.com/nylen/lockd/internal/stress"
)

// The garbage collector does not look into memory without pointers, which is
// why a table of ten million locks costs it nothing. One string in an item
// would undo that without any test of behaviour noticing.
func TestItemsHaveNoPointers(t *testing.T) {
	var check func(path string, typ reflect.Type)
	check = func(path string, typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Struct:
			for i := range typ.NumField() {
				check(path+"."+typ.Field(i).Name, typ.Field(i).Type)
			}
		case reflect.Array:
			check(path+"[]", typ.Elem())
		case reflect.Bool,
			reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
			reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		default:
			t.Errorf("%s is a %s", path, typ.Kind())
		}
	}
	for _, item := range []any{
		exclusive{}, shared{}, hold{}, block{}, slot{}, waiter{}, limiter{},
		page{},
	} {
		typ := reflect.TypeOf(item)
		check(typ.String(), typ)
	}
	// What an item costs is a promise of the docs: a held lock with a name of
	// up to 24 bytes is one of these and a slot or two of an index.
	if got, want := unsafe.Sizeof(exclusive{}), uintptr(64); got != want {
		t.Errorf("an exclusive lock takes %d bytes, want %d", got, want)
	}
	if got, want := unsafe.Sizeof(hold{}), uintptr(28); got != want {
		t.Errorf("a hold takes %d bytes, want %d", got, want)
	}
	if got, want := unsafe.Sizeof(block{}), uintptr(32); got != want {
		t.Errorf("a block takes %d bytes, want %d", got, want)
	}
}

type thing struct{ a, b uint64 }

// chunksOf counts the chunks that exist, checking on the way that the slab's
// own bookkeeping adds up to live items.
func chunksOf[T any](t *testing.T, s *slab[T], live int) int {
	t.Helper()
	var n, free, empty, open int
	for _, c := range s.chunks {
		if c.page == nil {
			continue
		}
		n++
		free += int(c.nfree)
		if c.nfree > 0 {
			open++
		}
		if c.nfree == chunkItems {
			empty++
		}
		seen := [chunkItems]bool{}
		for _, i := range c.free[:c.nfree] {
			if seen[i] {
				t.Fatalf("item %d of a chunk is free twice", i)
			}
			seen[i] = true
		}
	}
	if n*chunkItems-free != live || int(s.live) != live {
		t.Fatalf("the chunks hold %d items, counted as %d, want %d", n*chunkItems-free, s.live, live)
	}
	if empty != int(s.empty) || empty > spareChunks {
		t.Fatalf("%d empty chunks, counted as %d, at most %d allowed", empty, s.empty, spareChunks)
	}
	if n+len(s.vacant) != len(s.chunks) {
		t.Fatalf("%d chunks and %d vacant places in %d", n, len(s.vacant), len(s.chunks))
	}
	var prev uint32
	for pos := s.open; pos != 0; pos = s.chunks[pos-1].next {
		if s.chunks[pos-1].prev != prev {
			t.Fatalf("chunk %d follows %d, not %d", pos, s.chunks[pos-1].prev, prev)
		}
		prev = pos
		open--
	}
	if open != 0 {
		t.Fatalf("the list of chunks with free items is off by %d", open)
	}
	return n
}

func TestSlabAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	type entry struct {
		at    *thing
		value thing
	}
	var s slab[thing]
	live := map[uint32]entry{}
	var refs []uint32
	for step := range 60_000 {
		// Now it grows, now it shrinks.
		if grow := rnd.IntN(10) < 3+4*(step/10_000%2); grow {
			ref := s.alloc()
			if ref == 0 {
				t.Fatal("reference 0 was given out")
			}
			if _, ok := live[ref]; ok {
				t.Fatalf("reference %d was given out twice", ref)
			}
			if ref >= s.end() || !s.chunkOf(ref) {
				t.Fatalf("reference %d is beyond the end %d or in no chunk", ref, s.end())
			}
			p := s.at(ref)
			if *p != (thing{}) {
				t.Fatalf("a new item is %v", *p)
			}
			*p = thing{rnd.Uint64(), uint64(step)}
			live[ref] = entry{p, *p}
			refs = append(refs, ref)
		} else if len(refs) > 0 {
			i := rnd.IntN(len(refs))
			ref := refs[i]
			refs[i] = refs[len(refs)-1]
			refs = refs[:len(refs)-1]
			e := live[ref]
			if s.at(ref) != e.at {
				t.Fatalf("item %d has moved", ref)
			}
			if *e.at != e.value {
				t.Fatalf("item %d is %v, was %v", ref, *e.at, e.value)
			}
			delete(live, ref)
			s.release(ref)
			if *e.at != (thing{}) {
				t.Fatalf("a freed item is %v", *e.at)
			}
		}
		if step%997 == 0 {
			chunksOf(t, &s, len(live))
		}
	}
	for ref, e := range live {
		if s.at(ref) != e.at || *e.at != e.value {
			t.Fatalf("item %d has moved or changed", ref)
		}
	}
}

func TestSlabRecycles(t *testing.T) {
	var s slab[thing]
	// Going back and forth over the edge of a chunk must not make chunks.
	for range chunkItems {
		s.alloc()
	}
	s.release(s.alloc())
	if n := testing.AllocsPerRun(1000, func() { s.release(s.alloc()) }); n != 0 {
		t.Errorf("%v allocations for a recycled item", n)
	}
	if n := chunksOf(t, &s, chunkItems); n != 2 {
		t.Errorf("%d chunks, want 2", n)
	}
}

func TestSlabReturnsPeak(t *testing.T) {
	const peak = 100 * chunkItems
	for _, order := range []string{"as made", "reverse", "random"} {
		t.Run(order, func(t *testing.T) {
			var s slab[thing]
			refs := make([]uint32, peak)
			for i := range refs {
				refs[i] = s.alloc()
			}
			switch order {
			case "reverse":
				for i, j := 0, len(refs)-1; i < j; i, j = i+1, j-1 {
					refs[i], refs[j] = refs[j], refs[i]
				}
			case "random":
				rand.Shuffle(len(refs), func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
			}
			for _, ref := range refs {
				s.release(ref)
			}
			if n := chunksOf(t, &s, 0); n > spareChunks {
				t.Errorf("%d chunks after the peak, want at most %d", n, spareChunks)
			}
			// The next peak takes the places of the first.
			for range peak {
				s.alloc()
			}
			if got, want := chunksOf(t, &s, peak), peak/chunkItems; got != want || len(s.chunks) != want {
				t.Errorf("%d chunks in %d places in the second peak, want %d", got, len(s.chunks), want)
			}
		})
	}
}

// The memory of a million locks is there for others when they are released.
func TestMemoryAfterPeak(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 100_000
	}
	set := New(8, Config{})
	o := &Owner{ID: 1}
	buf := make([]byte, 0, 64)
	name := func(i int) []byte { // of 40 bytes, so that blocks are in use
		buf = append(buf[:0], "a-name-that-does-not-fit-into-head/"...)
		return strconv.AppendInt(buf, int64(i), 10)
	}
	before := stress.Heap()
	for i := range n / 2 {
		get(set, o, name(i))
		getShared(set, o, name(i))
	}
	peak := stress.Heap() - before
	if o.Held() != n {
		t.Fatalf("%d held, want %d", o.Held(), n)
	}
	t.Logf("%d locks with names of 41 bytes at most: %.1f bytes a lock", n, float64(peak)/float64(n))
	for i := range n / 4 {
		set.Release(o, name(i))
		set.ReleaseShared(o, name(i))
	}
	set.ReleaseAll(o)
	left := stress.Heap() - before
	t.Logf("%d bytes left after release", left)
	if left > peak/16 {
		t.Errorf("%d bytes left of a peak of %d", left, peak)
	}
	runtime.KeepAlive(set)
}
