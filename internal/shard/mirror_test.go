package shard

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

func TestNote(t *testing.T) {
	o := []*Owner{{}, {ID: 1}, {ID: 2}}
	set := New(2, Config{Mirror: true, Locks: 1, LocksPerOwner: 1, OwnerOf: func(id uint32) *Owner { return o[id] }})
	n := []byte("n")
	for i, note := range []struct {
		owner int
		token uint64
		loser uint32
	}{{1, 7, 0}, {1, 7, 0}, {1, 9, 0}, {2, 8, 1}} { // its token need not be higher: the order is the server's
		if loser := set.Note(o[note.owner], n, note.token); loser != note.loser {
			t.Errorf("%d: %d has lost it", i, loser)
		}
		if got, ok := set.Token(o[note.owner], n); !ok || got != note.token {
			t.Errorf("%d: token %d, %v", i, got, ok)
		}
	}
	// But what one has had before is another one's since, if that one's token is higher.
	for i, note := range []struct {
		owner int
		token uint64
		loser uint32
		holds bool
	}{{1, 7, 0, false}, {2, 8, 0, true}, {1, 9, 2, true}, {2, 8, 0, false}, {1, 8, 0, true}, {2, 8, 1, true}} {
		if loser, holds := set.NoteClaim(o[note.owner], n, note.token); loser != note.loser || holds != note.holds {
			t.Errorf("claim %d: %d has lost it, holds: %v", i, loser, holds)
		}
		if got, ok := set.Token(o[note.owner], n); ok != note.holds || ok && got != note.token {
			t.Errorf("claim %d: token %d, %v", i, got, ok)
		}
	}
	for range 2 {
		set.NoteShared(o[1], n)
		set.NoteShared(o[2], n)
	}
	if n := set.InspectShared(n); n != 2 {
		t.Errorf("%d share it", n)
	}
	if o[1].Held() != 1 || o[2].Held() != 2 {
		t.Errorf("%d and %d are held", o[1].Held(), o[2].Held())
	}
	set.ReleaseAll(o[1])
	set.ReleaseAll(o[2])
	checkNothingLeft(t, set)
}

// Doubt and Recall go over all that an owner holds, in pieces, and keep it.
func TestRecall(t *testing.T) {
	for _, mirror := range []bool{false, true} {
		set := New(4, Config{Mirror: mirror})
		me := &Owner{ID: 1}
		want := map[string]uint64{}
		for i := range uint64(3 * pieceItems) {
			name := fmt.Sprint("n", i)
			set.Note(me, []byte(name), i+1)
			set.NoteShared(me, []byte(name))
			want[name] = i + 1
		}
		var p Piece
		if set.Recall(me, &p) || len(p.Items) != 0 {
			t.Fatal("recalled without any doubt")
		}
		for round := range 3 {
			set.Doubt(me)
			found := [Kinds]map[string]uint64{{}, {}}
			pieces := 0
			for more := true; more; pieces++ {
				more = set.Recall(me, &p)
				if len(p.Items) > pieceItems {
					t.Fatalf("%d in a piece", len(p.Items))
				}
				for _, item := range p.Items {
					name := string(p.Name(item))
					if _, ok := found[item.Kind][name]; ok {
						t.Fatalf("%q twice", name)
					}
					found[item.Kind][name] = item.Number
				}
				switch {
				case round == 0 && pieces == 0: // the connection is lost again
					set.Doubt(me)
					clear(found[Exclusive])
					clear(found[Shared])
				case pieces == 1: // what comes and goes meanwhile
					set.Note(me, fmt.Append(nil, "new", round), 5)
					set.Release(me, fmt.Append(nil, "new", round))
				}
			}
			if len(found[Exclusive]) != len(want) || len(found[Shared]) != len(want) || pieces < 6 {
				t.Errorf("found %d and %d of %d in %d pieces", len(found[Exclusive]), len(found[Shared]), len(want), pieces)
			}
			for name, token := range want {
				if found[Exclusive][name] != token || found[Shared][name] != 1 {
					t.Fatalf("%q: %d, not %d; shared by %d", name, found[Exclusive][name], token, found[Shared][name])
				}
			}
		}
		if !set.DropDoubted(me, 1) || me.Held() != 2*len(want) {
			t.Errorf("%d of %d are held", me.Held(), 2*len(want))
		}
		set.ReleaseAll(me)
		set.Forget(me)
		checkNothingLeft(t, set)
	}
}

// Many note the same names at a time, and lose them to each other, release them, recall
// them: each lock has one holder, who counts it.
func TestMirrorRace(t *testing.T) {
	t.Parallel()
	const workers, names = 6, 40
	o := make([]*Owner, workers)
	for i := range o {
		o[i] = &Owner{ID: uint32(i + 1)}
	}
	set := New(4, Config{Mirror: true, OwnerOf: func(id uint32) *Owner { return o[id-1] }})
	var wg sync.WaitGroup
	for i, me := range o {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 5))
			var p Piece
			p.Most = 3
			for range rounds(20000) {
				name := []byte{byte(rnd.IntN(names))}
				switch rnd.IntN(10) {
				default:
					set.Note(me, name, rnd.Uint64N(1<<53))
				case 4, 5:
					set.NoteShared(me, name)
				case 6:
					set.Release(me, name)
				case 7:
					set.ReleaseShared(me, name)
				case 8:
					set.Doubt(me)
					set.Recall(me, &p)
				case 9:
					if rnd.IntN(50) == 0 {
						set.ReleaseAll(me)
						set.Forget(me)
					} else {
						set.DropDoubted(me, rnd.IntN(3))
					}
				}
			}
		})
	}
	wg.Wait()
	held := 0
	for _, me := range o {
		held += me.Held()
	}
	if st := set.Stats(); held != st.Locks[Exclusive]+st.Holders {
		t.Errorf("%d are held, the table says %+v", held, st)
	}
	for _, me := range o {
		set.ReleaseAll(me)
		if me.Held() != 0 {
			t.Errorf("%d holds %d", me.ID, me.Held())
		}
		set.Forget(me)
	}
	checkNothingLeft(t, set)
}
