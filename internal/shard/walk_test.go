package shard

import (
	"fmt"
	"slices"
	"testing"
)

// holders makes a set of one shard with a shared lock that owners 1 to n hold.
func holders(n int, name string) (*Set, []*Owner) {
	set := New(1, Config{})
	owners := make([]*Owner, n+1)
	for i := 1; i <= n; i++ {
		owners[i] = &Owner{ID: uint32(i)}
		getShared(set, owners[i], []byte(name))
	}
	return set, owners
}

func rest(w *Walk, p *Piece) (ids []uint32) {
	for more := true; more; {
		more = w.Next(p)
		for _, item := range p.Items {
			ids = append(ids, item.Owner)
		}
	}
	return ids
}

func sequence(from, to int) (ids []uint32) {
	for i := from; i <= to; i++ {
		ids = append(ids, uint32(i))
	}
	return ids
}

// What happens to the holder that a walk stands at, and to its neighbours.
func TestWalkHoldersMoving(t *testing.T) {
	const n = 3 * pieceItems
	const at = pieceItems + 1 // the owner that is next after one piece
	for _, c := range []struct {
		what   string
		change func(*Set, []*Owner)
		want   []uint32
	}{
		{"nothing", func(*Set, []*Owner) {}, sequence(at, n)},
		{"the next one goes", func(s *Set, o []*Owner) {
			s.ReleaseShared(o[at], []byte("a"))
		}, sequence(at+1, n)},
		{"one before goes", func(s *Set, o []*Owner) {
			s.ReleaseShared(o[at-1], []byte("a"))
		}, sequence(at, n)},
		{"the next hundred go", func(s *Set, o []*Owner) {
			for i := range 100 {
				s.ReleaseShared(o[at+i], []byte("a"))
			}
		}, sequence(at+100, n)},
		{"the next hundred go, the last first", func(s *Set, o []*Owner) {
			for i := range 100 {
				s.ReleaseShared(o[at+99-i], []byte("a"))
			}
		}, sequence(at+100, n)},
		{"all that were listed go", func(s *Set, o []*Owner) {
			for i := 1; i < at; i++ {
				s.ReleaseShared(o[i], []byte("a"))
			}
		}, sequence(at, n)},
		{"all go", func(s *Set, o []*Owner) {
			for i := 1; i <= n; i++ {
				s.ReleaseShared(o[i], []byte("a"))
			}
		}, nil},
		{"all go, others take their places", func(s *Set, o []*Owner) {
			for i := 1; i <= n; i++ {
				s.ReleaseAll(o[i])
			}
			for i := range n {
				getShared(s, &Owner{ID: uint32(10_000 + i)}, []byte("b"))
			}
		}, nil},
		{"many come", func(s *Set, o []*Owner) {
			for i := range n {
				getShared(s, &Owner{ID: uint32(10_000 + i)}, []byte("a"))
			}
		}, sequence(at, n)},
	} {
		t.Run(c.what, func(t *testing.T) {
			set, owners := holders(n, "a")
			w, second := set.WalkHolders([]byte("a")), set.WalkHolders([]byte("a"))
			var p, p2 Piece
			if !w.Next(&p) || len(p.Items) != pieceItems || !second.Next(&p2) {
				t.Fatalf("the first piece has %d items", len(p.Items))
			}
			c.change(set, owners)
			for _, w := range []*Walk{w, second} {
				if got := rest(w, &p); !slices.Equal(got, c.want) {
					t.Errorf("the rest of the walk finds %d holders, want %d", len(got), len(c.want))
				}
				w.Close()
			}
			if len(set.shards[0].walks) != 0 {
				t.Error("the walks are still in the shard")
			}
		})
	}
}

// A walk over all shared locks that stands within one of them, which goes.
func TestWalkLosesItsLock(t *testing.T) {
	set, owners := holders(2*pieceItems, "a")
	last := &Owner{ID: 9999}
	getShared(set, last, []byte("b"))
	w := set.Walk(Shared)
	var p Piece
	if !w.Next(&p) {
		t.Fatal("the walk has ended")
	}
	for _, o := range owners[1:] {
		set.ReleaseAll(o)
	}
	// Its place is taken by another lock.
	getShared(set, owners[1], []byte("c"))
	got := rest(w, &p)
	if !slices.Contains(got, last.ID) {
		t.Errorf("the lock that was there all the time was not found: %v", got)
	}
	if len(set.shards[0].walks) != 0 {
		t.Error("the walk is still in the shard")
	}
}

