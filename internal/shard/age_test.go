package shard

import "testing"

// How long holds took is counted when they end, however they do; those that took no
// tick are not, and neither are those whose holder's clock was ahead.
func TestAgesOfHolds(t *testing.T) {
	for k := range Kinds {
		set, name := New(1, Config{Notify: func(uint32) {}}), []byte("x")
		o := &Owner{ID: 1}
		take := func(o *Owner, at uint64) {
			o.Now = MomentOf(at)
			if k == Exclusive {
				set.Get(o, name)
			} else {
				set.GetShared(o, name)
			}
		}
		release := func(o *Owner, at uint64) {
			o.Now = MomentOf(at)
			if k == Exclusive {
				set.Release(o, name)
			} else {
				set.ReleaseShared(o, name)
			}
		}
		var want Ages
		for _, c := range []struct {
			took   uint64
			bucket int
		}{
			{0, -1}, {15, -1}, {16, 0}, {63, 0}, {64, 1}, {255, 1}, {256, 2}, {60_000, 5}, {86_400_000, 11}, {10 * 86_400_000, 11},
		} {
			const at = 1 << 20
			take(o, at)
			release(o, at+c.took)
			if c.bucket >= 0 {
				want.Counts[c.bucket]++
				want.Sum += c.took &^ 15
				if low := AgeBound(c.bucket); c.took < low || c.bucket < AgeBuckets-1 && c.took >= AgeBound(c.bucket+1) {
					t.Errorf("%d ms are in bucket %d, from %d on", c.took, c.bucket, low)
				}
			}
			if got := set.Stats().Ages[k]; got != want {
				t.Fatalf("%v, %d ms: %+v, want %+v", k, c.took, got, want)
			}
		}
		take(o, 1000)
		release(o, 500)
		if got := set.Stats().Ages[k]; got != want {
			t.Errorf("%v, ahead: %+v, want %+v", k, got, want)
		}
		// A grant begins a hold; an orphan and what is let go end one.
		other := &Owner{ID: 2, Now: MomentOf(2000)}
		take(o, 1000)
		if k == Exclusive {
			set.GetWait(other, name, 1<<40)
		} else {
			set.GetSharedWait(other, name, 1, 1<<40)
		}
		o.Now = MomentOf(3000)
		set.ReleaseAll(o)
		set.Settle(other)
		other.Now = MomentOf(3032)
		for !set.LetGoSome(other, 1) {
		}
		want.Counts[3]++
		want.Counts[0]++
		want.Sum += 3000&^15 - 1000&^15 + 3032&^15 - 3000&^15
		if got := set.Stats().Ages[k]; got != want {
			t.Errorf("%v, orphaned and let go: %+v, want %+v", k, got, want)
		}
		if other := set.Stats().Ages[1-k]; other != (Ages{}) {
			t.Errorf("the other kind has %+v", other)
		}
	}
}
