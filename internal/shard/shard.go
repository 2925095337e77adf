package shard

import "sync"

// A Shard holds the locks whose names hash to it. mu guards everything in it
// but set, and of every owner the lists of what it holds here.
//
// What a request for an exclusive lock needs comes first, on as few cache lines
// as may be: each of them moves to another processor's cache when that has the
// next request.
type Shard struct {
	mu        sync.Mutex
	set       *Set
	pos       uint16 // of this shard in the set, and of its lists in owners
	unsampled uint8  // requests until the next one that is noted
	partial   bool   // not all requests may be executed, see partition.go
	permits   int32
	issued    uint64 // the last fencing token
	exclusive slab[exclusive]
	byName    index  // of exclusive
	cells     []cell // of shares
	counts    [Rates + 1][events]uint64

	names     names
	shared    slab[shared]
	bySharing index // of shared
	holds     slab[hold]
	byHolder  index // of holds, by lock and owner

	waiters  slab[waiter]
	arrivals uint64 // waiters that there have been
	wheel    *wheel // of waiters; nil until the first one

	limiters slab[limiter]
	byLimit  index  // of limiters
	latest   uint64 // the latest time that a Take came with
	hand     uint32 // the limiter that is looked at next for being full

	unclaimed [Kinds]int32 // locks with a queue that are nobody's, see recover.go

	behind []uint32         // shared locks whose queues have more to be served
	walks  map[uint32]*Walk // those that are within a shared lock's holders, by lock

	ceil    uint64 // of tokens, in a partitioned set
	starved bool   // somebody waits for a token below it

	sampling sampling
	ages     [Kinds]ages // of holds that are over

	_ [32]byte // to whole cache lines, and one between neighbours
}

// An exclusive lock is there while it is held.
type exclusive struct {
	name
	owner      uint32
	prev, next uint32    // in the owner's list
	queue      uint32    // the first of those who wait; 0: nobody
	fence      [2]uint32 // the fencing token, its lower half first
	since      Moment
}

func (e *exclusive) token() uint64     { return uint64(e.fence[1])<<32 | uint64(e.fence[0]) }
func (e *exclusive) setToken(t uint64) { e.fence = [2]uint32{uint32(t), uint32(t >> 32)} }

// nextTokenLocked returns a fencing token: larger than any that the shard gave
// before, and, as it counts from its start time in microseconds, than any of an
// earlier server that anybody has heard of; for that, whoever makes requests has
// to keep a grant to itself until the clock has reached its token. It stays below
// 2^53 until the year 2255.
func (s *Shard) nextTokenLocked() uint64 {
	s.issued++
	return s.issued
}

// A shared lock is there while anybody holds it. first and last are its
// holds, in the order in which they were granted.
type shared struct {
	name
	count       uint32
	first, last uint32
	queue       uint32 // the first of those who wait; 0: nobody
}

// A hold is one owner's part in a shared lock.
type hold struct {
	lock, owner          uint32
	prev, next           uint32 // in the lock's list
	ownedPrev, ownedNext uint32 // in the owner's list
	since                Moment
}

// holdHash mixes a lock and an owner into a hash for the index of holds.
func holdHash(lock, owner uint32) uint32 {
	h := (uint64(lock)<<32 | uint64(owner)) * 0x9e3779b97f4a7c15
	return uint32(h>>32) ^ uint32(h)
}

func (s *Shard) findLocked(hash uint32, name []byte) uint32 {
	if s.partial && s.stateLocked(hash) == PartitionAbsent {
		return 0
	}
	for p := s.byName.probe(hash); ; {
		ref := p.next()
		if ref == 0 || s.names.equal(&s.exclusive.at(ref).name, name) {
			return ref
		}
	}
}

func (s *Shard) findSharedLocked(hash uint32, name []byte) uint32 {
	if s.partial && s.stateLocked(hash) == PartitionAbsent {
		return 0
	}
	for p := s.bySharing.probe(hash); ; {
		ref := p.next()
		if ref == 0 || s.names.equal(&s.shared.at(ref).name, name) {
			return ref
		}
	}
}

// findHoldLocked finds nothing for lock 0, which nobody holds.
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

// roomLocked tells whether an owner may hold one more lock, with a name of a
// size, and takes the permit for it, and its owner's share, when it may.
func (s *Shard) roomLocked(o *Owner, size int) Outcome {
	if limit := s.set.maxPerOwner; limit > 0 && o.Held() >= limit {
		return OwnerFull
	}
	if out := s.takeShareLocked(o.Share, size); out != Acquired {
		return out
	}
	if !s.takePermitLocked() {
		s.giveShareLocked(o.Share, size)
		return Full
	}
	return Acquired
}

