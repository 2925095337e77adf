package shard

import "sync"

// A Shard holds the locks whose names hash to it. mu guards everything in it
// but set, and of every owner the lists of what it holds here.
type Shard struct {
	mu  sync.Mutex
	set *Set
	pos int // of this shard in the set, and of its lists in owners

	names     names
	exclusive slab[exclusive]
	byName    index // of exclusive
	shared    slab[shared]
	bySharing index // of shared
	holds     slab[hold]
	byHolder  index // of holds, by lock and owner

	stats   Stats
	permits int64
	walks   *Walk // those that stand within a shared lock's holders

	_ [64]byte // keeps neighbours' mutexes out of this one's cache lines
}

// An exclusive lock is there while it is held.
type exclusive struct {
	name
	owner      uint32
	prev, next uint32 // in the owner's list
}

// A shared lock is there while anybody holds it. first and last are its
// holds, in the order in which they were granted.
type shared struct {
	name
	count       uint32
	first, last uint32
}

// A hold is one owner's part in a shared lock.
type hold struct {
	lock, owner          uint32
	prev, next           uint32 // in the lock's list
	ownedPrev, ownedNext uint32 // in the owner's list
}

// holdHash mixes a lock and an owner into a hash for the index of holds.
func holdHash(lock, owner uint32) uint32 {
	h := (uint64(lock)<<32 | uint64(owner)) * 0x9e3779b97f4a7c15
	return uint32(h>>32) ^ uint32(h)
}

func (s *Shard) findLocked(hash uint32, name []byte) uint32 {
	for p := s.byName.probe(hash); ; {
		ref := p.next()
		if ref == 0 || s.names.equal(&s.exclusive.at(ref).name, name) {
			return ref
		}
	}
}

func (s *Shard) findSharedLocked(hash uint32, name []byte) uint32 {
	for p := s.bySharing.probe(hash); ; {
		ref := p.next()
		if ref == 0 || s.names.equal(&s.shared.at(ref).name, name) {
			return ref
		}
	}
}

func (s *Shard) findHoldLocked(lock, owner uint32) uint32 {
	for p := s.byHolder.probe(holdHash(lock, owner)); ; {
		ref := p.next()
		if ref == 0 {
			return 0
		}
		if h := s.holds.at(ref); h.lock == lock && h.owner == owner {
			return ref
		}
	}
}

// roomLocked tells whether an owner may hold one more lock, taking the permit
// for it when it may.
func (s *Shard) roomLocked(o *Owner) Outcome {
	if limit := s.set.maxPerOwner; limit > 0 && o.held >= limit {
		return OwnerFull
	}
	if !s.takePermitLocked() {
		return Full
	}
	return Acquired
}

func (s *Shard) getLocked(o *Owner, hash uint32, name []byte) Outcome {
	if ref := s.findLocked(hash, name); ref != 0 {
		if s.exclusive.at(ref).owner == o.ID {
			return Acquired
		}
		return Refused
	}
	if room := s.roomLocked(o); room != Acquired {
		return room
	}
	if o.exclusive == nil {
		o.exclusive = make([]uint32, len(s.set.shards))
	}
	ref := s.exclusive.alloc()
	e := s.exclusive.at(ref)
	s.names.set(&e.name, hash, name)
	s.byName.insert(hash, ref)
	e.owner = o.ID
	e.next = o.exclusive[s.pos]
	if e.next != 0 {
		s.exclusive.at(e.next).prev = ref
	}
	o.exclusive[s.pos] = ref
	o.held++
	s.stats.Locks[Exclusive]++
	return Acquired
}

func (s *Shard) releaseLocked(o *Owner, hash uint32, name []byte) bool {
	ref := s.findLocked(hash, name)
	if ref == 0 || s.exclusive.at(ref).owner != o.ID {
		return false
	}
	s.dropLocked(o, ref)
	return true
}

