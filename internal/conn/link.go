package conn

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// A link is a connection with its stream, for those that have a goroutine each.
// It sends what is pending before it waits for more input, so replies to
// pipelined requests share writes and none waits for the next request.
type link struct {
	server    *Server
	conn      net.Conn
	fd        int32 // of its socket, for looks whether the client is gone; -1: it has none
	transport Transport
	traffic   *traffic
	stream    *session.Stream // own, or one that its client has resumed; mu guards writes, and what others read
	own       session.Stream
	frames    *frames // nil: lines
	turn      session.Turn
	rest      []byte  // input that waits until a lock is granted
	out       *[]byte // replies that have not been sent; nil while there are none

	mu    sync.Mutex // guards what follows, and the read deadline
	woken bool       // the stream has something to do
	wake  sync.Cond  // woken, for when nothing is read any more
	ends  bool       // the stream is being closed, and is nobody's to look at any more
	over  bool       // it has ended: nobody interrupts a read any more
	late  bool       // nobody waits for its end when the server drains; guarded by the roster's

	ending atomic.Pointer[error] // why the server ends the connection; nil: it does not
	killed atomic.Bool           // it has been closed

	tcp     *net.TCPConn // what it is, or what is below it; nil: something else
	asked   atomic.Bool  // something was sent since a look found all of it confirmed
	sending atomic.Bool  // something is being sent, for as long as the client does not take it
	pingDue atomic.Bool  // a ping is to be sent
	wanted  atomic.Bool  // somebody has said so a moment ago
}

var (
	// errDrained ends a link whose server is shutting down, once it holds
	// nothing.
	errDrained = errors.New(shuttingDown)
	// errKicked ends a link since another client asks for it.
	errKicked = errors.New("kicked")
	// errDetached ends a link whose client has come over another one, or has to come
	// again.
	errDetached = errors.New("connect again")
	// errClosing ends a link whose stream cuts the client off.
	errClosing = errors.New("the client is cut off")
	// errKeepsTooMuch ends a link for which more would have to be kept than there
	// is memory for.
	errKeepsTooMuch = errors.New("no memory for what the client sends or does not read")
)

const shuttingDown = "the server is shutting down"

// drainGrace is how long a link that is to be ended is still read from, for
// requests that were under way.
const drainGrace = 50 * time.Millisecond

// ServeLines begins to serve a connection that carries requests as lines, which
// counts when it returns: on an event loop if there is one that takes it, else in
// a goroutine. The connection is closed when it ends.
func (s *Server) ServeLines(c net.Conn, t Transport) {
	p, ok := c.(*proxied)
	if !s.admit(t) {
		if ok {
			c = p.Conn // whatever it would begin with
		}
		go s.turnAway(c)
	} else if ok {
		go s.serveProxied(p, t)
	} else if !s.adopt(c, t, nil) {
		go s.serveLines(c, t)
	}
}

// serveLines serves a connection that was admitted.
func (s *Server) serveLines(c net.Conn, t Transport) {
	if l := s.newLink(c, t); l != nil {
		l.end(l.serve(nil))
	} else {
		c.Close()
	}
}

// newLink begins to serve a connection that was admitted. It returns nil if the
// server is shutting down.
func (s *Server) newLink(c net.Conn, t Transport) *link {
	l := &link{server: s, conn: c, fd: descriptor(c), transport: t, tcp: tcpOf(c)}
	l.stream = &l.own
	l.wake.L = &l.mu
	if !s.track(l) {
		s.leave(t)
		return nil
	}
	l.turn.Begin(looksEach)
	if l.late {
		l.stream.ComesLate()
	}
	s.reserve(l.stream)
	addr := address(c, t)
	addr.Asks, addr.Transport = s.asks(t, addr), t.String()
	l.stream.Begin(s.hub, addr, l, &l.turn)
	s.meet(l.stream, l, addr.Asks)
	l.traffic = s.trafficOf(s.admission.accepted[t].Load())
	s.hub.Occupy(l.takes())
	s.logConnected(l.stream, t)
	return l
}

