package shard

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// rows are what a walk lists, ages left out.
func rows(w *Walk) (all []string) {
	var p Piece
	for more := true; more; {
		more = w.Next(&p)
		all = append(all, rowsOf(&p)...)
	}
	w.Close()
	return all
}

func rowsOf(p *Piece) (all []string) {
	for _, i := range p.Items {
		all = append(all, fmt.Sprintf("%s %d %d %d %d", p.Name(i), i.Owner, i.Kind, i.State, i.Number))
	}
	return all
}

func owners(n int) []*Owner {
	all := make([]*Owner, n+1)
	for i := range all {
		all[i] = &Owner{ID: uint32(i), Now: Moment(i)}
	}
	return all
}

// A look at one lock lists who holds it and who waits, in the order of their
// turns, the same of the shared lock, and the rate.
func TestLook(t *testing.T) {
	set := New(8, Config{Notify: func(uint32) {}})
	o := owners(9)
	name := []byte("a name that is longer than what stands beside a lock")
	set.Get(o[1], name)
	set.GetWait(o[2], name, 1000)
	set.GetWait(o[3], name, 1000)
	set.GetShared(o[4], name)
	set.GetShared(o[1], name)
	set.GetSharedWait(o[5], name, 2, 1000)
	set.GetSharedWait(o[6], name, 9, 1000) // behind the one before it
	set.Take(nil, name, Rate{Limit: 3, Window: 1e12}, 2, 1)
	set.Get(o[7], []byte("another"))
	want := []string{
		fmt.Sprintf("%s 1 0 0 1", name),
		fmt.Sprintf("%s 2 0 1 0", name),
		fmt.Sprintf("%s 3 0 1 0", name),
		fmt.Sprintf("%s 4 1 0 2", name),
		fmt.Sprintf("%s 1 1 0 2", name),
		fmt.Sprintf("%s 5 1 1 2", name),
		fmt.Sprintf("%s 6 1 1 9", name),
		fmt.Sprintf("%s 0 0 3 1", name),
	}
	if got := rows(set.Look(name)); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	// The same for a prefix, in no order.
	for _, prefix := range []string{"", "a ", "a name that is longer than what", string(name)} {
		got := rows(set.LookAll([]byte(prefix)))
		got = slices.DeleteFunc(got, func(row string) bool { return row == "another 7 0 0 1" })
		slices.Sort(got)
		sorted := slices.Sorted(slices.Values(want))
		if !slices.Equal(got, sorted) {
			t.Errorf("%q: got  %q\nwant %q", prefix, got, sorted)
		}
	}
	for _, prefix := range []string{"b", "a name that is longer than whom", string(name) + "s", "another one"} {
		if got := rows(set.LookAll([]byte(prefix))); len(got) > 0 {
			t.Errorf("%q: got %q", prefix, got)
		}
	}
	if got := rows(set.Look([]byte("a name that is longer than what"))); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}

// Since when somebody holds a lock or waits is the time of the request that
// brought it about: his own, or that of who made room for him.
func TestAges(t *testing.T) {
	set := New(1, Config{Notify: func(uint32) {}})
	o := owners(4)
	at := func(i int, ms uint64) *Owner {
		o[i].Now = MomentOf(ms)
		return o[i]
	}
	const min = 60_000
	name := []byte("x")
	ages := func(now uint64) (all []uint64) {
		w := set.Look(name)
		w.Now = now * 1e6
		var p Piece
		w.Next(&p)
		for _, i := range p.Items {
			all = append(all, i.Age/min)
		}
		return all
	}
	set.Get(at(1, 1*min), name)
	set.GetWait(at(2, 3*min), name, 1<<40)
	set.GetShared(at(1, 4*min), name)
	set.GetSharedWait(at(3, 6*min), name, 1, 1<<40)
	if got, want := ages(10*min+500), []uint64{9, 7, 6, 4}; !slices.Equal(got, want) {
		t.Errorf("got %v minutes, want %v", got, want)
	}
	set.Get(at(1, 11*min), name) // which changes nothing
	set.Release(at(1, 12*min), name)
	set.ReleaseShared(at(1, 13*min), name)
	if got, want := ages(20*min+500), []uint64{8, 7}; !slices.Equal(got, want) {
		t.Errorf("got %v minutes, want %v", got, want)
	}
	set.Settle(at(2, 14*min)) // that one learns of it only now
	if got, want := ages(20*min+500), []uint64{8, 7}; !slices.Equal(got, want) {
		t.Errorf("got %v minutes, want %v", got, want)
	}
	// Who looks may have a clock that is a little behind.
	if got, want := ages(12*min-100), []uint64{0, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v minutes, want %v", got, want)
	}
	// A year and a half is known; 2.2 years are too much for it.
	const year = 365 * 24 * 60 * min
	if got := ages(3 * year / 2)[0]; got != 3*year/2/min-12 {
		t.Errorf("got %d minutes", got)
	}
}

