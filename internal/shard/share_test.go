package shard

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clientOf makes n owners that are one client.
func clientOf(set *Set, first uint32, n int, limits ShareLimits) (*Share, []*Owner) {
	h := set.NewShare(limits)
	owners := make([]*Owner, n)
	for i := range owners {
		owners[i] = &Owner{ID: first + uint32(i), Share: h}
	}
	return h, owners
}

// listsOf is what the owners' lists take, which counts, too.
func listsOf(owners []*Owner) (n int) {
	for _, o := range owners {
		n += o.listBytes()
	}
	return n
}

// A client gets exactly its share, whatever shards its locks are in and whichever
// of its owners asks; what it gives back it may have again; and nobody else is
// kept from anything. The limits are such that shards draw one by one, and in
// batches.
func TestShareIsExact(t *testing.T) {
	for _, shards := range []int{1, 8} {
		for _, limit := range []int{1, 10, 5000} {
			t.Run(fmt.Sprintf("%d of %d shards", limit, shards), func(t *testing.T) {
				set := New(shards, Config{Locks: 4 * limit})
				h, owners := clientOf(set, 1, 3, ShareLimits{Locks: limit})
				other := &Owner{ID: 100, Share: set.NewShare(ShareLimits{Locks: limit})}
				name := func(round, i int) []byte { return fmt.Appendf(nil, "%d in %d", i, round) }
				for round := range 3 {
					for i := range limit {
						if i%3 == 0 {
							if _, out := getShared(set, owners[i%3], name(round, i)); out != Acquired {
								t.Fatalf("shared %d: %v", i, out)
							}
						} else if out := get(set, owners[i%3], name(round, i)); out != Acquired {
							t.Fatalf("%d: %v", i, out)
						}
					}
					for i, o := range owners {
						if out := get(set, o, name(round, limit+i)); out != ShareFull {
							t.Fatalf("one more: %v", out)
						}
						if _, out := getShared(set, o, name(round, limit+i)); out != ShareFull {
							t.Fatalf("one more shared: %v", out)
						}
					}
					if out := get(set, other, name(round, limit)); out != Acquired {
						t.Fatalf("another client: %v", out)
					}
					set.ReleaseAll(other)
					if got := h.Holdings(); got.Locks != limit || got.Bytes != int64(limit*itemCost+listsOf(owners)) {
						t.Fatalf("it has %+v", got)
					}
					// One less, one more.
					for i := range min(limit, 50) {
						o, n := owners[i%3], name(round, i)
						if i%3 == 0 && !set.ReleaseShared(o, n) || i%3 != 0 && !set.Release(o, n) {
							t.Fatalf("%d is not held", i)
						}
						if out := get(set, owners[0], []byte("one more")); out != Acquired {
							t.Fatalf("after a release: %v", out)
						}
						if out := get(set, owners[1], []byte("two more")); out != ShareFull {
							t.Fatalf("after a release and a get: %v", out)
						}
						set.Release(owners[0], []byte("one more"))
						if out := get(set, o, n); out != Acquired {
							t.Fatalf("again: %v", out)
						}
					}
					for _, o := range owners {
						set.ReleaseAll(o)
						set.Forget(o)
					}
					if got := h.Holdings(); got != (Holdings{}) {
						t.Fatalf("it has %+v, and holds nothing", got)
					}
				}
			})
		}
	}
}

// A client may have gone beyond its bytes with what could not be refused. When one of
// its owners comes to have its first lock, which it has paid for before, the lists
// that this takes must not have the share emptied under the shard's mutex.
func TestShareBeyondItsBytes(t *testing.T) {
	const limit = 1 << 20
	for _, kind := range []string{"exclusive", "shared"} {
		t.Run(kind, func(t *testing.T) {
			set := New(8, Config{Notify: func(uint32) {}})
			holder := &Owner{ID: 1}
			h, owners := clientOf(set, 2, 1, ShareLimits{Bytes: limit})
			wait, release, name := set.GetWait, set.Release, []byte("a")
			if kind == "shared" {
				wait = func(o *Owner, name []byte, due uint64) (Grant, Outcome) {
					return set.GetSharedWait(o, name, 1, due)
				}
				release = set.ReleaseShared
			}
			if _, out := wait(holder, name, 0); out != Acquired {
				t.Fatal(out)
			}
			if _, out := wait(owners[0], name, 1000); out != Waiting {
				t.Fatal(out)
			}
			left := h.bytes.Load()
			if !h.KeepBytes(int(left) + limit/4) {
				t.Fatal("not kept, though just within what may be")
			}
			if !release(holder, name) {
				t.Fatal("not held")
			}
			done := make(chan Outcome, 1)
			go func() {
				_, out := set.Settle(owners[0])
				done <- out
			}()
			select {
			case out := <-done:
				if out != Acquired {
					t.Fatal(out)
				}
			case <-time.After(time.Minute):
				t.Fatal("the shard's mutex is held for ever")
			}
			h.KeepBytes(-int(left) - limit/4)
			set.ReleaseAll(owners[0])
			set.Forget(owners[0])
			if got := h.Holdings(); got != (Holdings{}) {
				t.Fatalf("it has %+v, and holds nothing", got)
			}
		})
	}
}

