package session

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/shard"
)

// A Stream is what a client says and hears over one connection: the state
// machine between its bytes and its sessions. In protocol 1 it has one
// session, in protocol 2 as many as the client makes.
//
// A Stream is used by one goroutine at a time, that of its carrier. What its
// sessions wait for may be decided by any other; then the carrier is woken, and
// calls Advance.
type Stream struct {
	hub      *Hub
	counters *counters
	carrier  Carrier // that it has begun with, see carriedBy
	turn     *Turn
	keeping  atomic.Pointer[keeping] // nil: it ends with its connection

	main        Session             // protocol 1's, and protocol 2's session 0
	sessions    map[uint32]*Session // protocol 2's others
	recent      *Session            // whom of these a request was for last; nil: nobody who is there
	multiplexed bool                // speaks protocol 2
	local       bool                // the client is on this machine
	door        door                // what is looked at before a request is executed
	begun       bool                // the client has sent something
	closing     bool                // the client is to be cut off
	stranger    stranger            // what it speaks instead of the protocol
	leaving     bool                // the client has closed its side: it waits for no lock
	last        bool                // it has been told of its last turn
	late        bool                // the client has come while the server drained
	turnedAway  bool                // the client was refused something for that
	tells       bool                // it is to be told that the server drains
	skipping    bool                // the rest of a line that was too long is passed over
	transport   string              // by which the client has come
	since       shard.Moment        // when
	kept        atomic.Int32        // bytes that are kept for it and count; who looks may read it
	ahead       uint64              // the largest fencing token that may be ahead of the clock; 0: none
	paused      uint64              // until when it pauses, in the clock's microseconds; 0: it does not

	unanswered atomic.Int32 // of a proxy's: requests that upstream is asked
	underWay   atomic.Int32 // bytes that are kept of them, and of the replies
	delayed    *delayed     // of a proxy's: what has to wait for that; nil: nothing
	apart      bool         // each reply is a message of its own
	chokes     bool         // of a proxy's: too much has come behind what is to be answered
	successor  *Stream      // with which the client goes on; nil: none
	link       *linkEnd     // of a link; nil: the client is no other node

	account *account // of the client; nil: the stream has ended

	partial []byte // the beginning of a line whose end has not come yet

	long      longReply  // what is left of a reply that is given out in pieces
	postponed *postponed // a request that is made again; nil: none

	mu    sync.Mutex  // guards ready, and writes to woken
	ready []*Session  // that can settle
	woken atomic.Bool // there are ready ones; to be read without the mutex

	notices atomic.Bool // the client wants to be told what it has not asked for
	overdue atomic.Bool // it has not resumed in time, see MustResume

	outdated atomic.Bool // it is to be told that there is a newer map
	reads    bool        // it has asked for the map, and wants to be told of newer ones

	rests atomic.Bool // the client has asked for the limits, see Rests
	node  atomic.Bool // it is another node of the cluster, see linked.go

	ends     atomic.Pointer[ending] // why it ends; nil: nobody has said that it does
	refusals *refusals              // the latest ones of a client; nil: none
}

// A Carrier moves the bytes of a stream.
type Carrier interface {
	// Wake has the carrier call Advance, since a session can go on. It may be
	// called by any goroutine, and does not block.
	Wake()
}

// A Turn is what the streams of one goroutine share while it serves each of
// them once.
type Turn struct {
	// Looks is how many times streams may still ask whether others' clients are
	// gone.
	Looks int

	asks      batch         // of a proxy: what a session asks upstream
	at        time.Duration // by the lease's clock; 0: nobody has looked
	righted   bool          // of a node: right is known
	right     bool          // it may serve
	held      *Stream       // of a node: of whom holds is known; nil: of nobody
	holds     bool          // it is not listened to, see isHeldBack
	elsewhere bool          // a request was not executed, as its name is served elsewhere, or not now
	now       shard.Moment  // when something was first asked of the table; 0: nothing was
	args      numbers       // of the request that is being executed
	asked     int           // holders that have been found out to be in the way
	holders   []uint32      // for one look
	carriers  []Carrier
	there     []Carrier // of holders of exclusive locks that have been looked at and are there
	shared    uint64    // the hash of the shared lock looked at last whose holders are all there; 0: none
	gone      Carrier   // whose client is gone, as the last look at such a one has found; nil: none
}

