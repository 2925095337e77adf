package session

import (
	"strconv"

	"github.com/nylen/lockd/internal/wire"
)

// Protocol 2: `SESSION VERB ...`, and `SESSION NUMBER TEXT` for each.

const maxSessionNumber = 1<<32 - 1

// sessionNumber reads the first word of a request.
func sessionNumber(word []byte) (n uint64, ok bool) {
	n, rest, ok := wire.Number(word)
	return n, ok && len(rest) == 0 && n <= maxSessionNumber
}

// invalid answers a request that is for no session: the stream is out of
// step.
func (st *Stream) invalid(out []byte) []byte {
	st.counters.invalid.Add(1)
	st.closing = true
	return append(out, wire.InvalidRequest...)
}

// dispatch executes a request of protocol 2.
func (st *Stream) dispatch(number, request, out []byte) []byte {
	n, ok := sessionNumber(number)
	if !ok {
		if wire.IsHTTP(request) {
			return st.refuseHTTP(out)
		}
		return st.invalid(out)
	}
	verb, arg := wire.Parse(request)
	c := lookup(verb)
	if c != nil && c.roles != anybody && st.unidentified() {
		return st.unknown(appendNumber(out, n)) // and makes no session
	}
	s, refusal := st.session(uint32(n))
	if s == nil {
		return append(appendNumber(out, n), refusal...)
	}
	switch {
	case c == nil:
		st.counters.invalid.Add(1)
		return s.reply(out, 0, wire.InvalidCommand, verb)
	case s.wait != nil && s.wait.parked:
		s.unpark(c, arg)
	case s.wait != nil && st.door&linked != 0 && (isClaim(c) || c.verb == wire.As): // of a client that has come anew at its node; or what it holds has come here
		out = s.over(out, false)
	case s.wait != nil && (c.flags&endsWait == 0 || s.wait.denial != nil):
		return s.reply(out, 0, wire.SessionBusy, verb)
	}
	return s.execute(c, arg, out)
}

// session returns the session of a number, making it at its first use, or nil
// and what to reply when there are too many.
func (st *Stream) session(n uint32) (_ *Session, refusal string) {
	if n == 0 {
		return &st.main, ""
	}
	if s := st.recent; s != nil && s.number == n { // requests of one come together, above all from a proxy
		return s, ""
	}
	if s := st.sessions[n]; s != nil {
		st.recent = s
		return s, ""
	}
	most := st.hub.cfg.MaxSessions
	if st.unidentified() {
		most = min(most, maxUnidentified)
	}
	share := st.account.share
	switch {
	case len(st.sessions)+1 >= most && st.door&linked == 0 || !st.hub.directory.room():
		st.counters.tooManySessions.Add(1)
		return nil, wire.TooManySessions
	case !share.TakeSession():
		st.counters.shareSessions.Add(1)
		st.short(sessionsShort)
		return nil, wire.TooManySessions
	case !st.takeMemory(sessionBytes):
		share.GiveSession()
		return nil, wire.ServerFullAlone
	}
	if st.sessions == nil {
		st.sessions = make(map[uint32]*Session)
	}
	s := new(Session)
	s.begin(st, n, Address{Name: st.Address() + "#" + strconv.FormatUint(uint64(n), 10), Process: st.Process()})
	st.sessions[n] = s
	s.appears()
	return s, ""
}

// prefix appends what a line for a session begins with: nothing in protocol 1.
func (s *Session) prefix(out []byte) []byte {
	if s.stream.multiplexed {
		return appendNumber(out, uint64(s.number))
	}
	return out
}

// appendNumber is apart so that prefix and item are small, and cost protocol 1
// nothing.
//
//go:noinline
func appendNumber(out []byte, session uint64) []byte {
	return append(strconv.AppendUint(out, session, 10), ' ')
}

// item appends what a line of a reply of many lines begins with.
func (s *Session) item(out []byte) []byte {
	if s.stream.multiplexed {
		return append(appendNumber(out, uint64(s.number)), wire.Item...)
	}
	return out
}

// end appends the line that ends a reply of many lines: none in protocol 1.
func (s *Session) end(out []byte) []byte {
	if s.stream.multiplexed {
		out = append(s.prefix(out), wire.End...)
	}
	return out
}