// roomToWaitLocked does the same for one who waits. A lock's permit passes to who
// gets it, so for an exclusive one there is no other to take.
func (s *Shard) roomToWaitLocked(o *Owner, kind Kind, size int) Outcome {
	if limit := s.set.maxPerOwner; limit > 0 && o.Held() >= limit {
		return OwnerFull
	}
	// Whoever waits keeps a copy of the name.
	if m := s.set.memory; m.full.Load() && !m.Room(chunkBytes+size) {
		return MemoryFull
	}
	if out := s.takeShareLocked(o.Share, size); out != Acquired {
		return out
	}
	out := Full
	if kind == Exclusive || s.takePermitLocked() {
		if out = s.set.roomToWait(o.Share); out == Acquired {
			return Acquired
		}
		if kind == Shared {
			s.returnPermitLocked()
		}
	}
	s.giveShareLocked(o.Share, size)
	return out
}

func (s *Shard) getLocked(o *Owner, hash uint32, name []byte, due uint64) (Grant, Outcome) {
	state := s.stateLocked(hash)
	if ref := s.findLocked(hash, name); ref != 0 {
		e := s.exclusive.at(ref)
		switch {
		case e.owner == o.ID:
			s.recordLocked(Exclusive, again)
			s.certainLocked(o, ref)
			return Grant{Token: e.token()}, Acquired
		case state == PartitionFrozen:
			return Grant{}, Frozen
		case due == 0 && state == PartitionRecovering:
			return Grant{}, Recovering
		case due == 0:
			return Grant{}, Refused
		}
		if room := s.roomToWaitLocked(o, Exclusive, len(name)); room != Acquired {
			return Grant{}, room
		}
		s.enqueueLocked(o, Exclusive, ref, &e.queue, 0, due)
		return Grant{}, Waiting
	}
	if s.partial {
		if state == PartitionRecovering {
			return Grant{}, s.lineUpLocked(o, hash, name, due)
		}
		if out := s.notServedLocked(state); out != Acquired {
			return Grant{}, out
		}
	}
	if !s.fitsLocked(s.exclusive.open != 0, len(name)) {
		return Grant{}, MemoryFull
	}
	if room := s.roomLocked(o, len(name)); room != Acquired {
		return Grant{}, room
	}
	ref := s.makeLocked(hash, name)
	e := s.exclusive.at(ref)
	e.owner, e.since = o.ID, o.Now
	e.setToken(s.nextTokenLocked())
	s.linkLocked(o, ref)
	o.held++
	return Grant{Token: e.token()}, Acquired
}

// makeLocked makes an exclusive lock that nobody has yet.
func (s *Shard) makeLocked(hash uint32, name []byte) uint32 {
	ref := s.exclusive.alloc()
	s.names.set(&s.exclusive.at(ref).name, hash, name)
	s.byName.insert(hash, ref)
	return ref
}

// linkLocked puts a lock on its owner's list.
func (s *Shard) linkLocked(o *Owner, ref uint32) { s.linkIntoLocked(o, &o.exclusive, ref) }

// linkIntoLocked puts it on one of its owner's lists.
func (s *Shard) linkIntoLocked(o *Owner, lists *[]uint32, ref uint32) {
	if *lists == nil {
		*lists = s.set.newLists(o)
	}
	e := s.exclusive.at(ref)
	e.next = (*lists)[s.pos]
	if e.next != 0 {
		s.exclusive.at(e.next).prev = ref
	}
	(*lists)[s.pos] = ref
}

// unlinkLocked takes a lock off the list of its owner's that it is on.
func (s *Shard) unlinkLocked(o *Owner, ref uint32) {
	e := s.exclusive.at(ref)
	switch {
	case e.prev != 0:
		s.exclusive.at(e.prev).next = e.next
	case o.exclusive != nil && o.exclusive[s.pos] == ref:
		o.exclusive[s.pos] = e.next
	default:
		o.doubts.exclusive[s.pos] = e.next
	}
	if e.next != 0 {
		s.exclusive.at(e.next).prev = e.prev
	}
	e.prev, e.next = 0, 0
}

func (s *Shard) releaseLocked(o *Owner, hash uint32, name []byte, v *served) bool {
	ref := s.findLocked(hash, name)
	if ref == 0 || s.exclusive.at(ref).owner != o.ID {
		s.recordFailureLocked(Exclusive, hash)
		return false
	}
	s.dropLocked(o, ref, released, v)
	return true
}

