package shard

// Queues is how long the queues are, and their waits, for those who watch a server.
type Queues struct {
	Lengths [QueueSizes]int // how many queues there are, by their length
	Longest int             // the length of the longest
	Oldest  uint64          // since when the one waits who has for longest, in milliseconds
}

// QueueSizes is in how many sizes queues come: of 1, less than 10, 100, 1,000, and more.
const QueueSizes = 5

func queueSize(length uint32) int {
	switch {
	case length < 2:
		return 0
	case length < 10:
		return 1
	case length < 100:
		return 2
	case length < 1000:
		return 3
	}
	return 4
}

// queuesStep is how many waiters are looked at while a shard's mutex is held.
const queuesStep = 1024

// Queues goes over all who wait, in pieces, at a time in nanoseconds on the clock of
// Take. What it tells is not of one moment: a queue that moves on meanwhile may count
// twice, or not at all. One that does not move, it finds.
func (t *Set) Queues(now uint64) (q Queues) {
	for i := range t.shards {
		for ref := uint32(1); ref != 0; {
			ref = t.shards[i].addQueues(&q, ref, now)
		}
	}
	return q
}

// addQueues adds the queues whose heads are among some of the waiters from ref on, and
// returns with which one to go on; 0: those were the last.
func (s *Shard) addQueues(q *Queues, ref uint32, now uint64) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiters.live == 0 {
		return 0
	}
	end := s.waiters.end()
	for last := ref + queuesStep; ref < min(last, end); {
		if !s.waiters.chunkOf(ref) {
			ref += chunkItems
			continue
		}
		for range chunkItems {
			if w := s.waiters.at(ref); w.line() > 0 && w.state == queued {
				q.Lengths[queueSize(w.line())]++
				q.Longest = max(q.Longest, int(w.line()))
				q.Oldest = max(q.Oldest, w.since.Age(now))
			}
			ref++
		}
	}
	if ref >= end {
		return 0
	}
	return ref
}

// A Sight is what there is under one name.
type Sight struct {
	Holders [Kinds]int    // of an exclusive lock, one or none
	Held    [Kinds]uint64 // since when the one has it who has had it for longest, in milliseconds
	Waiters [Kinds]int
	Waits   [Kinds]uint64 // since when the first one in the queue waits, in milliseconds
	Rate    bool          // there is a rate of which not all units are open
	Open    int           // how many are
}

// See looks at one name, at a time in nanoseconds on the clock of Take. It costs the
// same however many hold a lock or wait for it, and counts as nothing.
func (t *Set) See(name []byte, now uint64) (v Sight) {
	s, hash := t.lock(name)
	defer s.mu.Unlock()
	queue := func(k Kind, head uint32) {
		n, oldest := s.lineLocked(head, now)
		v.Waiters[k], v.Waits[k] = int(n), oldest
	}
	if ref := s.findLocked(hash, name); ref != 0 {
		e := s.exclusive.at(ref)
		if e.owner != 0 {
			v.Holders[Exclusive], v.Held[Exclusive] = 1, e.since.Age(now)
		}
		queue(Exclusive, e.queue)
	}
	if ref := s.findSharedLocked(hash, name); ref != 0 {
		l := s.shared.at(ref)
		if l.count != 0 {
			v.Holders[Shared], v.Held[Shared] = int(l.count), s.holds.at(l.first).since.Age(now)
		}
		queue(Shared, l.queue)
	}
	if ref := s.findLimiterLocked(hash, name); ref != 0 {
		r := s.limiters.at(ref).rate()
		owed := s.debtLocked(ref, r, max(now, s.latest))
		v.Rate, v.Open = owed != (debt{}), int(r.open(owed))
	}
	return v
}

// Permits returns how many locks there are that count for the bound on all, and that
// bound.
func (t *Set) Permits() (taken, bound int) {
	left := t.bound.left.Load()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		left += int64(s.permits)
		s.mu.Unlock()
	}
	return int(max(0, t.bound.limit-left)), int(t.bound.limit)
}

// MaxWaiting returns how many may wait.
func (t *Set) MaxWaiting() int { return t.maxWaiters }
