package shard

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// What is counted is about what the heap grows by, for each kind of thing, and
// after all is released next to nothing is left of either.
func TestMemoryIsCounted(t *testing.T) {
	long := strings.Repeat("n", 1000)
	for _, c := range []struct {
		name string
		n    int
		get  func(t *Set, o *Owner, i int) Outcome
	}{
		{"locks", 100_000, func(t *Set, o *Owner, i int) Outcome { return get(t, o, fmt.Appendf(nil, "%d", i)) }},
		{"long names", 5_000, func(t *Set, o *Owner, i int) Outcome { return get(t, o, fmt.Appendf(nil, "%d %s", i, long)) }},
		{"shared locks", 100_000, func(t *Set, o *Owner, i int) Outcome {
			_, out := getShared(t, o, fmt.Appendf(nil, "%d", i))
			return out
		}},
		{"rates", 100_000, func(t *Set, _ *Owner, i int) Outcome {
			return t.Take(nil, fmt.Appendf(nil, "%d", i), Rate{Limit: 1, Window: 1e9}, 1, 1).Outcome
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			memory := NewMemory(0)
			set := New(4, Config{Memory: memory})
			o := &Owner{ID: 1}
			before := heap()
			for i := range c.n {
				if out := c.get(set, o, i); out != Acquired {
					t.Fatal(out)
				}
			}
			grown, counted := int(heap()-before), int(memory.Used())
			if counted < grown*9/10 || counted > grown*12/10 {
				t.Errorf("the heap has grown by %d bytes, %d were counted", grown, counted)
			}
			set.ReleaseAll(o)
			set.Forget(o)
			for range 100 {
				set.Sweep(2e9, 1<<20)
			}
			if left := int(memory.Used()); left > counted/10 {
				t.Errorf("%d of %d bytes are left", left, counted)
			}
			runtime.KeepAlive(set)
		})
	}
}

// heap is what is in use, without garbage.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// At the bound, what would take more is refused, of each kind, and the bound is
// kept; what takes nothing more goes on, and what is released can be had again.
func TestMemoryBound(t *testing.T) {
	const limit = 4 << 20
	long := strings.Repeat("n", 4000)
	for _, c := range []struct{ name, rest string }{{"short names", ""}, {"long names", long}} {
		t.Run(c.name, func(t *testing.T) {
			memory := NewMemory(limit)
			set := New(4, Config{Memory: memory, Notify: func(uint32) {}})
			o, other := &Owner{ID: 1}, &Owner{ID: 2}
			name := func(i int) []byte { return fmt.Appendf(nil, "%d %s", i, c.rest) }
			fill := func(what string, from int, get func(name []byte) Outcome) (n int) {
				t.Helper()
				for ; ; n++ {
					if n > 1_000_000 {
						t.Fatal("there is no bound")
					}
					out := get(name(from + n))
					if used := memory.Used(); used > limit+limit/32 { // indexes may grow by a segment each
						t.Fatalf("%s: %d bytes of at most %d", what, used, limit)
					}
					if out == MemoryFull {
						return n
					} else if out != Acquired {
						t.Fatal(out)
					}
				}
			}
			locks := fill("locks", 0, func(n []byte) Outcome { return get(set, o, n) })
			if memory.Used() < limit*8/10 {
				t.Errorf("refused with %d of %d bytes", memory.Used(), limit)
			}
			fill("shared locks", 0, func(n []byte) Outcome { _, out := getShared(set, o, n); return out })
			r := Rate{Limit: 1, Window: 1e9}
			fill("rates", 0, func(n []byte) Outcome { return set.Take(nil, n, r, 1, 1).Outcome })
			for i := range 100 { // no more than fits into a chunk that is there
				w := &Owner{ID: uint32(10 + i)}
				if _, out := set.GetWait(w, name(i), 1000); out == MemoryFull {
					break
				} else if i == 99 {
					t.Error("nobody who waits is refused")
				}
			}
			// What is there goes on.
			if out := get(set, o, name(1)); out != Acquired {
				t.Error("again:", out)
			}
			if out := get(set, other, name(1)); out != Refused {
				t.Error("another one:", out)
			}
			for i := range locks {
				if i%2 == 0 {
					set.Release(o, name(i))
				}
			}
			again := fill("again", 1_000_000, func(n []byte) Outcome { return get(set, o, n) })
			if again < locks/3 {
				t.Errorf("%d of %d released can be had again", again, locks/2)
			}
		})
	}
}
