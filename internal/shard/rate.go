package shard

import "math/bits"

// A limiter is the state of a rate: GCRA, the generic cell rate algorithm
// (ITU-T Recommendation I.371, annex A), which needs no more than one time. A
// limiter whose time is over is full, and no different from one that does not
// exist; so it goes by itself.
type limiter struct {
	name
	// When all units will be open: a nanosecond, its lower half first, and a
	// part of the next one, in 1/LIMIT. So nothing is ever rounded.
	full [2]uint32
	part uint32
	// The rate of whoever took last, for those who look: its window in
	// milliseconds.
	limit, window uint32
	share         uint32 // the slot of that of whoever made it, +1; 0: none
}

func (l *limiter) rate() Rate { return Rate{l.limit, uint64(l.window) * msNanos} }

// setRate notes the rate of who takes.
func (l *limiter) setRate(r Rate) {
	l.limit, l.window = r.Limit, uint32((r.Window+msNanos-1)/msNanos)
}

// msNanos is a millisecond.
const msNanos = 1e6

func (l *limiter) fullAt() uint64 { return uint64(l.full[1])<<32 | uint64(l.full[0]) }

func (l *limiter) setFull(now uint64, d debt) {
	t := now + d.ns
	l.full, l.part = [2]uint32{uint32(t), uint32(t >> 32)}, d.part
}

// A Rate is LIMIT units in a window of time, coming back evenly.
type Rate struct {
	Limit  uint32 // units, at least 1
	Window uint64 // nanoseconds, at least 1 and at most 2^47 (39 hours)
}

// A debt is how long units take to come back: nanoseconds, and a part of one
// in 1/LIMIT. Of a rate's own it is at most the window.
type debt struct {
	ns   uint64
	part uint32
}

// nanos returns a debt in nanoseconds, rounded up.
func (d debt) nanos() uint64 {
	if d.part > 0 {
		return d.ns + 1
	}
	return d.ns
}

// cost returns how long units take to come back.
func (r Rate) cost(units uint32) debt {
	hi, lo := bits.Mul64(uint64(units), r.Window)
	quo, rem := bits.Div64(hi, lo, uint64(r.Limit))
	return debt{quo, uint32(rem)}
}

func (r Rate) add(a, b debt) debt {
	ns, part := a.ns+b.ns, uint64(a.part)+uint64(b.part)
	if part >= uint64(r.Limit) {
		ns, part = ns+1, part-uint64(r.Limit)
	}
	return debt{ns, uint32(part)}
}

// open returns how many units are open while the others come back.
func (r Rate) open(d debt) uint32 {
	hi, lo := bits.Mul64(r.Window-d.ns, uint64(r.Limit))
	lo, borrow := bits.Sub64(lo, uint64(d.part), 0)
	quo, _ := bits.Div64(hi-borrow, lo, r.Window)
	return uint32(quo)
}

// A Verdict is the answer of a rate limiter.
type Verdict struct {
	Outcome Outcome // Acquired, Refused or at which bound; or Elsewhere or Frozen
	Open    uint32  // units that were open before
	Retry   uint64  // Refused: nanoseconds until the units asked for will be open
	Full    uint64  // Acquired, Refused: nanoseconds until all units will be open
}

// Next returns in how many nanoseconds one unit more than now will be open, by a
// verdict on some units of the rate; at most one nanosecond too many. 0: all are. After
// a question, what somebody has taken in a longer window may make it later.
func (r Rate) Next(v Verdict, units uint32) uint64 {
	if v.Full == 0 {
		return 0
	}
	open := v.Open
	if v.Outcome == Acquired {
		open -= units
	}
	return v.Full + r.cost(open+1).nanos() - r.Window
}

// Take takes units, at most the rate's limit, of the rate called name, if as
// many are open. now is in nanoseconds; of callers at the same time, one that
// is overtaken counts with the time of the other. A rate that changes applies
// at once, also if the units are refused: what was taken before counts, but never
// as more than a whole window. To take no units is a question, and changes nothing.
//
// A rate counts for the share of who has made it, also when its owners are gone,
// until it is full.
func (t *Set) Take(h *Share, name []byte, r Rate, units uint32, now uint64) Verdict {
	s, hash := t.lock(name)
	v := s.takeLocked(h, hash, name, r, units, now)
	for v.Outcome != Acquired && s.fetchLocked(h, v.Outcome, len(name)) {
		v = s.takeLocked(h, hash, name, r, units, now)
	}
	if v.Outcome.executed() {
		s.recordLocked(Rates, v.Outcome.event())
		s.sampleLocked(Rates, hash, name)
	}
	s.mu.Unlock()
	return v
}

// Open returns how many units of the rate called name are open.
func (t *Set) Open(name []byte, r Rate, now uint64) uint32 {
	s, hash := t.lock(name)
	defer s.mu.Unlock()
	return r.open(s.debtLocked(s.findLimiterLocked(hash, name), r, max(now, s.latest)))
}

func (s *Shard) findLimiterLocked(hash uint32, name []byte) uint32 {
	if s.partial && s.stateLocked(hash) == PartitionAbsent {
		return 0
	}
	for p := s.byLimit.probe(hash); ; {
		ref := p.next()
		if ref == 0 || s.names.equal(&s.limiters.at(ref).name, name) {
			return ref
		}
	}
}

// debtLocked returns how long it takes until a limiter is full.
func (s *Shard) debtLocked(ref uint32, r Rate, now uint64) debt {
	if ref == 0 {
		return debt{}
	}
	l := s.limiters.at(ref)
	full := l.fullAt()
	if full < now {
		return debt{}
	}
	d := debt{full - now, l.part}
	if d.part >= r.Limit { // LIMIT was larger
		d = debt{d.ns + 1, 0}
	}
	if d.ns >= r.Window {
		d = debt{r.Window, 0}
	}
	return d
}

