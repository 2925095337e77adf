package shard

// HeldIn goes over what an owner holds in some partitions, in doubt or not, in pieces.
type HeldIn struct {
	set   *Set
	o     *Owner
	in    func(p int) bool
	shard int
	list  int    // of the owner's in that shard, see listOf
	ref   uint32 // what is next on it; 0: its head
}

// HeldIn begins to go over what o holds in the partitions for which in says yes. The set
// is partitioned, or a mirror, of no more shards than partitions. o makes no other
// request until that has ended; if others take something from it meanwhile, something
// else may be told twice.
func (t *Set) HeldIn(o *Owner, in func(p int) bool) *HeldIn {
	if t.parts == nil && !t.mirror || len(t.shards) > Partitions {
		panic("shard: a set without partitions")
	}
	return &HeldIn{set: t, o: o, in: in}
}

// Next fills p with the next piece, and tells whether there may be more. A piece may be
// empty and not the last one. Of an item, Number is as in Recall.
func (h *HeldIn) Next(p *Piece) (more bool) {
	p.Items, p.names = p.Items[:0], p.names[:0]
	for looked := 0; h.shard < len(h.set.shards); h.shard++ {
		if !h.anyIn() {
			continue
		}
		s := &h.set.shards[h.shard]
		s.mu.Lock()
		done := h.shardLocked(s, p, &looked)
		s.mu.Unlock()
		if !done {
			return true
		}
	}
	return false
}

// anyIn tells whether any of a shard's partitions is asked for.
func (h *HeldIn) anyIn() bool {
	first, end := h.set.partitionsOf(h.shard)
	for p := first; p < end; p++ {
		if h.in(p) {
			return true
		}
	}
	return false
}

// shardLocked lists what is held in one shard, and tells whether that was all.
func (h *HeldIn) shardLocked(s *Shard, p *Piece, looked *int) (done bool) {
	for ; h.list < 2*int(Kinds); h.list++ {
		ref := h.headLocked(s)
		if h.ref != 0 && h.holdsLocked(s, h.ref) {
			ref = h.ref
		}
		for h.ref = 0; ref != 0; *looked++ {
			if *looked >= slabStep || p.full() {
				h.ref = ref
				return false
			}
			ref = h.addLocked(s, p, ref)
		}
	}
	h.list = 0
	return true
}

// kind is what the list has.
func (h *HeldIn) kind() Kind { return Kind(h.list) % Kinds }

func (h *HeldIn) doubted() bool { return h.list >= int(Kinds) }

// headLocked returns the first one on the list: there are those of the exclusive and the
// shared locks that are certain, and then those of the ones in doubt.
func (h *HeldIn) headLocked(s *Shard) uint32 {
	exclusive, shared := h.o.exclusive, h.o.shared
	if h.doubted() {
		if h.o.doubts == nil {
			return 0
		}
		exclusive, shared = h.o.doubts.exclusive, h.o.doubts.shared
	}
	list := exclusive
	if h.kind() == Shared {
		list = shared
	}
	if list == nil {
		return 0
	}
	return list[s.pos]
}

// holdsLocked tells whether the owner still holds what was next: then it stands on the
// list where it stood.
func (h *HeldIn) holdsLocked(s *Shard, ref uint32) bool {
	if h.kind() == Exclusive {
		if !s.exclusive.chunkOf(ref) {
			return false
		}
		e := s.exclusive.at(ref)
		return e.owner == h.o.ID && e.prev != unsettled
	}
	if !s.holds.chunkOf(ref) {
		return false
	}
	d := s.holds.at(ref)
	return d.owner == h.o.ID && d.ownedPrev != unsettled
}

// addLocked lists one, if it is in the partitions, and returns the next one.
func (h *HeldIn) addLocked(s *Shard, p *Piece, ref uint32) (next uint32) {
	if h.kind() == Exclusive {
		e := s.exclusive.at(ref)
		if h.in(s.partitionOf(e.hash)) {
			s.addItemLocked(p, &e.name, Item{Owner: h.o.ID, Kind: Exclusive, Doubted: h.doubted(), Age: h.o.Now.Since(e.since), Number: e.token()})
		}
		return e.next
	}
	d := s.holds.at(ref)
	if l := s.shared.at(d.lock); h.in(s.partitionOf(l.hash)) {
		s.addItemLocked(p, &l.name, Item{Owner: h.o.ID, Kind: Shared, Doubted: h.doubted(), Age: h.o.Now.Since(d.since), Number: uint64(l.count)})
	}
	return d.ownedNext
}