// The part of a rate that is not a unit, and one that is full.
func TestLookAtRates(t *testing.T) {
	set := New(1, Config{})
	set.Take(nil, []byte("r"), Rate{Limit: 3, Window: 10e9}, 3, 1)
	row := func(now uint64) Item {
		w := set.Look([]byte("r"))
		w.Now = now
		var p Piece
		w.Next(&p)
		if len(p.Items) == 0 {
			return Item{}
		}
		return p.Items[0]
	}
	for _, c := range []struct {
		now   uint64
		state State
		ms    uint64
		open  uint64
	}{
		{1, Limited, 10000, 0}, // no more than the window
		{2, Limited, 10000, 0},
		{3e9, Limited, 7001, 0},
		{3e9 + 1, Limited, 7000, 0},
		{4e9, Open, 6001, 1},
		{10e9 - 1, Open, 1, 2},
		{10e9 + 1, 0, 0, 0},
	} {
		if got := row(c.now); got.State != c.state || got.Age != c.ms || got.Number != c.open {
			t.Errorf("at %d: %+v, want %+v", c.now, got, c)
		}
	}
}

// A queue may be longer than a piece, and change between two: who is in it all
// the time is listed once, in the order of the turns, whoever else leaves or
// comes, the one at whom the walk stands too.
func TestLookAtAQueueThatChanges(t *testing.T) {
	const n = 20 * pieceItems
	for round := range uint64(20) {
		r := rand.New(rand.NewPCG(round, 1))
		set := New(1, Config{Notify: func(uint32) {}})
		o := owners(2*n + 1)
		name := []byte("x")
		shared := round%2 == 1
		wait := func(i int) {
			if shared {
				set.GetSharedWait(o[i], name, 1, 1<<40)
			} else {
				set.GetWait(o[i], name, 1<<40)
			}
		}
		holder := &Owner{ID: 3 * n}
		set.Get(holder, name)
		set.GetShared(holder, name)
		for i := 1; i <= n; i++ {
			wait(i)
		}
		left := make(map[uint32]bool)
		w := set.Look(name)
		var p Piece
		var got []uint32
		late := n
		for more := true; more; {
			more = w.Next(&p)
			for _, i := range p.Items {
				if i.State == Waits {
					got = append(got, i.Owner)
				}
			}
			leave := func(i int) {
				if o[i].Waits() {
					set.Cancel(o[i])
					left[uint32(i)] = true
				}
			}
			for range r.IntN(300) {
				leave(1 + r.IntN(n))
			}
			if len(got) > 0 && r.IntN(2) == 0 { // those at whom it stands, and more
				for i := int(got[len(got)-1]); i < min(n, int(got[len(got)-1])+r.IntN(2000)); i++ {
					leave(i)
				}
			}
			for range r.IntN(100) {
				if late < 2*n {
					late++
					wait(late)
				}
			}
		}
		w.Close()
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("round %d: not in order, or twice: %d", round, got)
		}
		if len(got) > 0 && got[len(got)-1] > n {
			t.Fatalf("round %d: listed %d, who came later", round, got[len(got)-1])
		}
		listed := make(map[uint32]bool)
		for _, id := range got {
			listed[id] = true
		}
		for id := uint32(1); id <= n; id++ {
			if !left[id] && !listed[id] {
				t.Fatalf("round %d: %d is missing", round, id)
			}
		}
	}
}

// A queue that goes away altogether while it is listed, with the lock.
func TestLookAtAQueueThatEnds(t *testing.T) {
	set := New(1, Config{Notify: func(uint32) {}})
	o := owners(4 * pieceItems)
	name := []byte("x")
	for n, i := range o[1:] {
		if n%2 == 0 {
			set.GetWait(i, name, 1<<40)
		} else {
			set.GetSharedWait(i, name, 1, 1<<40)
		}
	}
	w := set.Look(name)
	var p Piece
	if !w.Next(&p) {
		t.Fatal("it fits into a piece")
	}
	for _, i := range slices.Backward(o[1:]) { // the holder last
		if i.Waits() {
			set.Cancel(i)
		}
		set.ReleaseAll(i)
	}
	n := 0
	for w.Next(&p) {
		n += len(p.Items)
	}
	if n += len(p.Items); n > 0 {
		t.Errorf("%d more", n)
	}
}

// All that is there from a walk's beginning to its end is listed once, whatever
// comes and goes beside it.
func TestLookAllFindsAll(t *testing.T) {
	set := New(4, Config{Notify: func(uint32) {}})
	var want []string
	id := uint32(0)
	hold := func(f func(o *Owner)) {
		id++
		f(&Owner{ID: id})
	}
	for i := range 3000 {
		name := fmt.Appendf(nil, "stays %d", i)
		hold(func(o *Owner) { set.Get(o, name) })
		hold(func(o *Owner) { set.GetWait(o, name, 1<<40) })
		hold(func(o *Owner) { set.GetShared(o, name) })
		hold(func(o *Owner) { set.GetSharedWait(o, name, 1, 1<<40) })
		set.Take(nil, name, Rate{Limit: 1, Window: 1e15}, 1, 1)
	}
	want = rows(set.LookAll([]byte("stays")))
	if len(want) != 5*3000 {
		t.Fatalf("%d rows", len(want))
	}
	slices.Sort(want)
	come := &Owner{ID: 1 << 20}
	r := rand.New(rand.NewPCG(1, 2))
	w := set.LookAll([]byte("stays"))
	var p Piece
	var got []string
	for more := true; more; {
		more = w.Next(&p)
		got = append(got, rowsOf(&p)...)
		for range 200 {
			name := fmt.Appendf(nil, "goes %d", r.IntN(1000))
			set.Get(come, name)
			set.GetShared(come, name)
			name = fmt.Appendf(nil, "goes %d", r.IntN(1000))
			set.Release(come, name)
			set.ReleaseShared(come, name)
		}
		if bytes.Contains(p.names, []byte("goes")) {
			t.Fatal("lists what does not begin so")
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
}
