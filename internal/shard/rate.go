package shard

import "math/bits"

// A limiter is the state of a rate: GCRA, the generic cell rate algorithm
// (ITU-T Recommendation I.371, annex A), which needs no more than one time. A
// limiter whose time is over is full, and no different from one that does not
// exist; so it goes by itself.
type limiter struct {
	name
	full [2]uint32 // when all units will be open, nanoseconds, lower half first
}

func (l *limiter) fullAt() uint64     { return uint64(l.full[1])<<32 | uint64(l.full[0]) }
func (l *limiter) setFullAt(t uint64) { l.full = [2]uint32{uint32(t), uint32(t >> 32)} }

// A Rate is LIMIT units in a window of time, coming back evenly.
type Rate struct {
	Limit  uint32 // units, at least 1
	Window uint64 // nanoseconds, at least 1 and at most 2^47 (39 hours)
}

// cost returns how long units take to come back, rounded up: never early.
func (r Rate) cost(units uint32) uint64 {
	hi, lo := bits.Mul64(uint64(units), r.Window)
	lo, carry := bits.Add64(lo, uint64(r.Limit)-1, 0)
	quo, _ := bits.Div64(hi+carry, lo, uint64(r.Limit))
	return quo
}

// open returns how many units are open when the others need debt nanoseconds
// to come back.
func (r Rate) open(debt uint64) uint32 {
	hi, lo := bits.Mul64(r.Window-debt, uint64(r.Limit))
	quo, _ := bits.Div64(hi, lo, r.Window)
	return uint32(quo)
}

// A Verdict is the answer of a rate limiter.
type Verdict struct {
	Outcome Outcome // Acquired, Refused or Full
	Open    uint32  // units that were open before
	Retry   uint64  // Refused: nanoseconds until the units asked for will be open
}

// Take takes units, at most the rate's limit, of the rate called name, if as
// many are open. now is in nanoseconds and must not run backwards. A rate that
// changes applies at once: what was taken before counts, but never as more
// than a whole window.
func (t *Set) Take(name []byte, r Rate, units uint32, now uint64) Verdict {
	s, hash := t.pick(name)
	s.mu.Lock()
	v := s.takeLocked(hash, name, r, units, now)
	if v.Outcome == Full {
		s.mu.Unlock()
		s.lockWithPermit()
		v = s.takeLocked(hash, name, r, units, now)
	}
	switch v.Outcome {
	case Acquired:
		s.stats.Allowed++
	case Refused:
		s.stats.Limited++
	default:
		s.stats.RatesFull++
	}
	s.mu.Unlock()
	return v
}

// Open returns how many units of the rate called name are open.
func (t *Set) Open(name []byte, r Rate, now uint64) uint32 {
	s, hash := t.pick(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.open(s.debtLocked(s.findLimiterLocked(hash, name), r, now))
}

func (s *Shard) findLimiterLocked(hash uint32, name []byte) uint32 {
	for p := s.byLimit.probe(hash); ; {
		ref := p.next()
		if ref == 0 || s.names.equal(&s.limiters.at(ref).name, name) {
			return ref
		}
	}
}

// debtLocked returns how long it takes until a limiter is full.
func (s *Shard) debtLocked(ref uint32, r Rate, now uint64) uint64 {
	if ref == 0 {
		return 0
	}
	full := s.limiters.at(ref).fullAt()
	if full <= now {
		return 0
	}
	return min(full-now, r.Window)
}

func (s *Shard) takeLocked(hash uint32, name []byte, r Rate, units uint32, now uint64) Verdict {
	ref := s.findLimiterLocked(hash, name)
	debt := s.debtLocked(ref, r, now)
	if debt == r.Window {
		// The window was longer: what it was is forgotten, or it would still be
		// too long when the units are said to be open.
		s.limiters.at(ref).setFullAt(now + debt)
	}
	open := r.open(debt)
	cost := r.cost(units)
	if open < units {
		return Verdict{Outcome: Refused, Open: open, Retry: debt + cost - r.Window}
	}
	if units == 0 {
		return Verdict{Outcome: Acquired, Open: open}
	}
	if ref == 0 {
		s.sweepLocked(now, 2)
		if !s.takePermitLocked() {
			return Verdict{Outcome: Full}
		}
		ref = s.limiters.alloc()
		s.names.set(&s.limiters.at(ref).name, hash, name)
		s.byLimit.insert(hash, ref)
		s.stats.Limiters++
		s.set.limiters.Add(1)
	}
	s.limiters.at(ref).setFullAt(now + debt + cost)
	return Verdict{Outcome: Acquired, Open: open}
}

// sweepLocked looks at the next n limiters and drops those that are full. Two
// for each new one keep the full ones fewer than the others.
func (s *Shard) sweepLocked(now uint64, n int) {
	end := s.limiters.end()
	for ; n > 0 && s.stats.Limiters > 0; n-- {
		if s.hand++; s.hand >= end {
			s.hand = 1
		}
		if !s.limiters.chunkOf(s.hand) {
			s.hand += chunkItems - 1 - (s.hand-1)%chunkItems
			continue
		}
		l := s.limiters.at(s.hand)
		if full := l.fullAt(); full == 0 || full > now {
			continue
		}
		s.byLimit.remove(l.hash, s.hand)
		s.names.clear(&l.name)
		s.limiters.release(s.hand)
		s.returnPermitLocked()
		s.stats.Limiters--
		s.set.limiters.Add(-1)
	}
}

// sweepBatch is how many limiters are looked at under one hold of a mutex.
const sweepBatch = 512

// Sweep drops limiters that are full. It is to be called now and then, so that
// they go also when no others come.
func (t *Set) Sweep(now uint64) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n := int(s.limiters.end())
		s.mu.Unlock()
		for ; n > 0; n -= sweepBatch {
			s.mu.Lock()
			s.sweepLocked(now, min(n, sweepBatch))
			s.mu.Unlock()
		}
	}
}
