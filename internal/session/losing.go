package session

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// What streams and sessions write into the ledger.

// An ending is why a stream ends, and what its end has cost.
type ending struct {
	why   Why
	by    string           // who has kicked it
	kick  *Kick            // the same, where the network is not told yet
	noted int              // holds that are in the ledger one by one
	more  [shard.Kinds]int // that are not
}

// mostNoted is how many holds of a client are in the ledger one by one; of the others
// it has the number. notedStep is how many are released in a step while they are
// noted: that takes longer.
const (
	mostNoted = 1000
	notedStep = closeStep / 4
)

// EndsFor says why the stream is about to end. Who says it first is right; if nobody
// does, the client has ended its connection. Any goroutine may call it.
func (st *Stream) EndsFor(why Why) { st.endsFor(why, "") }

func (st *Stream) endsFor(why Why, by string) {
	if st.ends.Load() == nil {
		st.ends.CompareAndSwap(nil, &ending{why: why, by: by})
	}
}

// ending returns what is known of the stream's end, which has begun.
func (st *Stream) ending() *ending {
	st.endsFor(WhyDisconnect, "")
	return st.ends.Load()
}

// losts are for one step each.
var losts = sync.Pool{New: func() any { return new(shard.Lost) }}

// orphanSome releases a bounded part of what the session holds, whose client is gone,
// and tells whether that was all.
func (s *Session) orphanSome() bool {
	return s.owner.Held() == 0 || s.orphan(s.hub.locks, s.asks())
}

// orphan does that for an owner of a table, which is the session's own or a remote's.
func (s *Session) orphan(locks *shard.Set, o *shard.Owner) bool {
	e := s.stream.ending()
	lost := losts.Get().(*shard.Lost)
	defer losts.Put(lost)
	lost.Reset(mostNoted - e.noted)
	n := closeStep
	if lost.Most > 0 {
		n = notedStep
	}
	done := locks.ReleaseSome(o, n, lost)
	s.noteLost(e, lost)
	return done
}

// noteLost writes what was released into the ledger. The IDs of those who wait are good
// for this moment.
func (s *Session) noteLost(e *ending, lost *shard.Lost) {
	for kind, n := range lost.More {
		e.more[kind] += n
	}
	e.noted += len(lost.Items)
	if len(lost.Items) == 0 {
		return
	}
	who := s.loser(e)
	entries := make([]*entry, len(lost.Items))
	for i := range lost.Items {
		item := &lost.Items[i]
		l := who
		l.Kind, l.Name = item.Kind, string(lost.Name(item))
		l.Lasted = time.Duration(item.Lasted) * time.Millisecond
		if item.Kind == shard.Exclusive {
			l.Token = item.Number
		} else {
			l.Count = int(item.Number)
		}
		l.Waiting = item.Waiting
		for _, id := range item.Waiters[:min(item.Waiting, len(item.Waiters))] {
			if p := s.hub.directory.peer(id); p != nil {
				l.Waiters = append(l.Waiters, shortName(p.name()))
			}
		}
		entries[i] = &entry{Loss: l}
	}
	s.stream.counters.losses[e.why].Add(uint64(len(entries)))
	s.hub.ledger.add(LostHold, entries...)
}

// noteRest writes how much else there was, at the stream's end.
func (st *Stream) noteRest() {
	e := st.ends.Load()
	if e == nil {
		return
	}
	for kind, n := range e.more {
		if n > 0 {
			l := st.main.loser(e)
			l.Kind, l.More = shard.Kind(kind), n
			st.counters.losses[e.why].Add(uint64(n))
			st.hub.ledger.add(LostHold, &entry{Loss: l})
		}
	}
}

// loser is what a loss says of the client that ends.
func (s *Session) loser(e *ending) Loss {
	l := s.who()
	l.Why, l.By = e.why, e.by
	return l
}

// who is what a loss says of the client.
func (s *Session) who() Loss {
	l := Loss{Address: s.peer.addr()}
	if name := s.peer.name(); name != l.Address {
		l.Client = shortName(name)
	}
	if a := s.stream.Access(); a != nil {
		l.Identity = a.Name
	}
	if p := s.peer.process(); p != nil {
		l.Process = string(AppendProcess(nil, p))
	}
	return l
}

