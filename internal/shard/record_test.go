package shard

import (
	"fmt"
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
	if st := set.Stats(); st.Release != [Kinds]uint64{} || st.Orphans != [Kinds]uint64{} || st.Locks != [Kinds]int{} || st.Holders != 0 {
		t.Errorf("%+v", st)
	}
}
