package shard

// A Kind is one of the two name spaces.
type Kind uint8

// The kinds of locks. They know nothing of each other's names.
const (
	Exclusive Kind = iota
	Shared
	Kinds
)

func (k Kind) String() string { return [...]string{"exclusive", "shared"}[k] }

// An Outcome is what became of a request for a lock.
type Outcome uint8

// The outcomes of Get and GetShared.
const (
	Acquired  Outcome = iota // held now, or held before
	Refused                  // somebody else holds it
	Full                     // as many locks are held as the set allows
	OwnerFull                // as many as it allows one owner
	Outcomes
)

func (o Outcome) String() string {
	return [...]string{"acquired", "refused", "full", "owner_full"}[o]
}

// Stats counts what happened, by kind. Every call of the Set's request
// methods counts in exactly one place, so that sums of these are the numbers
// of requests.
type Stats struct {
	Acquire       [Kinds][Outcomes]uint64
	Release       [Kinds]uint64 // released
	ReleaseFailed [Kinds]uint64 // not held by who asked
	Inspect       [Kinds]uint64
	Orphans       [Kinds]uint64 // holds released because the owner is gone

	Locks   [Kinds]int // names held now
	Holders int        // holds of shared locks now
}

// Acquires returns the number of requests for locks of a kind.
func (s *Stats) Acquires(k Kind) (n uint64) {
	for _, v := range s.Acquire[k] {
		n += v
	}
	return n
}

// Releases returns the number of requests to release locks of a kind.
func (s *Stats) Releases(k Kind) uint64 { return s.Release[k] + s.ReleaseFailed[k] }

func (s *Stats) add(t *Stats) {
	for k := range Kinds {
		for o := range Outcomes {
			s.Acquire[k][o] += t.Acquire[k][o]
		}
		s.Release[k] += t.Release[k]
		s.ReleaseFailed[k] += t.ReleaseFailed[k]
		s.Inspect[k] += t.Inspect[k]
		s.Orphans[k] += t.Orphans[k]
		s.Locks[k] += t.Locks[k]
	}
	s.Holders += t.Holders
}