func TestWalkClose(t *testing.T) {
	set, _ := holders(3*pieceItems, "a")
	for _, begin := range []func() *Walk{
		func() *Walk { return set.Walk(Shared) },
		func() *Walk { return set.Walk(Exclusive) },
		func() *Walk { return set.WalkHolders([]byte("a")) },
		func() *Walk { return set.WalkHolders([]byte("nobody's")) },
	} {
		for pieces := range 5 {
			w := begin()
			var p Piece
			for range pieces {
				w.Next(&p)
			}
			w.Close()
			w.Close()
			if w.Next(&p) || len(p.Items) > 0 {
				t.Error("a closed walk goes on")
			}
			if len(set.shards[0].walks) != 0 {
				t.Error("a closed walk is still in the shard")
			}
		}
	}
}

// Pieces are bounded, in items, in bytes and in what is looked at.
func TestWalkPieces(t *testing.T) {
	set := New(2, Config{})
	o := &Owner{ID: 1}
	name := make([]byte, 1000)
	const n = 20_000
	for i := range n {
		copy(name, fmt.Sprintf("%08d", i))
		get(set, o, name[:8+i%992])
		getShared(set, o, name[:8+i%992])
	}
	// Large gaps.
	for i := range n {
		if i > n/10 && i < n-n/10 {
			copy(name, fmt.Sprintf("%08d", i))
			set.Release(o, name[:8+i%992])
		}
	}
	for kind := range Kinds {
		found := map[string]bool{}
		var p Piece
		w := set.Walk(kind)
		for more := true; more; {
			more = w.Next(&p)
			if len(p.Items) > pieceItems || len(p.names) > pieceBytes+len(name) {
				t.Fatalf("a piece of %d items, %d bytes", len(p.Items), len(p.names))
			}
			for _, item := range p.Items {
				if found[string(p.Name(item))] {
					t.Fatalf("%.8s was found twice", p.Name(item))
				}
				found[string(p.Name(item))] = true
			}
		}
		if got, want := len(found), set.Stats().Locks[kind]; got != want {
			t.Errorf("%d %v locks found, want %d", got, kind, want)
		}
	}
}

// Neither those that come while a walk is within a lock are listed, whoever
// goes meanwhile, nor anybody twice.
func TestWalkWhileHoldersComeAndGo(t *testing.T) {
	const n = pieceItems + 1
	set, owners := holders(n, "a")
	name := []byte("a")
	w := set.WalkHolders(name)
	var p Piece
	w.Next(&p)
	late := make([]*Owner, 2*pieceItems)
	for i := range late {
		late[i] = &Owner{ID: uint32(10_000 + i)}
		getShared(set, late[i], name)
	}
	set.ReleaseShared(owners[n], name) // the last one that was there
	set.ReleaseShared(late[0], name)   // where the walk would go on
	if got := rest(w, &p); len(got) != 0 {
		t.Errorf("%d that came later are listed", len(got))
	}

	set, owners = holders(2*pieceItems, "a")
	w = set.WalkHolders(name)
	w.Next(&p)
	set.ReleaseShared(owners[1], name) // is listed already
	getShared(set, owners[1], name)
	set.ReleaseShared(owners[2*pieceItems], name) // is not
	if got := rest(w, &p); len(got) != pieceItems-1 || slices.Contains(got, 1) {
		t.Errorf("%d more are listed, the one that came back: %v", len(got), slices.Contains(got, 1))
	}
}

// As many as there is room for, in the order of their grants and then the first who
// waits, behind what was there.
func TestAhead(t *testing.T) {
	name := []byte("room")
	set, owners := holders(5, "room")
	set.ReleaseShared(owners[2], name)
	getShared(set, owners[2], name)
	for _, c := range []struct {
		into []uint32
		want string
	}{
		{nil, "[]"},
		{make([]uint32, 0, 3), "[1 3 4]"},
		{append(make([]uint32, 0, 3), 99), "[99 1 3]"},
		{make([]uint32, 2), "[0 0]"},
		{make([]uint32, 0, 5), "[1 3 4 5 2]"},
		{make([]uint32, 0, 50), "[1 3 4 5 2]"},
	} {
		if got := fmt.Sprint(set.Ahead(name, c.into)); got != c.want {
			t.Errorf("with room for %d: %s, want %s", cap(c.into), got, c.want)
		}
	}
	for id := range uint32(2) {
		if _, out := set.GetSharedWait(&Owner{ID: 90 + id}, name, 1, 1000); out != Waiting {
			t.Fatal(out)
		}
	}
	for room, want := range map[int]string{5: "[1 3 4 5 2]", 6: "[1 3 4 5 2 90]", 50: "[1 3 4 5 2 90]"} {
		if got := fmt.Sprint(set.Ahead(name, make([]uint32, 0, room))); got != want {
			t.Errorf("with room for %d, while some wait: %s, want %s", room, got, want)
		}
	}
	get(set, owners[1], []byte("exclusive"))
	if got := set.Ahead([]byte("exclusive"), make([]uint32, 0, 5)); len(got) > 0 {
		t.Errorf("%v hold a lock that is not shared", got)
	}
	into := make([]uint32, 0, 5)
	if n := testing.AllocsPerRun(100, func() { set.Ahead(name, into) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