// Begin begins the next turn, with so many looks.
func (t *Turn) Begin(looks int) {
	t.Looks, t.asked, t.gone, t.now, t.at, t.righted, t.held = looks, 0, nil, 0, 0, false, nil
	t.Forget()
}

// moment is the time of all that the table is asked in this turn: nobody needs
// to know more exactly since when a lock is held, and a look at the clock takes as
// long as half a request.
func (t *Turn) moment(c *clock) shard.Moment {
	if t.now != 0 {
		return t.now
	}
	return t.readClock(c)
}

// clock is the time by which leases and the right to serve are judged in this turn.
func (t *Turn) clock() time.Duration {
	if t.at == 0 {
		t.at = lease.Now()
	}
	return t.at
}

//go:noinline
func (t *Turn) readClock(c *clock) shard.Moment {
	t.now = max(1, shard.MomentOf(c.milliseconds()))
	return t.now
}

// Forget has the turn look again at those who were there. A request that is read
// behind another one may have been sent after the look.
func (t *Turn) Forget() {
	clear(t.there)
	t.there, t.shared = t.there[:0], 0
}

// Begin makes a zero stream that of a client at an address.
func (st *Stream) Begin(h *Hub, addr Address, c Carrier, t *Turn) {
	st.hub, st.carrier, st.turn, st.local = h, c, t, addr.Local
	st.transport, st.since = addr.Transport, shard.MomentOf(h.clock.milliseconds())
	st.beginAccount(addr)
	st.main.begin(st, 0, addr)
	st.counters = h.countersOf(st.main.peer.id)
	if h.upstream != nil || h.node != nil {
		st.door |= forwards
	}
	if h.cfg.Authority != nil {
		st.arrive(addr)
	}
	if st.door&mustResume != 0 {
		st.awaitResume()
	}
}

// Address returns what stands for the client in replies.
func (st *Stream) Address() string { return st.main.peer.addr() }

// Process returns which process the client is, if it has connected to a unix
// socket and the system tells; else nil.
func (st *Stream) Process() Process { return st.main.peer.process() }

// Held returns how many locks the client's sessions hold, of both kinds. It goes
// over all of them.
func (st *Stream) Held() int {
	n := st.main.held()
	for _, s := range st.sessions {
		n += s.held()
	}
	return n
}

// Next is what a carrier does after Advance.
type Next uint8

// What comes next. Output is sent in any case, unless it says Early.
const (
	// Idle: there is nothing to do before more input comes.
	Idle Next = iota
	// More: the stream has had its turn. Advance again, with the rest, when the
	// others had theirs. Output may be kept until then.
	More
	// Full: the output is as much as may be pending. Send it, and Advance with
	// the rest.
	Full
	// Waiting: the client waits for a lock. Keep the rest, and Advance when
	// woken, or with the rest and what comes behind it.
	Waiting
	// Early: what has come out must be kept from the client, for as long as the
	// method Early says. Then Advance with the rest.
	Early
	// Last: the server shuts down and the client holds nothing. End the
	// connection unless there is input already; Advance with that.
	Last
	// Moved: the client has resumed another stream. Take its Successor, and Advance
	// that, with the rest and what has come out.
	Moved
	// Stalled: as much is under way as may be. Keep the rest, read nothing, and Advance
	// when woken.
	Stalled
	// Closing: end the connection, when the client has been sent what came out.
	Closing
)

// LongTurn is how long a turn gives out long replies, or settles sessions, but for the last piece.
const LongTurn = 500 * time.Microsecond

