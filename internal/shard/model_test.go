package shard

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// model is everything that a Set does, said in maps.
type model struct {
	limits    Config
	exclusive map[string]uint32
	shared    map[string][]uint32 // in the order of their grants
	held      map[uint32]int
	total     int
	stats     Stats
}

func (m *model) room(id uint32) Outcome {
	if m.limits.LocksPerOwner > 0 && m.held[id] >= m.limits.LocksPerOwner {
		return OwnerFull
	}
	if m.total >= m.limits.Locks {
		return Full
	}
	return Acquired
}

func (m *model) count(id uint32, n int) { m.held[id] += n; m.total += n }

func (m *model) get(id uint32, name string) (out Outcome) {
	if holder := m.exclusive[name]; holder != 0 {
		if holder != id {
			out = Refused
		} else {
			m.stats.Again[Exclusive]++
		}
	} else if out = m.room(id); out == Acquired {
		m.exclusive[name] = id
		m.count(id, 1)
	}
	m.stats.Acquire[Exclusive][out]++
	m.stats.Gets[Exclusive]++
	return out
}

func (m *model) release(id uint32, name string) bool {
	if m.exclusive[name] != id {
		m.stats.ReleaseFailed[Exclusive]++
		return false
	}
	delete(m.exclusive, name)
	m.count(id, -1)
	m.stats.Release[Exclusive]++
	return true
}

func (m *model) getShared(id uint32, name string) (n int, out Outcome) {
	if !slices.Contains(m.shared[name], id) {
		if out = m.room(id); out == Acquired {
			m.shared[name] = append(m.shared[name], id)
			m.count(id, 1)
		}
	} else {
		m.stats.Again[Shared]++
	}
	m.stats.Acquire[Shared][out]++
	m.stats.Gets[Shared]++
	if out != Acquired {
		return 0, out
	}
	return len(m.shared[name]), out
}

func (m *model) drop(id uint32, name string) bool {
	i := slices.Index(m.shared[name], id)
	if i < 0 {
		return false
	}
	if m.shared[name] = slices.Delete(m.shared[name], i, i+1); len(m.shared[name]) == 0 {
		delete(m.shared, name)
	}
	m.count(id, -1)
	return true
}

func (m *model) releaseShared(id uint32, name string) bool {
	ok := m.drop(id, name)
	if ok {
		m.stats.Release[Shared]++
	} else {
		m.stats.ReleaseFailed[Shared]++
	}
	return ok
}

// now returns the model's counters with its gauges filled in.
func (m *model) now() Stats {
	st := m.stats
	st.Locks = [Kinds]int{Exclusive: len(m.exclusive), Shared: len(m.shared)}
	for _, holders := range m.shared {
		st.Holders += len(holders)
	}
	return st
}

// A world is a Set, its model, and owners of both.
type world struct {
	*model
	set    *Set
	owners []*Owner
	nextID uint32
	piece  Piece
}

func newWorld(shards int, limits Config) *world {
	w := &world{set: New(shards, limits), model: &model{
		limits: limits, exclusive: map[string]uint32{}, shared: map[string][]uint32{}, held: map[uint32]int{}}}
	if limits.Locks == 0 {
		w.model.limits.Locks = DefaultMaxLocks
	}
	for range 4 {
		w.owners = append(w.owners, w.newOwner())
	}
	return w
}

func (w *world) newOwner() *Owner {
	w.nextID++
	return &Owner{ID: w.nextID}
}

