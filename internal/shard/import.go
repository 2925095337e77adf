package shard

// BeginImport freezes an absent partition, for what it has elsewhere to be put in, and
// tells whether it was absent. Tokens granted there later are above highest, which is
// what HighestIn said there once it was frozen. Serve ends that, or Drop.
func (t *Set) BeginImport(p int, highest uint64) bool {
	s, part := t.lockPartition(p)
	defer s.mu.Unlock()
	if !part.is(PartitionAbsent) {
		return false
	}
	part.base = 0
	s.issued = max(s.issued, highest)
	part.become(PartitionFrozen)
	return true
}

// Import puts what a record says into a frozen partition: a hold for o, a place at the
// end of the line for o, which waits from then on, or a rate, which counts for o's share;
// o may be nil for that. Now is in nanoseconds on the clock of Take. No bound refuses it,
// what it takes counts as ever.
//
// The outcome is Acquired, for a wait Waiting; or Refused, if that is there already, o
// waits already, or the record makes no sense; or Elsewhere, if the partition is not
// frozen.
func (t *Set) Import(o *Owner, r Record, name []byte, now uint64) Outcome {
	if t.parts == nil {
		return Elsewhere
	}
	s, hash := t.lock(name)
	out := Elsewhere
	var over over
	if s.stateLocked(hash) == PartitionFrozen {
		out = s.importLocked(o, hash, name, r, now, &over)
	}
	s.mu.Unlock()
	if over.share || over.all {
		t.settleOver(o, over)
	}
	return out
}

func (s *Shard) importLocked(o *Owner, hash uint32, name []byte, r Record, now uint64, over *over) Outcome {
	then := MomentOf(now/msNanos) - MomentOf(r.Age)
	switch {
	case r.State == Open && r.Kind == Rates:
		var h *Share
		if o != nil {
			h = o.Share
		}
		return s.importRateLocked(h, hash, name, r, now, over)
	case o == nil || r.Kind > Shared:
		return Refused
	case r.State == Waits:
		return s.importWaitLocked(o, hash, name, r, now, over)
	case r.State != Held:
		return Refused
	case r.Kind == Exclusive:
		return s.importExclusiveLocked(o, hash, name, r.Token, then, over)
	}
	return s.importHoldLocked(o, hash, name, then, over)
}

func (s *Shard) importExclusiveLocked(o *Owner, hash uint32, name []byte, token uint64, then Moment, over *over) Outcome {
	ref := s.findLocked(hash, name)
	if token == 0 || ref != 0 && s.exclusive.at(ref).owner != 0 {
		return Refused
	}
	s.seizeLocked(o, hash, name, ref, token, over)
	if ref == 0 {
		ref = s.findLocked(hash, name)
	}
	s.exclusive.at(ref).since = then
	s.issued = max(s.issued, token)
	return Acquired
}

func (s *Shard) importHoldLocked(o *Owner, hash uint32, name []byte, then Moment, over *over) Outcome {
	lock := s.findSharedLocked(hash, name)
	if s.findHoldLocked(lock, o.ID) != 0 || s.waitsForLocked(o, Shared, lock) {
		return Refused
	}
	s.seizeSharedLocked(o, hash, name, lock, over)
	if lock == 0 {
		lock = s.findSharedLocked(hash, name)
	}
	s.holds.at(s.findHoldLocked(lock, o.ID)).since = then
	return Acquired
}

func (s *Shard) importWaitLocked(o *Owner, hash uint32, name []byte, r Record, now uint64, over *over) Outcome {
	if o.Waits() || r.Kind == Shared && r.Limit == 0 {
		return Refused
	}
	lock, head := uint32(0), (*uint32)(nil)
	if r.Kind == Exclusive {
		lock = s.findLocked(hash, name)
		if lock != 0 && s.exclusive.at(lock).owner == o.ID {
			return Refused
		}
		s.forceShareLocked(o.Share, len(name), over)
		if lock == 0 {
			s.forcePermitLocked(over)
			lock = s.makeLocked(hash, name)
			s.unclaimed[Exclusive]++
		}
		head = &s.exclusive.at(lock).queue
	} else {
		lock = s.findSharedLocked(hash, name)
		if s.findHoldLocked(lock, o.ID) != 0 {
			return Refused
		}
		s.forceLocked(o.Share, len(name), over)
		if lock == 0 {
			lock = s.makeSharedLocked(hash, name)
			s.unclaimed[Shared]++
		}
		head = &s.shared.at(lock).queue
	}
	s.set.waiting.Add(1)
	if o.Share != nil {
		o.Share.waiters.Add(1)
	}
	s.enqueueLocked(o, r.Kind, lock, head, min(r.Limit, noLimit-1), now/msNanos+r.Left)
	s.waiters.at(o.waiter).since = MomentOf(now/msNanos) - MomentOf(r.Age)
	return Waiting
}

// longestWindow is that of a Rate.
const longestWindow = 1 << 47

func (s *Shard) importRateLocked(h *Share, hash uint32, name []byte, r Record, now uint64, over *over) Outcome {
	if r.Limit == 0 || r.Part >= r.Limit || r.Window == 0 || r.Window > longestWindow || r.Owed > longestWindow ||
		s.findLimiterLocked(hash, name) != 0 {
		return Refused
	}
	now = s.notBeforeLocked(now)
	s.forceLocked(h, len(name), over)
	if h != nil {
		h.rates.Add(1)
	}
	ref := s.makeRateLocked(h, hash, name)
	s.limiters.at(ref).setFull(now, debt{r.Owed, r.Part})
	s.limiters.at(ref).setRate(Rate{r.Limit, r.Window})
	return Acquired
}
