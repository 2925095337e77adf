package session

import (
	"sync"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
)

// A keeping is what lets a stream outlive its connection: the client has asked for
// that, and has got a KEY, with which it takes the stream up over another connection.
// Meanwhile the stream is detached. It is the same one before and after, with its
// sessions, what they hold and their places in line; only who carries it changes.
//
// What becomes of it is decided once, under the KEY's mutex: that it is taken up again,
// or that its time is over.
type keeping struct {
	stream *Stream
	key    KeyHash
	lasts  time.Duration // for which it is kept without a connection

	generation uint64 // of the latest connection, of a node's client, which says so; its stream's

	mu      sync.Mutex // the KEY's; guards what follows
	state   keepState
	carrier Carrier // nil while it is detached
	due     time.Time
	timer   *time.Timer
	doomed  bool       // it is about to be forgotten for good: nobody takes it up any more
	ended   *ending    // why, if it has been: it is not detached then
	resumes []*Session // whose `resume` waits until it is detached
	open    *openClaim // what it may claim anew; nil: nothing

	turn Turn // while nobody carries it

	// Its stream's, at a node, see isSure.
	unsure    time.Duration // since when something that it holds is not sure; 0: all is
	unsureOf  *Session      // whose that was when it was looked at last; nil: nobody's
	sureUntil time.Duration // before when all is
	sureBy    uint64        // by the map of that version

	homingMu sync.Mutex           // guards homing; comes behind those of remotes
	homing   map[*remote]struct{} // of sessions that have something to claim here; nil: none
}

type keepState uint8

const (
	attached keepState = iota
	detached           // nobody carries it
	borrowed           // the same, and somebody changes it
	over               // it ends, or has ended
)

