package shard

// An event is what happened to a lock or a rate, or that somebody asked for it.
type event uint8

const (
	asked event = iota // by a plain Get or GetShared, whatever came of it
	released
	outcomes                                      // the first Outcome of a request or a wait; the others follow
	releaseFailed = outcomes + event(Waiting) + 1 // not held by who asked
	inspected     = releaseFailed + 1
	orphaned      = releaseFailed + 2 // released because the owner is gone
	letGo         = releaseFailed + 3 // released with all else that the owner holds
	again         = releaseFailed + 4 // an Acquired that changes nothing: held before
	events        = again + 1
)

func (out Outcome) event() event { return outcomes + event(out) }

// recordLocked is where everything that happens in the table passes, once and
// in its order. Counters hang on it; so would somebody who watches: it is called
// where the owner and the lock are at hand, and before a hold that ends is taken
// apart. How much there is now is no event, since the slabs know. What is lost is
// noted by noteLocked, so that what is released costs nothing for it.
//
// The time of what happens is that of the owner whose request it was, see Owner.
func (s *Shard) recordLocked(k Kind, e event) { s.counts[k][e]++ }

// recordFailureLocked is for a release of what its owner does not hold; of what is not
// here nobody knows that.
func (s *Shard) recordFailureLocked(k Kind, hash uint32) {
	if s.stateLocked(hash) != PartitionAbsent {
		s.recordLocked(k, releaseFailed)
	}
}

func (s *Shard) recordRequestLocked(k Kind, out Outcome, plain bool) {
	if plain {
		s.recordLocked(k, asked)
	}
	s.recordLocked(k, out.event())
}

// Uncount takes back what was counted for a request for an exclusive lock that was
// refused, plain for Get, and that its caller is about to make again: both count as
// one.
func (t *Set) Uncount(name []byte, plain bool) {
	s, _ := t.lock(name)
	defer s.mu.Unlock()
	s.counts[Exclusive][Refused.event()]--
	if plain {
		s.counts[Exclusive][asked]--
	}
}

// UncountInspect does the same for Inspect.
func (t *Set) UncountInspect(name []byte) {
	s, _ := t.lock(name)
	defer s.mu.Unlock()
	s.counts[Exclusive][inspected]--
}
