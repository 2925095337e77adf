package shard

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// What an owner that is gone has held is noted: names, tokens, counts, for how long,
// and who waited.
func TestLost(t *testing.T) {
	set := New(1, Config{Notify: func(uint32) {}})
	gone, other := &Owner{ID: 1, Now: MomentOf(1000)}, &Owner{ID: 2}
	long := strings.Repeat("x", 3000)
	first, _ := set.Get(gone, []byte("a"))
	gone.Now = MomentOf(2000)
	second, _ := set.Get(gone, []byte(long))
	getShared(set, other, []byte("a"))
	getShared(set, gone, []byte("a"))
	for i := range 5 {
		set.GetWait(&Owner{ID: uint32(10 + i)}, []byte(long), 1<<30)
	}
	for i := range 120 {
		set.GetSharedWait(&Owner{ID: uint32(1000 + i)}, []byte("a"), 2, 1<<30)
	}
	gone.Now = MomentOf(9000)
	var lost Lost
	lost.Reset(10)
	if !set.ReleaseSome(gone, 100, &lost) {
		t.Fatal("it holds something")
	}
	var got []string
	for i := range lost.Items {
		item := &lost.Items[i]
		got = append(got, fmt.Sprintf("%v %.3s %d: %d, %d ms, %d %v", item.Kind, lost.Name(item), len(lost.Name(item)), item.Number, item.Lasted, item.Waiting, item.Waiters))
	}
	want := []string{
		fmt.Sprintf("exclusive xxx 3000: %d, 6992 ms, 5 [10 11 12]", second.Token),
		fmt.Sprintf("exclusive a 1: %d, 8000 ms, 0 [0 0 0]", first.Token),
		"shared a 1: 2, 6992 ms, 120 [1000 1001 1002]",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || lost.More != [Kinds]int{} {
		t.Errorf("got\n%s\nwant\n%s, and %v more", strings.Join(got, "\n"), strings.Join(want, "\n"), lost.More)
	}
}

// Beyond the bound holds are counted alone, in any number of steps.
func TestLostIsBounded(t *testing.T) {
	const n, most = 1000, 10
	set := New(4, Config{})
	o := &Owner{ID: 1}
	for i := range n {
		get(set, o, fmt.Append(nil, i))
		getShared(set, o, fmt.Append(nil, i))
	}
	var lost Lost
	left, more := most, [Kinds]int{}
	for done := false; !done; {
		lost.Reset(left)
		before := o.Held()
		done = set.ReleaseSome(o, 200, &lost)
		if len(lost.Items) > left || len(lost.Items)+lost.More[Exclusive]+lost.More[Shared] != before-o.Held() {
			t.Fatalf("%d items of at most %d, %v more, of %d released", len(lost.Items), left, lost.More, before-o.Held())
		}
		left -= len(lost.Items)
		for kind, n := range lost.More {
			more[kind] += n
		}
	}
	if left != 0 || more[Exclusive]+more[Shared] != 2*n-most || more[Shared] != n && more[Exclusive] != n-most {
		t.Errorf("%d are left, %v more", left, more)
	}
	checkEmpty(t, set)
}

// What is noted is work: under one hold of the mutex fewer locks are released whose
// names are long.
func TestLostIsWork(t *testing.T) {
	const n = 300
	for _, long := range []int{0, 3000} {
		set := New(1, Config{})
		o := &Owner{ID: 1}
		for i := range n {
			get(set, o, fmt.Append(bytes.Repeat([]byte("x"), long), i))
		}
		s := &set.shards[0]
		var lost Lost
		lost.Reset(n)
		s.mu.Lock()
		s.releaseBatchLocked(o, orphaned, new(served), &lost)
		s.mu.Unlock()
		if got, most := n-o.Held(), 1+orphanBatch/(1+2*(long/128)); got == 0 || got > most || got != len(lost.Items) {
			t.Errorf("%d with names of %d bytes, %d noted; want at most %d", got, long, len(lost.Items), most)
		}
	}
}

// A moment comes round, and somebody may be ahead.
func TestSince(t *testing.T) {
	for _, c := range []struct {
		then, now Moment
		want      uint64
	}{{5, 8, 48}, {8, 5, 0}, {1<<32 - 2, 3, 80}, {3, 1<<32 - 2, 0}} {
		if got := c.now.Since(c.then); got != c.want {
			t.Errorf("from %d to %d: %d ms, want %d", c.then, c.now, got, c.want)
		}
	}
}
