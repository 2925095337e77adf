package shard

// A waiter is an owner in a lock's queue: a ring in the order of arrival, of
// which the lock knows the head.
//
// The head is never passed over, even for one whose limit would let it in: who
// asks for a small limit would starve as long as others with larger ones keep
// arriving. So nobody waits for those who came later: first come, first served
// is what a client that waits is promised.
//
// What becomes of a waiter - granted, timed out, canceled - is decided once,
// under the shard's mutex. A waiter that was granted or has timed out is in no
// queue any more, but stays until its owner has settled it: only then does the
// owner know. A lock that is granted, or a hold, knows the waiter until then, as it is
// on nobody's list.
type waiter struct {
	lock       uint32
	owner      uint32
	prev, next uint32 // in the queue
	limit      uint32 // of a shared lock: how many may hold it; granted: how many do
	kind       Kind
	state      waiterState
	lineLow    uint16 // of the head of a queue: how many are in it, the lower half
	share      uint32 // the slot of its owner's, +1; 0: none

	due                  uint64 // milliseconds
	came                 uint64 // how many came to the shard's queues until it did
	since                Moment
	slot                 uint16 // of the wheel
	lineHigh             uint16 // the other half
	timerPrev, timerNext uint32
}

// line is how long the queue is that begins with w.
func (w *waiter) line() uint32     { return uint32(w.lineHigh)<<16 | uint32(w.lineLow) }
func (w *waiter) setLine(n uint32) { w.lineLow, w.lineHigh = uint16(n), uint16(n>>16) }

type waiterState uint8

const (
	queued waiterState = iota
	granted
	timedOut
	moved // the lock is elsewhere
)

// unsettled is the one before a lock, or a hold, on its owner's list if it is on none, as
// its owner has waited for it and not settled that: the one behind is the waiter.
const unsettled = ^uint32(0)

// A Grant is a lock that was acquired.
type Grant struct {
	// Token is the fencing token of an exclusive lock.
	Token uint64
	// Count is how many hold a shared lock.
	Count int
}

// enqueueLocked puts o at the end of the queue that begins at head.
func (s *Shard) enqueueLocked(o *Owner, kind Kind, lock uint32, head *uint32, limit uint32, due uint64) {
	if s.wheel == nil {
		s.wheel = new(wheel)
	}
	ref := s.waiters.alloc()
	w := s.waiters.at(ref)
	s.arrivals++
	w.lock, w.owner, w.kind, w.limit, w.due = lock, o.ID, kind, limit, due
	w.came, w.since = s.arrivals, o.Now
	w.share = slotOf(o.Share)
	if *head == 0 {
		*head, w.prev, w.next = ref, ref, ref
		w.setLine(1)
	} else {
		first := s.waiters.at(*head)
		first.setLine(first.line() + 1)
		w.prev, w.next = first.prev, *head
		s.waiters.at(first.prev).next = ref
		first.prev = ref
	}
	s.wheel.add(&s.waiters, ref)
	o.waiter, o.waitsAt = ref, uint32(s.pos)
}

// dequeueLocked takes a waiter out of its queue. It stays allocated.
func (s *Shard) dequeueLocked(ref uint32, head *uint32) {
	w := s.waiters.at(ref)
	if w.next == ref {
		*head = 0
	} else {
		line := s.waiters.at(*head).line()
		s.waiters.at(w.prev).next = w.next
		s.waiters.at(w.next).prev = w.prev
		if *head == ref {
			*head = w.next
		}
		s.waiters.at(*head).setLine(line - 1)
	}
	s.set.waiting.Add(-1)
	if h := s.shareLocked(w.share); h != nil {
		h.waiters.Add(-1)
	}
}

// leaveLocked takes a waiter that gets nothing out of its queue, and serves
// those behind it whom only it kept back.
func (s *Shard) leaveLocked(ref uint32, now Moment, v *served) {
	w := s.waiters.at(ref)
	s.giveShareLocked(s.shareLocked(w.share), int(s.wantedLocked(w).size))
	if w.kind == Exclusive {
		s.dequeueLocked(ref, &s.exclusive.at(w.lock).queue)
	} else {
		s.dequeueLocked(ref, &s.shared.at(w.lock).queue)
		s.returnPermitLocked()
		s.serveSharedLocked(w.lock, now, v)
	}
	s.forgetUnclaimedLocked(w.kind, w.lock)
}

// serveLocked gives an exclusive lock that is let go to the head of its queue,
// whose share has counted it since it began to wait. It is linked into the new owner's list when that settles.
func (s *Shard) serveLocked(lock uint32, now Moment, v *served) {
	e := s.exclusive.at(lock)
	ref := e.queue
	w := s.waiters.at(ref)
	s.dequeueLocked(ref, &e.queue)
	s.wheel.remove(&s.waiters, ref)
	w.state = granted
	e.owner, e.prev, e.next, e.since = w.owner, unsettled, ref, now
	e.setToken(s.nextTokenLocked())
	s.recordLocked(Exclusive, Acquired.event())
	v.add(w.owner)
}

