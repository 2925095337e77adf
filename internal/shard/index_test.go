package shard

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// checkIndex compares an index with a map and checks its structure.
func checkIndex(t *testing.T, x *index, want map[uint32][]uint32) {
	t.Helper()
	for hash, refs := range want {
		checkProbe(t, x, hash, refs)
	}
	total := 0
	for _, refs := range want {
		total += len(refs)
	}
	if x.dir == nil {
		if total > 0 {
			t.Fatalf("no segments for %d entries", total)
		}
		return
	}
	if len(x.dir) != 1<<x.depth || x.depth > maxDepth {
		t.Fatalf("%d places in a directory of depth %d", len(x.dir), x.depth)
	}
	used := 0
	for i := 0; i < len(x.dir); {
		seg := x.dir[i]
		if seg.depth > x.depth {
			t.Fatalf("a segment of depth %d in a directory of %d", seg.depth, x.depth)
		}
		span := 1 << (x.depth - seg.depth)
		if i%span != 0 {
			t.Fatalf("a segment of depth %d at %d of %d", seg.depth, i, len(x.dir))
		}
		for j := i; j < i+span; j++ {
			if x.dir[j] != seg {
				t.Fatalf("place %d is not of the segment at %d", j, i)
			}
		}
		n := len(seg.slots)
		if n&(n-1) != 0 || n < minSlots || (n > maxSlots && seg.depth < maxDepth) {
			t.Fatalf("a segment of %d slots at depth %d", n, seg.depth)
		}
		count := 0
		for at, s := range seg.slots {
			if s.ref == 0 {
				if s.hash != 0 {
					t.Fatalf("a free slot has hash %#x", s.hash)
				}
				continue
			}
			count++
			if x.segment(s.hash) != seg {
				t.Fatalf("hash %#x is in the wrong segment", s.hash)
			}
			// From where a search for it begins there is no gap.
			for p := int(s.hash) & (n - 1); p != at; p = (p + 1) & (n - 1) {
				if seg.slots[p].ref == 0 {
					t.Fatalf("a gap before hash %#x", s.hash)
				}
			}
			// Nobody is farther from home by more than one than the one before.
			before := seg.slots[(at-1)&(n-1)]
			far := (at - int(s.hash)) & (n - 1)
			if far > 0 && (at-1-int(before.hash))&(n-1) < far-1 {
				t.Fatalf("hash %#x is out of order", s.hash)
			}
		}
		if count != int(seg.used) || count > n-n/4 {
			t.Fatalf("%d slots used of %d, counted as %d", count, n, seg.used)
		}
		used += count
		i += span
	}
	if used != total {
		t.Fatalf("%d entries, want %d", used, total)
	}
}

func checkProbe(t *testing.T, x *index, hash uint32, want []uint32) {
	t.Helper()
	var got []uint32
	for p := x.probe(hash); ; {
		ref := p.next()
		if ref == 0 {
			break
		}
		if got = append(got, ref); len(got) > len(want) {
			break
		}
	}
	slices.Sort(got)
	want = slices.Clone(want)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("hash %#x has %v, want %v", hash, got, want)
	}
}

// sizes returns how many slots the segments have, and how many segments.
func (x *index) sizes() (slots, segments int) {
	for seg := range x.segments() {
		slots += len(seg.slots)
		segments++
	}
	return
}

// total returns how many entries there are.
func (x *index) total() (n int) {
	for seg := range x.segments() {
		n += int(seg.used)
	}
	return n
}

func (x *index) segments() map[*segment]bool {
	all := map[*segment]bool{}
	for _, seg := range x.dir {
		all[seg] = true
	}
	return all
}

// checkEmptied checks that an index from which everything was removed is
// small. A segment that was split off empty has never had anything to remove
// and keeps its slots; a hash can have caused one at each depth.
func checkEmptied(t *testing.T, x *index) {
	t.Helper()
	slots, segments := x.sizes()
	if slots > segments*minSlots+maxDepth*maxSlots {
		t.Errorf("%d slots in %d segments are left", slots, segments)
	}
}

