package shard

// A Kind is one of the two name spaces.
type Kind uint8

// The kinds of locks. They know nothing of each other's names.
const (
	Exclusive Kind = iota
	Shared
	Kinds
	Rates = Kinds // a further one, of which there are no holds, and only events
)

func (k Kind) String() string { return [...]string{"exclusive", "shared", "rate"}[k] }

// An Outcome is what became of a request for a lock.
type Outcome uint8

// The outcomes of a request for a lock, and of Take.
const (
	Acquired     Outcome = iota // held now, or held before
	Refused                     // somebody else holds it
	Full                        // as many locks are held as the set allows
	OwnerFull                   // as many as it allows one owner
	TooManyWait                 // as many wait as the set allows
	TimedOut                    // waited as long as was asked for
	Canceled                    // stopped waiting
	ShareFull                   // as many locks are held as one client may
	ShareRates                  // there are as many rates as one client may have
	ShareWaiters                // as many wait as one client may have wait
	ShareBytes                  // one client has as much memory as it may
	MemoryFull                  // all have as much as the set allows
	Recovering                  // somebody may hold it who has not said so yet, see recover.go
	Outcomes
	Waiting = Outcomes // in the queue; what becomes of it is not known yet

	// Those of a partitioned set that has not executed a request, and counts it as
	// nothing: it is to be made elsewhere, or again.
	Elsewhere = Outcomes + 1 // the name's partition is not here, or not any more
	Frozen    = Outcomes + 2 // it is on the move; or no token is left below the ceil
)

// executed tells whether an outcome is of a request that was executed.
func (o Outcome) executed() bool { return o <= Waiting }

func (o Outcome) String() string {
	return [...]string{"acquired", "refused", "full", "owner_full",
		"too_many_waiters", "timed_out", "canceled", "share_full", "share_rates",
		"share_waiters", "share_bytes", "memory_full", "recovering", "waiting", "elsewhere", "frozen"}[o]
}

// Stats counts what happened, by kind. Each hold that was acquired was released,
// let go or orphaned, or is there now: of each kind and at any moment,
//
//	Acquire[Acquired] - Again = Release + LetGo + Orphans + what is held
//
// where that is Locks[Exclusive], and Holders of shared ones.
type Stats struct {
	Gets          [Kinds]uint64 // requests of Get and GetShared
	Release       [Kinds]uint64 // released
	Locks         [Kinds]int    // names held now
	Acquire       [Kinds][Outcomes]uint64
	Again         [Kinds]uint64 // of those Acquired: the owner held it before
	ReleaseFailed [Kinds]uint64 // not held by who asked
	Inspect       [Kinds]uint64
	LetGo         [Kinds]uint64 // released with all else that their owners hold
	Orphans       [Kinds]uint64 // holds released because the owner is gone

	Ages [Kinds]Ages // of holds that are over, but for the shortest

	Holders int // holds of shared locks now
	Waiters int // owners that wait now

	Allowed   uint64           // requests for units of a rate that were granted
	Limited   uint64           // or refused
	RatesFull [Outcomes]uint64 // or found no room in the table, by the bound that is reached
	Limiters  int              // there now: those that are not full, and some that are
}

// Releases returns the number of requests to release locks of a kind.
func (s *Stats) Releases(k Kind) uint64 { return s.Release[k] + s.ReleaseFailed[k] }

// addLocked adds what a shard has counted, and what it holds now.
func (st *Stats) addLocked(s *Shard) {
	for k := range Kinds {
		n := &s.counts[k]
		st.Gets[k] += n[asked]
		st.Release[k] += n[released]
		st.ReleaseFailed[k] += n[releaseFailed]
		st.Inspect[k] += n[inspected]
		st.Again[k] += n[again]
		st.LetGo[k] += n[letGo]
		st.Orphans[k] += n[orphaned]
		st.Ages[k].addLocked(&s.ages[k])
		for o := range Outcomes {
			st.Acquire[k][o] += n[o.event()]
		}
	}
	st.Allowed += s.counts[Rates][Acquired.event()]
	st.Limited += s.counts[Rates][Refused.event()]
	for _, o := range [...]Outcome{Full, ShareFull, ShareRates, ShareBytes, MemoryFull} {
		st.RatesFull[o] += s.counts[Rates][o.event()]
	}
	st.Locks[Exclusive] += int(s.exclusive.live) - int(s.unclaimed[Exclusive])
	st.Locks[Shared] += int(s.shared.live) - int(s.unclaimed[Shared])
	st.Holders += int(s.holds.live)
}