// carriedBy returns who carries the stream now; nil while nobody does.
func (st *Stream) carriedBy() Carrier {
	k := st.keeping.Load()
	if k == nil {
		return st.carrier
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.carrier
}

// wake has the carrier call Advance.
func (st *Stream) wake() {
	if c := st.carriedBy(); c != nil {
		c.Wake()
	}
}

// isKept tells whether the stream's client is kept.
func (st *Stream) isKept() bool { return st.keeping.Load() != nil }

// outlives tells whether the stream outlives the server's process, too.
func (st *Stream) outlives() bool { return st.isKept() && st.hub.outlived() }

// outlived tells whether clients that are kept outlive the process: by what it stores, or by the other
// nodes of its cluster.
func (h *Hub) outlived() bool { return h.cfg.Store != nil || h.node != nil }

// isAway tells whether the client of a session is kept and has no connection.
func (p *peer) isAway() bool {
	s := p.session.Load()
	if s == nil {
		return false
	}
	k := s.stream.keeping.Load()
	if k == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state != attached
}

// detach leaves the stream without a carrier, for whom its connection has ended, and
// tells whether it has: if somebody has said that it is to end, it is to end now.
//
// The time from which it counts is read here, behind all that the connection has
// asked for: what a loop has noted as its turn's may be older than the last answer.
func (st *Stream) detach(k *keeping) bool {
	k.mu.Lock()
	if k.state != attached || k.ended != nil || st.endsForGood() {
		first, ended := k.state == attached, k.ended
		k.state = over
		resumes := k.takeResumesLocked()
		if ended != nil {
			st.ends.Store(ended)
		}
		k.mu.Unlock()
		post(resumes)
		if first {
			st.hub.forgetKept(k)
			if ended == nil { // else it is forgotten
				k.forget(nil)
			}
		}
		return false
	}
	k.mu.Unlock()
	st.endLong()
	st.endPostponed()
	st.dropLine()
	st.Keeps(0)
	if st.door&denying != 0 {
		st.endDenials()
	}
	st.ends.Store(nil)
	st.closing, st.last, st.leaving, st.turnedAway = false, false, false, false
	st.door &^= drains | denying | deaf
	k.turn.Begin(0)
	st.turn = &k.turn
	k.mu.Lock()
	k.state, k.carrier = detached, nil
	k.due = time.Now().Add(k.lasts)
	k.timer = time.AfterFunc(k.lasts, k.expire)
	ended := k.ended // somebody may have said so meanwhile
	resumes := k.takeResumesLocked()
	st.hub.keeps.away(1)
	k.mu.Unlock()
	post(resumes)
	if ended != nil {
		k.finish(ended)
	}
	return true
}

// endsForGood tells whether the stream ends for a reason that a KEY does not survive.
func (st *Stream) endsForGood() bool {
	e := st.ends.Load()
	return e != nil && (e.why == WhyKick || e.why == WhyKeepExpired || e.why == WhyShutdown && !st.hub.outlived())
}

// dropLine forgets the line that has come in part.
func (st *Stream) dropLine() {
	st.partial, st.skipping = nil, false
}

// endDenials has nobody told any more that a token was wrong.
func (st *Stream) endDenials() {
	st.main.endDenial()
	for _, s := range st.sessions {
		s.endDenial()
	}
}

func (s *Session) endDenial() {
	if s.wait != nil && s.wait.denial != nil {
		s.wait.denial.timer.Stop()
		s.wait = nil
	}
}

func (k *keeping) takeResumesLocked() []*Session {
	all := k.resumes
	k.resumes = nil
	return all
}

// post has sessions settle.
func post(all []*Session) {
	for _, s := range all {
		s.stream.post(s)
	}
}

// expire ends a client that has not come back in time. A node that has no right to serve lets nothing
// go: it may have stood still, and what it has here somebody has claimed elsewhere.
func (k *keeping) expire() {
	k.mu.Lock()
	if k.state != detached || time.Now().Before(k.due) {
		k.mu.Unlock()
		return
	}
	if n := k.stream.hub.node; n != nil && lease.Now() >= n.cfg.Right() {
		k.timer.Reset(n.cfg.Serves)
		k.mu.Unlock()
		return
	}
	k.mu.Unlock()
	if k.finish(&ending{why: WhyKeepExpired}) {
		k.stream.hub.keeps.expired.Add(1)
	}
}

// finish ends a client that nobody carries: it is forgotten first, for good, and what
// it holds is free then. It does nothing where somebody was quicker.
func (k *keeping) finish(why *ending) bool {
	k.mu.Lock()
	if k.state != detached {
		k.mu.Unlock()
		return false
	}
	k.state = over
	k.timer.Stop()
	resumes := k.takeResumesLocked()
	k.mu.Unlock()
	post(resumes)
	h := k.stream.hub
	h.keeps.away(-1)
	h.forgetKept(k)
	k.forget(func(error) { // which is logged; the time is over in any case
		h.keeps.start(func() { k.closeAll(why) })
	})
	return true
}

// closeAll ends the stream, which nobody carries.
func (k *keeping) closeAll(why *ending) {
	st := k.stream
	st.ends.Store(why)
	for {
		k.turn.Begin(0)
		if st.closeSome() {
			return
		}
	}
}

// forget has the KEY forgotten for good.
func (k *keeping) forget(done func(error)) {
	if s := k.stream.hub.cfg.Store; s != nil {
		s.Forget(k.key, done)
	} else if done != nil {
		done(nil)
	}
}

// quit ends it since its client asks for that: what happens to the connection from here
// on is the end of all that it carries.
func (k *keeping) quit() {
	k.mu.Lock()
	k.state = over
	k.mu.Unlock()
	k.stream.hub.forgetKept(k)
	k.forget(nil)
}

// forgetKept has nobody find a client any more, nor wait for its claims.
func (h *Hub) forgetKept(k *keeping) {
	h.keeps.gone(k)
	if h.recovery != nil {
		h.recovery.gone(k)
	}
}

// condemn ends a client, connected or not, that would be back after a crash of the server
// if it were not forgotten first. From now on it does not come back.
func (k *keeping) condemn(why *ending) {
	k.mu.Lock()
	k.doomed = true
	k.mu.Unlock()
	k.forget(func(error) { k.end(why) })
}

// end says that the client ends, and why: with its connection, or at once.
func (k *keeping) end(why *ending) {
	k.mu.Lock()
	if k.ended == nil {
		k.ended = why
	}
	away, c := k.state == detached, k.carrier
	k.mu.Unlock()
	switch network := k.stream.hub.network; {
	case why.kick != nil:
		network.Kick(c, *why.kick)
	case c != nil:
		network.Detach(c)
	}
	if away {
		k.finish(why)
	}
}

// borrow calls f if nobody carries the stream, and tells whether it has: nobody does
// before f has returned.
func (k *keeping) borrow(f func()) bool {
	k.mu.Lock()
	if k.state != detached {
		k.mu.Unlock()
		return false
	}
	k.state = borrowed
	k.mu.Unlock()
	k.turn.Begin(0)
	f()
	k.mu.Lock()
	k.state = detached
	late := !time.Now().Before(k.due)
	ended := k.ended
	resumes := k.takeResumesLocked()
	k.mu.Unlock()
	post(resumes)
	if ended != nil {
		k.finish(ended)
	} else if late {
		k.expire()
	}
	return true
}