// dropLocked ends o's hold of an exclusive lock, and serves who waits for it.
func (s *Shard) dropLocked(o *Owner, ref uint32, why event, v *served) {
	s.recordLocked(Exclusive, why)
	e := s.exclusive.at(ref)
	if age := o.Now - e.since; age != 0 {
		s.recordAgeLocked(Exclusive, age)
	}
	s.unlinkLocked(o, ref)
	o.held--
	s.giveShareLocked(o.Share, int(e.size))
	switch {
	case e.queue == 0:
		s.endLocked(ref)
	case s.partial && s.heldUpLocked(e.hash):
		s.abandonLocked(ref)
	default:
		s.serveLocked(ref, o.Now, v)
	}
}

// endLocked ends an exclusive lock that nobody has and nobody waits for.
func (s *Shard) endLocked(ref uint32) {
	e := s.exclusive.at(ref)
	s.byName.remove(e.hash, ref)
	s.names.clear(&e.name)
	s.exclusive.release(ref)
	s.returnPermitLocked()
}

// noLimit is the limit of a request for a shared lock that has none. It
// passes those who wait.
const noLimit = ^uint32(0)

func (s *Shard) getSharedLocked(o *Owner, hash uint32, name []byte, limit uint32, due uint64) (Grant, Outcome) {
	state := s.stateLocked(hash)
	lock := s.findSharedLocked(hash, name)
	wait := false
	if lock != 0 {
		l := s.shared.at(lock)
		if ref := s.findHoldLocked(lock, o.ID); ref != 0 {
			s.recordLocked(Shared, again)
			s.certainHoldLocked(o, ref)
			return Grant{Count: int(l.count)}, Acquired
		}
		if state == PartitionFrozen {
			return Grant{}, Frozen
		}
		if limit != noLimit && (l.queue != 0 || l.count >= limit || state == PartitionRecovering) {
			if wait = true; due == 0 {
				if state == PartitionRecovering {
					return Grant{}, Recovering
				}
				return Grant{}, Refused
			}
		}
	}
	if wait {
		if room := s.roomToWaitLocked(o, Shared, len(name)); room != Acquired {
			return Grant{}, room
		}
		s.enqueueLocked(o, Shared, lock, &s.shared.at(lock).queue, limit, due)
		return Grant{}, Waiting
	}
	switch state {
	case PartitionRecovering:
		if lock != 0 {
			return Grant{}, Recovering // without a limit: nobody knows the count
		}
		return Grant{}, s.lineUpSharedLocked(o, hash, name, limit, due)
	case PartitionFrozen:
		return Grant{}, Frozen
	case PartitionAbsent:
		return Grant{}, Elsewhere
	}
	if lock != 0 && !s.fitsLocked(s.holds.open != 0, 0) ||
		lock == 0 && !s.fitsLocked(s.holds.open != 0 && s.shared.open != 0, len(name)) {
		return Grant{}, MemoryFull
	}
	if room := s.roomLocked(o, len(name)); room != Acquired {
		return Grant{}, room
	}
	if lock == 0 {
		lock = s.makeSharedLocked(hash, name)
	}
	s.linkHoldLocked(o, s.addHoldLocked(lock, o.ID, o.Now))
	o.held++
	return Grant{Count: int(s.shared.at(lock).count)}, Acquired
}

// makeSharedLocked makes a shared lock that nobody has yet.
func (s *Shard) makeSharedLocked(hash uint32, name []byte) uint32 {
	lock := s.shared.alloc()
	s.names.set(&s.shared.at(lock).name, hash, name)
	s.bySharing.insert(hash, lock)
	return lock
}

// countLocked returns how many hold a shared lock; nobody holds lock 0.
func (s *Shard) countLocked(lock uint32) int {
	if lock == 0 {
		return 0
	}
	return int(s.shared.at(lock).count)
}

// addHoldLocked makes an owner the last holder of a shared lock. The hold is
// not on the owner's list yet.
func (s *Shard) addHoldLocked(lock, owner uint32, now Moment) uint32 {
	l := s.shared.at(lock)
	if l.count == 0 && l.queue != 0 {
		s.unclaimed[Shared]--
	}
	ref := s.holds.alloc()
	h := s.holds.at(ref)
	h.lock, h.owner, h.since = lock, owner, now
	s.byHolder.insert(holdHash(lock, owner), ref)
	h.prev = l.last
	if h.prev != 0 {
		s.holds.at(h.prev).next = ref
	} else {
		l.first = ref
	}
	l.last = ref
	l.count++
	return ref
}

// linkHoldLocked puts a hold on its owner's list.
func (s *Shard) linkHoldLocked(o *Owner, ref uint32) { s.linkHoldIntoLocked(o, &o.shared, ref) }

