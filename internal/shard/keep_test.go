package shard

import (
	"fmt"
	"slices"
	"testing"
)

// sure claims a lock that has to be had by that.
func sure(t *testing.T, set *Set, o *Owner, name string, token uint64) {
	t.Helper()
	if g, out, _ := set.Claim(o, []byte(name), token, true); out != Acquired || g.Token != token {
		t.Fatalf("claim %d %s: %v %v", token, name, g, out)
	}
}

// recoveringSet returns a set that recovers, with tokens from 1000 on, and some owners.
func recoveringSet(t *testing.T, owners int) (*Set, []*Owner, *[]uint32) {
	t.Helper()
	all := make([]*Owner, owners+1)
	for i := range all {
		all[i] = &Owner{ID: uint32(i)}
	}
	var told []uint32
	set := New(4, Config{
		Recovering: true, Start: 1000,
		Notify:  func(id uint32) { told = append(told, id) },
		OwnerOf: func(id uint32) *Owner { return all[id] },
	})
	return set, all, &told
}

func TestClaims(t *testing.T) {
	set, o, _ := recoveringSet(t, 3)
	name := []byte("n")
	sure(t, set, o[1], "n", 7)
	sure(t, set, o[1], "n", 7) // again
	for _, test := range []struct {
		what  string
		owner int
		token uint64
		open  bool
		want  Outcome
		loser uint32
	}{
		{"a lower token", 2, 6, true, Refused, 0},
		{"the same token by another", 2, 7, true, Refused, 0},
		{"one of this start", 2, 1001, true, Refused, 0},
		{"where those begin", 2, 1000, true, Refused, 0},
		{"none", 2, 0, true, Refused, 0},
		{"who may not", 2, 8, false, Refused, 0},
		{"a higher one", 2, 8, true, Acquired, 1},
		{"by who has lost it", 1, 7, true, Refused, 0},
		{"the highest", 3, 999, true, Acquired, 2},
	} {
		if _, out, loser := set.Claim(o[test.owner], name, test.token, test.open); out != test.want || loser != test.loser {
			t.Errorf("%s: %v, loser %d", test.what, out, loser)
		}
	}
	if o[1].Held() != 0 || o[2].Held() != 0 || o[3].Held() != 1 || set.Holder(name) != 3 {
		t.Errorf("held: %d %d %d by %d", o[1].Held(), o[2].Held(), o[3].Held(), set.Holder(name))
	}
	// Its own claim with a higher token: it has got it anew, and the reply was lost.
	sure(t, set, o[2], "m", 5)
	sure(t, set, o[2], "m", 6)
	if g, out := set.ClaimShared(o[1], name, true); out != Acquired || g.Count != 1 {
		t.Errorf("shared: %v %v", g, out)
	}
	if g, out := set.ClaimShared(o[2], name, true); out != Acquired || g.Count != 2 {
		t.Errorf("shared: %v %v", g, out)
	}
	if _, out := set.ClaimShared(o[3], name, false); out != Refused {
		t.Errorf("shared by who may not: %v", out)
	}
	set.EndRecovery(0)
	if _, out, _ := set.Claim(o[3], name, 999, true); out != Acquired {
		t.Errorf("its own after the recovery: %v", out)
	}
	if _, out, _ := set.Claim(o[3], []byte("new"), 10, true); out != Refused {
		t.Errorf("something else after it: %v", out)
	}
	if _, out := set.ClaimShared(o[3], name, true); out != Refused {
		t.Errorf("something else shared after it: %v", out)
	}
	if g, out := set.Get(o[1], []byte("new")); out != Acquired || g.Token <= 1000 {
		t.Errorf("a new one: %v %v", g, out)
	}
	for _, one := range o[1:] {
		set.ReleaseAll(one)
		set.Forget(one)
	}
	checkNothingLeft(t, set)
}

