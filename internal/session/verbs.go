package session

import (
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// What the commands about one lock or rate do, with values in and out.
//
// Those that depend on what others hold may be postponed, see gone.go: then
// their outcome is Waiting, and the counters do not know of them yet.

// get acquires the exclusive lock name.
func (s *Session) get(name []byte) (shard.Grant, shard.Outcome) {
	g, outcome := s.hub.locks.Get(s.asks(), name)
	s.granted(g)
	if outcome == shard.Refused && s.othersAreGone(shard.Exclusive, name, 1) {
		s.hub.locks.Uncount(name, true)
		outcome = shard.Waiting
	}
	return g, outcome
}

// getWait is like get, but waits in the queue for some milliseconds.
func (s *Session) getWait(name []byte, ms uint64) (shard.Grant, shard.Outcome) {
	due := s.patience(ms)
	if s.wait != nil && s.goesOn(shard.Exclusive, name, 0, due) {
		return shard.Grant{}, shard.Waiting
	}
	g, outcome, taken := s.takePlace(shard.Exclusive, name, 0, due)
	if !taken {
		g, outcome = s.hub.locks.GetWait(s.asks(), name, due)
	}
	s.granted(g)
	switch {
	case outcome == shard.Waiting:
		s.waitFor(shard.Exclusive, name, 0, due)
	case outcome == shard.Refused && s.othersAreGone(shard.Exclusive, name, 1):
		s.hub.locks.Uncount(name, false)
		outcome = shard.Waiting
	}
	return g, outcome
}

func (s *Session) release(name []byte) bool { return s.hub.locks.Release(s.asks(), name) }

// inspect tells whether somebody holds the exclusive lock name; it does not know
// that when it is postponed.
func (s *Session) inspect(name []byte) (held, known bool) {
	held = s.hub.locks.Inspect(name)
	if held && s.hub.recovery.isOver() && s.othersAreGone(shard.Exclusive, name, 0) {
		s.hub.locks.UncountInspect(name)
		return false, false
	}
	return held, true
}

// getShared acquires the shared lock name, whoever else holds it.
func (s *Session) getShared(name []byte) (shard.Grant, shard.Outcome) {
	if s.othersAreGone(shard.Shared, name, 0) {
		return shard.Grant{}, shard.Waiting
	}
	return s.hub.locks.GetShared(s.asks(), name)
}

// getSharedLimit acquires the shared lock name while fewer than limit hold it.
func (s *Session) getSharedLimit(name []byte, limit uint64) (shard.Grant, shard.Outcome) {
	if s.othersAreGone(shard.Shared, name, limit) {
		return shard.Grant{}, shard.Waiting
	}
	return s.hub.locks.GetSharedLimit(s.asks(), name, uint32(limit))
}

// getSharedWait is the same, but waits in the queue for some milliseconds.
func (s *Session) getSharedWait(name []byte, limit, ms uint64) (shard.Grant, shard.Outcome) {
	due := s.patience(ms)
	if s.wait != nil && s.goesOn(shard.Shared, name, limit, due) {
		return shard.Grant{}, shard.Waiting
	}
	g, outcome, taken := s.takePlace(shard.Shared, name, uint32(limit), due)
	if !taken {
		if s.othersAreGone(shard.Shared, name, limit) {
			return shard.Grant{}, shard.Waiting
		}
		g, outcome = s.hub.locks.GetSharedWait(s.asks(), name, uint32(limit), due)
	}
	if outcome == shard.Waiting {
		s.waitFor(shard.Shared, name, uint32(limit), due)
	}
	return g, outcome
}

func (s *Session) releaseShared(name []byte) bool { return s.hub.locks.ReleaseShared(s.asks(), name) }

// inspectShared returns how many hold the shared lock name; it does not know
// that when it is postponed.
func (s *Session) inspectShared(name []byte) (count int, known bool) {
	if s.othersAreGone(shard.Shared, name, 0) {
		return 0, false
	}
	return s.hub.locks.InspectShared(name), true
}

// token returns the fencing token of the exclusive lock name, if the session
// holds it.
func (s *Session) token(name []byte) (uint64, bool) { return s.hub.locks.Token(&s.owner, name) }

// takeRate takes units of a rate. It is nobody's, but counts for who has made it.
func (s *Session) takeRate(name []byte, r shard.Rate, units uint32) shard.Verdict {
	return s.hub.takeRate(s.owner.Share, name, r, units)
}

func (h *Hub) takeRate(share *shard.Share, name []byte, r shard.Rate, units uint32) shard.Verdict {
	v := h.locks.Take(share, name, r, units, h.clock.nanoseconds())
	if v.Outcome == shard.Acquired {
		h.clock.expect(h.clock.milliseconds() + sweepMilliseconds)
	}
	return v
}

// DropRate ends a rate, and tells whether there was one.
func (h *Hub) DropRate(name []byte) bool { return h.locks.DropRate(name, h.clock.nanoseconds()) }

// OpenRate returns how many units of a rate are open.
func (h *Hub) OpenRate(name []byte, r shard.Rate) uint32 {
	return h.locks.Open(name, r, h.clock.nanoseconds())
}

// granted notes a grant's fencing token; a zero one is none.
func (s *Session) granted(g shard.Grant) { s.stream.granted(g.Token) }

// patience returns until when to wait, 0 when there is no time to.
func (s *Session) patience(ms uint64) (due uint64) {
	if ms == 0 || s.stream.leaving {
		return 0
	}
	return s.hub.clock.milliseconds() + ms
}

// waitFor notes what the session waits for, until a time.
func (s *Session) waitFor(kind shard.Kind, name []byte, limit uint32, due uint64) {
	s.wait = &wait{name: append([]byte(nil), name...), kind: kind, since: time.Now(), limit: limit, due: due}
	s.hub.memory.Add(waitBytes + len(name))
	s.hub.clock.expect(due)
	s.hub.watch.begin()
}

// waited returns what became of the wait, which is over then unless that is
// Waiting. With cancel it is over in any case.
func (s *Session) waited(cancel bool) (shard.Grant, shard.Outcome) {
	end := s.hub.locks.Settle
	if cancel {
		end = s.hub.locks.Cancel
	}
	g, outcome := end(s.asks())
	s.granted(g)
	if outcome != shard.Waiting {
		s.endWaitAs(outcome)
	}
	return g, outcome
}

// endWaitAs counts a wait that is decided, notes it if it was in vain, and forgets it.
func (s *Session) endWaitAs(outcome shard.Outcome) {
	if outcome == shard.Elsewhere { // where it goes on
		s.endWait()
		return
	}
	result := waitCanceled
	switch outcome {
	case shard.Acquired:
		result = waitGranted
	case shard.TimedOut:
		result = waitTimedOut
	}
	if result != waitGranted {
		s.noteWait(outcome)
	}
	s.stream.counters.waited(result, s.wait.since)
	s.endWait()
}