// Advance takes bytes from the client and appends the replies to out, in
// order. It returns what it has not taken, and out, and says what comes next.
//
// Its work is bounded: by what it is given, by the output, which passes its
// bound by one reply or a piece of a long one at most, and by the time that long
// replies, and sessions that settle, take. So a client that does not read costs no more than the bound, and
// a long reply is no more work at a time than a short one.
//
// A client gives up waiting when it has sent MaxBacklog behind the request.
//
// Advance overwrites in. What it needs of it later, it copies.
func (st *Stream) Advance(in, out []byte) (rest, _ []byte, next Next) {
	fed := len(in) > 0
	st.Notice()
	if !st.begun && fed {
		in = st.greet(in)
	}
	for began := (time.Time{}); ; {
		if st.woken.Load() {
			done := false
			if out, done = st.settleSome(out); !done {
				if began.IsZero() {
					began = time.Now()
				} else if time.Since(began) > LongTurn {
					return in, out, More
				}
				continue
			}
		}
		in, out, next = st.Answer(in, out)
		switch {
		case next == More || next == Full || next == Early:
			return in, out, next
		case st.Settles():
		case next == Idle && st.draining():
			return nil, out, st.Pause(fed)
		default:
			return in, out, next
		}
	}
}

// Answer is the part of Advance that takes input, and Settle the other one, for
// carriers that have to keep their replies apart. It never says Last: when both
// are done, Pause tells what comes next.
func (st *Stream) Answer(in, out []byte) (rest, _ []byte, next Next) {
	rest, out, next = st.answer(in, out)
	st.askUpstream()
	return rest, out, next
}

func (st *Stream) answer(in, out []byte) (rest, _ []byte, _ Next) {
	var began time.Time // giving out long replies
	for {
		switch {
		case st.Early() > 0:
			return in, out, Early
		case len(out) >= st.hub.frugal && len(out) >= st.hub.maxOutput():
			return in, out, Full
		case st.long != nil && !st.queued():
			if began.IsZero() {
				began = time.Now()
			} else if time.Since(began) > LongTurn {
				return in, out, More
			}
			out = st.goOn(out)
			continue
		case st.closing:
			st.askUpstream()
			if st.door&forwards != 0 && st.asksUpstream() { // these come first
				st.stopUpstream()
				return in, out, Stalled
			}
			if st.successor != nil {
				return in, out, Moved
			}
			return in, out, Closing
		case st.door&forwards != 0 && st.isHeldBack():
			return in, out, Stalled
		case st.door&forwards != 0 && st.stalls():
			return in, out, Stalled
		case st.delayed != nil:
			out = st.doDelayed(out)
			continue
		case st.waiting() || st.long != nil:
			st.askUpstream()
			if st.door&deaf != 0 {
				return nil, out, Waiting
			}
			if len(in) < MaxBacklog {
				return in, out, Waiting
			}
			out = st.GiveUp(out)
			continue
		case len(in) == 0:
			st.askUpstream()
			if st.door&forwards != 0 && st.leaving && st.asksUpstream() {
				return nil, out, Waiting
			}
			return nil, out, Idle
		}
		end := bytes.IndexByte(in, '\n')
		if end < 0 {
			in, out = nil, st.keep(in, out)
			continue
		}
		line := in[:end]
		in = in[end+1:]
		switch {
		case st.skipping:
			st.skipping = false
		case len(st.partial) > 0:
			if most := st.MaxLine(); len(st.partial)+len(line) > most {
				line = line[:most+1-len(st.partial)]
			}
			line = append(st.partial, line...)
			st.partial = line
			out = st.request(line, out)
			st.dropPartial()
		default:
			out = st.request(line, out)
		}
	}
}

// Pause tells what comes next where nothing is left to do of the carrier's
// input, if it had any.
func (st *Stream) Pause(fed bool) Next {
	switch {
	case st.draining() && st.outlives():
		if st.hub.ending.Load() || st.hub.node != nil { // other nodes serve it from now on
			return Closing
		}
		return Idle
	case !st.draining() || st.holds() || st.mayAsk():
		st.last = false
		return Idle
	case st.last && fed:
		return Closing
	}
	st.last = true
	return Last
}

