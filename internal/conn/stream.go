package conn

import (
	"bytes"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// A Stream is what a client says and hears over one connection: the state
// machine between its bytes and its sessions. In protocol 1 it has one
// session, in protocol 2 as many as the client makes.
//
// A Stream is used by one goroutine at a time. A session of it that waits for
// a lock may be served by any other; then the stream's waker is told, and its
// goroutine calls Settle.
type Stream struct {
	hub   *Hub
	tally *tally
	waker waker

	main        Session             // protocol 1's, and protocol 2's session 0
	sessions    map[uint32]*Session // protocol 2's others
	multiplexed bool                // speaks protocol 2
	closing     bool
	leaving     bool   // the client has closed its side: it waits for nothing
	ahead       uint64 // the largest fencing token that may be ahead of the clock; 0: none

	partial  []byte // the beginning of a line whose end has not come yet
	skipping bool   // the rest of a line that was too long is passed over

	listing   listing  // the rest of a reply that is given out in pieces
	lister    *Session // whose reply that is
	listLines bool     // it has a line for each thing listed

	mu     sync.Mutex  // guards mail, and writes to mailed
	mail   []*Session  // that can settle
	mailed atomic.Bool // there is mail; to be read without the mutex
}

// A waker tells the transport of a stream that Settle has something to do. It
// may be called by any goroutine, and does not block.
type waker interface{ wake() }

// NewStream makes the stream of a client at addr.
func (h *Hub) NewStream(addr string, w waker) *Stream {
	st := new(Stream)
	st.begin(h, addr, w)
	return st
}

func (st *Stream) begin(h *Hub, addr string, w waker) {
	st.hub, st.waker = h, w
	st.main.begin(st, 0, addr)
	st.tally = h.tallyOf(st.main.peer.id)
}

// Close ends the stream and all its sessions.
func (st *Stream) Close() {
	for !st.CloseSome() {
	}
}

// CloseSome does a bounded part of what Close does, well under a millisecond,
// and tells whether the stream is closed. Nothing else may be done with a
// stream that is being closed.
func (st *Stream) CloseSome() bool {
	st.endListing()
	st.closing = true
	work := 0
	for number, s := range st.sessions {
		work += sessionWork + s.owner.Held()
		if !s.closeSome() {
			return false
		}
		delete(st.sessions, number)
		if work >= closeStep {
			return false
		}
	}
	return st.main.closeSome()
}

// Closing tells whether the client has to be cut off, once it has been sent
// the replies so far.
func (st *Stream) Closing() bool { return st.closing }

// Listing tells whether a reply is not all there yet: Continue appends more
// of it, and Feed takes nothing before it is all there.
func (st *Stream) Listing() bool { return st.listing != nil }

// Waiting tells whether the client waits for a lock and is not listened to
// before that is decided. In protocol 2 other sessions go on.
func (st *Stream) Waiting() bool { return st.main.wait != nil && !st.multiplexed }

// Holds tells whether any session holds a lock or waits for one.
func (st *Stream) Holds() bool {
	if st.main.owner.Held() > 0 || st.main.wait != nil {
		return true
	}
	for _, s := range st.sessions {
		if s.owner.Held() > 0 || s.wait != nil {
			return true
		}
	}
	return false
}

// Feed takes bytes from the client and appends the replies to out, in order.
// It returns what it has not taken, and out.
//
// It stops when out has grown to the bound on pending output, which it may
// pass by one reply, at a request whose reply is given out in pieces, at one
// that waits, and at a grant that comes too early. The caller then sends what
// there is, or calls Continue until Listing is false, or Settle until Waiting
// is, or waits for as long as Early says, and calls again with the rest. So a
// client that does not read costs no more than the bound, and a long reply is no
// more work at a time than a short one.
//
// A client gives up waiting when it has sent maxBacklog behind the request.
//
// Feed overwrites in. What it needs of it later, it copies.
func (st *Stream) Feed(in, out []byte) (rest, _ []byte) {
	for {
		if len(in) == 0 || st.closing || st.listing != nil || len(out) >= st.hub.cfg.MaxOutput || st.Early() > 0 {
			return in, out
		}
		if st.Waiting() {
			if len(in) < maxBacklog {
				return in, out
			}
			out = st.CancelWait(out)
			continue
		}
		end := bytes.IndexByte(in, '\n')
		if end < 0 {
			return nil, st.keep(in, out)
		}
		line := in[:end]
		in = in[end+1:]
		switch {
		case st.skipping:
			st.skipping = false
			continue
		case len(st.partial) > 0:
			if len(st.partial)+len(line) > st.hub.cfg.MaxLine {
				out = st.tooLong(append(st.partial, line[:st.hub.cfg.MaxLine-len(st.partial)]...), out)
			} else {
				line = append(st.partial, line...)
				st.partial = line
				out = st.Request(line, out)
			}
			st.dropPartial()
		default:
			out = st.Request(line, out)
		}
	}
}

// maxBacklog is how much input of a client that waits for a lock is kept. All of
// it is read, or the client's end would not be noticed behind it, and what it
// waits for would be granted to nobody.
const maxBacklog = 64 << 10

// keep copies the beginning of a line.
func (st *Stream) keep(in, out []byte) []byte {
	if st.skipping {
		return out
	}
	room := st.hub.cfg.MaxLine - len(st.partial)
	if len(in) > room {
		out = st.tooLong(append(st.partial, in[:room]...), out)
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

// tooLong answers a line that begins with start and is over the bound.
func (st *Stream) tooLong(start, out []byte) []byte {
	if wire.IsHTTPStart(start) {
		return st.refuseHTTP(out)
	}
	st.tally.tooLong.Add(1)
	if st.multiplexed {
		word, _ := wire.Parse(start)
		number, rest, ok := wire.Number(word)
		if !ok || len(rest) > 0 || number > maxSessionNumber {
			return st.invalid(out)
		}
		out = append(strconv.AppendUint(out, number, 10), ' ')
	}
	return append(out, wire.LineTooLong...)
}

func (st *Stream) refuseHTTP(out []byte) []byte {
	st.tally.http.Add(1)
	st.closing = true
	return append(out, wire.HTTPRefusal...)
}

// Request executes one line, given without its newline, and appends the reply
// to out; a reply that is given out in pieces is had from Continue, all of it,
// and one that waits from Settle. It overwrites line.
func (st *Stream) Request(line, out []byte) []byte {
	if len(line) > st.hub.cfg.MaxLine {
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
		st.tally.invalid.Add(1)
		return out
	}
	return st.main.execute(c, arg, out)
}

// execute runs a command.
func (s *Session) execute(c *command, arg, out []byte) []byte {
	if c.flags != 0 {
		st := s.stream
		if c.flags&counted != 0 {
			st.tally.commands[c.number].Add(1)
		}
		if c.flags&needsDump != 0 && s.hub.cfg.DisableDump ||
			c.flags&needsRegistry != 0 && s.hub.cfg.DisableRegistry {
			return append(out, wire.Disabled...)
		}
	}
	return c.do(s, arg, out)
}

// Continue appends the next piece of the reply for which Listing is true.
func (st *Stream) Continue(out []byte) []byte {
	from := len(out)
	out, more := st.listing.next(st.hub, out)
	if st.multiplexed && st.listLines {
		out = st.prefixLines(out, from, st.lister)
		if !more {
			out = st.endLines(out, st.lister)
		}
	}
	if !more {
		st.endListing()
	}
	return out
}

// Rest gives back memory that is not needed while the client does not read.
func (st *Stream) Rest() {
	if st.listing != nil {
		st.listing.rest()
	}
}

func (st *Stream) endListing() {
	if st.listing != nil {
		st.listing.close()
		st.listing, st.lister = nil, nil
	}
}

// post notes that a session can settle. Any goroutine may call it.
//
// mailed becomes true under the mutex: who was not the first to post tells
// nobody, so if its mail were settled before it had set the flag, that would
// stay true, and the transport wait for mail that has been taken.
func (st *Stream) post(s *Session) {
	st.mu.Lock()
	st.mail = append(st.mail, s)
	first := len(st.mail) == 1
	st.mailed.Store(true)
	st.mu.Unlock()
	if first {
		st.waker.wake()
	}
}

// Settles tells whether Settle has something to do now.
func (st *Stream) Settles() bool { return st.mailed.Load() && st.listing == nil }

// Settle appends the replies of the sessions whose waits are over, until out
// has grown to the bound on pending output, which it may pass by one reply, or a
// grant comes too early. It does nothing while a reply is given out in pieces:
// theirs come after it.
func (st *Stream) Settle(out []byte) []byte {
	for st.Settles() && len(out) < st.hub.cfg.MaxOutput && st.Early() == 0 {
		if s := st.takeMail(); s != nil {
			out = s.settle(out)
		}
	}
	return out
}

// takeMail returns who is next. If the flag was wrong, which must not be but
// would hang the connection, it returns nil and puts it right.
func (st *Stream) takeMail() *Session {
	st.mu.Lock()
	defer st.mu.Unlock()
	var first *Session
	if len(st.mail) > 0 {
		first, st.mail = st.mail[0], st.mail[1:]
	}
	if len(st.mail) == 0 {
		st.mail = nil
		st.mailed.Store(false)
	}
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
	if st.ahead == 0 {
		return 0
	}
	return st.early()
}

func (st *Stream) early() time.Duration {
	early := st.hub.clock.until(st.ahead)
	if early == 0 {
		st.ahead = 0
	}
	return early
}

// CancelWait ends the wait for which Waiting is true.
func (st *Stream) CancelWait(out []byte) []byte { return st.main.cancelWait(out) }

// HangUp is called when the client has closed its side: it stands in no line
// any more, and gets the replies to what it has sent. Settle ends its waits.
func (st *Stream) HangUp() {
	st.leaving = true
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.main.wait != nil {
		st.mail = append(st.mail, &st.main)
	}
	for _, s := range st.sessions {
		if s.wait != nil {
			st.mail = append(st.mail, s)
		}
	}
	st.mailed.Store(len(st.mail) > 0)
}
