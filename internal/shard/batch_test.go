package shard

import (
	"fmt"
	"sync"
	"testing"
)

// One that goes, and was all that kept back very many, does not have all of
// them served under one hold of the mutex; but they are served.
func TestManyServedAtOnce(t *testing.T) {
	const n = 20*serveBatch + 1
	name := []byte("room")
	var told sync.WaitGroup
	told.Add(n)
	set := New(1, Config{Notify: func(uint32) { told.Done() }})
	first, head := &Owner{ID: 1}, &Owner{ID: 2}
	set.GetShared(first, name)
	set.GetSharedWait(head, name, 1, 1<<30)
	rest := make([]Owner, n)
	for i := range rest {
		rest[i].ID = uint32(3 + i)
		if _, out := set.GetSharedWait(&rest[i], name, 1<<20, 1<<30); out != Waiting {
			t.Fatal(out)
		}
	}
	s := &set.shards[0]
	s.mu.Lock()
	var v served
	ref := head.waiter
	s.wheel.remove(&s.waiters, ref)
	s.leaveLocked(ref, 0, &v)
	s.waiters.release(ref)
	head.waiter = 0
	if v.len() != serveBatch {
		t.Errorf("%d are served under one hold of the mutex", v.len())
	}
	s.mu.Unlock()
	set.tell(s, 0, &v)
	told.Wait()
	for i := range rest {
		if _, out := set.Settle(&rest[i]); out != Acquired {
			t.Fatalf("waiter %d: %v", i, out)
		}
	}
	if got := set.InspectShared(name); got != n+1 {
		t.Errorf("%d hold it, want %d", got, n+1)
	}
	for i := range rest {
		set.ReleaseAll(&rest[i])
	}
	set.ReleaseAll(first)
	checkEmpty(t, set)
}

// Fewer locks with long names are released under one hold of the mutex.
func TestOrphansWithLongNames(t *testing.T) {
	const n = 1000
	for _, size := range []int{16, 4000} {
		set := New(1, Config{})
		o := &Owner{ID: 1}
		for i := range n {
			get(set, o, fmt.Appendf(nil, "%0*d", size, i))
			getShared(set, o, fmt.Appendf(nil, "%0*d", size, i))
		}
		s := &set.shards[0]
		most := 1 + orphanBatch/(1+size/128)
		for o.Held() > 0 {
			before := o.Held()
			s.mu.Lock()
			s.releaseBatchLocked(o, orphaned, new(served), nil)
			s.mu.Unlock()
			if gone := before - o.Held(); gone == 0 || gone > most {
				t.Fatalf("%d with names of %d bytes at a time, want at most %d", gone, size, most)
			}
		}
		if st := set.Stats(); st.Orphans != [Kinds]uint64{n, n} {
			t.Errorf("%v orphans", st.Orphans)
		}
		checkEmpty(t, set)
	}
}
