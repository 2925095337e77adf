package conn

import (
	"bytes"
	"strconv"

	"github.com/nylen/lockd/internal/wire"
)

// Protocol 2: `SESSION VERB ...`, and `SESSION NUMBER TEXT` for each.

const maxSessionNumber = 1<<32 - 1

// appendNumber appends what a reply to a session begins with.
func (st *Stream) appendNumber(out []byte, s *Session) []byte {
	if st.multiplexed {
		out = append(strconv.AppendUint(out, uint64(s.number), 10), ' ')
	}
	return out
}

// invalid answers a request that is for no session: the stream is out of
// step.
func (st *Stream) invalid(out []byte) []byte {
	st.tally.invalid.Add(1)
	st.closing = true
	return append(out, wire.InvalidRequest...)
}

// dispatch executes a request of protocol 2.
func (st *Stream) dispatch(number, request, out []byte) []byte {
	n, rest, ok := wire.Number(number)
	if !ok || len(rest) > 0 || n > maxSessionNumber {
		if wire.IsHTTP(request) {
			return st.refuseHTTP(out)
		}
		return st.invalid(out)
	}
	verb, arg := wire.Parse(request)
	from := len(out)
	out = append(strconv.AppendUint(out, n, 10), ' ')
	start := len(out)
	s := st.session(uint32(n))
	if s == nil {
		st.tally.tooManySessions.Add(1)
		return append(out, wire.TooManySessions...)
	}
	c := lookup(verb)
	switch {
	case c == nil:
		st.tally.invalid.Add(1)
		return wire.AppendReply(out, 0, wire.InvalidCommand, verb)
	case s.wait != nil && c.flags&endsWait == 0:
		return wire.AppendReply(out, 0, wire.SessionBusy, verb)
	}
	out = s.execute(c, arg, out)
	switch {
	case s.wait != nil:
		return out[:from] // the reply comes when the wait is over
	case st.listing != nil:
		st.lister, st.listLines = s, c.flags&manyLines != 0
		if st.listLines {
			out = out[:from]
		}
	case c.flags&manyLines != 0 && !bytes.Equal(out[start:], []byte(wire.Disabled)):
		lines := append([]byte(nil), out[start:]...)
		out = append(out[:from], lines...)
		out = st.endLines(st.prefixLines(out, from, s), s)
	}
	return out
}

// session returns the session of a number, making it at its first use, or nil
// when there are too many.
func (st *Stream) session(n uint32) *Session {
	if n == 0 {
		return &st.main
	}
	if s := st.sessions[n]; s != nil {
		return s
	}
	if len(st.sessions)+1 >= st.hub.cfg.MaxSessions || !st.hub.directory.room() {
		return nil
	}
	if st.sessions == nil {
		st.sessions = make(map[uint32]*Session)
	}
	s := new(Session)
	s.begin(st, n, st.main.peer.addr+"#"+strconv.FormatUint(uint64(n), 10))
	st.sessions[n] = s
	return s
}

// prefixLines puts `SESSION - ` before each line of out from a place on.
func (st *Stream) prefixLines(out []byte, from int, s *Session) []byte {
	if from == len(out) {
		return out
	}
	lines := append([]byte(nil), out[from:]...)
	out = out[:from]
	for line := range bytes.Lines(lines) {
		out = append(st.appendNumber(out, s), "- "...)
		out = append(out, line...)
	}
	return out
}

// endLines appends the end mark of a reply of many lines.
func (st *Stream) endLines(out []byte, s *Session) []byte {
	return append(st.appendNumber(out, s), wire.End...)
}

// farewell is the reply to bye, which comes when all that the session held is
// released.
type farewell struct{ session *Session }

func (f *farewell) next(h *Hub, out []byte) ([]byte, bool) {
	s, st := f.session, f.session.stream
	if !h.locks.LetGoSome(&s.owner, closeStep) {
		return out, true
	}
	if s == &st.main {
		h.directory.register(s.peer, "")
	} else {
		s.closeSome()
		delete(st.sessions, s.number)
	}
	if !st.multiplexed {
		st.closing = true
	}
	return append(out, wire.Bye...), false
}

func (f *farewell) rest()  {}
func (f *farewell) close() {}
