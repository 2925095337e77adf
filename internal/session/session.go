package session

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
	named  int32  // bytes of memory that its registration takes
	owner  shard.Owner
	peer   *peer
	wait   *wait   // what it waits for; nil: nothing
	remote *remote // what it is upstream, of a proxy's; nil: nothing yet

	abroad *abroad // of a node's; nil: nothing
}

// A wait is a request that has had no reply yet.
type wait struct {
	name   []byte
	since  time.Time
	due    uint64  // until when, in milliseconds of the hub's clock
	denial *denial // it waits for no lock, but to be told that a token was wrong
	limit  uint32  // of a shared lock
	kind   shard.Kind
	parked bool // its connection is gone: nobody is told, unless a request takes it up
}

// begin makes a zero session one of st.
func (s *Session) begin(st *Stream, number uint32, addr Address) {
	s.hub, s.stream, s.number = st.hub, st, number
	s.owner.Share = st.account.share
	s.peer = st.hub.directory.add(addr, s)
	s.owner.ID = s.peer.id
	s.peer.share.Store(s.owner.Share)
}

// execute runs a command: what many of them need is looked at here, once.
func (s *Session) execute(c *command, arg, out []byte) []byte {
	st := s.stream
	if st.guarded() {
		var refused bool
		if out, refused = s.refuses(c, arg, out); refused {
			return out
		}
	}
	if c.flags&counted != 0 {
		st.counters.commands[c.number].Add(1)
	}
	if c.flags&needsDump != 0 && s.hub.cfg.DisableDump || c.flags&needsRegistry != 0 && s.hub.cfg.DisableRegistry {
		return append(s.prefix(out), wire.Disabled...)
	}
	if len(c.args) > 0 {
		var ok bool
		if st.turn.args, arg, ok = c.parse(arg); !ok {
			return s.reply(out, 0, wire.InvalidArgument, []byte(c.verb))
		}
	}
	out = s.do(c, arg, out)
	if st.postponed != nil && st.postponed.command == nil {
		st.postponed.request(c, arg, st.turn.args)
	}
	return out
}

// asks returns the session's owner for a request that is made now.
func (s *Session) asks() *shard.Owner {
	s.owner.Now = s.stream.turn.moment(&s.hub.clock)
	return &s.owner
}

// args are the numbers of the request that is being executed.
func (s *Session) args() numbers { return s.stream.turn.args }

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
	if s.waitsInBacklog() {
		s.dropBacklog()
		s.hub.node.forget(s)
	}
	if !s.leaveUpstream() {
		return false
	}
	s.forgetWait()
	if !s.orphanSome() {
		return false
	}
	if n := s.hub.node; n != nil {
		n.people.leave(s.peer.id)
		s.endGuest()
	}
	s.hub.directory.remove(s.peer)
	s.forgetMemory()
	return true
}

// forgetWait ends the wait, if any, without a reply. What it may have been granted
// meanwhile is released with the rest.
func (s *Session) forgetWait() {
	s.endDenial()
	if s.wait != nil {
		if _, outcome := s.hub.locks.Cancel(s.asks()); outcome != shard.Acquired {
			s.noteWait(outcome)
		}
		s.stream.counters.waited(waitGone, s.wait.since)
		s.endWait()
	}
}

// endWait forgets what it has waited for.
func (s *Session) endWait() {
	s.hub.memory.Add(-waitBytes - len(s.wait.name))
	s.wait = nil
}

// letGoSome releases a bounded part of what the session holds, since its client
// asks for it, and tells whether that is all. The name goes with it, and so does
// a session of protocol 2 but for number 0.
func (s *Session) letGoSome() bool {
	switch {
	case !s.leaveUpstream():
		return false
	case !s.hub.locks.LetGoSome(s.asks(), closeStep):
		return false
	case s == &s.stream.main:
		s.setName("")
	default:
		s.closeSome()
		s.stream.forget(s.number)
	}
	return true
}
