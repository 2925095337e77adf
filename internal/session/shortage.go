package session

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// A Shortage says that a bound is reached and requests are refused for it, and
// who has most.
type Shortage struct {
	Bound  string // what there are too many of: "locks", "waiters", "sessions", "rates", "bytes"
	Client string // whose share it is; "": the bound of all
	Takers []Taker
}

// A Taker is who has much of what is short.
type Taker struct {
	Client string // an address, or what else shares are counted by
	Name   string // under which one of its connections has registered; "" if none has
	shard.Holdings
}

// Takers is how many takers a shortage names.
const Takers = 3

// shortages tells of each kind of shortage at most once a minute.
type shortages struct {
	told    [shard.Outcomes + 1]atomic.Int64 // when, by the outcome of requests; the last one is of sessions
	running sync.WaitGroup
	tell    func(Shortage)
}

const (
	tellShortage = time.Minute
	// sessionsShort stands for the share of sessions among the outcomes.
	sessionsShort = shard.Outcomes
)

// short notes that a stream's request was refused at a bound.
func (st *Stream) short(why shard.Outcome) { st.hub.short(why, st.account) }

// short notes that a request of an account's client was refused at a bound.
func (h *Hub) short(why shard.Outcome, a *account) {
	s := &h.shortages
	if s.tell == nil {
		return
	}
	now := time.Now().UnixNano()
	last := s.told[why].Load()
	if last != 0 && now-last < int64(tellShortage) || !s.told[why].CompareAndSwap(last, now) {
		return
	}
	s.running.Go(func() { s.tell(h.shortage(why, a)) })
}

// shortage finds out who has most of what is short.
func (h *Hub) shortage(why shard.Outcome, refused *account) Shortage {
	s := Shortage{Client: refused.key.String()}
	var much func(shard.Holdings) int64
	switch why {
	case shard.Full:
		s.Client = ""
		fallthrough
	case shard.ShareFull:
		s.Bound, much = "locks", func(x shard.Holdings) int64 { return int64(x.Locks) }
	case shard.TooManyWait:
		s.Client = ""
		fallthrough
	case shard.ShareWaiters:
		s.Bound, much = "waiters", func(x shard.Holdings) int64 { return int64(x.Waiters) }
	case shard.ShareRates:
		s.Bound, much = "rates", func(x shard.Holdings) int64 { return int64(x.Rates) }
	case sessionsShort:
		s.Bound, much = "sessions", func(x shard.Holdings) int64 { return int64(x.Sessions) }
	case shard.MemoryFull:
		s.Client = ""
		fallthrough
	default:
		s.Bound, much = "bytes", func(x shard.Holdings) int64 { return x.Bytes }
	}
	type candidate struct {
		*account
		much int64
	}
	var first []candidate
	h.accounts.each(func(a *account) {
		if n := much(a.share.Roughly()); n > 0 {
			first = append(first, candidate{a, n})
		}
	})
	slices.SortFunc(first, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.much, a.much), cmp.Compare(a.key.String(), b.key.String()))
	})
	first = first[:min(Takers, len(first))]
	for _, c := range first {
		s.Takers = append(s.Takers, Taker{Client: c.key.String(), Holdings: c.share.Holdings()})
	}
	h.directory.each(func(p *peer) {
		name := p.registered.Load()
		if name == nil {
			return
		}
		for i, c := range first {
			if s.Takers[i].Name == "" && p.share.Load() == c.share {
				s.Takers[i].Name = *name
			}
		}
	})
	return s
}
