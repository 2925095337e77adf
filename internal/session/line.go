package session

import (
	"bytes"

	"github.com/nylen/lockd/internal/wire"
)

// The lines of a stream, whole or in parts, one request each.

// keep copies the beginning of a line.
func (st *Stream) keep(in, out []byte) []byte {
	if st.skipping {
		return out
	}
	room := st.MaxLine() - len(st.partial)
	if len(in) > room {
		out = st.request(append(st.partial, in[:room+1]...), out)
		st.dropPartial()
		st.skipping = true
		return out
	}
	st.partial = append(st.partial, in...)
	return out
}

// keptPartial is how large a buffer for partial lines an idle stream keeps.
const keptPartial = 256

func (st *Stream) dropPartial() {
	if cap(st.partial) > keptPartial {
		st.partial = nil
	}
	st.partial = st.partial[:0]
}

// claimRoom is by how much a claim may be over the bound on lines: there is more in it than
// in the request by which the client got the lock, and no bound refuses a claim.
const claimRoom = 64

// MaxLine is the bound on the lines of the stream, of which some are bounded more, see
// execute.
func (st *Stream) MaxLine() int {
	if st.isKept() {
		return st.hub.cfg.MaxLine + claimRoom
	}
	return st.hub.cfg.MaxLine
}

func (st *Stream) isLongClaim(line []byte) bool {
	if len(line) > st.MaxLine() {
		return false
	}
	words := bytes.Fields(line[:min(len(line), claimRoom)])
	return len(words) > 1 && (string(words[1]) == wire.Claim || string(words[1]) == wire.Claims)
}

// tooLong answers a line that begins with start and is over the bound.
func (st *Stream) tooLong(start, out []byte) []byte {
	if wire.IsHTTPStart(start) {
		return st.refuseHTTP(out)
	}
	st.counters.tooLong.Add(1)
	if st.multiplexed {
		word, _ := wire.Parse(start)
		number, ok := sessionNumber(word)
		if !ok {
			return st.invalid(out)
		}
		out = appendNumber(out, number)
	}
	return append(out, wire.LineTooLong...)
}

func (st *Stream) refuseHTTP(out []byte) []byte {
	st.counters.http.Add(1)
	st.closing, st.stranger = true, strangerHTTP
	return append(out, wire.HTTPRefusal...)
}

// request executes one line, given without its newline, and appends the reply
// to out; a long one, and one that waits, comes later. It overwrites line.
func (st *Stream) request(line, out []byte) []byte {
	if st.door&forwards != 0 && (st.asksUpstream() || st.turn.asks.remote != nil) {
		return st.requestBehind(line, out)
	}
	return st.execute(line, out)
}

func (st *Stream) execute(line, out []byte) []byte {
	if len(line) > st.hub.cfg.MaxLine && !st.isLongClaim(line) {
		return st.tooLong(line[:st.hub.cfg.MaxLine], out)
	}
	verb, arg := wire.Parse(line)
	if len(verb) == 0 {
		return out
	}
	if st.multiplexed {
		return st.dispatch(verb, arg, out)
	}
	c := lookup(verb)
	if c == nil || c.flags&onlySessions != 0 {
		if wire.IsHTTP(arg) {
			return st.refuseHTTP(out)
		}
		st.counters.invalid.Add(1)
		return out
	}
	return st.main.execute(c, arg, out)
}