// checkNothingLeft checks that nobody holds anything, and that the counters say so.
func checkNothingLeft(t *testing.T, set *Set) {
	t.Helper()
	st := set.Stats()
	for k := range Kinds {
		if st.Locks[k] != 0 || st.Acquire[k][Acquired]-st.Again[k] != st.Release[k]+st.LetGo[k]+st.Orphans[k] {
			t.Errorf("%v: %d locks are left; %+v", k, st.Locks[k], st)
		}
	}
	if st.Waiters != 0 || st.Holders != 0 {
		t.Errorf("%d wait, %d hold", st.Waiters, st.Holders)
	}
	if taken, _ := set.Permits(); taken != 0 {
		t.Errorf("%d permits are taken", taken)
	}
	for i := range set.shards {
		if s := &set.shards[i]; s.unclaimed != [Kinds]int32{} || s.exclusive.live+s.shared.live+s.holds.live+s.waiters.live != 0 {
			t.Errorf("shard %d: %v unclaimed, and %d items", i, s.unclaimed, s.exclusive.live+s.shared.live+s.holds.live+s.waiters.live)
		}
	}
}

// While a set recovers nobody gets anything, and who waits stands in line.
func TestRecovering(t *testing.T) {
	set, o, told := recoveringSet(t, 6)
	n := []byte("n")
	sure(t, set, o[1], "held", 5)
	for _, name := range []string{"n", "held"} {
		for _, out := range []Outcome{
			second(set.Get(o[2], []byte(name))),
			second(set.GetWait(o[2], []byte(name), 0)),
			second(set.GetShared(o[2], []byte(name))),
			second(set.GetSharedLimit(o[2], []byte(name), 5)),
		} {
			if out != Recovering {
				t.Errorf("get %s: %v", name, out)
			}
		}
	}
	if g, out := set.Get(o[1], []byte("held")); out != Acquired || g.Token != 5 {
		t.Errorf("the holder itself: %v %v", g, out)
	}
	for _, i := range []int{2, 3} {
		if _, out := set.GetWait(o[i], n, 1<<40); out != Waiting {
			t.Fatal(out)
		}
	}
	if _, out := set.Get(o[4], n); out != Recovering {
		t.Errorf("get behind those who wait: %v", out)
	}
	for _, i := range []int{4, 5} {
		if _, out := set.GetSharedWait(o[i], n, 1, 1<<40); out != Waiting {
			t.Fatal(out)
		}
	}
	if set.Holder(n) != 0 || set.InspectShared(n) != 1 || !set.Inspect([]byte("unknown")) {
		t.Error("nobody can have what somebody may hold who has not claimed it")
	}
	if len(set.Ahead(n, make([]uint32, 0, 4))) != 1 {
		t.Error("somebody holds what nobody has claimed")
	}
	if v := set.See(n, 0); v.Holders != [Kinds]int{} || v.Waiters != [Kinds]int{2, 2} {
		t.Errorf("see: %+v", v)
	}
	for _, w := range []*Walk{set.Walk(Exclusive), set.Walk(Shared), set.Look(n), set.LookAll(nil)} {
		var p Piece
		for more := true; more; {
			more = w.Next(&p)
			for _, item := range p.Items {
				if item.State == Held && string(p.Name(item)) == "n" {
					t.Errorf("listed: %+v", item)
				}
			}
		}
	}
	if st := set.Stats(); st.Locks != [Kinds]int{1, 0} {
		t.Errorf("%v locks", st.Locks)
	}
	// What is released is for nobody before the end, and what is claimed is no more for
	// those who wait.
	if _, out := set.GetWait(o[6], []byte("held"), 1<<40); out != Waiting {
		t.Fatal(out)
	}
	set.Release(o[1], []byte("held"))
	sure(t, set, o[1], "n", 9)
	if len(*told) != 0 {
		t.Errorf("%v were told while the set recovers", *told)
	}
	set.EndRecovery(0)
	if want := "[6 4]"; fmt.Sprint(*told) != want && fmt.Sprint(*told) != "[4 6]" {
		t.Errorf("%v were told, not %s", *told, want)
	}
	set.Release(o[1], n)
	for _, i := range []int{6, 4, 2} {
		if g, out := set.Settle(o[i]); out != Acquired || g.Token != 0 && g.Token <= 1000 {
			t.Errorf("%d: %v %v", i, g, out)
		}
	}
	for _, i := range []int{3, 5} {
		set.Cancel(o[i])
	}
	for _, one := range o[1:] {
		set.ReleaseAll(one)
	}
	checkNothingLeft(t, set)
}

func second(_ Grant, out Outcome) Outcome { return out }

