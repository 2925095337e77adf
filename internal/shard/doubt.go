package shard

// Doubt. A client that comes back after its connection was lost says what it holds.
// Until it has, everything is in doubt; what it does not name then is released: it
// may have asked for that, and the request, or the reply, has been lost with the
// connection.
//
// What is in doubt stands on lists of its own. To put all that an owner holds there
// is, most often, to exchange two pointers, and nobody else's requests know of it.

// doubts are the lists of what an owner holds in doubt, like those in Owner.
type doubts struct {
	exclusive []uint32
	shared    []uint32
}

// Doubt puts all that o holds in doubt. What is in doubt already stays so.
func (t *Set) Doubt(o *Owner) {
	if o.doubts == nil {
		o.doubts = new(doubts)
	}
	if !t.contested() && !t.doubts(o) {
		d := o.doubts
		d.exclusive, o.exclusive = o.exclusive, d.exclusive
		d.shared, o.shared = o.shared, d.shared
		return
	}
	// Some is left from the time before: it came back, and was gone again before
	// it had said all. Or others may take what it holds, and look at its lists.
	for i := range t.shards {
		s := &t.shards[i]
		for more := true; more; {
			s.mu.Lock()
			more = s.doubtSomeLocked(o)
			s.mu.Unlock()
		}
	}
}

// DoubtOne puts one lock of o's in doubt that is certain, if o holds it.
func (t *Set) DoubtOne(o *Owner, kind Kind, name []byte) {
	if o.doubts == nil {
		o.doubts = new(doubts)
	}
	s, hash := t.lock(name)
	defer s.mu.Unlock()
	if kind == Exclusive {
		if ref := s.findLocked(hash, name); ref != 0 && s.exclusive.at(ref).owner == o.ID && s.exclusive.at(ref).prev != unsettled {
			s.unlinkLocked(o, ref)
			s.linkIntoLocked(o, &o.doubts.exclusive, ref)
		}
	} else if ref := s.findHoldLocked(s.findSharedLocked(hash, name), o.ID); ref != 0 && s.holds.at(ref).ownedPrev != unsettled {
		s.unlinkHoldLocked(o, ref)
		s.linkHoldIntoLocked(o, &o.doubts.shared, ref)
	}
}

// doubtSomeLocked puts some of what o holds here in doubt, and tells whether there is
// more.
func (s *Shard) doubtSomeLocked(o *Owner) (more bool) {
	work := orphanBatch
	for ; work > 0 && o.exclusive != nil && o.exclusive[s.pos] != 0; work-- {
		ref := o.exclusive[s.pos]
		s.unlinkLocked(o, ref)
		s.linkIntoLocked(o, &o.doubts.exclusive, ref)
	}
	for ; work > 0 && o.shared != nil && o.shared[s.pos] != 0; work-- {
		ref := o.shared[s.pos]
		s.unlinkHoldLocked(o, ref)
		s.linkHoldIntoLocked(o, &o.doubts.shared, ref)
	}
	return work == 0
}

// doubts tells whether anything that the owner holds is in doubt, where nobody takes
// it away.
func (t *Set) doubts(o *Owner) bool {
	for i := range t.shards {
		if o.doubtedIn(i) {
			return true
		}
	}
	return false
}

// doubtedIn tells whether the owner holds anything in doubt in a shard.
func (o *Owner) doubtedIn(i int) bool {
	d := o.doubts
	return d != nil && (d.exclusive != nil && d.exclusive[i] != 0 || d.shared != nil && d.shared[i] != 0)
}

// anyDoubtedIn does the same while others may take it away.
func (t *Set) anyDoubtedIn(o *Owner, i int) bool {
	if t.contested() {
		s := &t.shards[i]
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	return o.doubtedIn(i)
}

// certainLocked takes a lock that o holds out of doubt, if it is in it.
func (s *Shard) certainLocked(o *Owner, ref uint32) {
	if o.doubts != nil && s.exclusive.at(ref).prev != unsettled {
		s.unlinkLocked(o, ref)
		s.linkLocked(o, ref)
	}
}

// certainHoldLocked does the same for a hold.
func (s *Shard) certainHoldLocked(o *Owner, ref uint32) {
	if o.doubts != nil && s.holds.at(ref).ownedPrev != unsettled {
		s.unlinkHoldLocked(o, ref)
		s.linkHoldLocked(o, ref)
	}
}

// SettleDoubted is like Settle, after Doubt, for a wait from before: what it was granted
// is in doubt as all else is.
func (t *Set) SettleDoubted(o *Owner) Outcome {
	s := &t.shards[o.waitsAt]
	s.mu.Lock()
	defer s.mu.Unlock()
	w := *s.waiters.at(o.waiter)
	_, out := s.settleLocked(o)
	switch {
	case out != Acquired:
	case w.kind == Exclusive:
		s.unlinkLocked(o, w.lock)
		s.linkIntoLocked(o, &o.doubts.exclusive, w.lock)
	default:
		ref := s.findHoldLocked(w.lock, o.ID)
		s.unlinkHoldLocked(o, ref)
		s.linkHoldIntoLocked(o, &o.doubts.shared, ref)
	}
	return out
}

// DropDoubted releases about n of what o holds in doubt, and tells whether nothing is
// any more.
func (t *Set) DropDoubted(o *Owner, n int) (done bool) {
	d := o.doubts
	if d == nil {
		return true
	}
	var v served
	for i := range t.shards {
		s := &t.shards[i]
		for t.anyDoubtedIn(o, i) {
			if n <= 0 {
				return false
			}
			s.mu.Lock()
			work := s.releaseListsLocked(o, d.exclusive, d.shared, letGo, &v, nil)
			s.mu.Unlock()
			t.tell(s, o.Now, &v)
			n -= work
		}
	}
	t.dropDoubts(o)
	return true
}

// dropDoubts gives back the lists of what an owner holds in doubt, when they are empty.
func (t *Set) dropDoubts(o *Owner) {
	d := o.doubts
	lists := 4 * (len(d.exclusive) + len(d.shared))
	t.memory.Add(-lists)
	o.Share.addBytes(-lists)
	o.doubts = nil
}
