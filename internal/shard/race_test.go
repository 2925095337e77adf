package shard

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// rounds is how often a goroutine of these tests does what it does.
func rounds(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// A plain int that nothing guards but the lock: the race detector sees when
// two hold it.
func TestMutualExclusion(t *testing.T) {
	for _, shards := range []int{1, 8} {
		t.Run(strconv.Itoa(shards), func(t *testing.T) {
			set := New(shards, Config{})
			const names = 3
			var guarded [names]int
			var granted atomic.Int64
			var wg sync.WaitGroup
			var ids atomic.Uint32
			for g := range 8 {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(g), 1))
					o := &Owner{ID: ids.Add(1)}
					for range rounds(4000) {
						i := rnd.IntN(names)
						name := []byte{'n', byte(i)}
						switch get(set, o, name) {
						case Acquired:
							guarded[i]++
							granted.Add(1)
							if h := set.Holder(name); h != o.ID {
								t.Errorf("held by %d, not by %d who got it", h, o.ID)
							}
							if rnd.IntN(4) == 0 {
								runtime.Gosched()
							}
							if rnd.IntN(8) == 0 {
								// The owner ends, and somebody else comes.
								set.ReleaseAll(o)
								o = &Owner{ID: ids.Add(1)}
							} else if !set.Release(o, name) {
								t.Error("released by somebody else")
							}
						case Refused:
							if rnd.IntN(4) == 0 && set.Release(o, name) {
								t.Error("released a lock not held")
							}
						default:
							t.Error("full")
						}
					}
				})
			}
			wg.Wait()
			if sum := int64(guarded[0] + guarded[1] + guarded[2]); sum != granted.Load() {
				t.Errorf("%d increments for %d grants", sum, granted.Load())
			}
			checkEmpty(t, set)
		})
	}
}

func checkEmpty(t *testing.T, set *Set) {
	t.Helper()
	st := set.Stats()
	if st.Locks != [Kinds]int{} || st.Holders != 0 {
		t.Errorf("%v locks, %d holders are left", st.Locks, st.Holders)
	}
	got := st.Release[Exclusive] + st.Orphans[Exclusive] + st.Release[Shared] + st.Orphans[Shared]
	if limit := st.Acquire[Exclusive][Acquired] + st.Acquire[Shared][Acquired]; got > limit {
		t.Errorf("%d releases for %d grants", got, limit)
	}
}

// A count is never more than there are owners, and at least one for who holds
// the lock and asks.
func TestSharedCounts(t *testing.T) {
	set := New(4, Config{})
	const owners = 8
	names := [][]byte{[]byte("a"), []byte("b")}
	var wg sync.WaitGroup
	for g := range owners {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 2))
			o := &Owner{ID: uint32(g + 1)}
			for range rounds(4000) {
				i := rnd.IntN(2)
				n, out := getShared(set, o, names[i])
				if out != Acquired || n < 1 || n > owners {
					t.Errorf("%v, count %d", out, n)
				}
				if again, _ := getShared(set, o, names[i]); again < 1 || again > owners {
					t.Errorf("count %d when asking again", again)
				}
				if c := set.InspectShared(names[i]); c < 1 || c > owners {
					t.Errorf("count %d while held", c)
				}
				if rnd.IntN(3) == 0 {
					set.ReleaseAll(o)
				} else if !set.ReleaseShared(o, names[i]) {
					t.Error("released by somebody else")
				}
			}
		})
	}
	wg.Wait()
	checkEmpty(t, set)
}

