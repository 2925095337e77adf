package session

import (
	"time"
)

// What sessions of a stream wait for, and when that is decided.

// post notes that a session can settle. Any goroutine may call it.
//
// woken becomes true under the mutex: who was not the first to post tells
// nobody, so if its session were settled before it had set the flag, that would
// stay true, and the carrier wait for what has been taken.
func (st *Stream) post(s *Session) {
	st.mu.Lock()
	st.ready = append(st.ready, s)
	first := len(st.ready) == 1
	st.woken.Store(true)
	st.mu.Unlock()
	if first {
		st.wake()
	}
}

// Settles tells whether Settle has something to do now.
func (st *Stream) Settles() bool {
	return st.woken.Load() && st.long == nil && (st.door&forwards == 0 || !st.isHeldBack())
}

// Settle appends the replies of the sessions whose waits are over, until out
// has grown to the bound on pending output, which it may pass by one reply, or a
// grant comes too early. It does nothing while a reply is given out in pieces:
// theirs come after it.
func (st *Stream) Settle(out []byte) []byte {
	for done := false; !done; {
		out, done = st.settleSome(out)
	}
	return out
}

// settleStep is how many sessions are settled in a part.
const settleStep = 32

// settleSome does a part of that, and tells whether it was all that is to be done now.
func (st *Stream) settleSome(out []byte) (_ []byte, done bool) {
	for range settleStep {
		if !st.Settles() || len(out) >= st.hub.cfg.MaxOutput || st.Early() > 0 {
			return out, true
		}
		if s := st.takeReady(); s != nil {
			out = s.settle(out)
		}
	}
	return out, false
}

const keptReady = 4

// takeReady returns who is next. If the flag was wrong, which must not be but
// would hang the connection, it returns nil and puts it right.
func (st *Stream) takeReady() *Session {
	st.mu.Lock()
	defer st.mu.Unlock()
	var first *Session
	if len(st.ready) > 0 {
		first, st.ready[0] = st.ready[0], nil
		if len(st.ready) > 1 {
			st.ready = st.ready[1:]
			return first
		}
	}
	// A little room is kept: a proxy's streams need it with each reply.
	if st.ready = st.ready[:0]; cap(st.ready) > keptReady {
		st.ready = nil
	}
	st.woken.Store(false)
	return first
}

// granted notes the fencing token of a grant. Most are far behind the clock, and
// then nobody looks at it.
func (st *Stream) granted(token uint64) {
	if !st.hub.clock.seen(token) {
		st.ahead = max(st.ahead, token)
	}
}

// Early tells for how long the replies so far must be kept from the client. It
// is 0 but for a grant whose fencing token the clock has not reached: grants in
// a shard that come faster than the microseconds. Nobody may hear of it before,
// since the server could be killed, and the next one, whose tokens begin with the
// clock's time when it starts, would give smaller ones. Nothing is executed
// meanwhile, either, so that a client that asks as fast as it can gets ahead by
// one grant and not by many.
func (st *Stream) Early() time.Duration {
	if st.ahead|st.paused == 0 {
		return 0
	}
	return st.early()
}

//go:noinline
func (st *Stream) early() time.Duration {
	early := time.Duration(0)
	if st.ahead != 0 {
		if early = st.hub.clock.until(st.ahead); early == 0 {
			st.ahead = 0
		}
	}
	if st.paused != 0 {
		if now := st.hub.clock.microseconds(); now < st.paused {
			early = max(early, time.Duration(st.paused-now)*time.Microsecond)
		} else {
			st.paused = 0
		}
	}
	return early
}

// pause has Answer say Early for some time: what the stream is to go on with is not
// there yet, and its carrier is not told when it is. What tokens rest on, a floor that is
// ahead of the clock perhaps, has nothing to do with that.
func (st *Stream) pause(d time.Duration) {
	st.paused = max(st.paused, st.hub.clock.microseconds()+uint64(d.Microseconds()))
}

// HangUp is called when the client has closed its side: it waits for no lock any
// more, and gets the replies to what it has sent. Those that are postponed or wait
// for their turn still come when their time has.
func (st *Stream) HangUp() {
	if st.leaving || st.isKept() { // who is kept comes back
		return
	}
	st.leaving = true
	st.endWaits()
}

// endWaits has all waits for locks settled, which ends them.
func (st *Stream) endWaits() {
	if st.door&forwards != 0 {
		st.stopUpstream()
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.main.wait != nil {
		st.ready = append(st.ready, &st.main)
	}
	for _, s := range st.sessions {
		if s.wait != nil {
			st.ready = append(st.ready, s)
		}
	}
	st.woken.Store(len(st.ready) > 0)
}