// lossNameBytes is how much of a client's name is in the ledger: of a few, what is
// kept is much, and it says enough.
const lossNameBytes = 200

func shortName(name string) string {
	if len(name) <= lossNameBytes {
		return name
	}
	return wire.ShortName(name, lossNameBytes) + "..."
}

// noteWait writes that the session has waited in vain.
func (s *Session) noteWait(outcome shard.Outcome) {
	w, st := s.wait, s.stream
	why, by := WhyWaitGivenUp, ""
	e := st.ends.Load()
	switch {
	case outcome == shard.TimedOut:
		why = WhyWaitTimeout
	case e != nil && e.why != WhyDisconnect:
		why, by = e.why, e.by
	case st.turnsAway() && !st.leaving && !st.closing:
		why = WhyShutdown
	}
	l := s.who()
	l.Why, l.By, l.Kind, l.Name, l.Lasted = why, by, w.kind, string(w.name), time.Since(w.since)
	l.Holder = s.hub.firstHolder(w.kind, w.name)
	st.counters.losses[why].Add(1)
	s.hub.ledger.add(LostWait, &entry{Loss: l})
}

// firstHolder returns who holds a lock, or holds it for longest.
func (h *Hub) firstHolder(kind shard.Kind, name []byte) string {
	id := uint32(0)
	if kind == shard.Exclusive {
		id = h.locks.Holder(name)
	} else {
		var one [1]uint32
		if len(h.locks.Ahead(name, one[:0])) > 0 {
			id = one[0]
		}
	}
	if p := h.directory.peer(id); p != nil {
		return shortName(p.name())
	}
	return ""
}

// refusals are the latest ones of a client, by what it was refused for, so that a
// flood of them is an entry in a second.
type refusals [shard.Outcomes]struct {
	times *atomic.Uint32 // nil: it was not refused yet
	since shard.Moment
}

// refusalsFor is for how long they are one.
const refusalsFor = time.Second

// noteRefusal writes that a request was refused at a bound.
func (s *Session) noteRefusal(kind shard.Kind, outcome shard.Outcome, name []byte) {
	st, now := s.stream, s.asks().Now
	st.counters.losses[WhyRefused].Add(1)
	if st.refusals == nil {
		st.refusals = new(refusals)
	}
	if !st.refusals.again(outcome, now) {
		st.refusals.note(&s.hub.ledger, s.who(), kind, outcome, name, now)
	}
}

// again tells whether the client was refused for the same just before, and counts that.
func (r *refusals) again(outcome shard.Outcome, now shard.Moment) bool {
	last := &r[outcome]
	if last.times == nil || now.Since(last.since) >= uint64(refusalsFor/time.Millisecond) {
		return false
	}
	last.times.Add(1)
	return true
}

// note writes it, of a client.
func (r *refusals) note(to *ledger, l Loss, kind shard.Kind, outcome shard.Outcome, name []byte, now shard.Moment) {
	l.Why, l.Kind, l.Name, l.Bound = WhyRefused, kind, string(name), bounds[outcome]
	last := &r[outcome]
	last.times, last.since = to.addRefusal(l), now
}

// noteNotAllowed writes that the session has waited for what it may not have any more.
func (s *Session) noteNotAllowed(w *wait) {
	l := s.who()
	l.Why, l.Kind, l.Name, l.Bound, l.Lasted = WhyRefused, w.kind, string(w.name), boundNotAllowed, time.Since(w.since)
	s.stream.counters.losses[WhyRefused].Add(1)
	s.hub.ledger.addRefusal(l)
}

// by is how the ledger calls who has kicked somebody.
func (k *Kick) by() string {
	switch {
	case k.ByAccess != nil:
		return k.By + " (" + k.ByAccess.Name + ")"
	case k.ByName != "" && k.ByName != k.By:
		return k.By + " (" + shortName(k.ByName) + ")"
	}
	return k.By
}
