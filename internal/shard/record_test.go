package shard

import (
	"fmt"
	"testing"
)

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