// A lock of nobody's goes with the last one who waits for it, however that ends.
func TestUnclaimedGoes(t *testing.T) {
	set, o, _ := recoveringSet(t, 2)
	for _, end := range []func(i int){
		func(i int) { set.Cancel(o[i]) },
		func(i int) { set.Expire(100); set.Settle(o[i]) },
	} {
		set.GetWait(o[1], []byte("n"), 50)
		set.GetSharedWait(o[2], []byte("n"), 3, 50)
		end(1)
		end(2)
		checkNothingLeft(t, set)
	}
}

// What is in doubt goes unless it is claimed or got again.
func TestDoubt(t *testing.T) {
	for _, recovering := range []bool{false, true} {
		set, o, _ := recoveringSet(t, 2)
		me := o[1]
		names := make([][]byte, 500)
		tokens := make([]uint64, len(names))
		for i := range names {
			names[i] = fmt.Append(nil, "n", i)
		}
		if !recovering {
			set.EndRecovery(0)
		}
		for i, name := range names {
			if recovering {
				sure(t, set, me, string(name), uint64(i+1))
				set.ClaimShared(me, name, true)
				tokens[i] = uint64(i + 1)
			} else {
				g, _ := set.Get(me, name)
				tokens[i] = g.Token
				set.GetShared(me, name)
			}
		}
		certain := 0
		for round := range 3 {
			set.Doubt(me)
			if round == 0 { // it is gone again, having said a part
				sure(t, set, me, "n0", tokens[0])
				continue
			}
			certain = 0
			for i, name := range names {
				switch i % 7 {
				case 0:
					if _, out, _ := set.Claim(me, name, tokens[i], false); out == Acquired {
						certain++
					}
				case 1:
					if _, out := set.ClaimShared(me, name, false); out == Acquired {
						certain++
					}
				case 2:
					if g, out := set.Get(me, name); out == Acquired && g.Token == tokens[i] {
						certain++
					} else if round == 1 {
						t.Fatal(g, out)
					}
				case 3:
					if set.Shares(me, name) {
						set.GetSharedLimit(me, name, 1)
						certain++
					}
				case 4:
					set.Release(me, name)
					set.ReleaseShared(me, name)
				case 5:
					if _, out, _ := set.Claim(me, name, tokens[i]+1, false); out == Acquired {
						t.Fatal("claimed with another token")
					}
				}
			}
			steps := 1
			for !set.DropDoubted(me, 10) {
				steps++
			}
			if round == 1 && steps < 3 {
				t.Errorf("all was dropped in %d steps", steps)
			}
			if me.Held() != certain {
				t.Fatalf("recovering %v, round %d: %d are held, %d certain", recovering, round, me.Held(), certain)
			}
		}
		if certain < len(names)*4/7 {
			t.Errorf("%d are certain", certain)
		}
		set.Doubt(me)
		set.ReleaseAll(me) // in the middle of it
		set.Forget(me)
		checkNothingLeft(t, set)
	}
}

// Claims are bounded by nothing, and what they take is missing until it is given back.
func TestClaimsPassBounds(t *testing.T) {
	all := []*Owner{{}, {ID: 1}, {ID: 2}}
	set := New(2, Config{Recovering: true, Start: 1000, Locks: 10, LocksPerOwner: 3, OwnerOf: func(id uint32) *Owner { return all[id] }})
	all[1].Share = set.NewShare(ShareLimits{Locks: 4})
	for i := range 50 {
		sure(t, set, all[1], fmt.Sprint("n", i), uint64(i+1))
		set.ClaimShared(all[1], fmt.Append(nil, "s", i), true)
	}
	if all[1].Held() != 100 {
		t.Fatalf("%d of 100", all[1].Held())
	}
	set.EndRecovery(0)
	if _, out := set.Get(all[2], []byte("more")); out != Full {
		t.Errorf("beyond the bound: %v", out)
	}
	if have := all[1].Share.Holdings().Locks; have != 100 {
		t.Errorf("the share says %d", have)
	}
	set.ReleaseAll(all[1])
	for i := range 3 {
		if _, out := set.Get(all[2], fmt.Append(nil, "more", i)); out != Acquired {
			t.Errorf("when all is given back: %v", out)
		}
	}
	set.ReleaseAll(all[2])
	if set.bound.tight() {
		t.Error("shards draw one by one still")
	}
	if have := all[1].Share.Holdings().Locks; have != 0 {
		t.Errorf("the share says %d at the end", have)
	}
	checkNothingLeft(t, set)
}