func TestIndexAgainstMap(t *testing.T) {
	for _, kind := range []struct {
		name string
		hash func(*rand.Rand) uint32
		n    int
	}{
		{"random", func(r *rand.Rand) uint32 { return r.Uint32() }, 30_000},
		{"few", func(r *rand.Rand) uint32 { return 0xdeadbeef * uint32(r.IntN(5)) }, 500},
		{"one segment", func(r *rand.Rand) uint32 { return 0x12340000 | r.Uint32N(1<<16) }, 5_000},
		{"one run, over the end", func(r *rand.Rand) uint32 { return r.Uint32()&^0x3ff | (0x3fc+r.Uint32N(8))&0x3ff }, 3_000},
		{"zero", func(r *rand.Rand) uint32 { return 0 }, 100},
		{"ones", func(r *rand.Rand) uint32 { return ^uint32(r.IntN(2)) }, 100},
	} {
		t.Run(kind.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(3, 4))
			var x index
			type entry struct{ hash, ref uint32 }
			var all []entry
			want := map[uint32][]uint32{}
			next := uint32(0)
			steps := 4 * kind.n
			for step := range steps {
				growing := step < steps*2/5 || step > steps*4/5
				chance := 2
				if growing {
					chance = 8
				}
				if rnd.IntN(10) < chance {
					next++
					e := entry{kind.hash(rnd), next}
					x.insert(e.hash, e.ref)
					all = append(all, e)
					want[e.hash] = append(want[e.hash], e.ref)
				} else if len(all) > 0 {
					i := rnd.IntN(len(all))
					e := all[i]
					all[i] = all[len(all)-1]
					all = all[:len(all)-1]
					x.remove(e.hash, e.ref)
					refs := want[e.hash]
					j := slices.Index(refs, e.ref)
					want[e.hash] = slices.Delete(refs, j, j+1)
					if len(want[e.hash]) == 0 {
						delete(want, e.hash)
					}
				}
				if step%16 == 0 {
					hash := kind.hash(rnd)
					checkProbe(t, &x, hash, want[hash])
				}
				if step%(steps/20) == 0 {
					checkIndex(t, &x, want)
				}
			}
			checkIndex(t, &x, want)
			for _, e := range all {
				x.remove(e.hash, e.ref)
			}
			checkIndex(t, &x, nil)
			checkEmptied(t, &x)
		})
	}
}

// Every deletion from every small table, by brute force: slots 0 to 7 with
// every combination of places where searches begin.
func TestIndexBackshift(t *testing.T) {
	var build func(hashes []uint32, n int)
	build = func(hashes []uint32, n int) {
		if n > 0 {
			for home := range uint32(minSlots) {
				if home < 3 || home > 5 {
					build(append(hashes, home), n-1)
				}
			}
			return
		}
		for gone := range hashes {
			var x index
			want := map[uint32][]uint32{}
			for i, h := range hashes {
				x.insert(h, uint32(i+1))
				if i != gone {
					want[h] = append(want[h], uint32(i+1))
				}
			}
			x.remove(hashes[gone], uint32(gone+1))
			checkIndex(t, &x, want)
		}
	}
	for n := 1; n <= 5; n++ {
		build(make([]uint32, 0, n), n)
	}
}

