package shard

// Succeed gives o the place in line of another owner, who waits for the lock name and stands for
// what o was before it came another way. From then on o waits, until due and, for a shared
// lock, with that limit; the other one does not. If the other one has got the lock meanwhile,
// o has it. The outcome is Refused if the other one does not wait for that, and Frozen while the
// partition is: a copy of it has the other one wait.
//
// Nobody else uses either of them at that time.
func (t *Set) Succeed(o, other *Owner, kind Kind, name []byte, limit uint32, due uint64) (Grant, Outcome) {
	if other.waiter == 0 || o.waiter != 0 {
		return Grant{}, Refused
	}
	s, hash := t.lock(name)
	if uint32(s.pos) != other.waitsAt {
		s.mu.Unlock()
		return Grant{}, Refused
	}
	lock := s.findLocked(hash, name)
	if kind == Shared {
		lock = s.findSharedLocked(hash, name)
	}
	w := s.waiters.at(other.waiter)
	if lock == 0 || w.lock != lock || w.kind != kind || w.state != queued && w.state != granted {
		s.mu.Unlock()
		return Grant{}, Refused
	}
	if s.stateLocked(hash) == PartitionFrozen {
		s.mu.Unlock()
		return Grant{}, Frozen
	}
	var over over
	if w.state == granted {
		g, _ := s.settleLocked(other)
		out := Refused
		if kind == Shared {
			g.Count, out = s.claimSharedLocked(o, hash, name, false, []uint32{other.ID}, &over)
		} else {
			out, _ = s.claimLocked(o, hash, name, g.Token, false, []uint32{other.ID}, &over)
		}
		s.mu.Unlock()
		t.settleOver(o, over)
		return g, out
	}
	s.forceShareLocked(o.Share, len(name), &over)
	s.giveShareLocked(other.Share, len(name))
	if o.Share != nil {
		o.Share.waiters.Add(1)
	}
	if other.Share != nil {
		other.Share.waiters.Add(-1)
	}
	w.owner, w.share = o.ID, slotOf(o.Share)
	o.waiter, o.waitsAt, other.waiter = other.waiter, other.waitsAt, 0
	s.mu.Unlock()
	t.settleOver(o, over)
	t.Prolong(o, limit, due) // if it is decided by now, o settles that
	return Grant{}, Waiting
}
