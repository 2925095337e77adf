package shard

import "slices"

// Claims. After a restart the table knows nothing, but those who hold know what they
// hold. They say it again, and get it as they had it, before anybody gets anything
// new: see recover.go. A claim is bounded by nothing, as a holder is not to lose a lock
// since there are too many. What it takes counts as ever.

// Claim says that o holds the exclusive lock name, with a token from before. What o holds
// with that token it may claim at any time. Anything else only while the set is
// recovering, and open says that o is one of those who may: then it gets a lock that
// nobody has claimed, or that somebody has with a lower token, who has lost it before.
// That one's ID is loser, 0 if there is none; it holds the lock no more.
//
// In a partitioned set, the name's partition is what recovers. Of those whose IDs are
// in from, o gets the lock at any time, if one has it with that token: they are who o was
// before it came back another way, and are told nothing, nor is that one loser. While the
// partition is frozen it is not: a copy that was made by then would have the lock be the
// other one's. Who is frozen out gets the outcome Frozen, and asks again.
func (t *Set) Claim(o *Owner, name []byte, token uint64, open bool, from ...uint32) (g Grant, out Outcome, loser uint32) {
	s, hash := t.lock(name)
	var over over
	out, loser = s.claimLocked(o, hash, name, token, open, from, &over)
	s.mu.Unlock()
	t.settleOver(o, over)
	if out == Acquired {
		g.Token = token
	}
	return g, out, loser
}

func (s *Shard) claimLocked(o *Owner, hash uint32, name []byte, token uint64, open bool, from []uint32, over *over) (out Outcome, loser uint32) {
	ref := s.findLocked(hash, name)
	if ref != 0 && s.exclusive.at(ref).token() == token {
		switch e := s.exclusive.at(ref); {
		case e.owner == o.ID:
			s.certainLocked(o, ref)
			return Acquired, 0
		case s.stateLocked(hash) == PartitionFrozen: // see below
		case e.prev != unsettled && e.owner != 0 && slices.Contains(from, e.owner):
			since := e.since
			s.seizeLocked(o, hash, name, ref, token, over)
			e.since = since
			return Acquired, 0
		}
	}
	if out := s.claimsLocked(hash, open); out != Acquired {
		return out, 0
	}
	if token >= s.baseLocked(hash) || token == 0 {
		return Refused, 0
	}
	if ref != 0 && s.exclusive.at(ref).owner != 0 && s.exclusive.at(ref).token() >= token {
		return Refused, 0
	}
	return Acquired, s.seizeLocked(o, hash, name, ref, token, over)
}

// claimsLocked tells whether one may claim what it does not hold, open if it is one of
// those who may; Acquired: it may.
func (s *Shard) claimsLocked(hash uint32, open bool) Outcome {
	switch s.stateLocked(hash) {
	case PartitionAbsent:
		return Elsewhere
	case PartitionFrozen:
		return Frozen
	case PartitionRecovering:
		if open {
			return Acquired
		}
	}
	return Refused
}

// seizeLocked gives o a lock, whoever has it: ref is it, 0 if it is not there. That one
// loses it, and its ID is returned.
func (s *Shard) seizeLocked(o *Owner, hash uint32, name []byte, ref uint32, token uint64, over *over) (loser uint32) {
	if ref == 0 {
		s.forceLocked(o.Share, len(name), over)
		s.haveLocked(o, s.makeLocked(hash, name), token)
		return 0
	}
	switch e := s.exclusive.at(ref); e.owner {
	case 0:
		s.unclaimed[Exclusive]--
		s.forceShareLocked(o.Share, len(name), over)
	case o.ID: // with a token that was lost on the way
		s.unlinkLocked(o, ref)
		o.held--
		s.recordLocked(Exclusive, letGo)
	default:
		loser = e.owner
		was := s.set.ownerOf(loser)
		s.unlinkLocked(was, ref)
		s.giveShareLocked(was.Share, len(name))
		s.forceShareLocked(o.Share, len(name), over)
		s.recordLocked(Exclusive, letGo)
		was.taken.Add(1) // the last thing: one that holds nothing may go
	}
	s.haveLocked(o, ref, token)
	return loser
}

// haveLocked makes a lock that is on nobody's list o's.
func (s *Shard) haveLocked(o *Owner, ref uint32, token uint64) {
	e := s.exclusive.at(ref)
	e.owner, e.since = o.ID, o.Now
	e.setToken(token)
	s.linkLocked(o, ref)
	o.held++
	s.recordLocked(Exclusive, Acquired.event())
}

