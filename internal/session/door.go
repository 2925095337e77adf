package session

import (
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// Who somebody is, is the connection's: in protocol 2 all of its sessions have the
// same access. Where nobody is asked and nobody has said, all of this costs a
// request the look at one byte, with which it also sees whether the server drains.

// A door says what a stream has to look at before a request is executed; 0:
// nothing.
type door uint16

const (
	drains     door = 1 << iota // nothing new is taken, see drain.go
	asks                        // its listener asks who the client is
	known                       // the client has an access, or had
	told                        // by a token that it has shown
	denying                     // a wrong token is about to be answered
	deaf                        // too much has come behind it: nothing more is taken, and the client is cut off
	forwards                    // what it wants of locks is asked upstream, see remote.go
	mustResume                  // it has a place that is kept for who comes back
	linked                      // the client is another node of the cluster, see linked.go
	alone                       // and asks for what is here, see gather.go
)

// guarded tells whether what the client may do has to be looked at. That the server
// drains is no reason: where nobody is asked there is no authority.
func (st *Stream) guarded() bool { return st.door&^(drains|forwards|linked) != 0 }

// maxUnidentified is how many sessions a client has, at most, that has to say
// who it is and has not.
const maxUnidentified = 16

// arrive looks who the client of a stream is that begins.
func (st *Stream) arrive(addr Address) {
	if addr.Asks {
		st.door |= asks
	}
	if a := st.introduced(); a != nil {
		st.admit(a)
	}
}

// introduced returns the access of a client that need not say who it is.
func (st *Stream) introduced() *Access {
	p, by := st.main.peer, st.hub.cfg.Authority
	if name := p.cert(); name != "" {
		if a := by.Cert(name); a != nil {
			return a
		}
	}
	if process := p.process(); process != nil {
		return by.UID(process.UID())
	}
	return nil
}

func (st *Stream) admit(a *Access) {
	st.main.peer.access.Store(a)
	st.door |= known
	st.countAs(a.Name)
}

// Access returns what the client may do, or nil if it has not said who it is. Any
// goroutine may call it.
func (st *Stream) Access() *Access { return st.main.peer.accessNow() }

// accessNow is for a session 0's peer.
func (p *peer) accessNow() *Access {
	if a := p.access.Load(); a != nil {
		return a.Current()
	}
	return nil
}

// identify does the same before a request: what has changed counts, and who is
// nobody any more, or not yet, may be somebody by now. But who has shown a token
// that is no more has to show another, and is not taken for somebody else, by a
// certificate or a user, with another role: what it holds it could then perhaps not
// even release, and would not know why.
func (st *Stream) identify() *Access {
	p := st.main.peer
	old := p.access.Load()
	a := old.Current()
	if a == nil && st.door&told == 0 {
		a = st.introduced()
	}
	if a != old {
		p.access.Store(a)
	}
	return a
}

// Newcomer tells whether the client has to say who it is, and never has.
func (st *Stream) Newcomer() bool { return st.door&(asks|known) == asks && st.identify() == nil }

// MustResume says, before Begin, that the client's place is kept for one who comes back
// with a KEY: it has to show that, or go.
func (st *Stream) MustResume() { st.door |= mustResume }

// resumeWithin is for how long it may keep that place.
const resumeWithin = 10 * time.Second

// awaitResume has it go when that is over.
func (st *Stream) awaitResume() {
	time.AfterFunc(resumeWithin, func() {
		st.overdue.Store(true)
		st.post(&st.main)
	})
}

// unidentified tells whether the client has to say who it is, and has not, or is
// nobody any more.
func (st *Stream) unidentified() bool { return st.door&asks != 0 && st.identify() == nil }

// refuses appends the reply to a command that the client may not have executed.
// That comes before all else that may be wrong, or be off: nothing of that is told
// to who is nobody. But what is malformed is about no name.
//
//go:noinline
func (s *Session) refuses(c *command, arg, out []byte) (_ []byte, refused bool) {
	st := s.stream
	if st.door&mustResume != 0 {
		if c.roles != anybody && c.verb != wire.Resume {
			st.closing = true
			return append(s.prefix(out), wire.TooManyConnections...), true
		}
		if s.hub.cfg.Authority == nil {
			return out, false
		}
	}
	switch a := st.identify(); {
	case a == nil && st.door&asks != 0 && c.roles != anybody:
		return st.unknown(s.prefix(out)), true
	case a == nil:
	case !a.may(c):
		return s.notAllowed(c, out), true
	case a.Prefix != "":
		if _, name, ok := c.parse(arg); ok && !a.reaches(c, name) {
			return s.notAllowed(c, out), true
		}
	}
	return out, false
}

// refusesGrant does the same at the end of a wait, which may be a day later: who may
// not ask for the lock any more does not get it. It is free then.
func (s *Session) refusesGrant(w *wait, out []byte) (_ []byte, refused bool) {
	c, release := lookup([]byte(wire.GetWait)), s.release
	if w.kind == shard.Shared {
		c, release = lookup([]byte(wire.GetSharedWait)), s.releaseShared
	}
	st := s.stream
	switch a := st.identify(); {
	case a == nil && st.door&asks != 0:
		out = st.unknown(s.prefix(out))
	case a == nil || a.may(c) && a.reaches(c, w.name):
		return out, false
	default:
		out = s.notAllowed(c, out)
	}
	release(w.name)
	s.noteNotAllowed(w)
	return out, true
}

func (st *Stream) unknown(out []byte) []byte {
	st.counters.notAuthenticated.Add(1)
	return append(out, wire.NotAuthenticated...)
}

func (s *Session) notAllowed(c *command, out []byte) []byte {
	s.stream.counters.notAllowed.Add(1)
	return s.reply(out, 0, wire.NotAllowed, []byte(c.verb))
}

// textAuth takes the access of a token. Without an authority any token will do. A
// wrong one changes nothing.
//
// While one is about to be answered, none is looked at: else a client with many
// sessions could have as many tried at a time, or see that one is wrong from the
// reply that does not come.
func (s *Session) textAuth(token, out []byte) []byte {
	st := s.stream
	by := st.hub.cfg.Authority
	if by == nil {
		return append(s.prefix(out), wire.OK...)
	}
	if st.door&denying != 0 {
		return s.reply(out, 0, wire.SessionBusy, []byte(wire.Auth))
	}
	a := by.Token(token)
	st.hub.network.Authenticated(st, a)
	if a == nil {
		s.deny()
		return out
	}
	st.admit(a)
	st.door |= told
	return append(s.prefix(out), wire.OK...)
}
