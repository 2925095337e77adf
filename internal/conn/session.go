package conn

import (
	"bytes"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// A Session is one owner of locks: the state machine between a client's bytes
// and the table. Whatever its client holds, it holds, until Close.
//
// A Session is used by one goroutine at a time.
type Session struct {
	hub   *Hub
	owner shard.Owner
	peer  *peer
	tally *tally

	partial  []byte // the beginning of a line whose end has not come yet
	skipping bool   // the rest of a line that was too long is passed over
	closing  bool
	listing  listing // the rest of a reply that is given out in pieces
}

// NewSession makes a session for a client at addr.
func (h *Hub) NewSession(addr string) *Session {
	s := new(Session)
	s.begin(h, addr)
	return s
}

// begin makes a zero session one for a client at addr.
func (s *Session) begin(h *Hub, addr string) {
	s.hub = h
	s.peer = h.directory.add(addr)
	s.owner.ID = s.peer.id
	s.tally = h.tallyOf(s.peer.id)
}

// Close ends the session: all that it holds is released and its registration
// is gone. A line whose end has not come is dropped.
func (s *Session) Close() {
	for !s.CloseSome() {
	}
}

// closeStep is how many locks CloseSome releases.
const closeStep = 1024

// CloseSome does a bounded part of what Close does, well under a millisecond,
// and tells whether the session is closed. Nothing else may be done with a
// session that is being closed.
func (s *Session) CloseSome() bool {
	s.endListing()
	s.closing = true
	if !s.hub.locks.ReleaseSome(&s.owner, closeStep) {
		return false
	}
	s.hub.directory.remove(s.peer)
	return true
}

// Closing tells whether the client has to be cut off, once it has been sent
// the replies so far.
func (s *Session) Closing() bool { return s.closing }

// Listing tells whether a reply is not all there yet: Continue appends more
// of it, and Feed takes nothing before it is all there.
func (s *Session) Listing() bool { return s.listing != nil }

// Holds tells whether the session holds any lock.
func (s *Session) Holds() bool { return s.owner.Held() > 0 }

// Feed takes bytes from the client and appends the replies to out, in order.
// It returns what it has not taken, and out.
//
// It stops when out has grown to the bound on pending output, which it may
// pass by one reply, and at a request whose reply is given out in pieces. The
// caller then sends what there is, or calls Continue until Listing is false,
// and calls again with the rest. So a client that does not read costs no more
// than the bound, and a long reply is no more work at a time than a short one.
//
// Feed overwrites in. What it needs of it later, it copies.
func (s *Session) Feed(in, out []byte) (rest, _ []byte) {
	for {
		if len(in) == 0 || s.closing || s.listing != nil || len(out) >= s.hub.cfg.MaxOutput {
			return in, out
		}
		end := bytes.IndexByte(in, '\n')
		if end < 0 {
			return nil, s.keep(in, out)
		}
		line := in[:end]
		in = in[end+1:]
		switch {
		case s.skipping:
			s.skipping = false
			continue
		case len(s.partial) > 0:
			if len(s.partial)+len(line) > s.hub.cfg.MaxLine {
				out = s.tooLong(append(s.partial, line[:s.hub.cfg.MaxLine-len(s.partial)]...), out)
			} else {
				line = append(s.partial, line...)
				s.partial = line
				out = s.Request(line, out)
			}
			s.dropPartial()
		default:
			out = s.Request(line, out)
		}
	}
}

// keep copies the beginning of a line.
func (s *Session) keep(in, out []byte) []byte {
	if s.skipping {
		return out
	}
	room := s.hub.cfg.MaxLine - len(s.partial)
	if len(in) > room {
		out = s.tooLong(append(s.partial, in[:room]...), out)
		s.dropPartial()
		s.skipping = true
		return out
	}
	s.partial = append(s.partial, in...)
	return out
}

// keptPartial is how large a buffer for partial lines an idle session keeps.
const keptPartial = 256

func (s *Session) dropPartial() {
	if cap(s.partial) > keptPartial {
		s.partial = nil
	}
	s.partial = s.partial[:0]
}

// tooLong answers a line that begins with start and is over the bound.
func (s *Session) tooLong(start, out []byte) []byte {
	if wire.IsHTTPStart(start) {
		return s.refuseHTTP(out)
	}
	s.tally.tooLong.Add(1)
	return append(out, wire.LineTooLong...)
}

func (s *Session) refuseHTTP(out []byte) []byte {
	s.tally.http.Add(1)
	s.closing = true
	return append(out, wire.HTTPRefusal...)
}

// Request executes one line, given without its newline, and appends the reply
// to out; a reply that is given out in pieces is had from Continue, all of it.
// It overwrites line.
func (s *Session) Request(line, out []byte) []byte {
	if len(line) > s.hub.cfg.MaxLine {
		return s.tooLong(line, out)
	}
	verb, arg := wire.Parse(line)
	if len(verb) == 0 {
		return out
	}
	c := lookup(verb)
	if c == nil {
		if wire.IsHTTP(arg) {
			return s.refuseHTTP(out)
		}
		s.tally.invalid.Add(1)
		return out
	}
	if c.flags != 0 {
		if c.flags&counted != 0 {
			s.tally.commands[c.number].Add(1)
		}
		if c.flags&needsDump != 0 && s.hub.cfg.DisableDump ||
			c.flags&needsRegistry != 0 && s.hub.cfg.DisableRegistry {
			return append(out, wire.Disabled...)
		}
	}
	return c.do(s, arg, out)
}

// Continue appends the next piece of the reply for which Listing is true.
func (s *Session) Continue(out []byte) []byte {
	out, more := s.listing.next(s.hub, out)
	if !more {
		s.endListing()
	}
	return out
}

func (s *Session) endListing() {
	if s.listing != nil {
		s.listing.close()
		s.listing = nil
	}
}