// ClaimShared says that o has a part in the shared lock name. What it has it may claim
// at any time, anything else as in Claim, but not what it waits for. The part of one of
// those in from becomes o's.
func (t *Set) ClaimShared(o *Owner, name []byte, open bool, from ...uint32) (g Grant, out Outcome) {
	s, hash := t.lock(name)
	var over over
	g.Count, out = s.claimSharedLocked(o, hash, name, open, from, &over)
	s.mu.Unlock()
	t.settleOver(o, over)
	return g, out
}

func (s *Shard) claimSharedLocked(o *Owner, hash uint32, name []byte, open bool, from []uint32, over *over) (count int, out Outcome) {
	lock := s.findSharedLocked(hash, name)
	if ref := s.findHoldLocked(lock, o.ID); ref != 0 {
		s.certainHoldLocked(o, ref)
		return s.countLocked(lock), Acquired
	}
	if s.waitsForLocked(o, Shared, lock) {
		return 0, Refused
	}
	if s.stateLocked(hash) == PartitionFrozen {
		return 0, Frozen
	}
	for _, was := range from {
		if ref := s.findHoldLocked(lock, was); ref != 0 && s.holds.at(ref).ownedPrev != unsettled {
			s.passHoldLocked(o, ref, over)
			return s.countLocked(lock), Acquired
		}
	}
	if out := s.claimsLocked(hash, open); out != Acquired {
		return 0, out
	}
	return s.seizeSharedLocked(o, hash, name, lock, over), Acquired
}

// waitsForLocked tells whether o waits for a lock.
func (s *Shard) waitsForLocked(o *Owner, kind Kind, lock uint32) bool {
	if o.waiter == 0 || o.waitsAt != uint32(s.pos) || lock == 0 {
		return false
	}
	w := s.waiters.at(o.waiter)
	return w.state == queued && w.kind == kind && w.lock == lock
}

// seizeSharedLocked gives o, which has none, a part in a shared lock, and returns how
// many hold it then.
func (s *Shard) seizeSharedLocked(o *Owner, hash uint32, name []byte, lock uint32, over *over) int {
	s.forceLocked(o.Share, len(name), over)
	if lock == 0 {
		lock = s.makeSharedLocked(hash, name)
	}
	s.linkHoldLocked(o, s.addHoldLocked(lock, o.ID, o.Now))
	o.held++
	s.recordLocked(Shared, Acquired.event())
	return s.countLocked(lock)
}

// passHoldLocked gives o, which has none, another one's part in a shared lock. It is as
// old as it was, and has the same place among the others.
func (s *Shard) passHoldLocked(o *Owner, ref uint32, over *over) {
	h := s.holds.at(ref)
	size := int(s.shared.at(h.lock).size)
	was := s.set.ownerOf(h.owner)
	s.unlinkHoldLocked(was, ref)
	s.byHolder.remove(holdHash(h.lock, h.owner), ref)
	s.giveShareLocked(was.Share, size)
	s.recordLocked(Shared, letGo)
	s.forceShareLocked(o.Share, size, over)
	h.owner = o.ID
	s.byHolder.insert(holdHash(h.lock, o.ID), ref)
	s.linkHoldLocked(o, ref)
	o.held++
	s.recordLocked(Shared, Acquired.event())
	was.taken.Add(1) // the last thing: one that holds nothing may go
}

// over tells which bounds something was taken beyond.
type over struct{ all, share bool }

// forceLocked takes the permit for a lock, and an owner's share for it, whether there is
// any left or not: what is taken beyond a bound is missing until it is given back.
func (s *Shard) forceLocked(h *Share, size int, over *over) {
	s.forceShareLocked(h, size, over)
	s.forcePermitLocked(over)
}

func (s *Shard) forcePermitLocked(over *over) {
	if !s.takePermitLocked() {
		s.permits--
		over.all = true
	}
}

func (s *Shard) forceShareLocked(h *Share, size int, over *over) {
	if h != nil && s.takeShareLocked(h, size) != Acquired {
		h.locks.Add(-1)
		h.bytes.Add(-int64(itemCost + nameCost(size)))
		over.share = true
	}
}

// settleOver has what idles elsewhere make up for what was taken beyond a bound, so that
// nobody else takes that.
func (t *Set) settleOver(o *Owner, over over) {
	if over.share {
		o.Share.empty()
	}
	if over.all {
		t.reclaim(0)
	}
}
