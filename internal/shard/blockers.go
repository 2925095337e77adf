package shard

// Blockers are those who keep others waiting: the holders of each lock that
// somebody waits for. They come in pieces, each as its shard was at one moment, so
// that no mutex is held for long however many wait. One goroutine uses them at a
// time.
type Blockers struct {
	set   *Set
	shard int
	ref   uint32 // the next waiter to look at
}

// A piece is of so many waiters at most, or so many of them, and of a shared lock
// it has so many holders: when one of them turns out to be gone, others come.
const (
	blockersStep  = 1024
	blockersOfOne = 64
)

// Blockers begins with them.
func (t *Set) Blockers() *Blockers { return &Blockers{set: t, ref: 1} }

// Next appends the IDs of some, and tells whether there may be more. One may be
// among them more than once.
func (b *Blockers) Next(ids []uint32) (_ []uint32, more bool) {
	s := &b.set.shards[b.shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	for steps := blockersStep; steps > 0 && len(ids) < blockersStep; steps-- {
		if b.ref >= s.waiters.end() || s.waiters.live == 0 {
			b.shard, b.ref = b.shard+1, 1
			return ids, b.shard < len(b.set.shards)
		}
		if s.waiters.chunkOf(b.ref) {
			ids = s.appendBlockersLocked(ids, b.ref)
		}
		b.ref++
	}
	return ids, true
}

// appendBlockersLocked appends the holders of the lock that somebody waits for, if
// that one is the first to.
func (s *Shard) appendBlockersLocked(ids []uint32, ref uint32) []uint32 {
	switch w := s.waiters.at(ref); {
	case w.came == 0 || w.state != queued: // nobody, or one who is to settle
	case w.kind == Exclusive:
		if e := s.exclusive.at(w.lock); e.queue == ref {
			ids = append(ids, e.owner)
		}
	default:
		if l := s.shared.at(w.lock); l.queue == ref {
			n := 0
			for hold := l.first; hold != 0 && n < blockersOfOne; hold = s.holds.at(hold).next {
				ids = append(ids, s.holds.at(hold).owner)
				n++
			}
			if w.next != ref { // the first one who waits keeps back those behind it
				ids = append(ids, w.owner)
			}
		}
	}
	return ids
}

// Waiting returns how many wait.
func (t *Set) Waiting() int { return int(t.waiting.Load()) }
