package conn

import (
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// A Session is one owner of locks. Whatever it holds, it holds until it is
// closed. A connection has one, and with protocol 2 any number.
//
// Only the goroutine that has its stream may use it.
type Session struct {
	hub    *Hub
	stream *Stream
	number uint32 // by which protocol 2 calls it
	owner  shard.Owner
	peer   *peer
	wait   *wait // what it waits for; nil: nothing
}

// A wait is a request that has had no reply yet.
type wait struct {
	name   []byte
	shared bool
	since  time.Time
}

// begin makes a zero session one of st.
func (s *Session) begin(st *Stream, number uint32, addr string) {
	s.hub, s.stream, s.number = st.hub, st, number
	s.peer = st.hub.directory.add(addr, s)
	s.owner.ID = s.peer.id
}

// closeStep is how many locks closeSome releases, and sessionWork how many of
// them a session takes as long to end as.
const (
	closeStep   = 1024
	sessionWork = 8
)

// closeSome ends the session a bounded part at a time, well under a
// millisecond, and tells whether it is ended: it waits for nothing, all that
// it held is released and its registration is gone.
func (s *Session) closeSome() bool {
	if s.wait != nil {
		// What it may have been granted meanwhile is released with the rest.
		s.hub.locks.Cancel(&s.owner)
		s.stream.tally.waited(waitGone, s.wait)
		s.wait = nil
	}
	if !s.hub.locks.ReleaseSome(&s.owner, closeStep) {
		return false
	}
	s.hub.directory.remove(s.peer)
	return true
}

// acquired appends the reply to a request for an exclusive lock that
// succeeded. Its number is 1, but in protocol 2 the fencing token.
func (s *Session) acquired(out []byte, g shard.Grant, name []byte) []byte {
	s.stream.granted(g.Token)
	number := uint64(1)
	if s.stream.multiplexed {
		number = g.Token
	}
	return wire.AppendReply(out, number, wire.GetSuccess, name)
}

// refused appends the reply to a request that failed at a bound.
func refused(out []byte, outcome shard.Outcome, name []byte) []byte {
	if outcome == shard.TooManyWait {
		return wire.AppendReply(out, 0, wire.TooManyWaiters, name)
	}
	return wire.AppendReply(out, 0, wire.TooManyLocks, name)
}

// outcome appends the reply to a request that could wait.
func (s *Session) outcome(out []byte, g shard.Grant, outcome shard.Outcome, shared bool, name []byte) []byte {
	switch {
	case outcome == shard.Acquired && shared:
		return wire.AppendReply(out, uint64(g.Count), wire.SharedGetSuccess, name)
	case outcome == shard.Acquired:
		return s.acquired(out, g, name)
	case outcome == shard.Canceled:
		return wire.AppendReply(out, 0, wire.GetCanceled, name)
	case outcome == shard.Refused || outcome == shard.TimedOut:
		if shared {
			return wire.AppendReply(out, 0, wire.SharedGetTimeout, name)
		}
		return wire.AppendReply(out, 0, wire.GetTimeout, name)
	}
	return refused(out, outcome, name)
}

// patience returns until when to wait, 0 when there is no time to.
func (s *Session) patience(ms uint64) (due uint64) {
	if ms == 0 || s.stream.leaving {
		return 0
	}
	return s.hub.clock.milliseconds() + ms
}

// begun finishes a request that could wait: with a reply, or by noting what
// the session waits for.
func (s *Session) begun(out []byte, g shard.Grant, outcome shard.Outcome, shared bool, name []byte, due uint64) []byte {
	if outcome != shard.Waiting {
		return s.outcome(out, g, outcome, shared, name)
	}
	s.wait = &wait{name: append([]byte(nil), name...), shared: shared, since: time.Now()}
	s.hub.clock.expect(due)
	return out
}

// settle appends the reply to the request that waits, if its time has come.
func (s *Session) settle(out []byte) []byte {
	if s.wait == nil {
		return out
	}
	if s.stream.leaving {
		return s.cancelWait(out)
	}
	g, outcome := s.hub.locks.Settle(&s.owner)
	if outcome == shard.Waiting {
		return out
	}
	return s.settled(out, g, outcome)
}

// cancelWait ends the wait and appends the reply to the request that waited.
func (s *Session) cancelWait(out []byte) []byte {
	if s.wait == nil {
		return out
	}
	g, outcome := s.hub.locks.Cancel(&s.owner)
	return s.settled(out, g, outcome)
}

func (s *Session) settled(out []byte, g shard.Grant, outcome shard.Outcome) []byte {
	w := s.wait
	s.wait = nil
	switch outcome {
	case shard.Acquired:
		s.stream.tally.waited(waitGranted, w)
	case shard.TimedOut:
		s.stream.tally.waited(waitTimedOut, w)
	default:
		s.stream.tally.waited(waitCanceled, w)
	}
	return s.outcome(s.stream.appendNumber(out, s), g, outcome, w.shared, w.name)
}
