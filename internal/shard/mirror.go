package shard

// A mirror is a set that follows another one: a proxy's, which asks a server for all
// locks, and knows from its replies who of its clients holds what. Nothing is decided
// here. If somebody else held a lock, then that one's release, or its end, has not been
// heard of yet.

// Note says that o holds the exclusive lock name, with that token, and returns the ID of
// who has held it here until now, 0 for nobody. No bound refuses it, what it takes
// counts as ever.
func (t *Set) Note(o *Owner, name []byte, token uint64) (loser uint32) {
	loser, _ = t.note(o, name, token, false)
	return loser
}

// NoteClaim says the same of what o has had before, perhaps at another server. If somebody else has it with a
// higher token, who got it later, o has lost it since, and nothing is noted.
func (t *Set) NoteClaim(o *Owner, name []byte, token uint64) (loser uint32, holds bool) {
	return t.note(o, name, token, true)
}

func (t *Set) note(o *Owner, name []byte, token uint64, claim bool) (loser uint32, holds bool) {
	s, hash := t.lock(name)
	var over over
	if holds = !claim || !s.isOvertakenLocked(o, hash, name, token); holds {
		loser = s.followLocked(o, hash, name, token, &over)
	}
	s.mu.Unlock()
	t.settleOver(o, over)
	return loser, holds
}

// isOvertakenLocked tells whether somebody else has a lock with a higher token.
func (s *Shard) isOvertakenLocked(o *Owner, hash uint32, name []byte, token uint64) bool {
	ref := s.findLocked(hash, name)
	if ref == 0 {
		return false
	}
	e := s.exclusive.at(ref)
	return e.owner != 0 && e.owner != o.ID && e.token() > token
}

func (s *Shard) followLocked(o *Owner, hash uint32, name []byte, token uint64, over *over) (loser uint32) {
	s.sampleLocked(Exclusive, hash, name)
	ref := s.findLocked(hash, name)
	if ref != 0 && s.exclusive.at(ref).owner == o.ID && s.exclusive.at(ref).token() == token {
		s.recordLocked(Exclusive, Acquired.event())
		s.recordLocked(Exclusive, again)
		s.certainLocked(o, ref)
		return 0
	}
	return s.seizeLocked(o, hash, name, ref, token, over)
}

// NoteShared says that o has a part in the shared lock name.
func (t *Set) NoteShared(o *Owner, name []byte) {
	s, hash := t.lock(name)
	var over over
	s.followSharedLocked(o, hash, name, &over)
	s.mu.Unlock()
	t.settleOver(o, over)
}

func (s *Shard) followSharedLocked(o *Owner, hash uint32, name []byte, over *over) {
	s.sampleLocked(Shared, hash, name)
	lock := s.findSharedLocked(hash, name)
	if ref := s.findHoldLocked(lock, o.ID); ref != 0 {
		s.recordLocked(Shared, Acquired.event())
		s.recordLocked(Shared, again)
		s.certainHoldLocked(o, ref)
		return
	}
	s.seizeSharedLocked(o, hash, name, lock, over)
}

// Recall fills p with a piece of what o holds in doubt, which is certain then, and tells
// whether there may be more: Doubt and Recall go over all that o holds, even if some of
// it comes and goes meanwhile.
func (t *Set) Recall(o *Owner, p *Piece) (more bool) {
	p.Items, p.names = p.Items[:0], p.names[:0]
	if o.doubts == nil {
		return false
	}
	for i := range t.shards {
		if !t.anyDoubtedIn(o, i) {
			continue
		}
		s := &t.shards[i]
		s.mu.Lock()
		s.recallLocked(o, p)
		s.mu.Unlock()
		if p.full() {
			return true
		}
	}
	t.dropDoubts(o)
	return false
}

// recallLocked does that in one shard.
func (s *Shard) recallLocked(o *Owner, p *Piece) {
	d := o.doubts
	for d.exclusive != nil && d.exclusive[s.pos] != 0 && !p.full() {
		ref := d.exclusive[s.pos]
		e := s.exclusive.at(ref)
		s.addItemLocked(p, &e.name, Item{Owner: o.ID, Kind: Exclusive, Age: o.Now.Since(e.since), Number: e.token()})
		s.certainLocked(o, ref)
	}
	for d.shared != nil && d.shared[s.pos] != 0 && !p.full() {
		ref := d.shared[s.pos]
		h := s.holds.at(ref)
		l := s.shared.at(h.lock)
		s.addItemLocked(p, &l.name, Item{Owner: o.ID, Kind: Shared, Age: o.Now.Since(h.since), Number: uint64(l.count)})
		s.certainHoldLocked(o, ref)
	}
}