// Names that collide on purpose cost time to those who use them, but no more
// memory than others, and nothing is lost.
func TestIndexColliding(t *testing.T) {
	const n = 5000
	var x index
	var refs []uint32
	for i := range uint32(n) {
		x.insert(0xcafef00d, i+1)
		refs = append(refs, i+1)
	}
	// Bystanders in the same segment, in others, and right behind.
	want := map[uint32][]uint32{0xcafef00d: refs}
	for i, h := range []uint32{0xcafef00e, 0xcafe0000, 0, 0xffffffff, 0xcafff00d} {
		x.insert(h, uint32(n+1+i))
		want[h] = []uint32{uint32(n + 1 + i)}
	}
	checkIndex(t, &x, want)
	slots, segments := x.sizes()
	if len(x.dir) > 1<<maxDepth {
		t.Errorf("a directory of %d", len(x.dir))
	}
	if limit := 4*n + 2*maxDepth*maxSlots; slots > limit {
		t.Errorf("%d slots for %d entries, want at most %d", slots, n, limit)
	}
	t.Logf("%d colliding entries: directory %d, %d segments, %d slots", n, len(x.dir), segments, slots)
	rand.Shuffle(n, func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
	for i, ref := range refs {
		x.remove(0xcafef00d, ref)
		if i%500 == 0 {
			want[0xcafef00d] = refs[i+1:]
			checkIndex(t, &x, want)
		}
	}
	delete(want, 0xcafef00d)
	checkIndex(t, &x, want)
	checkEmptied(t, &x)
}

// The same through the shard, where names are compared: only names tell
// colliding locks apart.
func TestCollidingNames(t *testing.T) {
	const n = 2000
	set := New(1, Config{})
	s := &set.shards[0]
	a, b := &Owner{ID: 1}, &Owner{ID: 2}
	name := func(i int) []byte { return append(make([]byte, i%100), byte(i), byte(i>>8)) }
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range n {
		if _, out := s.getLocked(a, 7, name(i), 0); out != Acquired {
			t.Fatalf("get %d: %v", i, out)
		}
		if grant, out := s.getSharedLocked(a, 7, name(i), noLimit, 0); grant.Count != 1 || out != Acquired {
			t.Fatalf("get shared %d: %d, %v", i, grant.Count, out)
		}
	}
	for i := range n {
		if _, out := s.getLocked(b, 7, name(i), 0); out != Refused {
			t.Fatalf("somebody else's get %d: %v", i, out)
		}
		if i%2 == 0 {
			if !s.releaseLocked(a, 7, name(i), new(served)) || s.releaseLocked(a, 7, name(i), new(served)) {
				t.Fatalf("release %d", i)
			}
			if !s.releaseSharedLocked(a, 7, name(i), new(served)) || s.releaseSharedLocked(a, 7, name(i), new(served)) {
				t.Fatalf("release shared %d", i)
			}
		}
	}
	for i := range n {
		if held := s.findLocked(7, name(i)) != 0; held != (i%2 != 0) {
			t.Fatalf("lock %d held: %v", i, held)
		}
		if held := s.findSharedLocked(7, name(i)) != 0; held != (i%2 != 0) {
			t.Fatalf("shared lock %d held: %v", i, held)
		}
	}
}

// xxhash has no secret: names that share all of it are made up in no time.
// They crowd a shard, but do not meet in its index.
func TestNamesMadeToCollide(t *testing.T) {
	const n = 1000
	set := New(16, Config{})
	hashes := map[uint32]bool{}
	for i := range uint64(n) {
		name := collidingName(i)
		if xxhash.Sum64(name) != xxhash.Sum64(collidingName(0)) {
			t.Fatalf("%q is no collision", name)
		}
		s, hash := set.lock(name)
		s.mu.Unlock()
		hashes[hash] = true
	}
	if len(hashes) < n-10 {
		t.Errorf("%d names have %d hashes", n, len(hashes))
	}
}

// collidingName returns one of many names of 16 bytes with the same XXH64: its
// first half is anything, its second half undoes what that did to the state.
func collidingName(i uint64) []byte {
	const (
		p1 uint64 = 11400714785074694791
		p2 uint64 = 14029467366897019727
		p4 uint64 = 9650029242287828579
		p5 uint64 = 2870177450012600261
	)
	inverse := func(a uint64) uint64 {
		x := a
		for range 6 {
			x *= 2 - a*x
		}
		return x
	}
	round := func(lane uint64) uint64 { return bits.RotateLeft64(lane*p2, 31) * p1 }
	h := p5 + 16 ^ round(i)
	h = bits.RotateLeft64(h, 27)*p1 + p4
	lane := bits.RotateLeft64((h^0x0123456789abcdef)*inverse(p1), -31) * inverse(p2)
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, i), lane)
}
