package shard

// The sizes of a segment, in slots. A full one of the largest size is split
// in two, which moves at most maxSlots slots: no insertion ever pays for
// rehashing a whole table, and no table is ever there twice. One that empties
// shrinks to keptSlots, so that a table of a few names does not grow and
// shrink all the time.
const (
	minSlots  = 8
	keptSlots = 64
	maxSlots  = 1024
	// maxDepth bounds the directory (2^maxDepth pointers). Past it, as when
	// somebody makes up names that collide, segments grow instead.
	maxDepth = 16
)

// An index finds references by a 32-bit hash. It is an open-addressed hash
// table in segments (extendible hashing: R. Fagin et al., "Extendible Hashing
// - A Fast Access Method for Dynamic Files", ACM TODS 4(3), 1979): the hash's
// upper bits choose the segment through a directory, its lower bits the slot
// within it. A slot keeps the whole hash, so a search rarely looks at an item
// that is not the wanted one, and growing looks at none.
//
// Within a segment, collisions go to the slots behind, in the order of their
// homes (Robin Hood hashing: P. Celis, "Robin Hood Hashing", University of
// Waterloo, 1986): a search for what is not there ends where it would stand,
// not at the next free slot. Deletion moves the following slots up instead of
// leaving marks, so searches do not get slower with age.
type index struct {
	dir    []*segment // 2^depth of them; several may be the same segment
	depth  uint8
	memory *Memory // counts the segments
}

type segment struct {
	slots []slot // a power of two of them
	used  uint32
	depth uint8 // how many of the hash's upper bits its entries share
}

type slot struct{ hash, ref uint32 }

// What they take in memory.
const (
	slotBytes    = 8
	segmentBytes = 32 + 8 // with its place in the directory
)

func (x *index) segment(hash uint32) *segment {
	if x.dir == nil {
		x.dir = []*segment{{slots: make([]slot, minSlots)}}
		x.memory.Add(segmentBytes + minSlots*slotBytes)
	}
	return x.dir[hash>>(32-x.depth)]
}

// A probe walks over the references that an index has for a hash.
type probe struct {
	slots []slot
	pos   uint32
	hash  uint32
}

// probe starts a search. The index must not change until the search is over.
func (x *index) probe(hash uint32) probe {
	return probe{x.segment(hash).slots, hash, hash}
}

// next returns the next reference with the probe's hash, or 0 when there is
// no other.
func (p *probe) next() uint32 {
	mask := uint32(len(p.slots) - 1)
	for {
		at := p.pos
		s := p.slots[at&mask]
		p.pos++
		if s.hash == p.hash {
			return s.ref
		}
		if s.ref == 0 || (at-s.hash)&mask < at-p.hash {
			return 0
		}
	}
}

func (x *index) insert(hash, ref uint32) {
	seg := x.segment(hash)
	for int(seg.used)+1 > len(seg.slots)-len(seg.slots)/4 {
		if len(seg.slots) < maxSlots || seg.depth >= maxDepth {
			x.resize(seg, 2*len(seg.slots))
			break
		}
		x.split(seg, hash)
		seg = x.segment(hash)
	}
	seg.place(slot{hash, ref})
	seg.used++
}

func (x *index) remove(hash, ref uint32) {
	seg := x.segment(hash)
	mask := uint32(len(seg.slots) - 1)
	hole := hash
	for seg.slots[hole&mask].ref != ref {
		hole++
	}
	// The slots behind the hole move up, as far as that takes them nearer to
	// their home.
	for {
		s := seg.slots[(hole+1)&mask]
		if s.ref == 0 || (hole+1-s.hash)&mask == 0 {
			break
		}
		seg.slots[hole&mask] = s
		hole++
	}
	seg.slots[hole&mask] = slot{}
	seg.used--
	x.shrink(seg)
}

// shrink halves a segment as often as it is nearly empty.
func (x *index) shrink(seg *segment) {
	for n := len(seg.slots); n > keptSlots && int(seg.used) < n/8; n /= 2 {
		x.resize(seg, n/2)
	}
}

// place puts a slot behind those that are as far from their homes or farther,
// and moves the others on by one. There is a free slot: insert sees to it.
func (seg *segment) place(s slot) {
	mask := uint32(len(seg.slots) - 1)
	at := s.hash
	for {
		there := seg.slots[at&mask]
		if there.ref == 0 || (at-there.hash)&mask < at-s.hash {
			break
		}
		at++
	}
	for s.ref != 0 {
		s, seg.slots[at&mask] = seg.slots[at&mask], s
		at++
	}
}

func (x *index) resize(seg *segment, n int) {
	old := seg.slots
	x.memory.Add((n - len(old)) * slotBytes)
	seg.slots = make([]slot, n)
	for _, s := range old {
		if s.ref != 0 {
			seg.place(s)
		}
	}
}

// split divides the segment that hash belongs to by one more of the hash's
// bits, doubling the directory when the segment's bits are all that it has.
func (x *index) split(seg *segment, hash uint32) {
	if seg.depth == x.depth {
		dir := make([]*segment, 2*len(x.dir))
		for i, s := range x.dir {
			dir[2*i], dir[2*i+1] = s, s
		}
		x.dir = dir
		x.depth++
	}
	bit := uint32(1) << (31 - seg.depth)
	seg.depth++
	one := &segment{slots: make([]slot, len(seg.slots)), depth: seg.depth}
	old := seg.slots
	seg.slots = make([]slot, len(old))
	seg.used = 0
	for _, s := range old {
		to := seg
		if s.hash&bit != 0 {
			to = one
		}
		if s.ref != 0 {
			to.place(s)
			to.used++
		}
	}
	x.memory.Add(segmentBytes + len(one.slots)*slotBytes)
	x.shrink(seg)
	x.shrink(one)
	// The upper half of the directory's entries for the old segment.
	span := 1 << (x.depth - seg.depth)
	first := int((hash|bit)>>(32-seg.depth)) * span
	for i := first; i < first+span; i++ {
		x.dir[i] = one
	}
}