// Close ends the stream and all its sessions.
func (st *Stream) Close() {
	for !st.CloseSome() {
	}
}

// CloseSome does a bounded part of what Close does, well under a millisecond,
// and tells whether the stream is closed. Nothing else may be done with a
// stream that is being closed; and nothing at all with one that is closed, as it may
// be kept, and another carrier have it.
func (st *Stream) CloseSome() bool {
	if st.account == nil {
		return true
	}
	if k := st.keeping.Load(); k != nil && st.detach(k) {
		return true
	}
	return st.closeSome()
}

func (st *Stream) closeSome() bool {
	st.endLong()
	st.endPostponed()
	st.closing = true
	work := 0
	for number, s := range st.sessions {
		work += sessionWork + s.held()
		if !s.closeSome() {
			return false
		}
		st.forget(number)
		if work >= closeStep {
			return false
		}
	}
	if !st.main.closeSome() {
		return false
	}
	if st.node.Load() {
		st.hub.node.partLink(st)
	}
	st.noteRest()
	st.unread()
	st.endKeeping()
	st.endAccount()
	return true
}

// forget drops a session that has ended.
func (st *Stream) forget(number uint32) {
	delete(st.sessions, number)
	st.recent = nil
}

// Multiplexed tells whether the client speaks protocol 2.
func (st *Stream) Multiplexed() bool { return st.multiplexed }

// Replying tells whether the reply that Advance has last given a part of is not
// all there yet.
func (st *Stream) Replying() bool { return st.long != nil }

// waiting tells whether the client is not listened to before something is
// decided. In protocol 2 other sessions go on while one waits for a lock. Who has
// closed its side is still told that a token was wrong.
func (st *Stream) waiting() bool {
	return st.postponed != nil || st.main.wait != nil && !st.multiplexed || st.leaving && st.door&denying != 0 ||
		st.door&forwards != 0 && st.awaitsUpstream()
}

// holds tells whether any session holds a lock or waits for anything.
func (st *Stream) holds() bool {
	if st.main.held() > 0 || st.main.wait != nil || st.postponed != nil || st.asksUpstream() {
		return true
	}
	for _, s := range st.sessions {
		if s.held() > 0 || s.wait != nil {
			return true
		}
	}
	return false
}

// MaxBacklog is how much input of a client that waits for a lock is kept. All of
// it is read, or the client's end would not be noticed behind it, and what it
// waits for would be granted to nobody.
const MaxBacklog = 64 << 10

// GiveUp ends what the stream waits for and appends the reply, since the client
// has sent as much behind it as may be kept. That a token was wrong is not told
// earlier by that.
func (st *Stream) GiveUp(out []byte) []byte {
	if st.queued() {
		st.long.(queued).hurry()
		return out
	}
	if st.postponed != nil {
		return st.makeAgain(out, true)
	}
	if st.door&denying != 0 {
		st.door |= deaf
		return out
	}
	if r := st.main.remote; r != nil && st.main.wait == nil { // what is no wait is not given up, but nothing more is taken
		st.chokes = true
		r.stop(false)
		return out
	}
	return st.main.cancelWait(out)
}

// queued tells whether the long reply waits for its turn.
func (st *Stream) queued() bool {
	q, ok := st.long.(queued)
	return ok && q.queued()
}

// GoesOn tells whether what a stream that is Waiting waits for is decided.
func (st *Stream) GoesOn() bool { return st.Settles() || st.long != nil && !st.queued() }

// goOn appends the next piece of the long reply.
func (st *Stream) goOn(out []byte) []byte {
	out, more := st.long.next(out)
	if !more {
		st.endLong()
	}
	return out
}

// Rest gives back what is not needed while the client does not read: memory, and a
// place in the queue for what one does at a time. Advance follows when it reads,
// also if the last one said Waiting.
func (st *Stream) Rest() {
	if st.long != nil {
		st.long.rest()
	}
}

func (st *Stream) endLong() {
	if st.long != nil {
		st.long.close()
		st.long = nil
	}
}