// serve serves the connection until it ends, beginning with input that has come
// already, and tells why it has.
func (l *link) serve(early []byte) error {
	if l.tcp != nil {
		l.server.watched.add(l)
		defer l.server.watched.remove(l)
	}
	next, err := l.advance(early)
	var in input
	defer in.release()
	for err == nil {
		var n int
		p := in.buffer()
		n, err = l.read(p, next)
		if n > 0 || err == nil {
			var failed error
			if next, failed = l.advance(p[:n]); failed != nil {
				return failed
			}
		}
		in.fit(n)
	}
	if err == io.EOF {
		l.stream.HangUp()
		for next = session.Waiting; next == session.Waiting || next == session.Stalled; l.awaitWake(next) {
			var failed error
			if next, failed = l.advance(nil); failed != nil {
				return failed
			}
		}
	}
	return err
}

// move has the link go on with the stream that its client has resumed.
func (l *link) move() {
	to := l.stream.Successor()
	l.mu.Lock()
	l.stream = to
	l.mu.Unlock()
	if l.frames != nil {
		l.frames.move(to)
	}
	l.server.met(&l.own)
}

// look has another goroutine look at the stream, unless that is being closed: it may
// outlive the link then, and have another one.
func (l *link) look(f func(*session.Stream)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ends {
		f(l.stream)
	}
}

// rests tells whether the stream's client has asked for the limits, see Rests.
func (l *link) rests() (rests bool) {
	l.look(func(st *session.Stream) { rests = st.Rests() })
	return rests
}

// awaitWake waits until the link is woken, if its stream waits.
func (l *link) awaitWake(next session.Next) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for (next == session.Waiting || next == session.Stalled) && !l.woken {
		l.wake.Wait()
	}
	l.woken = false
}

// advance runs the stream over input, and over what has waited, and sends the
// replies, until it needs more input or has to be woken. While the client does
// not read, nothing is read from it either, and nobody else notices.
func (l *link) advance(in []byte) (session.Next, error) {
	if len(l.rest) > 0 {
		in = append(l.rest, in...)
	}
	// The next turn begins when one is over, as that one keeps those that were looked
	// at, and they keep theirs; and what comes later is not to be of its time.
	defer l.turn.Begin(looksEach)
	for ; ; l.turn.Begin(looksEach) {
		if why := l.ending.Load(); why != nil {
			l.drop()
			return session.Closing, *why
		}
		if l.killed.Load() {
			l.drop()
			return session.Closing, net.ErrClosed
		}
		if l.out == nil {
			l.out = outBuffers.Get().(*[]byte)
		}
		var next session.Next
		if l.pingDue.Load() && l.pingDue.Swap(false) {
			*l.out = appendPing(*l.out)
		}
		if l.frames != nil {
			in, *l.out, next = l.frames.Advance(in, *l.out)
		} else {
			in, *l.out, next = l.stream.Advance(in, *l.out)
		}
		switch next {
		case session.More:
			continue
		case session.Moved:
			l.move()
			continue
		case session.Early:
			time.Sleep(min(l.stream.Early(), earlyStep))
			continue
		}
		// With what there is to send the client may take its time.
		again := len(*l.out) > 0 && (next == session.Full || next == session.Waiting)
		if again {
			l.stream.Rest()
		}
		l.rest = append(l.rest[:0], in...)
		if len(in) == 0 {
			l.rest = nil
		}
		if !l.stream.Keeps(l.keeps()) {
			l.drop()
			return session.Closing, errKeepsTooMuch
		}
		l.server.uplinks.flush()
		if err := l.flush(); err != nil {
			return next, err
		}
		l.stream.Keeps(l.keeps())
		switch {
		case again:
			in = l.rest
		case next == session.Closing:
			return next, errClosing
		default:
			return next, nil
		}
	}
}

// What a link takes beside its stream: the goroutine's stack, the buffer for input,
// a small one for replies; and what crypto/tls keeps.
const (
	linkBytes    = 8<<10 + largeInput + smallOut
	linkTLSBytes = 32 << 10
)

// takes is how many bytes that is.
func (l *link) takes() int {
	if l.transport == TLS || l.transport == WSS {
		return linkBytes + linkTLSBytes
	}
	return linkBytes
}