// Half of the owners hold for good; the counts never fall below them.
func TestSharedCountsWithStayers(t *testing.T) {
	set := New(1, Config{})
	const stay, come = 5, 5
	for i := range stay {
		getShared(set, &Owner{ID: uint32(100 + i)}, []byte("a"))
	}
	var wg sync.WaitGroup
	for g := range come {
		wg.Go(func() {
			o := &Owner{ID: uint32(g + 1)}
			for range rounds(4000) {
				if n, _ := getShared(set, o, []byte("a")); n <= stay || n > stay+come {
					t.Errorf("count %d", n)
				}
				if n := set.InspectShared([]byte("a")); n <= stay || n > stay+come {
					t.Errorf("count %d", n)
				}
				set.ReleaseShared(o, []byte("a"))
			}
		})
	}
	wg.Wait()
	if n := set.InspectShared([]byte("a")); n != stay {
		t.Errorf("%d hold it in the end, want %d", n, stay)
	}
}

// Owners with many locks end in steps while others take what becomes free.
func TestOrphansWhileOthersGet(t *testing.T) {
	set := New(4, Config{})
	const names = 500
	var ids atomic.Uint32
	var owned [names]int // guarded by the locks
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for range rounds(60) {
				o := &Owner{ID: ids.Add(1)}
				var buf [16]byte
				for i := range names {
					name := strconv.AppendInt(buf[:0], int64(i), 10)
					if get(set, o, name) == Acquired {
						owned[i]++
					}
					getShared(set, o, name)
				}
				if o.Held() < names {
					t.Errorf("%d held, at least %d shared", o.Held(), names)
				}
				for !set.ReleaseSome(o, 200, nil) {
				}
			}
		})
	}
	wg.Wait()
	checkEmpty(t, set)
	st := set.Stats()
	if st.Orphans[Shared] != st.Acquire[Shared][Acquired] || st.Orphans[Exclusive] != st.Acquire[Exclusive][Acquired] {
		t.Errorf("orphans %v, acquired %v", st.Orphans, st.Acquire)
	}
}

// A walk finds what stays exactly once and in order, whatever comes and goes.
func TestWalksWhileThingsChange(t *testing.T) {
	for _, shards := range []int{1, 4} {
		t.Run(strconv.Itoa(shards), func(t *testing.T) {
			set := New(shards, Config{})
			const stay = 3000
			o := &Owner{ID: 1}
			var order []uint32
			names := map[string]bool{}
			var stayers, leavers []*Owner
			for i := range stay {
				name := fmt.Sprintf("stays %d", i)
				get(set, o, []byte(name))
				getShared(set, o, []byte(name))
				names[name] = true
				// Who stays and who goes take turns in the list of holders.
				s, l := &Owner{ID: uint32(10_000 + i)}, &Owner{ID: uint32(50_000 + i)}
				getShared(set, s, []byte("shared by many"))
				getShared(set, l, []byte("shared by many"))
				stayers, leavers = append(stayers, s), append(leavers, l)
				order = append(order, s.ID)
			}
			names["shared by many"] = true
			stop := make(chan struct{})
			var churn sync.WaitGroup
			for g := range 3 {
				churn.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(g), 3))
					mine := &Owner{ID: uint32(2 + g)}
					for i := 0; ; i++ {
						select {
						case <-stop:
							set.ReleaseAll(mine)
							return
						default:
						}
						name := []byte(fmt.Sprintf("comes and goes %d %d", g, rnd.IntN(2000)))
						switch rnd.IntN(5) {
						case 0:
							get(set, mine, name)
						case 1:
							set.Release(mine, name)
						case 2:
							getShared(set, mine, name)
						case 3:
							set.ReleaseShared(mine, name)
						case 4:
							// Each goroutine has a third of the leavers.
							l := leavers[rnd.IntN(stay/3)*3+g]
							if !set.ReleaseShared(l, []byte("shared by many")) {
								getShared(set, l, []byte("shared by many"))
							}
						}
						if i%5000 == 4999 {
							set.ReleaseAll(mine)
						}
					}
				})
			}
			var walkers sync.WaitGroup
			for range 2 {
				walkers.Go(func() {
					var p Piece
					for range rounds(20) {
						found := map[string]int{}
						for w := set.Walk(Exclusive); ; {
							more := w.Next(&p)
							for _, item := range p.Items {
								found[string(p.Name(item))]++
							}
							if !more {
								break
							}
						}
						for name := range names {
							if name != "shared by many" && found[name] != 1 {
								t.Errorf("%q was found %d times", name, found[name])
							}
						}
						clear(found)
						var many []uint32
						for w := set.Walk(Shared); ; {
							more := w.Next(&p)
							for _, item := range p.Items {
								if string(p.Name(item)) != "shared by many" {
									found[string(p.Name(item))]++
								} else if item.Owner >= 10_000 && item.Owner < 50_000 {
									many = append(many, item.Owner)
								}
							}
							if !more {
								break
							}
						}
						for name := range names {
							if name != "shared by many" && found[name] != 1 {
								t.Errorf("%q was found %d times", name, found[name])
							}
						}
						if !slices.Equal(many, order) {
							t.Errorf("the walk over all found %d holders that stay, or in a wrong order, want %d", len(many), len(order))
						}
						many = many[:0]
						w := set.WalkHolders([]byte("shared by many"))
						for more := true; more; {
							more = w.Next(&p)
							for _, item := range p.Items {
								if item.Owner >= 10_000 && item.Owner < 50_000 {
									many = append(many, item.Owner)
								}
							}
						}
						if !slices.Equal(many, order) {
							t.Errorf("the walk over holders found %d that stay, or in a wrong order, want %d", len(many), len(order))
						}
						// One that is given up half way.
						w = set.Walk(Shared)
						w.Next(&p)
						w.Close()
					}
				})
			}
			walkers.Wait()
			close(stop)
			churn.Wait()
			for _, o := range slices.Concat(stayers, leavers, []*Owner{o}) {
				set.ReleaseAll(o)
			}
			checkEmpty(t, set)
			for i := range set.shards {
				if len(set.shards[i].walks) != 0 {
					t.Error("a walk is left in a shard")
				}
			}
		})
	}
}

