package shard

// Drop makes partitions absent, whatever they are, and then removes all that they have,
// in steps: so who asks for something there, and finds nothing, looks at Partition then,
// and is not misled. Their holders lose what they hold: lost, which may be nil, is called
// for each, without a mutex. Who waits settles with Elsewhere, also one to whom a lock
// has been granted who has not settled that.
func (t *Set) Drop(ps []int, lost func(owner uint32, kind Kind, name []byte)) {
	for _, p := range ps {
		s, part := t.lockPartition(p)
		part.become(PartitionAbsent)
		s.mu.Unlock()
	}
	in := t.shardsOf(ps)
	for i := range t.shards {
		if len(in[i]) > 0 {
			d := drop{s: &t.shards[i], among: amongOf(in[i]), lost: lost}
			d.run()
		}
	}
}

// A drop removes what partitions of one shard have. They are absent: nothing comes, but
// what is there may go by itself.
type drop struct {
	s     *Shard
	among *among
	lost  func(owner uint32, kind Kind, name []byte)

	told  served
	holds []lostHold
	names []byte
}

type lostHold struct {
	owner    uint32
	kind     Kind
	from, to uint32
}

// removed is what it takes to remove something, in looks.
const removed = slabStep / orphanBatch

// run goes over those who wait, first: then no lock has a queue any more.
func (d *drop) run() {
	s := d.s
	stepSlab(s, &s.waiters, d.waiterLocked, d.tell)
	stepSlab(s, &s.exclusive, d.exclusiveLocked, d.tell)
	stepSlab(s, &s.holds, d.holdLocked, d.tell)
	stepSlab(s, &s.limiters, d.limiterLocked)
}

// tell tells whom a step has concerned.
func (d *drop) tell() {
	for _, id := range d.told.few[:d.told.n] {
		d.s.set.notify(id)
	}
	for _, id := range d.told.more {
		d.s.set.notify(id)
	}
	d.told.n, d.told.more = 0, d.told.more[:0]
	for _, h := range d.holds {
		d.lost(h.owner, h.kind, d.names[h.from:h.to])
	}
	d.holds, d.names = d.holds[:0], d.names[:0]
}

func (d *drop) has(n *name) bool { return d.among.has(d.s.partitionOf(n.hash)) }

// waiterLocked ends a wait.
func (d *drop) waiterLocked(ref uint32, w *waiter) (work int) {
	s := d.s
	if w.came == 0 || w.state != queued {
		return 0
	}
	n := s.wantedLocked(w)
	if !d.has(n) {
		return 0
	}
	work = removed * (1 + n.extra())
	s.wheel.remove(&s.waiters, ref)
	s.leaveLocked(ref, 0, &d.told) // which serves nobody
	d.moveLocked(w)
	return work
}

// moveLocked has who waits, or has not settled what it was granted, be told.
func (d *drop) moveLocked(w *waiter) {
	w.state, w.lock = moved, 0
	d.told.add(w.owner)
}

// loseLocked takes a hold's place in its owner's share back, or that of the waiter who
// has not settled it; unlink takes it off its owner's list.
func (d *drop) loseLocked(owner uint32, kind Kind, n *name, before, behind uint32, unlink func(*Owner)) {
	s := d.s
	s.recordLocked(kind, letGo)
	if before == unsettled {
		w := s.waiters.at(behind)
		s.giveShareLocked(s.shareLocked(w.share), int(n.size))
		d.moveLocked(w)
		return
	}
	if d.lost != nil {
		from := uint32(len(d.names))
		d.names = s.names.append(d.names, n)
		d.holds = append(d.holds, lostHold{owner, kind, from, uint32(len(d.names))})
	}
	was := s.set.ownerOf(owner)
	unlink(was)
	s.giveShareLocked(was.Share, int(n.size))
	was.taken.Add(1) // the last thing: one that holds nothing may go
}

// exclusiveLocked ends an exclusive lock.
func (d *drop) exclusiveLocked(ref uint32, e *exclusive) (work int) {
	if e.owner == 0 || !d.has(&e.name) {
		return 0
	}
	work = removed * (1 + e.extra())
	d.loseLocked(e.owner, Exclusive, &e.name, e.prev, e.next, func(was *Owner) { d.s.unlinkLocked(was, ref) })
	d.s.endLocked(ref)
	return work
}

// holdLocked ends a part in a shared lock, and the lock with its last one.
func (d *drop) holdLocked(ref uint32, h *hold) (work int) {
	if h.lock == 0 {
		return 0
	}
	s, lock := d.s, h.lock
	l := s.shared.at(lock)
	if !d.has(&l.name) {
		return 0
	}
	work = removed * (1 + l.extra())
	d.loseLocked(h.owner, Shared, &l.name, h.ownedPrev, h.ownedNext, func(was *Owner) { s.unlinkHoldLocked(was, ref) })
	s.removeHoldLocked(lock, l, ref)
	s.returnPermitLocked()
	if l.count == 0 {
		s.endSharedLocked(lock)
	}
	return work
}

// limiterLocked ends a rate.
func (d *drop) limiterLocked(ref uint32, l *limiter) (work int) {
	if l.limit == 0 || !d.has(&l.name) {
		return 0
	}
	work = removed * (1 + l.extra())
	d.s.dropRateLocked(ref)
	return work
}