// notBeforeLocked keeps the time of rates from running backwards, which would
// give back units: whoever reads the clock first may well get the mutex second.
func (s *Shard) notBeforeLocked(now uint64) uint64 {
	s.latest = max(s.latest, now)
	return s.latest
}

func (s *Shard) takeLocked(h *Share, hash uint32, name []byte, r Rate, units uint32, now uint64) Verdict {
	if s.partial {
		switch s.stateLocked(hash) {
		case PartitionAbsent:
			return Verdict{Outcome: Elsewhere}
		case PartitionFrozen:
			return Verdict{Outcome: Frozen}
		}
	}
	now = s.notBeforeLocked(now)
	ref := s.findLimiterLocked(hash, name)
	owed := s.debtLocked(ref, r, now)
	open := r.open(owed)
	if units == 0 { // a question
		return Verdict{Outcome: Acquired, Open: open, Full: owed.nanos()}
	}
	if owed.ns == r.Window {
		// The window was longer: what it was is forgotten, or it would still be
		// too long when the units are said to be open.
		s.limiters.at(ref).setFull(now, owed)
	}
	after := r.add(owed, r.cost(units))
	if open < units {
		return Verdict{Outcome: Refused, Open: open, Retry: after.nanos() - r.Window, Full: owed.nanos()}
	}
	if ref == 0 {
		s.sweepLocked(now, 2)
		if room := s.roomForRateLocked(h, len(name)); room != Acquired {
			return Verdict{Outcome: room}
		}
		ref = s.makeRateLocked(h, hash, name)
	}
	s.limiters.at(ref).setFull(now, after)
	s.limiters.at(ref).setRate(r)
	return Verdict{Outcome: Acquired, Open: open, Full: after.nanos()}
}

// roomForRateLocked tells whether there may be one rate more, and takes the
// permit for it, and its maker's share, when it may.
func (s *Shard) roomForRateLocked(h *Share, size int) Outcome {
	if !s.fitsLocked(s.limiters.open != 0, size) {
		return MemoryFull
	}
	if h != nil && !take(&h.rates, h.limits.Rates) {
		return ShareRates
	}
	out := s.takeShareLocked(h, size)
	if out == Acquired {
		if s.takePermitLocked() {
			return Acquired
		}
		out = Full
		s.giveShareLocked(h, size)
	}
	if h != nil {
		h.rates.Add(-1)
	}
	return out
}

// makeRateLocked makes a rate that counts for a share.
func (s *Shard) makeRateLocked(h *Share, hash uint32, name []byte) uint32 {
	ref := s.limiters.alloc()
	s.limiters.at(ref).share = slotOf(h)
	s.names.set(&s.limiters.at(ref).name, hash, name)
	s.byLimit.insert(hash, ref)
	s.set.limiters.Add(1)
	return ref
}

// dropRateLocked ends a rate.
func (s *Shard) dropRateLocked(ref uint32) {
	l := s.limiters.at(ref)
	if h := s.shareLocked(l.share); h != nil {
		s.giveShareLocked(h, int(l.size))
		h.rates.Add(-1)
	}
	s.byLimit.remove(l.hash, ref)
	s.names.clear(&l.name)
	s.limiters.release(ref)
	s.returnPermitLocked()
	s.set.limiters.Add(-1)
}

// DropRate ends the rate called name, all of whose units are open then, and tells
// whether there was one of which some were not. One that is frozen stays as it is.
func (t *Set) DropRate(name []byte, now uint64) bool {
	s, hash := t.lock(name)
	defer s.mu.Unlock()
	ref := s.findLimiterLocked(hash, name)
	if ref == 0 || s.stateLocked(hash) == PartitionFrozen {
		return false
	}
	l := s.limiters.at(ref)
	owed := s.debtLocked(ref, l.rate(), max(now, s.latest))
	s.dropRateLocked(ref)
	return owed != (debt{})
}

// sweepLocked looks at the next n limiters and drops those that are full. Two
// for each new one are dropped about as fast as new ones come; what that leaves
// is Sweep's.
func (s *Shard) sweepLocked(now uint64, n int) {
	now = s.notBeforeLocked(now)
	end := s.limiters.end()
	for ; n > 0 && s.limiters.live > 0; n-- {
		if s.hand++; s.hand >= end {
			s.hand = 1
		}
		if !s.limiters.chunkOf(s.hand) {
			s.hand += chunkItems - 1 - (s.hand-1)%chunkItems
			continue
		}
		l := s.limiters.at(s.hand)
		if full := l.fullAt(); full == 0 || full > now || full == now && l.part > 0 {
			continue
		}
		n -= int(l.size) / 16 // a long name takes as long as many limiters
		s.dropRateLocked(s.hand)
	}
}

// sweepBatch is how many limiters are looked at under one hold of a mutex.
const sweepBatch = 512

// Sweep looks at the next n limiters, or places of such, and drops those that
// are full. It goes on where the last call ended, and stops at the end of a
// round, of which it tells. It is to be called now and then, so that limiters
// go also when no others come; by one goroutine at a time.
func (t *Set) Sweep(now uint64, n int) (round bool) {
	for n > 0 {
		s := &t.shards[t.sweeping]
		s.mu.Lock()
		if t.unswept == 0 {
			t.unswept = int(s.limiters.end())
		}
		some := min(n, sweepBatch, t.unswept)
		s.sweepLocked(now, some)
		s.mu.Unlock()
		n -= some
		if t.unswept -= some; t.unswept > 0 {
			continue
		}
		if t.sweeping++; t.sweeping == len(t.shards) {
			t.sweeping = 0
			return true
		}
	}
	return false
}
