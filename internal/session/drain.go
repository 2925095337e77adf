package session

import "github.com/nylen/lockd/internal/wire"

// While the server shuts down it drains: who holds something may finish, and
// everybody may ask, but nobody takes anything new, since a lock that is had from
// a server that is about to end is lost with it. So
//
//   - what would take a hold, a place in line or units is refused, but not to a
//     holder who repeats itself;
//   - those who wait stop waiting, with the same answer: they come back to the next
//     server, and are not granted what this one takes from them a moment later;
//   - who holds nothing is ended, so that it goes elsewhere;
//   - who comes now may ask as long as the drain goes on, until it is refused
//     something: it looks for a server that gives.
//
// Who outlives the server is not refused anything, and waits on: for it the end is a
// moment without a connection, after which it has what it had, and asks for the rest again.

// Drain begins that. Each stream knows of it from its next Advance on, which the
// carriers have to see to.
func (h *Hub) Drain() { h.draining.Store(true) }

// End is the end of the drain: who is there still, and holds nothing, is ended.
func (h *Hub) End() { h.ending.Store(true) }

// ComesLate says, before Begin, that the client has come while the server drained.
func (st *Stream) ComesLate() { st.late = true }

// Notice has the stream know whether the server drains. Advance calls it, and so
// does who calls Answer and Settle.
func (st *Stream) Notice() {
	if st.hub.draining.Load() && !st.draining() {
		st.door |= drains
		if st.turnsAway() {
			st.endWaits()
		}
		st.tellDraining()
	}
}

// draining tells whether the stream knows that the server drains.
func (st *Stream) draining() bool { return st.door&drains != 0 }

// turnsAway tells whether the client gets nothing new, as the server drains.
func (st *Stream) turnsAway() bool { return st.draining() && !st.outlives() }

// mayAsk tells whether the client stays though it holds nothing while the server
// drains.
func (st *Stream) mayAsk() bool { return st.late && !st.turnedAway && !st.hub.ending.Load() }

// do does what a command is for.
func (s *Session) do(c *command, name, out []byte) []byte {
	if s.stream.door&(drains|forwards) != 0 {
		return s.doOtherwise(c, name, out)
	}
	return c.do(s, name, out)
}

// doOtherwise does the same while the server drains, unless it is to take something
// new, and where it is a proxy.
//
//go:noinline
func (s *Session) doOtherwise(c *command, name, out []byte) []byte {
	if s.stream.door&linked == 0 && s.stream.turnsAway() && c.flags&takes != 0 && s.isNew(c, name) {
		return s.turnAway(c, name, out)
	}
	if s.stream.door&forwards != 0 {
		return s.doForwarding(c, name, out)
	}
	return c.do(s, name, out)
}

// isNew tells whether a command would take what the session has not got.
func (s *Session) isNew(c *command, name []byte) bool {
	switch c.verb {
	case wire.Get, wire.GetWait:
		_, held := s.token(name)
		return !held
	case wire.TakeRate:
		return s.args().c > 0
	}
	return !s.hub.locks.Shares(&s.owner, name)
}

func (s *Session) turnAway(c *command, name, out []byte) []byte {
	st := s.stream
	st.turnedAway = true
	st.counters.shuttingDown.Add(1)
	if c.flags&counted == 0 { // the shards do not see it
		st.counters.commands[c.number].Add(1)
	}
	return s.reply(out, 0, wire.ShuttingDown, name)
}
