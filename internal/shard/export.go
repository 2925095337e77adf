package shard

// A Record is something that a partition has, as it is told to who takes it over: a hold
// (its State is Held), a place in line (Waits), or a rate (Open), whose Kind is Rates.
type Record struct {
	State State
	Kind  Kind
	// Untold: it is held by one who waited, and had not settled that when the record was
	// made. Either it has since, and claims it, or is told Elsewhere, and comes to wait.
	Untold   bool
	Owner    uint32 // ID; 0 of a rate
	Limit    uint32 // of a wait for a shared lock; of a rate
	Token    uint64 // of an exclusive hold
	Age      uint64 // milliseconds, of a hold and a wait
	Left     uint64 // milliseconds for which the wait goes on
	Window   uint64 // nanoseconds, of a rate
	Owed     uint64 // nanoseconds until all its units are open,
	Part     uint32 // and a part of one more, in 1/Limit
	from, to uint32
}

// SameName tells whether a record has the name of the record before it, in the same
// piece.
func (r Record) SameName(before Record) bool { return r.from == before.from && r.to == before.to }

// Records is a piece of an export. Its zero value is ready to use, and it may be used
// again and again.
type Records struct {
	All  []Record
	Most int // records, if not 0: fewer than else

	names []byte
	last  *name // whose bytes are the last of names; nil while no mutex is held
}

// Name returns a record's name, which is good until the piece is filled again.
func (r *Records) Name(i Record) []byte { return r.names[i.from:i.to] }

func (r *Records) full() bool {
	return len(r.All) >= pieceItems || len(r.names) >= pieceBytes || r.Most > 0 && len(r.All) >= r.Most
}

func (s *Shard) addRecordLocked(r *Records, n *name, i Record) {
	if len(r.All) > 0 && r.last == n {
		before := r.All[len(r.All)-1]
		i.from, i.to = before.from, before.to
	} else {
		i.from = uint32(len(r.names))
		r.names = s.names.append(r.names, n)
		i.to = uint32(len(r.names))
	}
	r.last = n
	r.All = append(r.All, i)
}

// An Export lists what frozen partitions have, in pieces, of which each is as its shard
// was at one moment. What is let go between two pieces may be among them or not, all else
// is, once. Who waits for a lock comes in the order of the queue. One goroutine uses it.
type Export struct {
	// Now is what times are counted to, in nanoseconds on the clock of Take.
	Now uint64

	set    *Set
	among  *among
	shards []int // with those partitions
	part   int   // of exportParts
	ref    uint32
	inside bool  // the queue of ref
	line   place // who is next there,
	before place // and, should that one leave, who was before it
}

// Export begins to list what partitions have, which stay frozen meanwhile.
func (t *Set) Export(ps []int) *Export {
	e := &Export{set: t, among: amongOf(ps), ref: 1}
	for i, in := range t.shardsOf(ps) {
		if len(in) > 0 {
			e.shards = append(e.shards, i)
		}
	}
	return e
}

var exportParts = [...]func(*Export, *Shard, *Records) (done bool){
	(*Export).exclusiveLocked, (*Export).holdsLocked, (*Export).queuesLocked, (*Export).ratesLocked,
}

// Next fills r with the next piece, and tells whether there may be more. A piece may be
// empty and not the last one.
func (e *Export) Next(r *Records) (more bool) {
	r.All, r.names, r.last = r.All[:0], r.names[:0], nil
	if len(e.shards) == 0 {
		return false
	}
	s := &e.set.shards[e.shards[0]]
	s.mu.Lock()
	defer s.mu.Unlock()
	for !r.full() && exportParts[e.part](e, s, r) {
		e.ref = 1
		if e.part++; e.part == len(exportParts) {
			e.part, e.shards = 0, e.shards[1:]
			break
		}
	}
	r.last = nil
	return len(e.shards) > 0
}

func (e *Export) has(s *Shard, n *name) bool { return e.among.has(s.partitionOf(n.hash)) }

