package shard

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Thousands wait for a few locks, in a hundred goroutines' hands; some lose
// patience, some time out. None is lost, none is served twice, two never hold a
// lock at a time, and grants are in the order of arrival: fencing tokens grow
// with grants, so who has the larger one came later.
func TestWaitersRace(t *testing.T) {
	for _, shards := range []int{1, 8} {
		t.Run(strconv.Itoa(shards), func(t *testing.T) {
			const (
				workers = 16
				each    = 150
				names   = 3
			)
			var inbox [workers]chan uint32
			for i := range inbox {
				inbox[i] = make(chan uint32, 1<<16)
			}
			cfg := Config{Locks: 100, Notify: func(id uint32) { inbox[(id-1)/each] <- id }}
			set := New(shards, cfg)
			var clock atomic.Uint64
			clock.Store(1)
			type grant struct{ arrival, token uint64 }
			var arrivals [names]struct {
				sync.Mutex
				n       uint64
				guarded int // by the lock of that name
				grants  []grant
			}
			var granted, gone atomic.Int64
			stop := make(chan struct{})
			var expiring sync.WaitGroup
			expiring.Go(func() {
				for now := uint64(1); ; now++ {
					select {
					case <-stop:
						return
					default:
						set.Expire(now)
						clock.Store(now + 1)
					}
				}
			})
			fail := time.AfterFunc(30*time.Second, func() { panic("a waiter is lost") })
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(w), 77))
					type mine struct {
						*Owner
						arrival uint64
						name    int
						holds   bool
					}
					owners := make([]*mine, each)
					for i := range owners {
						owners[i] = &mine{Owner: &Owner{ID: uint32(w*each + i + 1)}}
					}
					waiting := 0
					var holding []*mine
					release := func() {
						for _, o := range holding {
							o.holds = false
							if !set.Release(o.Owner, []byte{byte(o.name)}) {
								t.Error("a lock that was granted is not held")
							}
						}
						holding = holding[:0]
					}
					over := func(o *mine, g Grant, out Outcome) {
						if out != Acquired {
							gone.Add(1)
							return
						}
						granted.Add(1)
						a := &arrivals[o.name]
						a.guarded++ // the race detector sees when two hold it
						a.grants = append(a.grants, grant{o.arrival, g.Token})
						o.holds = true
						holding = append(holding, o)
					}
					told := func(id uint32) {
						o := owners[(id-1)%each]
						if !o.Waits() {
							return // it was canceled, or settled, meanwhile
						}
						if g, out := set.Settle(o.Owner); out != Waiting {
							waiting--
							over(o, g, out)
						}
					}
					for range rounds(6000) {
						for more := true; more; {
							select {
							case id := <-inbox[w]:
								told(id)
							default:
								more = false
							}
						}
						if rnd.IntN(8) == 0 {
							release()
						}
						o := owners[rnd.IntN(each)]
						if o.holds {
							continue
						}
						if o.Waits() {
							if rnd.IntN(4) == 0 {
								g, out := set.Cancel(o.Owner)
								waiting--
								over(o, g, out)
							}
							continue
						}
						o.name = rnd.IntN(names)
						due := clock.Load() + 1<<40
						if rnd.IntN(4) == 0 {
							due = clock.Load() + rnd.Uint64N(500)
						}
						a := &arrivals[o.name]
						a.Lock()
						a.n++
						o.arrival = a.n
						g, out := set.GetWait(o.Owner, []byte{byte(o.name)}, due)
						a.Unlock()
						if out == Waiting {
							waiting++
						} else {
							over(o, g, out)
						}
					}
					release()
					for waiting > 0 {
						told(<-inbox[w])
						release()
					}
				})
			}
			wg.Wait()
			fail.Stop()
			close(stop)
			expiring.Wait()
			for i := range arrivals {
				a := &arrivals[i]
				if len(a.grants) != a.guarded {
					t.Errorf("%d grants, %d increments", len(a.grants), a.guarded)
				}
				slices.SortFunc(a.grants, func(x, y grant) int { return int(int64(x.token) - int64(y.token)) })
				for j := 1; j < len(a.grants); j++ {
					if x, y := a.grants[j-1], a.grants[j]; x.arrival >= y.arrival || x.token == y.token {
						t.Fatalf("arrival %d got token %d, arrival %d token %d", x.arrival, x.token, y.arrival, y.token)
					}
				}
			}
			st := set.Stats()
			if st.Waiters != 0 || st.Acquire[Exclusive][Acquired] != uint64(granted.Load()) ||
				st.Acquire[Exclusive][Canceled]+st.Acquire[Exclusive][TimedOut] != uint64(gone.Load()) {
				t.Errorf("%d granted, %d gone, stats %+v", granted.Load(), gone.Load(), st)
			}
			t.Logf("%d granted, %d canceled, %d timed out", granted.Load(), st.Acquire[Exclusive][Canceled], st.Acquire[Exclusive][TimedOut])
			checkEmpty(t, set)
			checkUnused(t, set, cfg)
		})
	}
}

