package session

import (
	"sync/atomic"
	"time"
)

// A postponed request is made again in a moment, and its stream listens to
// nothing else until then: something that has happened already is about to be
// known, and the answer depends on it.
type postponed struct {
	session *Session
	command *command // nil while it is being made
	name    []byte
	numbers numbers
	until   time.Time
	timer   *time.Timer
	again   bool         // it is to be made once more
	known   *atomic.Bool // which connections there are; nil: it is not about all
	watched *peer        // whose end it waits for; nil: nobody's
}

// DefaultPostpone is for how long a request is postponed at most, if nothing
// else is said: what is about to be known takes an event loop's turn, which is
// less than a millisecond unless the machine is busy with something else.
const DefaultPostpone = 10 * time.Millisecond

// postpone has the request that is being executed made again, after some time at
// most, and tells whether it may be: whoever knows when that should be posts the
// session.
func (s *Session) postpone(most time.Duration) bool {
	st := s.stream
	if p := st.postponed; p != nil {
		p.again = time.Now().Before(p.until)
		return p.again
	}
	st.postponed = &postponed{
		session: s,
		until:   time.Now().Add(most),
		timer:   time.AfterFunc(most, func() { st.post(s) }),
	}
	return true
}

// request notes what was postponed.
func (p *postponed) request(c *command, name []byte, n numbers) {
	p.command, p.name, p.numbers = c, append([]byte(nil), name...), n
}

// makeAgain makes the postponed request again, for good if it is final, and
// appends its reply.
func (st *Stream) makeAgain(out []byte, final bool) []byte {
	p := st.postponed
	if p.again = false; final {
		p.until = time.Time{}
	}
	st.turn.args = p.numbers
	out = p.session.do(p.command, p.name, out)
	if !p.again {
		st.endPostponed()
	}
	return out
}

// watch notes whose end the request waits for, now that it watches it.
func (p *postponed) watch(other *peer) {
	if p.watched != nil && p.watched != other {
		p.session.hub.directory.unwatch(p.watched, p.session)
	}
	p.watched = other
}

func (st *Stream) endPostponed() {
	if st.postponed != nil {
		st.postponed.timer.Stop()
		st.postponed.watch(nil)
		st.postponed = nil
	}
}

// catchUpMost is for how long a request is postponed at most until it is known
// which connections there are. The carriers do get to that, however busy the
// machine is, and the count is to be exact.
const catchUpMost = time.Second

// catchUp postpones a request about all connections until it is known which
// there are, and tells whether it does. It may be woken by what has come too late
// for an earlier one.
func (s *Session) catchUp() bool {
	st := s.stream
	if p := st.postponed; p != nil {
		p.again = !p.known.Load() && time.Now().Before(p.until)
		return p.again
	}
	known := new(atomic.Bool)
	if !s.hub.network.CatchUp(func() { known.Store(true); st.post(s) }) {
		return false
	}
	s.postpone(max(catchUpMost, s.hub.cfg.Postpone))
	st.postponed.known = known
	return true
}