func (e *Export) exclusiveLocked(s *Shard, r *Records) (done bool) {
	return exportSlab(e, r, &s.exclusive, func(x *exclusive) (stop bool) {
		if x.owner == 0 && x.queue == 0 || !e.has(s, &x.name) {
			return e.leave()
		}
		if x.owner != 0 && !e.inside {
			s.addRecordLocked(r, &x.name, Record{State: Held, Kind: Exclusive, Owner: x.owner,
				Token: x.token(), Age: x.since.Age(e.Now), Untold: x.prev == unsettled})
		}
		return e.queueLocked(s, r, &x.name, x.queue)
	})
}

func (e *Export) holdsLocked(s *Shard, r *Records) (done bool) {
	return exportSlab(e, r, &s.holds, func(h *hold) (stop bool) {
		if h.lock != 0 {
			if l := s.shared.at(h.lock); e.has(s, &l.name) {
				s.addRecordLocked(r, &l.name, Record{State: Held, Kind: Shared, Owner: h.owner,
					Age: h.since.Age(e.Now), Untold: h.ownedPrev == unsettled})
			}
		}
		return false
	})
}

func (e *Export) queuesLocked(s *Shard, r *Records) (done bool) {
	return exportSlab(e, r, &s.shared, func(l *shared) (stop bool) {
		if l.queue == 0 || !e.has(s, &l.name) {
			return e.leave()
		}
		return e.queueLocked(s, r, &l.name, l.queue)
	})
}

// leave is for a queue that has gone while the export was inside.
func (e *Export) leave() (stop bool) {
	e.inside, e.line, e.before = false, place{}, place{}
	return false
}

// standsLocked tells whether a waiter is still in its queue.
func (s *Shard) standsLocked(ref uint32, came uint64) bool {
	if ref == 0 || !s.waiters.chunkOf(ref) {
		return false
	}
	w := s.waiters.at(ref)
	return w.came == came && w.state == queued
}

// queueLocked lists who waits in the queue that begins at head, as far as r has room, and
// tells whether there are more.
func (e *Export) queueLocked(s *Shard, r *Records, n *name, head uint32) (stop bool) {
	if head == 0 {
		return e.leave()
	}
	ref, l := head, &e.line
	if s.standsLocked(l.at, l.came) {
		ref = l.at
	} else if s.standsLocked(e.before.at, e.before.came) {
		ref = e.before.at
	}
	e.inside = true
	for looked := 0; ; looked++ {
		w := s.waiters.at(ref)
		if looked >= slabStep || r.full() {
			l.at, l.came = ref, w.came
			if before := s.waiters.at(w.prev); before.came < l.after {
				e.before.at, e.before.came = w.prev, before.came
			}
			return true
		}
		if w.came >= l.after {
			left := w.due - min(w.due, e.Now/msNanos)
			s.addRecordLocked(r, n, Record{State: Waits, Kind: w.kind, Owner: w.owner, Limit: w.limit,
				Age: w.since.Age(e.Now), Left: left})
			l.after = w.came + 1
		}
		if ref = w.next; ref == head {
			return e.leave()
		}
	}
}

func (e *Export) ratesLocked(s *Shard, r *Records) (done bool) {
	now := max(e.Now, s.latest)
	return exportSlab(e, r, &s.limiters, func(l *limiter) (stop bool) {
		full := l.fullAt()
		if l.limit == 0 || !e.has(s, &l.name) || full < now || full == now && l.part == 0 {
			return false
		}
		rate := l.rate()
		s.addRecordLocked(r, &l.name, Record{State: Open, Kind: Rates, Limit: rate.Limit, Window: rate.Window,
			Owed: full - now, Part: l.part})
		return false
	})
}

// exportSlab calls f for each item of a slab from e.ref on until it has the export stop
// there, the piece is full or there were too many, and tells whether the slab is at its
// end.
func exportSlab[T any](e *Export, r *Records, items *slab[T], f func(*T) (stop bool)) (done bool) {
	end := items.end()
	for n := 0; e.ref < end; e.ref++ {
		if n++; n > 2*slabStep || r.full() && !e.inside {
			return false
		}
		if !items.chunkOf(e.ref) {
			e.leave()
			e.ref += chunkItems - 1 - (e.ref-1)%chunkItems
			continue
		}
		if f(items.at(e.ref)) {
			return false
		}
	}
	e.leave()
	return true
}