// dropLocked ends an exclusive lock that o holds.
func (s *Shard) dropLocked(o *Owner, ref uint32) {
	e := s.exclusive.at(ref)
	if e.prev != 0 {
		s.exclusive.at(e.prev).next = e.next
	} else {
		o.exclusive[s.pos] = e.next
	}
	if e.next != 0 {
		s.exclusive.at(e.next).prev = e.prev
	}
	s.byName.remove(e.hash, ref)
	s.names.clear(&e.name)
	s.exclusive.release(ref)
	o.held--
	s.returnPermitLocked()
	s.stats.Locks[Exclusive]--
}

func (s *Shard) getSharedLocked(o *Owner, hash uint32, name []byte) (int, Outcome) {
	lock := s.findSharedLocked(hash, name)
	if lock != 0 && s.findHoldLocked(lock, o.ID) != 0 {
		return int(s.shared.at(lock).count), Acquired
	}
	if room := s.roomLocked(o); room != Acquired {
		return 0, room
	}
	if o.shared == nil {
		o.shared = make([]uint32, len(s.set.shards))
	}
	if lock == 0 {
		lock = s.shared.alloc()
		s.names.set(&s.shared.at(lock).name, hash, name)
		s.bySharing.insert(hash, lock)
		s.stats.Locks[Shared]++
	}
	l := s.shared.at(lock)
	ref := s.holds.alloc()
	h := s.holds.at(ref)
	h.lock, h.owner = lock, o.ID
	s.byHolder.insert(holdHash(lock, o.ID), ref)
	h.prev = l.last
	if h.prev != 0 {
		s.holds.at(h.prev).next = ref
	} else {
		l.first = ref
	}
	l.last = ref
	h.ownedNext = o.shared[s.pos]
	if h.ownedNext != 0 {
		s.holds.at(h.ownedNext).ownedPrev = ref
	}
	o.shared[s.pos] = ref
	l.count++
	o.held++
	s.stats.Holders++
	return int(l.count), Acquired
}

func (s *Shard) releaseSharedLocked(o *Owner, hash uint32, name []byte) bool {
	lock := s.findSharedLocked(hash, name)
	if lock == 0 {
		return false
	}
	ref := s.findHoldLocked(lock, o.ID)
	if ref == 0 {
		return false
	}
	s.dropHoldLocked(o, ref)
	return true
}

// dropHoldLocked ends o's part in a shared lock, and the lock with its last
// holder.
func (s *Shard) dropHoldLocked(o *Owner, ref uint32) {
	h := s.holds.at(ref)
	lock, l := h.lock, s.shared.at(h.lock)
	s.stepPastLocked(ref, h.next)
	if h.prev != 0 {
		s.holds.at(h.prev).next = h.next
	} else {
		l.first = h.next
	}
	if h.next != 0 {
		s.holds.at(h.next).prev = h.prev
	} else {
		l.last = h.prev
	}
	if h.ownedPrev != 0 {
		s.holds.at(h.ownedPrev).ownedNext = h.ownedNext
	} else {
		o.shared[s.pos] = h.ownedNext
	}
	if h.ownedNext != 0 {
		s.holds.at(h.ownedNext).ownedPrev = h.ownedPrev
	}
	s.byHolder.remove(holdHash(lock, o.ID), ref)
	s.holds.release(ref)
	o.held--
	s.returnPermitLocked()
	s.stats.Holders--
	l.count--
	if l.count > 0 {
		return
	}
	s.bySharing.remove(l.hash, lock)
	s.names.clear(&l.name)
	s.shared.release(lock)
	s.stats.Locks[Shared]--
}

// orphanLocked releases up to n of what o holds here and returns how many of
// n are left.
func (s *Shard) orphanLocked(o *Owner, n int) int {
	if o.exclusive != nil {
		for ; n > 0 && o.exclusive[s.pos] != 0; n-- {
			s.dropLocked(o, o.exclusive[s.pos])
			s.stats.Orphans[Exclusive]++
		}
	}
	if o.shared != nil {
		for ; n > 0 && o.shared[s.pos] != 0; n-- {
			s.dropHoldLocked(o, o.shared[s.pos])
			s.stats.Orphans[Shared]++
		}
	}
	return n
}