// walk collects what a walk finds: NAME, then its holders.
func (w *world) walk(t fataler, walk *Walk) map[string][]uint32 {
	found := map[string][]uint32{}
	for more := true; more; {
		more = walk.Next(&w.piece)
		for _, item := range w.piece.Items {
			name := string(w.piece.Name(item))
			found[name] = append(found[name], item.Owner)
		}
	}
	if walk.Next(&w.piece) || len(w.piece.Items) > 0 {
		t.Fatalf("a walk goes on after its end")
	}
	walk.Close()
	return found
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// short keeps messages readable.
func short(name string) string {
	if len(name) > 40 {
		return fmt.Sprintf("%q... (%d bytes)", name[:40], len(name))
	}
	return fmt.Sprintf("%q", name)
}

func (w *world) checkWalks(t fataler) {
	t.Helper()
	found := w.walk(t, w.set.Walk(Exclusive))
	for name, holder := range w.exclusive {
		if !slices.Equal(found[name], []uint32{holder}) {
			t.Fatalf("the walk finds %s with %v, want %d", short(name), found[name], holder)
		}
	}
	if len(found) != len(w.exclusive) {
		t.Fatalf("the walk finds %d locks, want %d", len(found), len(w.exclusive))
	}
	found = w.walk(t, w.set.Walk(Shared))
	for name, holders := range w.shared {
		if !slices.Equal(found[name], holders) {
			t.Fatalf("the walk finds %s with %v, want %v", short(name), found[name], holders)
		}
	}
	if len(found) != len(w.shared) {
		t.Fatalf("the walk finds %d shared locks, want %d", len(found), len(w.shared))
	}
}

func (w *world) check(t fataler) {
	t.Helper()
	if got, want := w.set.Stats(), w.now(); got != want {
		t.Fatalf("stats are\n%+v, want\n%+v", got, want)
	}
	checkSum(t, w.set.Stats())
	for _, o := range w.owners {
		if o.Held() != w.held[o.ID] {
			t.Fatalf("owner %d holds %d, want %d", o.ID, o.Held(), w.held[o.ID])
		}
	}
}

func (w *world) get(t fataler, o *Owner, name string) {
	t.Helper()
	if got, want := get(w.set, o, []byte(name)), w.model.get(o.ID, name); got != want {
		t.Fatalf("get %s: %v, want %v", short(name), got, want)
	}
}

func (w *world) getShared(t fataler, o *Owner, name string) {
	t.Helper()
	count, out := getShared(w.set, o, []byte(name))
	if n, want := w.model.getShared(o.ID, name); count != n || out != want {
		t.Fatalf("get shared %s: %d %v, want %d %v", short(name), count, out, n, want)
	}
}

// orphan lets ReleaseSome take some of an owner's locks; the model follows
// whichever it took.
func (w *world) orphan(t fataler, o *Owner, n int) (done bool) {
	before := o.Held()
	done = w.set.ReleaseSome(o, n, nil)
	var gone [Kinds]int
	for name, holder := range w.exclusive {
		if holder == o.ID && w.set.Holder([]byte(name)) == 0 {
			delete(w.exclusive, name)
			w.count(o.ID, -1)
			gone[Exclusive]++
		}
	}
	for name := range w.shared {
		if !slices.Contains(w.shared[name], o.ID) {
			continue
		}
		if found := w.walk(t, w.set.WalkHolders([]byte(name))); !slices.Contains(found[name], o.ID) {
			w.drop(o.ID, name)
			gone[Shared]++
		}
	}
	for k, n := range gone {
		w.stats.Orphans[k] += uint64(n)
	}
	took := before - o.Held()
	if took != gone[Exclusive]+gone[Shared] {
		t.Fatalf("%d orphans released, %d gone", took, gone)
	}
	if limit := (n + orphanBatch - 1) / orphanBatch * orphanBatch; took > limit || took == 0 && n > 0 && before > 0 {
		t.Fatalf("%d of %d orphans released when asked for %d", took, before, n)
	}
	if done != (o.Held() == 0) {
		t.Fatalf("release of orphans: done is %v, %d are left", done, o.Held())
	}
	return done
}

var alphabet = strings.Repeat("abcdefghijklmnopqrstuvwxyz0123456789", 140)

// anyName draws a name of any length. Names share prefixes and differ, if at
// all, in one byte, often next to the edges of a head or a block.
var anyName = rapid.Custom(func(t *rapid.T) string {
	edge := headBytes + blockBytes*rapid.IntRange(-1, 4).Draw(t, "block")
	size := rapid.OneOf(
		rapid.Just(max(0, edge+rapid.IntRange(-1, 1).Draw(t, "beside"))),
		rapid.IntRange(0, 5000),
	).Draw(t, "size")
	name := []byte(alphabet[:size])
	if size > 0 && rapid.Bool().Draw(t, "odd") {
		at := rapid.SampledFrom([]int{0, headBytes - 1, headBytes, headBytes + blockBytes - 1, headBytes + blockBytes, size - 1}).Draw(t, "at")
		name[min(at, size-1)] = rapid.SampledFrom([]byte{0, 'X', 0xff}).Draw(t, "byte")
	}
	return string(name)
})

var fewNames = rapid.SampledFrom([]string{"", "a", "b", "a b", "\x00", "\xff:", alphabet[:headBytes], alphabet[:headBytes+1], alphabet[:300]})

func testModel(t *testing.T, names *rapid.Generator[string]) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(
			rapid.SampledFrom([]int{1, 2, 16, 256}).Draw(t, "shards"),
			Config{
				Locks:         rapid.SampledFrom([]int{0, 1, 2, 7, 64, 300, 5000}).Draw(t, "locks"),
				LocksPerOwner: rapid.SampledFrom([]int{0, 0, 1, 3, 200}).Draw(t, "locks per owner"),
			})
		var used []string // so that most requests are about names that are there
		name := func() string {
			if len(used) > 0 && rapid.IntRange(0, 3).Draw(t, "known") > 0 {
				return rapid.SampledFrom(used).Draw(t, "name")
			}
			n := names.Draw(t, "name")
			if len(used) < 30 {
				used = append(used, n)
			}
			return n
		}
		owner := func() *Owner { return rapid.SampledFrom(w.owners).Draw(t, "owner") }
		get := func(t *rapid.T) { w.get(t, owner(), name()) }
		getShared := func(t *rapid.T) { w.getShared(t, owner(), name()) }
		t.Repeat(map[string]func(*rapid.T){
			"get":         get,
			"get2":        get,
			"get shared":  getShared,
			"get shared2": getShared,
			"release": func(t *rapid.T) {
				o, n := owner(), name()
				if got, want := w.set.Release(o, []byte(n)), w.release(o.ID, n); got != want {
					t.Fatalf("release %s: %v", short(n), got)
				}
			},
			"release shared": func(t *rapid.T) {
				o, n := owner(), name()
				if got, want := w.set.ReleaseShared(o, []byte(n)), w.releaseShared(o.ID, n); got != want {
					t.Fatalf("release shared %s: %v", short(n), got)
				}
			},
			"inspect": func(t *rapid.T) {
				n := name()
				w.stats.Inspect[Exclusive]++
				w.stats.Inspect[Shared]++
				if got := w.set.Inspect([]byte(n)); got != (w.exclusive[n] != 0) {
					t.Fatalf("inspect %s: %v", short(n), got)
				}
				if got := w.set.InspectShared([]byte(n)); got != len(w.shared[n]) {
					t.Fatalf("inspect shared %s: %v, want %d", short(n), got, len(w.shared[n]))
				}
				if got := w.set.Holder([]byte(n)); got != w.exclusive[n] {
					t.Fatalf("holder of %s: %v, want %v", short(n), got, w.exclusive[n])
				}
				found := w.walk(t, w.set.WalkHolders([]byte(n)))
				if !slices.Equal(found[n], w.shared[n]) || len(found) > 1 {
					t.Fatalf("holders of %s: %v, want %v", short(n), found, w.shared[n])
				}
				room := rapid.IntRange(0, 5).Draw(t, "room")
				some := w.set.Ahead([]byte(n), make([]uint32, 1, 1+room))[1:]
				if !slices.Equal(some, w.shared[n][:min(room, len(w.shared[n]))]) {
					t.Fatalf("%d holders of %s: %v, want those of %v", room, short(n), some, w.shared[n])
				}
			},
			"many": func(t *rapid.T) {
				o := owner()
				for i := range rapid.IntRange(1, 300).Draw(t, "n") {
					n := fmt.Sprintf("%d", i)
					if i%2 == 0 {
						w.get(t, o, n)
					} else {
						w.getShared(t, o, n)
					}
				}
			},
			"end": func(t *rapid.T) {
				i := rapid.IntRange(0, len(w.owners)-1).Draw(t, "owner")
				o := w.owners[i]
				w.owners[i] = w.newOwner()
				if rapid.Bool().Draw(t, "at once") {
					held := o.Held()
					w.set.ReleaseAll(o)
					for name, holder := range w.exclusive {
						if holder == o.ID {
							delete(w.exclusive, name)
							w.count(o.ID, -1)
							w.stats.Orphans[Exclusive]++
							held--
						}
					}
					for name := range w.shared {
						if w.drop(o.ID, name) {
							w.stats.Orphans[Shared]++
							held--
						}
					}
					if held != 0 || o.Held() != 0 {
						t.Fatalf("%d more locks than counted, %d held in the end", held, o.Held())
					}
					return
				}
				for !w.orphan(t, o, rapid.SampledFrom([]int{1, 5, orphanBatch, orphanBatch + 1, 1000}).Draw(t, "n")) {
					// Life goes on meanwhile.
					get(t)
					getShared(t)
					w.check(t)
				}
			},
			"walk": func(t *rapid.T) { w.checkWalks(t) },
			"":     func(t *rapid.T) { w.check(t) },
		})
		w.checkWalks(t)
		for _, o := range w.owners {
			w.set.ReleaseAll(o)
		}
		if st := w.set.Stats(); st.Locks != [Kinds]int{} || st.Holders != 0 {
			t.Fatalf("in the end %v locks and %d holders are left", st.Locks, st.Holders)
		}
		checkUnused(t, w.set, w.limits)
	})
}

func inUse[T any](s *slab[T]) (n int) {
	for _, c := range s.chunks {
		if c.page != nil {
			n += chunkItems - int(c.nfree)
		}
	}
	return n
}

func TestModelFewNames(t *testing.T) { testModel(t, fewNames) }

func TestModelAnyNames(t *testing.T) { testModel(t, anyName) }
