package shard

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// A request that is made again counts once.
func TestUncount(t *testing.T) {
	set, held, o := New(2, Config{}), []byte("held"), &Owner{ID: 2}
	get(set, &Owner{ID: 1}, held)
	for what, c := range map[string]struct{ do, undo func() }{
		"get": {
			func() { set.Get(o, held) },
			func() { set.Uncount(held, true) },
		},
		"get, no time": {
			func() { set.GetWait(o, held, 0) },
			func() { set.Uncount(held, false) },
		},
		"inspect": {
			func() { set.Inspect(held) },
			func() { set.UncountInspect(held) },
		},
	} {
		none := set.Stats()
		c.do()
		if once := set.Stats(); once == none {
			t.Errorf("%s: is not counted", what)
		}
		c.undo()
		if got := set.Stats(); got != none {
			t.Errorf("%s: counted as\n%+v, before it is\n%+v", what, got, none)
		}
	}
}

// What an owner lets go of for good is neither released nor orphaned.
func TestLetGoIsNoOrphan(t *testing.T) {
	set := New(2, Config{})
	o := &Owner{ID: 1}
	for i := range 3 * orphanBatch {
		get(set, o, fmt.Append(nil, i))
		getShared(set, o, fmt.Append(nil, i))
	}
	for !set.LetGoSome(o, 1) {
	}
	const n = 3 * orphanBatch
	if st := set.Stats(); st.LetGo != [Kinds]uint64{n, n} || st.Release != [Kinds]uint64{} || st.Orphans != [Kinds]uint64{} || st.Locks != [Kinds]int{} || st.Holders != 0 {
		t.Errorf("%+v", st)
	}
}

// checkSum fails unless each hold that was acquired is accounted for.
func checkSum(t fataler, st Stats) {
	t.Helper()
	for k, held := range [Kinds]int{st.Locks[Exclusive], st.Holders} {
		if got, want := st.Release[k]+st.LetGo[k]+st.Orphans[k]+uint64(held), st.Acquire[k][Acquired]-st.Again[k]; got != want {
			t.Fatalf("%v: of %d that were acquired %d are released, let go, orphaned or held: %+v", Kind(k), want, got, st)
		}
	}
}

// The sum is right at any moment, whatever goes on.
func TestSumOfHolds(t *testing.T) {
	set := New(4, Config{Locks: 40, LocksPerOwner: 12, Waiters: 6, Notify: func(uint32) {}})
	var all sync.WaitGroup
	var id atomic.Uint32
	done := make(chan struct{})
	for g := range 4 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			o := &Owner{ID: id.Add(1)}
			for range rounds(20000) {
				name := strconv.AppendInt(nil, int64(r.IntN(16)), 10)
				runtime.Gosched() // also with one processor
				switch n := r.IntN(100); {
				case o.Waits() && n < 70:
					set.Settle(o)
				case o.Waits():
					set.Cancel(o)
				case n < 25:
					set.Get(o, name)
				case n < 35:
					set.GetShared(o, name)
				case n < 45:
					set.GetSharedLimit(o, name, uint32(1+r.IntN(3)))
				case n < 55:
					set.GetWait(o, name, 1<<40)
				case n < 65:
					set.GetSharedWait(o, name, uint32(1+r.IntN(3)), 1<<40)
				case n < 80:
					set.Release(o, name)
				case n < 95:
					set.ReleaseShared(o, name)
				case n < 98:
					for !set.LetGoSome(o, 1) {
					}
				default:
					set.ReleaseAll(o)
					o = &Owner{ID: id.Add(1)}
				}
			}
			if o.Waits() {
				set.Cancel(o)
			}
			set.ReleaseAll(o)
		})
	}
	go func() { all.Wait(); close(done) }()
	for on := true; on; {
		select {
		case <-done:
			on = false
		default:
			runtime.Gosched()
		}
		checkSum(t, set.Stats())
	}
	checkEmpty(t, set)
	st := set.Stats()
	for k := range Kinds {
		if st.Again[k] == 0 || st.Release[k] == 0 || st.LetGo[k] == 0 || st.Orphans[k] == 0 || st.Acquire[k][Canceled] == 0 {
			t.Errorf("nothing of some kind has happened: %+v", st)
		}
	}
}