// linkHoldIntoLocked puts it on one of its owner's lists.
func (s *Shard) linkHoldIntoLocked(o *Owner, lists *[]uint32, ref uint32) {
	if *lists == nil {
		*lists = s.set.newLists(o)
	}
	h := s.holds.at(ref)
	h.ownedNext = (*lists)[s.pos]
	if h.ownedNext != 0 {
		s.holds.at(h.ownedNext).ownedPrev = ref
	}
	(*lists)[s.pos] = ref
}

// unlinkHoldLocked takes a hold off the list of its owner's that it is on.
func (s *Shard) unlinkHoldLocked(o *Owner, ref uint32) {
	h := s.holds.at(ref)
	switch {
	case h.ownedPrev != 0:
		s.holds.at(h.ownedPrev).ownedNext = h.ownedNext
	case o.shared != nil && o.shared[s.pos] == ref:
		o.shared[s.pos] = h.ownedNext
	default:
		o.doubts.shared[s.pos] = h.ownedNext
	}
	if h.ownedNext != 0 {
		s.holds.at(h.ownedNext).ownedPrev = h.ownedPrev
	}
	h.ownedPrev, h.ownedNext = 0, 0
}

func (s *Shard) releaseSharedLocked(o *Owner, hash uint32, name []byte, v *served) bool {
	ref := s.findHoldLocked(s.findSharedLocked(hash, name), o.ID)
	if ref == 0 {
		s.recordFailureLocked(Shared, hash)
		return false
	}
	s.dropHoldLocked(o, ref, released, v)
	return true
}

// dropHoldLocked ends o's part in a shared lock, serves who waits for it, and
// ends the lock with its last holder.
func (s *Shard) dropHoldLocked(o *Owner, ref uint32, why event, v *served) {
	s.recordLocked(Shared, why)
	h := s.holds.at(ref)
	if age := o.Now - h.since; age != 0 {
		s.recordAgeLocked(Shared, age)
	}
	lock, l := h.lock, s.shared.at(h.lock)
	s.unlinkHoldLocked(o, ref)
	s.removeHoldLocked(lock, l, ref)
	o.held--
	s.returnPermitLocked()
	s.giveShareLocked(o.Share, int(l.size))
	if l.queue != 0 {
		if l.count == 0 {
			s.unclaimed[Shared]++
		}
		s.serveSharedLocked(lock, o.Now, v)
	}
	if l.count == 0 && l.queue == 0 {
		s.endSharedLocked(lock)
	}
}

// removeHoldLocked takes a hold that is on nobody's list out of its lock.
func (s *Shard) removeHoldLocked(lock uint32, l *shared, ref uint32) {
	h := s.holds.at(ref)
	if len(s.walks) > 0 {
		s.stepPastLocked(lock, ref, h.prev, h.next)
	}
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
	s.byHolder.remove(holdHash(lock, h.owner), ref)
	s.holds.release(ref)
	l.count--
}

// endSharedLocked ends a shared lock that nobody has and nobody waits for.
func (s *Shard) endSharedLocked(lock uint32) {
	l := s.shared.at(lock)
	s.bySharing.remove(l.hash, lock)
	s.names.clear(&l.name)
	s.shared.release(lock)
}

// releaseBatchLocked releases some of what o holds here, and has it noted if lost is
// not nil.
func (s *Shard) releaseBatchLocked(o *Owner, why event, v *served, lost *Lost) {
	work := s.releaseListsLocked(o, o.exclusive, o.shared, why, v, lost)
	if d := o.doubts; d != nil && work < orphanBatch {
		s.releaseListsLocked(o, d.exclusive, d.shared, why, v, lost)
	}
}

// releaseListsLocked does so with what is on some of its lists, and tells how much work
// that was.
func (s *Shard) releaseListsLocked(o *Owner, exclusive, shared []uint32, why event, v *served, lost *Lost) int {
	work := orphanBatch
	for ; work > 0 && exclusive != nil && exclusive[s.pos] != 0; work-- {
		ref := exclusive[s.pos]
		e := s.exclusive.at(ref)
		work -= e.extra() + s.noteLocked(lost, Exclusive, &e.name, e.token(), e.since, o.Now, e.queue)
		s.dropLocked(o, ref, why, v)
	}
	for ; work > 0 && shared != nil && shared[s.pos] != 0; work-- {
		ref := shared[s.pos]
		h := s.holds.at(ref)
		l := s.shared.at(h.lock)
		work -= l.extra() + s.noteLocked(lost, Shared, &l.name, uint64(l.count), h.since, o.Now, l.queue)
		s.dropHoldLocked(o, ref, why, v)
	}
	return orphanBatch - work
}
