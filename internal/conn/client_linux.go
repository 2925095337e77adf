//go:build linux && !noloop

package conn

import (
	"bytes"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// A client is a connection on an event loop. Only the loop's goroutine uses
// it.
type client struct {
	loop      *loop
	fd        int32
	place     uint32 // in the loop's clients
	serial    int32  // tells it from others that had the place
	transport Transport
	next      session.Next // what comes after the last turn
	watched   uint32       // the events that epoll watches for; 0: it does not know the client
	queued    bool         // among the loop's busy ones
	blocked   bool         // out waits until the client reads
	hungUp    bool         // the client has closed its side
	ended     bool         // the session is being closed
	politely  bool         // hang up instead of closing, once it is closed
	gone      bool         // the connection is closed, too
	late      bool         // nobody waits for its end when the server drains
	asked     bool         // something was sent since a look found all of it confirmed
	unheard   bool         // at the last look something was unanswered

	wanted atomic.Bool // somebody has said so a moment ago

	parting *parting // what is left of a connection whose session is closed; nil: nothing

	stream *session.Stream // own, or one that its client has resumed
	own    session.Stream
	frames *frames // nil: lines
	in     []byte  // input that waits until out is sent, a reply given out, or a lock granted
	out    *[]byte // replies that have not been sent; nil while there are none
	sent   int     // how much of out has been
}

// event handles what epoll reports. A client that is neither ended nor blocked
// gets a turn, whatever it is believed to wait for: so its end is noticed, and
// what was missed is made up for.
func (c *client) event(events uint32) {
	switch {
	case c.parting != nil:
		c.part()
	case c.ended:
	case events&syscall.EPOLLERR != 0:
		c.noteDead()
		c.end(false)
	case c.blocked:
		c.resume()
	case !c.queued: // or it has its turn in any case
		c.work()
	}
}

// Wake implements session.Carrier.
func (c *client) Wake() { c.loop.post(task{what: wakeClient, client: c}) }

// lastEvent handles what epoll reports with the end of the connection: what was
// sent before that, and the end, at once if that is little.
func (c *client) lastEvent(events uint32) {
	c.event(events)
	for range lastTurns {
		if c.ended || c.blocked || c.queued {
			return
		}
		c.work()
	}
}

// lastTurns is how many turns a client gets at once when it has closed its side:
// one for what it has sent, one for the end.
const lastTurns = 2

// goneFromLoops looks which of some clients has closed its side, whichever loops
// they are on, or in a goroutine, as those within TLS: the kernel knows before a
// loop comes to it. If the descriptor is another connection's already, the session
// has ended, as who asks finds out.
func goneFromLoops(carriers []session.Carrier) int {
	fds := make([]pollFD, 0, pollMost)
	for _, carrier := range carriers {
		fd := int32(-1) // which poll passes over
		switch c := carrier.(type) {
		case *client:
			fd = c.fd
			if c.loop.calling.Load() == c && c.transport != Unix {
				settleSocket(fd)
			}
		case *link:
			if fd = c.fd; fd >= 0 {
				settleSocket(fd) // nobody knows whether its goroutine is within a call
			}
		}
		fds = append(fds, pollFD{fd: fd, events: pollRDHUP})
	}
	poll(fds)
	return slices.IndexFunc(fds, func(p pollFD) bool { return p.revents != 0 })
}

// endFor ends the connection, whatever the client does.
func (c *client) endFor(why error) {
	if c.frames != nil && !c.ended && !c.blocked {
		c.send(c.frames.endFor(nil, why))
	}
	c.end(true)
}

// releaseClient has nobody wait for a client's end when the server drains. It is called
// on its loop's goroutine.
func (s *Server) releaseClient(carrier session.Carrier) {
	if c, ok := carrier.(*client); ok {
		s.release(&c.late)
	}
}

// endFromLoop ends a client, which may have ended already.
func endFromLoop(carrier session.Carrier, why error) {
	if c, ok := carrier.(*client); ok {
		c.loop.post(task{what: endClient, client: c, why: why})
	}
}

// call notes that a system call about the client comes next, for goneFromLoops.
func (c *client) call() {
	if l := c.loop; l.calling.Load() != c { // a store costs more
		l.calling.Store(c)
	}
}

// woken goes on when something that the client waited for is decided.
func (c *client) woken() {
	if !c.ended && !c.blocked { // resume goes on, too
		c.goOn()
	}
}

// goOn advances over the input that waited.
func (c *client) goOn() {
	in := c.in
	c.in = nil
	c.advance(in, true)
}

// work is a turn.
func (c *client) work() {
	switch {
	case c.gone || c.parting != nil:
	case c.ended:
		c.close()
	case c.blocked:
	case c.next == session.More || c.next == session.Full || c.next == session.Early:
		c.goOn()
	default:
		c.read()
	}
}

// read takes one turn's worth of input. It does so also while the client waits
// for a lock: as long as any input is unread, its end comes behind that.
func (c *client) read() {
	c.call()
	n, errno := read(int(c.fd), c.loop.in)
	switch {
	case errno == syscall.EINTR:
		c.loop.queue(c)
	case errno == syscall.EAGAIN:
		if c.next == session.Last {
			c.endDrained()
		}
	case errno != 0:
		c.noteFailed(errno)
		c.end(false)
	case n == 0:
		c.hungUp = true
		c.stream.HangUp()
		c.goOn()
		if !c.ended && (c.next == session.Waiting || c.next == session.Stalled) {
			_ = c.watch(0) // its end is known, and would be an event until it is answered
		}
	default:
		c.loop.traffic.in.Add(uint64(n))
		if bytes.IndexByte(c.loop.in[:n], '\n') < n-1 {
			c.loop.shared.Forget()
		}
		if len(c.in) > 0 {
			c.in = append(c.in, c.loop.in[:n]...)
			c.goOn()
		} else {
			c.advance(c.loop.in[:n], false)
		}
	}
}

// advance gives the stream a turn, with input, and sends the replies. own tells
// whether in is the client's own, else it is the loop's.
func (c *client) advance(in []byte, own bool) {
	c.exchange(in, own)
	if !c.ended && !c.stream.Keeps(c.keeps()) {
		c.cutOff(false)
	}
}

// keeps is how many bytes are kept for the connection.
func (c *client) keeps() int {
	n := cap(c.in)
	if c.out != nil {
		n += cap(*c.out)
	}
	if c.frames != nil {
		n += c.frames.keeps()
	}
	return n
}

func (c *client) exchange(in []byte, own bool) {
	l := c.loop
	out := l.out[:0]
	if c.out != nil {
		out = append(out, *c.out...)
		c.dropOut()
	}
	in, out = c.feed(in, out)
	if c.next == session.Moved {
		c.move()
		in, out = c.feed(in, out)
	}
	if c.next == session.Early || c.next == session.More {
		c.keep(in, own, out)
		l.queue(c)
		return
	}
	sent, ok := c.send(out)
	if !ok {
		c.end(false)
		return
	}
	if sent < len(out) {
		c.keep(in, own, out[sent:])
		c.stream.Rest()
		c.block(true)
		return
	}
	l.out = out // it may have grown
	c.keepIn(in, own)
	if c.watched == 0 && c.next != session.Stalled && !c.hungUp && !c.ended {
		c.block(false)
	}
	switch c.next {
	case session.Stalled:
		_ = c.watch(0) // it is woken
	case session.Closing:
		c.cutOff(!c.hungUp) // nothing is unread, and nobody there to wait for
	case session.Full:
		l.queue(c)
	case session.Idle, session.Last:
		// All replies to what was sent are on their way.
		if c.hungUp {
			c.end(false)
		} else if c.next == session.Last {
			l.queue(c) // to read what is there
		}
	}
}

// feed has the stream take input.
func (c *client) feed(in, out []byte) (rest, _ []byte) {
	if c.frames != nil {
		in, out, c.next = c.frames.Advance(in, out)
	} else {
		in, out, c.next = c.stream.Advance(in, out)
	}
	return in, out
}

// move has the client go on with the stream that it has resumed.
func (c *client) move() {
	c.stream = c.stream.Successor()
	if c.frames != nil {
		c.frames.move(c.stream)
	}
	c.loop.server.met(&c.own)
}

// endDrained ends the connection since the server is shutting down and the
// client holds nothing.
func (c *client) endDrained() {
	if c.frames != nil {
		c.send(c.frames.goAway(nil))
	}
	c.end(true)
}

// keep keeps what waits for another turn.
func (c *client) keep(in []byte, own bool, out []byte) {
	c.keepIn(in, own)
	c.out, c.sent = outBuffers.Get().(*[]byte), 0
	*c.out = append((*c.out)[:0], out...)
}

// keptInput is how much input is copied rather than kept in the buffer that it
// is in.
const keptInput = 4 << 10

func (c *client) keepIn(in []byte, own bool) {
	switch {
	case len(in) == 0:
		in = nil
	case !own || len(in) <= keptInput: // or a little of it would hold all that it was
		in = append([]byte(nil), in...)
	}
	c.in = in
}

func (c *client) dropOut() {
	recycle(c.out)
	c.out = nil
}

// block stops reading until the client reads, or goes on.
func (c *client) block(blocked bool) {
	c.blocked = blocked
	events := uint32(listening)
	if blocked {
		events = syscall.EPOLLOUT
	}
	if err := c.watch(events); err != nil {
		c.unwatched(err)
	}
}

// unwatched ends a connection that epoll does not take, which has a limit of its
// own.
func (c *client) unwatched(err error) {
	l := c.loop
	if n := l.unwatched.now(); n > 0 {
		l.server.cfg.Logger.Error("cannot watch a connection", "client", c.stream.Address(), "err", err, "failures", n)
	}
	c.cutOff(false)
}

// listening is what epoll watches for unless something is in the way.
const listening = syscall.EPOLLIN | syscall.EPOLLRDHUP

// watch tells epoll which events of a client matter, 0 for none. Its place and
// serial number come back with them.
func (c *client) watch(events uint32) error {
	op := syscall.EPOLL_CTL_MOD
	switch {
	case events == c.watched:
		return nil
	case events == 0:
		op = syscall.EPOLL_CTL_DEL
	case c.watched == 0:
		op = syscall.EPOLL_CTL_ADD
	}
	ev := syscall.EpollEvent{Events: events, Fd: int32(c.place), Pad: c.serial}
	if errno := epollControl(c.loop.epoll, op, int(c.fd), &ev); errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	c.watched = events
	return nil
}

// resume goes on once the client reads again.
func (c *client) resume() {
	sent, ok := c.send((*c.out)[c.sent:])
	if !ok {
		c.end(false)
		return
	}
	if c.sent += sent; c.sent < len(*c.out) {
		return
	}
	c.dropOut()
	c.block(false)
	if c.ended {
		return
	}
	c.goOn()
}

// send sends what the client takes of out and tells whether it is still
// there.
func (c *client) send(out []byte) (sent int, ok bool) {
	if len(out) == 0 {
		return 0, true
	}
	c.call()
	n, errno := write(int(c.fd), out)
	switch errno {
	case 0:
		if !c.asked {
			c.asked = true
			c.loop.beginSweep()
		}
		c.loop.traffic.out.Add(uint64(n))
		return n, true
	case syscall.EAGAIN, syscall.EINTR:
		return 0, true
	}
	c.noteFailed(errno)
	return 0, false
}

// cutOff ends the connection since the server does not go on with it.
func (c *client) cutOff(politely bool) {
	c.stream.EndsFor(session.WhyCutOff)
	c.end(politely)
}

// end ends the connection, politely if it is the server that ends it. The
// locks and the place go before the connection: who sees it end finds them
// free.
func (c *client) end(politely bool) {
	if c.ended {
		return
	}
	c.ended, c.politely = true, politely
	c.in = nil
	if c.out != nil {
		c.dropOut()
	}
	c.loop.server.logDisconnected(c.stream)
	c.loop.ending++
	c.close()
}

// close does a turn's worth of closing the session.
func (c *client) close() {
	if !c.stream.CloseSome() {
		_ = c.watch(0) // it was watched, or could not be
		c.loop.queue(c)
		return
	}
	c.loop.ending--
	c.loop.server.met(&c.own)
	c.loop.server.leave(c.transport)
	if c.politely && !c.loop.cut && c.loop.server.mayPart() {
		c.beginParting()
	} else {
		c.shut()
	}
}

// shut closes the connection, which leaves epoll by that: a loop has the only
// descriptor.
func (c *client) shut() {
	c.gone = true
	closeSocket(int(c.fd))
	c.loop.free(c)
}

// A parting is a connection that ends, see partingWait.
type parting struct {
	timer *time.Timer
	bytes int // of input that was passed over
}

func (c *client) beginParting() {
	c.parting = &parting{}
	syscall.Shutdown(int(c.fd), syscall.SHUT_WR)
	if c.watch(listening) != nil { // what there is to pass over is an event
		c.endParting()
		return
	}
	l := c.loop
	c.parting.timer = time.AfterFunc(partingWait, func() { l.post(task{what: endParting, client: c}) })
}

// part passes over input, until the client closes its side too.
func (c *client) part() {
	n, errno := read(int(c.fd), c.loop.in)
	c.parting.bytes += max(0, n)
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
	case errno != 0 || n == 0 || c.parting.bytes >= partingBytes:
		c.endParting()
	}
}

// endParting closes the connection, whatever the client does.
func (c *client) endParting() {
	if c.gone {
		return
	}
	if c.parting.timer != nil {
		c.parting.timer.Stop()
	}
	c.loop.server.parted()
	c.shut()
}