// Who waits may wait longer, or for more, and keeps the place.
func TestProlong(t *testing.T) {
	var told []uint32
	set := New(1, Config{Notify: func(id uint32) { told = append(told, id) }})
	o := []*Owner{{}, {ID: 1}, {ID: 2}, {ID: 3}, {ID: 4}}
	n := []byte("n")
	set.Get(o[1], n)
	set.GetWait(o[2], n, 50)
	set.GetWait(o[3], n, 1<<40)
	if !set.Prolong(o[2], 0, 200) {
		t.Fatal("decided")
	}
	set.Expire(100)
	set.Release(o[1], n)
	if g, out := set.Settle(o[2]); out != Acquired || g.Token == 0 {
		t.Errorf("%v %v", g, out)
	}
	if !set.Prolong(o[3], 0, 300) {
		t.Fatal("decided")
	}
	set.Expire(301)
	if set.Prolong(o[3], 0, 400) {
		t.Error("prolonged when its time was over")
	}
	if _, out := set.Settle(o[3]); out != TimedOut {
		t.Error(out)
	}
	set.GetShared(o[1], n)
	set.GetSharedWait(o[4], n, 1, 1<<40)
	told = nil
	if set.Prolong(o[4], 2, 1<<40) || fmt.Sprint(told) != "[4]" {
		t.Errorf("told %v", told)
	}
	if g, out := set.Settle(o[4]); out != Acquired || g.Count != 2 {
		t.Errorf("with a higher limit: %v %v", g, out)
	}
	for _, one := range o[1:] {
		set.ReleaseAll(one)
	}
	checkNothingLeft(t, set)
}

// When a recovery ends, those who wait for a shared lock that was claimed get it, too, as
// far as their limits allow; and who asks while it ends finds the table in order.
func TestRecoveryEnds(t *testing.T) {
	var set *Set
	var told []uint32
	o := make([]*Owner, 8)
	for i := range o {
		o[i] = &Owner{ID: uint32(i)}
	}
	set = New(1, Config{Recovering: true, Start: 1000, OwnerOf: func(id uint32) *Owner { return o[id] }, Notify: func(id uint32) {
		told = append(told, id)
		if id != 7 {
			return
		}
		// Exclusive locks are served first: nobody has those here yet.
		if g, out := set.GetShared(o[6], []byte("nobody's")); out != Acquired || g.Count != 1 {
			t.Errorf("%v %v", g, out)
		}
		set.Cancel(o[5])
	}})
	set.ClaimShared(o[1], []byte("claimed"), true)
	for i, limit := range []uint32{2: 5, 3: 3, 4: 3} {
		if i >= 2 {
			if _, out := set.GetSharedWait(o[i], []byte("claimed"), limit, 1<<40); out != Waiting {
				t.Fatal(out)
			}
		}
	}
	set.GetSharedWait(o[5], []byte("left"), 5, 1<<40)
	set.GetSharedWait(o[0], []byte("nobody's"), 2, 1<<40)
	set.GetWait(o[7], []byte("exclusive"), 1<<40)
	set.EndRecovery(0)
	slices.Sort(told)
	if want := []uint32{0, 2, 3, 7}; !slices.Equal(told, want) {
		t.Errorf("%v were told, not %v", told, want)
	}
	if n := set.InspectShared([]byte("nobody's")); n != 2 {
		t.Errorf("%d hold what was nobody's", n)
	}
	set.Cancel(o[4])
	for _, one := range o {
		if one.Waits() {
			if _, out := set.Settle(one); out != Acquired {
				t.Errorf("%d: %v", one.ID, out)
			}
		}
		set.ReleaseAll(one)
	}
	checkNothingLeft(t, set)
}

// A recovery ends in pieces, whatever there is.
func TestLongRecoveryEnds(t *testing.T) {
	const n = 3*unclaimedStep + 7
	o := make([]*Owner, 2*n+1)
	told := map[uint32]int{}
	set := New(1, Config{Recovering: true, Start: 1000, Notify: func(id uint32) { told[id]++ }})
	for i := range o {
		o[i] = &Owner{ID: uint32(i)}
	}
	for i := 1; i <= n; i++ {
		set.GetWait(o[i], fmt.Append(nil, "n", i), 1<<40)
		set.GetSharedWait(o[n+i], fmt.Append(nil, "n", i), 1, 1<<40)
	}
	set.EndRecovery(0)
	for _, one := range o[1:] {
		if _, out := set.Settle(one); out != Acquired || told[one.ID] != 1 {
			t.Fatalf("%d: %v, told %d times", one.ID, out, told[one.ID])
		}
		set.ReleaseAll(one)
	}
	checkNothingLeft(t, set)
}

