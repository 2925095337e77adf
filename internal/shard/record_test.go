package shard

import (
	"fmt"
	"testing"
)

// A request that is made again counts once, whatever comes of it.
func TestUncount(t *testing.T) {
	name := func(i int) []byte { return fmt.Appendf(nil, "a name longer than head %d", i) }
	const mine, others, free = 1, 2, 3
	const later = 1000
	for _, c := range []struct {
		what   string
		kind   Kind
		plain  bool
		do     func(*Set, *Owner, int) (Grant, Outcome)
		others Outcome // where others hold the lock
	}{
		{"get", Exclusive, true, func(s *Set, o *Owner, n int) (Grant, Outcome) { return s.Get(o, name(n)) }, Refused},
		{"get, no time", Exclusive, false, func(s *Set, o *Owner, n int) (Grant, Outcome) { return s.GetWait(o, name(n), 0) }, Refused},
		{"wait", Exclusive, false, func(s *Set, o *Owner, n int) (Grant, Outcome) { return s.GetWait(o, name(n), later) }, TooManyWait},
		{"get shared", Shared, true, func(s *Set, o *Owner, n int) (Grant, Outcome) { return s.GetShared(o, name(n)) }, Acquired},
		{"get limit", Shared, false, func(s *Set, o *Owner, n int) (Grant, Outcome) { return s.GetSharedLimit(o, name(n), 1) }, Refused},
		{"wait shared", Shared, false, func(s *Set, o *Owner, n int) (Grant, Outcome) { return s.GetSharedWait(o, name(n), 1, later) }, TooManyWait},
	} {
		set := func(locks, each int) (*Set, *Owner) {
			set := New(4, Config{Locks: locks, LocksPerOwner: each, Waiters: 1})
			me, other, waits := &Owner{ID: 1}, &Owner{ID: 2}, &Owner{ID: 3}
			for o, n := range map[*Owner]int{me: mine, other: others} {
				get(set, o, name(n))
				getShared(set, o, name(n))
			}
			if _, out := set.GetWait(waits, name(mine), later); out != Waiting {
				t.Fatal(out)
			}
			return set, me
		}
		for _, e := range []struct {
			locks, each int
			name        int
			want        Outcome
		}{
			{0, 0, mine, Acquired}, {0, 0, others, c.others}, {0, 0, free, Acquired}, {4, 0, free, Full}, {0, 2, free, OwnerFull},
		} {
			set, me := set(e.locks, e.each)
			what := fmt.Sprintf("%s: name %d: %v", c.what, e.name, e.want)
			if _, out := c.do(set, me, e.name); out != e.want {
				t.Fatalf("%s: it is %v", what, out)
			}
			once := set.Stats()
			set.Uncount(c.kind, name(e.name), e.want, c.plain)
			if none := set.Stats(); none.Acquire[c.kind][e.want]+1 != once.Acquire[c.kind][e.want] {
				t.Errorf("%s: was not taken back", what)
			}
			if _, out := c.do(set, me, e.name); out != e.want {
				t.Fatalf("%s: then it is %v", what, out)
			}
			if twice := set.Stats(); twice != once {
				t.Errorf("%s: counted as\n%+v, once it is\n%+v", what, twice, once)
			}
		}
	}
}

func TestUncountInspect(t *testing.T) {
	set, _ := holders(2, "held")
	inspect := func() (held bool, count int) {
		return set.Inspect([]byte("held")), set.InspectShared([]byte("held"))
	}
	inspect()
	once := set.Stats()
	set.UncountInspect(Exclusive, []byte("held"))
	set.UncountInspect(Shared, []byte("held"))
	if st := set.Stats(); st.Inspect != [Kinds]uint64{} {
		t.Errorf("%v inspected", st.Inspect)
	}
	inspect()
	if twice := set.Stats(); twice != once {
		t.Errorf("counted as\n%+v, once it is\n%+v", twice, once)
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
	if st := set.Stats(); st.Release != [Kinds]uint64{} || st.Orphans != [Kinds]uint64{} || st.Locks != [Kinds]int{} || st.Holders != 0 {
		t.Errorf("%+v", st)
	}
}
