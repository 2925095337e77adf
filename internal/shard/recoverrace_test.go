package shard

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// Many claim the same names at a time, are gone and come back, and others wait for
// those: each lock is with who claimed it with the highest token, and when the recovery
// has ended while all goes on, everybody who waits gets it in turn, and nothing is left.
func TestRecoveryRace(t *testing.T) {
	t.Parallel()
	const claimers, waiters, names = 4, 200, 30
	all := make([]*Owner, claimers+waiters+1)
	for i := range all {
		all[i] = &Owner{ID: uint32(i)}
	}
	told := make(chan uint32, 4*waiters)
	set := New(4, Config{Recovering: true, Start: 1 << 40, Locks: 100,
		Notify:  func(id uint32) { told <- id },
		OwnerOf: func(id uint32) *Owner { return all[id] },
	})
	var highest [names]atomic.Uint64
	var claiming, rest sync.WaitGroup
	for c := range claimers {
		me := all[1+c]
		claiming.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(c), 11))
			for range rounds(4000) {
				n := rnd.IntN(names)
				switch rnd.IntN(8) {
				case 0:
					set.Doubt(me)
				case 1:
					set.ClaimShared(me, []byte{byte(n)}, true)
				case 2:
					set.ReleaseShared(me, []byte{byte(n)})
				default:
					token := uint64(1+rnd.IntN(1<<30))*claimers + uint64(c) // nobody else's
					if _, out, _ := set.Claim(me, []byte{byte(n)}, token, true); out == Acquired {
						for have := highest[n].Load(); have < token && !highest[n].CompareAndSwap(have, token); {
							have = highest[n].Load()
						}
					}
				}
			}
		})
	}
	for _, me := range all[claimers+1:] {
		rest.Go(func() {
			name := []byte{byte(me.ID % names)}
			if me.ID%4 == 0 {
				set.GetSharedWait(me, name, 2, 1<<40)
			} else {
				set.GetWait(me, name, 1<<40)
			}
		})
	}
	claiming.Wait()
	rest.Wait()
	held := 0
	for _, me := range all[1 : claimers+1] {
		held += me.Held()
	}
	if st := set.Stats(); held != st.Locks[Exclusive]+st.Holders {
		t.Errorf("%d are held, the table says %+v", held, st)
	}
	for n := range highest {
		if token := highest[n].Load(); token != 0 {
			holder := all[set.Holder([]byte{byte(n)})]
			if got, ok := set.Token(holder, []byte{byte(n)}); !ok || got != token {
				t.Errorf("%d is with %d, who has token %d, want %d", n, holder.ID, got, token)
			}
		}
	}
	// The claimers leave while the recovery ends.
	for _, me := range all[1 : claimers+1] {
		rest.Go(func() {
			set.Doubt(me)
			for !set.DropDoubted(me, 7) {
			}
			set.Forget(me)
		})
	}
	rest.Go(func() { set.EndRecovery(0) })
	waiting := 0
	for _, me := range all[claimers+1:] {
		if me.Waits() {
			waiting++
		}
	}
	for ; waiting > 0; waiting-- {
		me := all[<-told]
		if _, out := set.Settle(me); out != Acquired {
			t.Fatalf("%d: %v", me.ID, out)
		}
		set.ReleaseAll(me)
	}
	rest.Wait()
	if set.Recovering() {
		t.Error("it recovers still")
	}
	checkNothingLeft(t, set)
}