// serveSharedLocked gives a shared lock to as many from the head of its queue
// as their limits allow. Each has had a permit since it began to wait. Past a
// batch, the lock is noted for serveBehind to go on with; but it is never left
// with a queue and nobody who holds it.
func (s *Shard) serveSharedLocked(lock uint32, now Moment, v *served) {
	l := s.shared.at(lock)
	if s.partial && s.stateLocked(l.hash) != PartitionServing {
		return
	}
	for l.queue != 0 {
		ref := l.queue
		w := s.waiters.at(ref)
		if l.count >= w.limit {
			return
		}
		if v.len() >= serveBatch && l.count > 0 {
			s.behind = append(s.behind, lock)
			return
		}
		h := s.holds.at(s.addHoldLocked(lock, w.owner, now))
		h.ownedPrev, h.ownedNext = unsettled, ref
		s.dequeueLocked(ref, &l.queue)
		s.wheel.remove(&s.waiters, ref)
		w.state = granted
		w.limit = l.count
		s.recordLocked(Shared, Acquired.event())
		v.add(w.owner)
	}
}

// settleLocked tells what became of o's wait. What it was granted, it holds
// as any other lock from here on.
func (s *Shard) settleLocked(o *Owner) (Grant, Outcome) {
	w := *s.waiters.at(o.waiter)
	if w.state == queued {
		return Grant{}, Waiting
	}
	s.waiters.release(o.waiter)
	o.waiter = 0
	switch w.state {
	case timedOut:
		return Grant{}, TimedOut
	case moved:
		return Grant{}, Elsewhere
	}
	o.held++
	if w.kind == Exclusive {
		s.exclusive.at(w.lock).prev = 0
		s.linkLocked(o, w.lock)
		return Grant{Token: s.exclusive.at(w.lock).token()}, Acquired
	}
	ref := s.findHoldLocked(w.lock, o.ID)
	s.holds.at(ref).ownedPrev = 0
	s.linkHoldLocked(o, ref)
	return Grant{Count: int(w.limit)}, Acquired
}

// roomToWait tells whether one more may wait, and counts it in.
func (t *Set) roomToWait(h *Share) Outcome {
	if h != nil && !take(&h.waiters, h.limits.Waiters) {
		return ShareWaiters
	}
	if !take(&t.waiting, t.maxWaiters) {
		if h != nil {
			h.waiters.Add(-1)
		}
		return TooManyWait
	}
	return Acquired
}

// Settle tells what became of the wait of an owner that waits: Waiting when
// that is not decided, else Acquired, TimedOut or Elsewhere, and then the owner does
// not wait any more.
func (t *Set) Settle(o *Owner) (Grant, Outcome) {
	s := &t.shards[o.waitsAt]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settleLocked(o)
}

// Cancel ends an owner's wait: with Canceled, or with Acquired, TimedOut or
// Elsewhere when that came first.
func (t *Set) Cancel(o *Owner) (Grant, Outcome) {
	var v served
	s := &t.shards[o.waitsAt]
	s.mu.Lock()
	grant, outcome := s.settleLocked(o)
	if outcome == Waiting {
		outcome = Canceled
		ref := o.waiter
		s.wheel.remove(&s.waiters, ref)
		s.recordLocked(s.waiters.at(ref).kind, Canceled.event())
		s.leaveLocked(ref, o.Now, &v)
		s.waiters.release(ref)
		o.waiter = 0
	}
	s.mu.Unlock()
	t.tell(s, o.Now, &v)
	return grant, outcome
}

// expireBatch is how many waiters time out, or move on the wheel, under one
// hold of a shard's mutex.
const expireBatch = 256

// Expire ends the waits whose time has come by now, in milliseconds on the
// clock of the due times, and returns when to call it again: at the latest
// then, 0 when nobody waits. One goroutine at a time may call it.
func (t *Set) Expire(now uint64) (next uint64) {
	for i := range t.shards {
		s := &t.shards[i]
		for more := true; more; {
			s.mu.Lock()
			more = s.expireLocked(now, &t.expired)
			if s.wheel != nil && s.wheel.count > 0 && !more {
				if _, at, ok := s.wheel.next(); ok && (next == 0 || at < next) {
					next = at
				}
			}
			s.mu.Unlock()
			t.tell(s, MomentOf(now), &t.expired)
		}
	}
	return next
}

func (s *Shard) expireLocked(now uint64, v *served) (more bool) {
	if s.wheel == nil {
		return false
	}
	for steps := expireBatch; ; {
		ref := s.wheel.expired(&s.waiters, now, &steps)
		if ref == 0 {
			return steps == 0
		}
		w := s.waiters.at(ref)
		w.state = timedOut
		s.recordLocked(w.kind, TimedOut.event())
		v.add(w.owner)
		s.leaveLocked(ref, MomentOf(now), v)
		steps--
	}
}