// A wait from before that was granted is in doubt as all else.
func TestSettleDoubted(t *testing.T) {
	for _, again := range []int{0, 1} { // how many of them are got again
		set := New(1, Config{Notify: func(uint32) {}})
		o := []*Owner{{}, {ID: 1}, {ID: 2}, {ID: 3}}
		n := []byte("n")
		set.Get(o[1], n)
		set.GetShared(o[1], n)
		set.GetWait(o[2], n, 1<<40)
		set.GetSharedWait(o[3], n, 1, 1<<40)
		for _, one := range o[2:] {
			set.Doubt(one)
			if out := set.SettleDoubted(one); out != Waiting {
				t.Fatal(out)
			}
		}
		set.ReleaseAll(o[1])
		for _, one := range o[2:] {
			if out := set.SettleDoubted(one); out != Acquired || one.Held() != 1 {
				t.Fatalf("%v, %d held", out, one.Held())
			}
		}
		if again == 1 {
			if _, out := set.Get(o[2], n); out != Acquired {
				t.Fatal(out)
			}
			if _, out := set.GetShared(o[3], n); out != Acquired {
				t.Fatal(out)
			}
		}
		for _, one := range o[2:] {
			for !set.DropDoubted(one, 1) {
			}
			if one.Held() != again {
				t.Errorf("%d holds %d, want %d", one.ID, one.Held(), again)
			}
			set.ReleaseAll(one)
		}
		checkNothingLeft(t, set)
	}
}

// Who waits for a shared lock may not claim a part in it as well.
func TestClaimOfWhatOneWaitsFor(t *testing.T) {
	set, o, _ := recoveringSet(t, 1)
	n := []byte("n")
	set.GetSharedWait(o[1], n, 2, 1<<40)
	if _, out := set.ClaimShared(o[1], n, true); out != Refused {
		t.Error(out)
	}
	set.EndRecovery(0)
	if g, out := set.Settle(o[1]); out != Acquired || g.Count != 1 {
		t.Errorf("%v %v", g, out)
	}
	set.ReleaseAll(o[1])
	checkNothingLeft(t, set)
}

// What is claimed beyond a share is missing in it at once, wherever something idles.
func TestClaimsPassShare(t *testing.T) {
	const limit = 4000
	all := []*Owner{{}, {ID: 1}, {ID: 2}}
	set := New(4, Config{Recovering: true, Start: 1000, OwnerOf: func(id uint32) *Owner { return all[id] }})
	share := set.NewShare(ShareLimits{Locks: limit})
	all[1].Share, all[2].Share = share, share
	for i := range limit {
		sure(t, set, all[1], fmt.Sprint("n", i), 5)
	}
	for i := range 500 { // these idle in the shards then
		set.Release(all[1], fmt.Append(nil, "n", i))
	}
	for i := range limit {
		set.ClaimShared(all[2], fmt.Append(nil, "s", i), true)
	}
	set.EndRecovery(0)
	for i := range limit - 500 {
		set.Release(all[1], fmt.Append(nil, "n", 500+i))
		if have := all[1].Held() + all[2].Held(); i >= 100 && have >= limit {
			if _, out := set.Get(all[1], fmt.Append(nil, "new", i)); out != ShareFull {
				t.Fatalf("%v with %d of %d", out, have, limit)
			}
		}
	}
	for i := range 100 {
		set.ReleaseShared(all[2], fmt.Append(nil, "s", i))
		if _, out := set.Get(all[1], fmt.Append(nil, "new", i)); out != Acquired {
			t.Fatalf("%d: %v", i, out)
		}
		if _, out := set.Get(all[1], fmt.Append(nil, "more", i)); out != ShareFull {
			t.Fatalf("%d more: %v", i, out)
		}
	}
	set.ReleaseAll(all[1])
	set.ReleaseAll(all[2])
	if have := share.Holdings().Locks; have != 0 {
		t.Errorf("the share says %d at the end", have)
	}
	checkNothingLeft(t, set)
}