// Nobody is refused while fewer locks are held than may be, however many ask
// at the same time: the permits that idle in the shards are a shard's own
// business.
func TestBoundIsExactUnderLoad(t *testing.T) {
	for _, c := range []struct{ shards, limit int }{{8, 64}, {8, 2560}, {2, 4096}} {
		t.Run(fmt.Sprintf("%d shards, %d locks", c.shards, c.limit), func(t *testing.T) {
			const askers = 8
			set := New(c.shards, Config{Locks: c.limit})
			base := &Owner{ID: 1000}
			for i := range c.limit - askers {
				if out := get(set, base, []byte(fmt.Sprintf("base %d", i))); out != Acquired {
					t.Fatalf("get %d of %d: %v", i, c.limit, out)
				}
			}
			// Each asker holds one lock at a time, so at most limit are held.
			var wg sync.WaitGroup
			var refused atomic.Int64
			for g := range askers {
				wg.Go(func() {
					o := &Owner{ID: uint32(g + 1)}
					for i := range rounds(20_000) {
						name := []byte(fmt.Sprintf("%d of %d", i, g))
						if get(set, o, name) != Acquired {
							refused.Add(1)
							continue
						}
						if i%64 == 0 {
							runtime.Gosched()
						}
						set.Release(o, name)
					}
				})
			}
			wg.Wait()
			if n := refused.Load(); n > 0 {
				t.Errorf("%d refused though fewer than %d locks were held", n, c.limit)
			}
			// And never more than that many.
			for g := range askers {
				if out := get(set, &Owner{ID: uint32(2000 + g)}, []byte(fmt.Sprintf("last %d", g))); out != Acquired {
					t.Errorf("lock %d of %d: %v", c.limit-askers+g+1, c.limit, out)
				}
			}
			if out := get(set, base, []byte("one more")); out != Full {
				t.Errorf("one more than %d: %v", c.limit, out)
			}
		})
	}
}
