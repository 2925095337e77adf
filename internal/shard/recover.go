package shard

// Recovery. A set that recovers, or one of its partitions, gives nobody anything but what is claimed, see
// claim.go: somebody else may hold it, and has not said so yet. Who would wait stands
// in line meanwhile. The lock that it waits for is nobody's then: an entry with a
// queue and without an owner, which goes with the last one who waits. Nobody is owner 0.

// Recovering tells whether that goes on, in a partitioned set anywhere.
func (t *Set) Recovering() bool {
	if t.parts != nil {
		for p := range t.parts {
			if t.Partition(p) == PartitionRecovering {
				return true
			}
		}
	}
	return t.recovering.Load()
}

// EndRecovery gives what nobody has claimed to those who wait for it: from now on
// everything is as ever. It holds no mutex for long. Now is the time of what it grants.
func (t *Set) EndRecovery(now Moment) {
	if t.parts != nil {
		t.endRecoveries(now)
		return
	}
	for i := range t.shards {
		s := &t.shards[i]
		for kind := Exclusive; kind < Kinds; kind++ {
			for ref := uint32(1); ref != 0; {
				var v served
				s.mu.Lock()
				s.partial = false
				ref = s.serveUnclaimedLocked(kind, ref, now, &v)
				s.mu.Unlock()
				t.tell(s, now, &v)
			}
		}
	}
	t.recovering.Store(false)
}

// unclaimedStep is how many items are looked at while a shard's mutex is held.
const unclaimedStep = 1024

// serveUnclaimedLocked serves the queues of some of the locks from ref on that were
// held up, and returns where to go on, 0 at the end.
func (s *Shard) serveUnclaimedLocked(kind Kind, ref uint32, now Moment, v *served) (next uint32) {
	end := s.exclusive.end()
	there, serve := s.exclusive.chunkOf, s.serveNobodysLocked
	if kind == Shared {
		end, there, serve = s.shared.end(), s.shared.chunkOf, s.serveWaitingLocked
	}
	for last := ref + unclaimedStep; ref < end; ref++ {
		if ref == last || v.len() >= serveBatch {
			return ref
		}
		if there(ref) {
			serve(ref, now, v)
		}
	}
	return 0
}

func (s *Shard) serveNobodysLocked(ref uint32, now Moment, v *served) {
	if e := s.exclusive.at(ref); e.owner == 0 && e.queue != 0 && !(s.partial && s.heldUpLocked(e.hash)) {
		s.unclaimed[Exclusive]--
		s.serveLocked(ref, now, v)
	}
}

// serveWaitingLocked serves the queue of a shared lock, claimed or not: those who
// wait for it wait also since nobody knew who else would claim it.
func (s *Shard) serveWaitingLocked(lock uint32, now Moment, v *served) {
	if s.shared.at(lock).queue != 0 {
		s.serveSharedLocked(lock, now, v)
	}
}

// lineUpLocked has o wait for a lock that nobody has claimed yet, and has no queue.
func (s *Shard) lineUpLocked(o *Owner, hash uint32, name []byte, due uint64) Outcome {
	if due == 0 {
		return Recovering
	}
	if !s.fitsLocked(s.exclusive.open != 0, len(name)) {
		return MemoryFull
	}
	if !s.takePermitLocked() {
		return Full
	}
	if room := s.roomToWaitLocked(o, Exclusive, len(name)); room != Acquired {
		s.returnPermitLocked()
		return room
	}
	ref := s.makeLocked(hash, name)
	s.unclaimed[Exclusive]++
	s.enqueueLocked(o, Exclusive, ref, &s.exclusive.at(ref).queue, 0, due)
	return Waiting
}

// lineUpSharedLocked does the same for a shared lock.
func (s *Shard) lineUpSharedLocked(o *Owner, hash uint32, name []byte, limit uint32, due uint64) Outcome {
	if due == 0 {
		return Recovering
	}
	if !s.fitsLocked(s.shared.open != 0, len(name)) {
		return MemoryFull
	}
	if room := s.roomToWaitLocked(o, Shared, len(name)); room != Acquired {
		return room
	}
	lock := s.makeSharedLocked(hash, name)
	s.unclaimed[Shared]++
	s.enqueueLocked(o, Shared, lock, &s.shared.at(lock).queue, limit, due)
	return Waiting
}

// abandonLocked makes a lock that was let go while nobody gets anything nobody's, until
// that is over.
func (s *Shard) abandonLocked(ref uint32) {
	e := s.exclusive.at(ref)
	e.owner, e.prev, e.next = 0, 0, 0
	s.unclaimed[Exclusive]++
}

// forgetUnclaimedLocked ends a lock of nobody's for which nobody waits any more.
func (s *Shard) forgetUnclaimedLocked(kind Kind, ref uint32) {
	if kind == Exclusive {
		if e := s.exclusive.at(ref); e.owner == 0 && e.queue == 0 {
			s.unclaimed[Exclusive]--
			s.endLocked(ref)
		}
		return
	}
	if l := s.shared.at(ref); l.count == 0 && l.queue == 0 {
		s.unclaimed[Shared]--
		s.endSharedLocked(ref)
	}
}

// Prolong has o, which waits, wait until another time, for another limit if it is a
// shared lock, in the same place. It tells whether o does; else what became of the wait
// is decided, and to be settled.
func (t *Set) Prolong(o *Owner, limit uint32, due uint64) bool {
	var v served
	s := &t.shards[o.waitsAt]
	s.mu.Lock()
	w := s.waiters.at(o.waiter)
	if w.state == queued {
		s.wheel.remove(&s.waiters, o.waiter)
		w.due = due
		s.wheel.add(&s.waiters, o.waiter)
		if w.kind == Shared {
			w.limit = min(limit, noLimit-1)
			s.serveSharedLocked(w.lock, o.Now, &v)
		}
	}
	waits := w.state == queued
	s.mu.Unlock()
	t.tell(s, o.Now, &v)
	return waits
}