// keeps is how many bytes are kept for the connection besides.
func (l *link) keeps() int {
	n := cap(l.rest)
	if l.out != nil {
		n += max(0, cap(*l.out)-smallOut)
	}
	if l.frames != nil {
		n += l.frames.keeps()
	}
	return n
}

// earlyStep is how long a link waits for the time of a grant without a look at
// whether it is killed.
const earlyStep = 10 * time.Millisecond

// read waits for input. It returns without any when the link was woken, and
// fails with errDrained after the last turn.
func (l *link) read(p []byte, next session.Next) (int, error) {
	if next == session.Last {
		l.mu.Lock()
		if !l.woken {
			l.conn.SetReadDeadline(time.Now().Add(drainGrace))
		}
		l.mu.Unlock()
	}
	if next == session.Stalled {
		l.awaitWake(next)
		return 0, nil
	}
	n, err := l.conn.Read(p)
	l.traffic.in.Add(uint64(n))
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		return n, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.woken && next == session.Last {
		return 0, errDrained
	}
	l.woken = false
	l.conn.SetReadDeadline(time.Time{})
	return 0, nil
}

// Wake implements session.Carrier: it interrupts read, or awaitWake. Who releases a lock may
// come to wake its next holder when that has ended: the connection parts then,
// and a deadline would reset it.
func (l *link) Wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.woken = true
	l.wake.Signal()
	if !l.over {
		l.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// end sends what is pending and ends the connection, politely if it is the
// server that ends it. The locks and the place go before the connection: who
// sees it end finds them free.
func (l *link) end(err error) {
	switch {
	case vanished(err):
		l.server.logDead(l.stream, 0)
	case err == errKeepsTooMuch || err == errClosing:
		l.stream.EndsFor(session.WhyCutOff)
	}
	if last := l.lastWord(err); last != nil {
		l.out = outBuffers.Get().(*[]byte)
		*l.out = last(*l.out)
	}
	l.flush()
	l.server.logDisconnected(l.stream)
	l.mu.Lock()
	l.ends = true
	l.mu.Unlock()
	l.stream.Close()
	l.server.uplinks.flush()
	l.server.hub.Occupy(-l.takes())
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.server.met(&l.own)
	l.server.leave(l.transport)
	if err == errDrained || err == errClosing || l.ending.Load() != nil {
		l.server.part(l.conn)
	} else {
		l.conn.Close()
	}
	l.server.untrack(l)
}

// lastWord is what frames tell of the end of the connection.
func (l *link) lastWord(err error) func([]byte) []byte {
	switch {
	case l.frames == nil:
	case err == errDrained:
		return l.frames.goAway
	case l.ending.Load() != nil:
		return func(out []byte) []byte { return l.frames.endFor(out, *l.ending.Load()) }
	}
	return nil
}

// endFor ends the connection, and does not wait for a client that does not read for
// long.
func (l *link) endFor(why error) {
	l.ending.CompareAndSwap(nil, &why)
	l.Wake()
	time.AfterFunc(partingWait, l.kill)
}

// kill ends the connection, and what waits for it. It closes what is below TLS, whose
// own Close may wait for a client that does not read.
func (l *link) kill() {
	socket(l.conn).Close()
	l.killed.Store(true)
	l.Wake()
}

// outBuffers are the buffers for replies. An idle connection has none.
var outBuffers = sync.Pool{New: func() any { b := make([]byte, 0, smallOut); return &b }}

// smallOut is how large they are at first.
const smallOut = 4 << 10

// keptOut is how large a buffer for replies may be to be used again.
const keptOut = 256 << 10

func recycle(out *[]byte) {
	if cap(*out) <= keptOut {
		*out = (*out)[:0]
		outBuffers.Put(out)
	}
}

// flush sends the pending replies.
func (l *link) flush() error {
	if l.out == nil {
		return nil
	}
	var n int
	var err error
	if len(*l.out) > 0 {
		l.sending.Store(true)
		n, err = l.conn.Write(*l.out)
		l.traffic.out.Add(uint64(n))
		if !l.asked.Load() {
			l.asked.Store(true)
		}
		l.sending.Store(false)
	}
	l.drop()
	return err
}

// drop gives back the buffer for replies.
func (l *link) drop() {
	if l.out != nil {
		recycle(l.out)
		l.out = nil
	}
}