// The same for shared locks with limits: never more hold one than its limit
// allows, nobody is lost.
func TestSharedWaitersRace(t *testing.T) {
	const (
		workers = 8
		each    = 100
		limit   = 3
	)
	var inbox [workers]chan uint32
	for i := range inbox {
		inbox[i] = make(chan uint32, 1<<16)
	}
	cfg := Config{Locks: 10_000, Notify: func(id uint32) { inbox[(id-1)/each] <- id }}
	set := New(2, cfg)
	var inside [2]atomic.Int64
	fail := time.AfterFunc(30*time.Second, func() { panic("a waiter is lost") })
	defer fail.Stop()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 78))
			owners := make([]*Owner, each)
			at := make([]int, each)
			for i := range owners {
				owners[i] = &Owner{ID: uint32(w*each + i + 1)}
			}
			waiting := 0
			var holding []int
			holds := make([]bool, each)
			release := func() {
				for _, i := range holding {
					holds[i] = false
					inside[at[i]].Add(-1)
					if rnd.IntN(5) == 0 {
						set.ReleaseAll(owners[i])
					} else if !set.ReleaseShared(owners[i], []byte{byte(at[i])}) {
						t.Error("not held")
					}
				}
				holding = holding[:0]
			}
			over := func(i int, g Grant, out Outcome) {
				if out != Acquired {
					return
				}
				if n := inside[at[i]].Add(1); n > limit || g.Count > limit || g.Count < 1 {
					t.Errorf("%d hold it, granted as number %d", n, g.Count)
				}
				holds[i] = true
				holding = append(holding, i)
			}
			told := func(id uint32) {
				i := int(id-1) % each
				if !owners[i].Waits() {
					return
				}
				if g, out := set.Settle(owners[i]); out != Waiting {
					waiting--
					over(i, g, out)
				}
			}
			for range rounds(6000) {
				for more := true; more; {
					select {
					case id := <-inbox[w]:
						told(id)
					default:
						more = false
					}
				}
				if rnd.IntN(8) == 0 {
					release()
				}
				i := rnd.IntN(each)
				if holds[i] {
					continue
				}
				if owners[i].Waits() {
					if rnd.IntN(3) == 0 {
						g, out := set.Cancel(owners[i])
						waiting--
						over(i, g, out)
					}
					continue
				}
				at[i] = rnd.IntN(2)
				if rnd.IntN(4) == 0 {
					g, out := set.GetSharedLimit(owners[i], []byte{byte(at[i])}, limit)
					over(i, g, out)
				} else if g, out := set.GetSharedWait(owners[i], []byte{byte(at[i])}, limit, 1<<40); out == Waiting {
					waiting++
				} else {
					over(i, g, out)
				}
			}
			release()
			for waiting > 0 {
				told(<-inbox[w])
				release()
			}
		})
	}
	wg.Wait()
	checkEmpty(t, set)
	checkUnused(t, set, cfg)
}

