package session

import "github.com/nylen/lockd/internal/wire"

// What a proxy does with the requests of its clients. What is about locks and rates is
// asked upstream, and the client's next requests are not held up by that; what is about
// the client itself is answered here, behind what was asked before. Lists of locks come
// from upstream, too, over a connection of their own, as one that nobody reads must not
// be in anybody's way.

// doForwarding does what a command is for.
func (s *Session) doForwarding(c *command, name, out []byte) []byte {
	if s.hub.node != nil {
		return s.doRouted(c, name, out)
	}
	if c.flags&forwarded != 0 {
		return s.forward(c, name, out)
	}
	s.stream.askUpstream()
	switch {
	case c.verb == wire.Quit && s.quitsUpstream():
		return out
	case s.remote != nil && s.remote.pending.Load() > 0:
		if c.verb == wire.Quit {
			s.remote.giveUp()
		} else if s.stream.multiplexed && s.remote.waits.Load() > 0 {
			if c.verb == wire.Ping {
				s.remote.probe(nil)
				return out
			}
			return s.reply(out, 0, wire.SessionBusy, []byte(c.verb)) // see requestBehind
		}
		if c.flags&(lists|relayed) == 0 && c.verb != wire.Hello && c.verb != wire.Auth && c.verb != wire.Quit {
			return c.do(s, name, out) // the reply has its place, see requestBehind
		}
		s.stream.delayed = &delayed{s, c, append([]byte(nil), name...), s.args()}
		return out
	case c.verb == wire.Ping && !s.hub.upstream.mayAnswer():
		return s.forward(c, name, out)
	case c.verb == wire.Keep:
		return append(s.prefix(out), wire.KeepDisabled...)
	case c.flags&relayed != 0 && c.verb != wire.Kick: // see kickReply
		return s.relay(c, name, out)
	}
	return c.do(s, name, out)
}

// requestBehind executes a request while others are not answered yet: what is answered
// here comes behind those of its session.
func (st *Stream) requestBehind(line, out []byte) []byte {
	before := len(out)
	out = st.execute(line, out)
	said := out[before:]
	if len(said) == 0 {
		return out
	}
	st.askUpstream()
	s := &st.main
	if st.multiplexed {
		n, _, ok := wire.Number(said)
		if s = st.sessions[uint32(n)]; n == 0 {
			s = &st.main
		}
		if !ok {
			s = nil
		}
	}
	if s != nil && s.waitsInBacklog() {
		s.putLiteral(said)
		return out[:before]
	}
	if s == nil || !s.behind() {
		return out
	}
	return s.say(out, before)
}

// A delayed request is executed when all that the session has asked before is answered;
// or it is a `bye`, which upstream answers.
type delayed struct {
	session *Session
	command *command // nil: it is a `bye`
	name    []byte
	numbers numbers
}

// doDelayed executes it.
func (st *Stream) doDelayed(out []byte) []byte {
	d := st.delayed
	st.delayed, st.turn.args = nil, d.numbers
	out = d.session.do(d.command, d.name, out)
	if st.postponed != nil && st.postponed.command == nil {
		st.postponed.request(d.command, d.name, d.numbers)
	}
	return out
}

// quitsUpstream has what the session holds released upstream before its client is told
// that it is.
func (s *Session) quitsUpstream() bool {
	asks := false
	s.eachRemote(func(r *remote) {
		if r.up.live.Load() == 0 {
			return
		}
		if !asks {
			asks = true
			s.stream.delayed = &delayed{session: s}
		}
		r.owes(1)
		r.mu.Lock()
		r.many = s.stream.multiplexed
		r.askLocked(lookup([]byte(wire.Quit)), numbers{}, nil, asking{})
		r.mu.Unlock()
	})
	return asks
}

// heard appends what upstream has answered, and tells whether that ends the session.
func (s *Session) heard(out []byte) (_ []byte, quit bool) {
	if s.remote.guest == nil {
		out, quit = s.remote.heard(out)
	} else {
		quit = true
		s.eachRemote(func(r *remote) {
			var left bool
			out, left = r.heard(out)
			quit = quit && (left || r.up.live.Load() == 0)
		})
	}
	if d := s.stream.delayed; quit && d != nil && d.command == nil && d.session == s {
		s.stream.delayed = nil
		return out, true
	}
	return out, false
}