// As long as a client is within its share, none of its owners is refused, however
// many of them get and release at the same time; and never do they hold more.
func TestShareConcurrently(t *testing.T) {
	for _, limit := range []int{8, 2000} {
		set := New(8, Config{})
		each := limit / 8
		h, owners := clientOf(set, 1, 9, ShareLimits{Locks: limit})
		var held atomic.Int64
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for round := range 200 {
					for i := range each {
						if out := get(set, owners[g], fmt.Appendf(nil, "%d %d %d", g, i, round)); out != Acquired {
							t.Errorf("%v within the share", out)
							return
						}
					}
					for i := range each {
						set.Release(owners[g], fmt.Appendf(nil, "%d %d %d", g, i, round))
					}
				}
			})
		}
		wg.Wait()
		// Now they ask for more than there is, all at once.
		for g := range owners {
			wg.Go(func() {
				for i := range limit {
					if get(set, owners[g], fmt.Appendf(nil, "more %d %d", g, i)) == Acquired {
						held.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if got := h.Holdings(); held.Load() != int64(limit) || got.Locks != limit {
			t.Errorf("%d of %d got, %+v", held.Load(), limit, got)
		}
	}
}

// Each of a client's bounds has its own outcome, and leaves nothing taken.
func TestShareOfEachKind(t *testing.T) {
	set := New(4, Config{Notify: func(uint32) {}})
	other := &Owner{ID: 100}
	get(set, other, []byte("taken"))
	set.GetSharedLimit(other, []byte("taken"), 1)
	long := strings.Repeat("n", 5000)

	h, owners := clientOf(set, 1, 3, ShareLimits{Waiters: 2, Rates: 2, Bytes: 3 * 5000})
	if _, out := set.GetWait(owners[0], []byte("taken"), 1000); out != Waiting {
		t.Fatal(out)
	}
	if _, out := set.GetSharedWait(owners[1], []byte("taken"), 1, 1000); out != Waiting {
		t.Fatal(out)
	}
	for range 2 {
		if _, out := set.GetWait(owners[2], []byte("taken"), 1000); out != ShareWaiters {
			t.Error(out)
		}
		if _, out := set.GetSharedWait(owners[2], []byte("taken"), 1, 1000); out != ShareWaiters {
			t.Error(out)
		}
	}
	if got, want := h.Holdings(), (Holdings{Locks: 2, Waiters: 2, Bytes: 2 * itemCost}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	set.Cancel(owners[0])
	if _, out := set.GetWait(owners[2], []byte("taken"), 1000); out != Waiting {
		t.Error(out)
	}
	set.Cancel(owners[1])
	set.Cancel(owners[2])

	r := Rate{Limit: 1, Window: 1e9}
	for i, want := range []Outcome{Acquired, Acquired, ShareRates} {
		if v := set.Take(h, fmt.Appendf(nil, "rate %d", i), r, 1, 1); v.Outcome != want {
			t.Errorf("rate %d: %v", i, v.Outcome)
		}
	}
	if v := set.Take(h, []byte("rate 0"), r, 1, 1); v.Outcome != Refused {
		t.Error("a rate that is there:", v.Outcome)
	}
	set.DropRate([]byte("rate 0"), 1)
	if v := set.Take(h, []byte("rate 2"), r, 1, 1); v.Outcome != Acquired {
		t.Error("after one was dropped:", v.Outcome)
	}
	set.Sweep(2e9, 1<<20)
	set.Sweep(2e9, 1<<20)

	// A name of 5,000 bytes costs more than that.
	for i, want := range []Outcome{Acquired, Acquired, ShareBytes} {
		if out := get(set, owners[0], fmt.Appendf(nil, "%d %s", i, long)); out != want {
			t.Errorf("long name %d: %v", i, out)
		}
	}
	if v := set.Take(h, []byte("rate "+long), r, 1, 2e9); v.Outcome != ShareBytes {
		t.Error("a rate with a long name:", v.Outcome)
	}
	if out := get(set, owners[0], []byte("short")); out != Acquired {
		t.Error("a short name:", out)
	}
	if !h.TakeBytes(1000) || h.TakeBytes(5000) {
		t.Error("bytes beside the table are counted otherwise")
	}
	h.KeepBytes(-1000)
	set.ReleaseAll(owners[0])
	set.Forget(owners[0])
	if got := h.Holdings(); got != (Holdings{}) {
		t.Errorf("%+v is left", got)
	}
}

// Rates count for who has made them when that one is gone, and its share stays
// until they are full.
func TestShareOfRatesThatOutlive(t *testing.T) {
	set := New(4, Config{})
	h := set.NewShare(ShareLimits{Rates: 100})
	r := Rate{Limit: 1, Window: 1e9}
	for i := range 100 {
		set.Take(h, fmt.Appendf(nil, "%d", i), r, 1, 1)
	}
	if h.Drop() {
		t.Fatal("a share with rates was dropped")
	}
	if got := h.Holdings(); got.Rates != 100 || got.Locks != 100 {
		t.Errorf("%+v", got)
	}
	for range 20 {
		set.Sweep(2e9, 1<<20)
	}
	if got := h.Holdings(); got != (Holdings{}) {
		t.Errorf("%+v is left", got)
	}
	if !h.Drop() {
		t.Fatal("a share without rates was not dropped")
	}
	// Another one takes its place, and has not inherited anything.
	next, owners := clientOf(set, 1, 1, ShareLimits{Locks: 200})
	if next.slot != h.slot {
		t.Fatalf("slot %d, not %d", next.slot, h.slot)
	}
	for i := range 200 {
		if out := get(set, owners[0], fmt.Appendf(nil, "%d", i)); out != Acquired {
			t.Fatal(i, out)
		}
	}
	if out := get(set, owners[0], []byte("more")); out != ShareFull {
		t.Error(out)
	}
}

// Whatever clients do to each other's locks, each counts for exactly what its
// owners hold and wait for, and the rates that they have made.
func TestSharesAgainstHoldings(t *testing.T) {
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		set := New(4, Config{Notify: func(uint32) {}, Memory: NewMemory(0)})
		limits := ShareLimits{Locks: 40 + int(seed)*2000, Waiters: 8, Bytes: 1 << 20}
		var shares []*Share
		var owners []*Owner
		for c := range 3 {
			h, some := clientOf(set, uint32(c*10+1), 10, limits)
			shares, owners = append(shares, h), append(owners, some...)
		}
		names := make([][]byte, 30)
		for i := range names {
			names[i] = []byte(strings.Repeat("x", rnd.IntN(60)) + fmt.Sprint(i))
		}
		now := uint64(1)
		for step := range 20_000 {
			o, name := owners[rnd.IntN(len(owners))], names[rnd.IntN(len(names))]
			if o.Waits() {
				if rnd.IntN(4) == 0 {
					set.Cancel(o)
				} else {
					set.Settle(o)
				}
				continue
			}
			switch rnd.IntN(12) {
			case 0, 1:
				get(set, o, name)
			case 2, 3:
				set.GetWait(o, name, now+uint64(rnd.IntN(50))+1)
			case 4, 5:
				getShared(set, o, name)
			case 6:
				set.GetSharedWait(o, name, 2, now+uint64(rnd.IntN(50))+1)
			case 7, 8:
				set.Release(o, name)
			case 9:
				set.ReleaseShared(o, name)
			case 10:
				set.ReleaseAll(o)
			case 11:
				set.Expire(now)
				now++
			}
			if step%1000 != 999 {
				continue
			}
			checkShares(t, set, shares, owners)
		}
		for _, o := range owners {
			if o.Waits() {
				set.Cancel(o)
			}
			set.ReleaseAll(o)
			set.Forget(o)
		}
		for _, h := range shares {
			if got := h.Holdings(); got != (Holdings{}) {
				t.Errorf("%+v is left", got)
			}
			if !h.Drop() {
				t.Error("a share is not dropped")
			}
		}
	}
}

// checkShares settles all that wait and compares what shares count with what is
// held.
func checkShares(t *testing.T, set *Set, shares []*Share, owners []*Owner) {
	t.Helper()
	for _, o := range owners {
		if o.Waits() {
			set.Cancel(o)
		}
	}
	by := map[uint32]*Share{}
	for _, o := range owners {
		by[o.ID] = o.Share
	}
	want := map[*Share]Holdings{}
	for kind := range Kinds {
		walk := set.Walk(kind)
		var p Piece
		for more := true; more; {
			more = walk.Next(&p)
			for _, i := range p.Items {
				x := want[by[i.Owner]]
				x.Locks++
				x.Bytes += int64(itemCost + nameCost(len(p.Name(i))))
				want[by[i.Owner]] = x
			}
		}
	}
	for _, o := range owners {
		x := want[o.Share]
		x.Bytes += int64(o.listBytes())
		want[o.Share] = x
	}
	for _, h := range shares {
		if got := h.Holdings(); got != want[h] {
			t.Fatalf("a share counts %+v, and has %+v", got, want[h])
		}
	}
}