// Rates are exact when many take at once.
func TestRatesRace(t *testing.T) {
	set := New(4, Config{Locks: 100})
	r := Rate{Limit: 10_000, Window: 1 << 40}
	var taken atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range rounds(5000) {
				if v := set.Take(nil, []byte("all"), r, 3, 1); v.Outcome == Acquired {
					taken.Add(3)
				}
				// Others come and go.
				now := uint64(i + 2)
				if v := set.Take(nil, strconv.AppendInt(nil, int64(i*8+g), 10), Rate{Limit: 1, Window: 1}, 1, now); v.Outcome == Refused {
					t.Errorf("a new one: %+v", v)
				}
				if g == 0 && i%1000 == 0 {
					set.Sweep(1, 1<<20)
				}
			}
		})
	}
	wg.Wait()
	if n := taken.Load(); n != 9999 {
		t.Errorf("%d units taken of 10,000, by threes", n)
	}
}

// Waiting allocates nothing once there have been as many waiters.
func TestWaitingDoesNotAllocate(t *testing.T) {
	told := make([]uint32, 0, 1<<10)
	set := New(4, Config{Notify: func(id uint32) { told = append(told[:0], id) }})
	a, b, c := &Owner{ID: 1}, &Owner{ID: 2}, &Owner{ID: 3}
	now := uint64(1)
	name, long := []byte("name"), make([]byte, 1000)
	want := func(got, want Outcome) {
		t.Helper()
		if got != want {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	out := func(_ Grant, out Outcome) Outcome { return out }
	n := 0
	for _, op := range []struct {
		what string
		do   func()
	}{
		{"wait and grant", func() {
			want(out(set.GetWait(a, name, now+10)), Acquired)
			want(out(set.GetWait(b, name, now+10)), Waiting)
			want(out(set.GetWait(c, name, now+100)), Waiting)
			set.Release(a, name)
			want(out(set.Settle(b)), Acquired)
			set.Release(b, name)
			want(out(set.Settle(c)), Acquired)
			set.Token(c, name)
			set.ReleaseAll(c)
		}},
		{"wait and cancel", func() {
			get(set, a, long)
			want(out(set.GetWait(b, long, now+86_400_000)), Waiting)
			want(out(set.Settle(b)), Waiting)
			want(out(set.Cancel(b)), Canceled)
			set.Release(a, long)
		}},
		{"wait and time out", func() {
			get(set, a, name)
			want(out(set.GetWait(b, name, now+10)), Waiting)
			want(out(set.GetWait(c, name, now+5000)), Waiting)
			now += 10
			set.Expire(now)
			want(out(set.Settle(b)), TimedOut)
			now += 5000
			set.Expire(now)
			want(out(set.Settle(c)), TimedOut)
			set.Release(a, name)
		}},
		{"shared", func() {
			want(out(set.GetSharedLimit(a, name, 1)), Acquired)
			want(out(set.GetSharedLimit(b, name, 1)), Refused)
			want(out(set.GetSharedWait(b, name, 1, now+10)), Waiting)
			want(out(set.GetSharedWait(c, name, 2, now+10)), Waiting)
			set.ReleaseShared(a, name)
			want(out(set.Settle(b)), Acquired)
			want(out(set.Cancel(c)), Acquired)
			set.ReleaseAll(b)
			set.ReleaseShared(c, name)
		}},
		{"rate", func() {
			n++
			var buf [16]byte
			now := uint64(n)
			r := Rate{Limit: 2, Window: 10}
			set.Take(nil, strconv.AppendInt(buf[:0], int64(n), 10), r, 1, now)
			set.Take(nil, name, r, 2, now)
			set.Open(name, r, now)
			if n%100 == 0 {
				set.Sweep(now, 1<<20)
			}
		}},
	} {
		for range 2000 {
			op.do()
		}
		if allocs := testing.AllocsPerRun(1000, op.do); allocs != 0 {
			t.Errorf("%s: %v allocations", op.what, allocs)
		}
	}
}