// heard does that for one remote.
func (r *remote) heard(out []byte) (_ []byte, quit bool) {
	if r.up.isLate(r.session.stream.turn.clock()) {
		r.up.giveUp() // before anything is passed on
	}
	out, quit = r.replies(out)
	if r.guest != nil {
		r.comeBack()
	}
	return out, quit
}

// comeBack takes what was not executed there, and is to be asked elsewhere.
func (r *remote) comeBack() {
	r.claimHere()
	r.mu.Lock()
	var back []put
	if r.comesBackLocked() {
		back, r.back = r.back, nil
		r.returns.Store(false)
	}
	r.mu.Unlock()
	if len(back) > 0 {
		r.owes(-int32(len(back)))
		r.session.putFirst(back)
		if !r.up.gone.Load() {
			r.session.abroad.until = r.session.hub.clock.milliseconds() + uint64(againEvery.Milliseconds()) - 1
		}
	}
}

// comesBackLocked tells whether there is such, and all before it is answered, but for a wait of an earlier
// connection that goes on: without a connection only what is to be answered to the client.
func (r *remote) comesBackLocked() bool {
	if len(r.back) == 0 {
		return false
	}
	live := r.liveLocked()
	for i := r.first; i < len(r.queue); i++ {
		if a := &r.queue[i]; live && !a.parked || !a.told && !a.silent {
			return false
		}
	}
	return true
}

// stalls tells whether nothing more is taken from the client for now: it has as much
// under way as may be, or something that has to be over first.
func (st *Stream) stalls() bool {
	if d := st.delayed; d != nil && (d.command == nil || d.session.behind()) {
		return true
	}
	if st.unanswered.Load() == 0 {
		st.chokes = false
		return false
	}
	return st.chokes || st.isFull() || !st.multiplexed && st.main.remote != nil && st.main.remote.stops.Load()
}

// isFull tells whether as much is kept for the client as may be. Each of its sessions may
// have a line under way beside that: all of them may wait for what one of them is about
// to release, and that has to be read.
func (st *Stream) isFull() bool {
	return int(st.underWay.Load()) > mostUnderWay+len(st.sessions)*(remoteBytes+3*st.hub.cfg.MaxLine)
}

// behind tells whether what the session does next has to wait for replies.
func (s *Session) behind() bool {
	r := s.remote
	return r != nil && (r.pending.Load() > 0 || s.stream.turn.asks.remote == r)
}

// mostUnderWay is how many bytes of requests and replies of a client may be kept for it.
const mostUnderWay = 64 << 10

// awaitsUpstream tells whether a client of protocol 1 waits. Over WebSocket it does for
// each reply, as that is a message of its own.
func (st *Stream) awaitsUpstream() bool {
	r := st.main.remote
	return !st.multiplexed && (r != nil && (r.waits.Load() > 0 || st.apart && r.pending.Load() > 0) || st.apart && st.main.waitsInBacklog())
}

// asksUpstream tells whether the client is to be answered something.
func (st *Stream) asksUpstream() bool { return st.unanswered.Load() > 0 }

// stopUpstream ends all waits.
func (st *Stream) stopUpstream() {
	stop := func(r *remote) { r.stop(st.draining()) }
	st.main.eachRemote(stop)
	for _, s := range st.sessions {
		s.eachRemote(stop)
	}
}

// registerUpstream has upstream show the client under its new name, with those of its
// sessions that have none of their own.
func (s *Session) registerUpstream() {
	if s.remote != nil {
		s.eachRemote((*remote).register)
	} else if s.registeredName() != "" && s.hub.node == nil {
		s.join() // which does that; without memory for it the name is shown here alone
	}
	if s != &s.stream.main {
		return
	}
	for _, other := range s.stream.sessions {
		if other.remote != nil && other.peer.registered.Load() == nil {
			other.eachRemote((*remote).register)
		}
	}
}
