//go:build linux && !noloop

package conn

import (
	"syscall"
	"time"
)

// A client is a connection on an event loop. Only the loop's goroutine uses
// it.
type client struct {
	loop      *loop
	fd        int32
	place     uint32 // in the loop's clients
	serial    int32  // tells it from others that had the place
	transport Transport
	queued    bool // among the loop's busy ones
	blocked   bool // out waits until the client reads
	ended     bool // the session is being closed
	politely  bool // hang up instead of closing, once it is closed
	last      bool // the server is shutting down, and this is the last turn
	gone      bool // the connection is closed, too

	parting *parting // what is left of a connection whose session is closed; nil: nothing

	stream Stream
	in     []byte  // input that waits until out is sent, a listing given out, or a lock granted
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
		c.end(false)
	case c.blocked:
		c.resume()
	case !c.stream.Waiting():
		if !c.queued { // or it has its turn in any case
			c.work()
		}
	case events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP) != 0:
		// Who has closed its side stands in no line, and gets its replies.
		c.hangUp()
	default:
		c.readBehind()
	}
}

// pending tells whether there is something to do before reading on.
func (c *client) pending() bool {
	return c.out != nil || len(c.in) > 0 || c.stream.Listing() || c.stream.Waiting() || c.stream.Settles()
}

// wake implements waker.
func (c *client) wake() { c.loop.post(letter{what: wakeClient, client: c}) }

// woken goes on when a lock that the client waited for was granted, or not.
func (c *client) woken() {
	if c.gone || c.ended || c.blocked || !c.pending() {
		return // resume settles, or an earlier turn has
	}
	c.goOn()
}

// goOn advances over the input that waited.
func (c *client) goOn() {
	in := c.in
	c.in = nil
	c.advance(in, true)
}

// hangUp cancels waits of a client that has closed its side.
func (c *client) hangUp() {
	c.stream.HangUp()
	c.goOn()
}

// work is a turn without an event.
func (c *client) work() {
	switch {
	case c.gone || c.parting != nil:
	case c.ended:
		c.close()
	case c.blocked:
	case c.pending():
		c.goOn()
	default:
		c.read()
	}
}

// read takes one turn's worth of input.
func (c *client) read() {
	n, errno := read(int(c.fd), c.loop.in)
	switch {
	case errno == syscall.EINTR:
		c.loop.queue(c)
	case errno == syscall.EAGAIN:
		if c.loop.draining && !c.stream.Holds() {
			c.end(true)
		}
	case n == 0 && errno == 0 && c.stream.Holds() && !c.stream.leaving:
		c.hangUp() // there may be waits; then it is read again
	case errno != 0 || n == 0:
		// All replies to what was sent are on their way: nothing is read while
		// any is pending.
		c.end(false)
	default:
		c.stream.tally.bytesIn.Add(uint64(n))
		c.advance(c.loop.in[:n], false)
	}
}

// readBehind reads what a client sends behind a request that waits, for its end
// to be noticed: as long as any input is unread, that comes behind it.
func (c *client) readBehind() {
	n, errno := read(int(c.fd), c.loop.in)
	switch {
	case errno == syscall.EINTR || errno == syscall.EAGAIN:
	case errno != 0:
		c.end(false)
	case n == 0:
		c.hangUp()
	default:
		c.stream.tally.bytesIn.Add(uint64(n))
		c.in = append(c.in, c.loop.in[:n]...)
		if len(c.in) >= maxBacklog {
			c.goOn()
		}
	}
}

// longTurn is how long a turn gives out long replies, but for the last piece.
const longTurn = 500 * time.Microsecond

// advance runs the session over input, and over what is left of a long reply,
// and sends the replies, until there is no more to do, the client does not
// read, or its turn is over: when it has been sent as many replies as may be
// pending, long replies have taken their time, or a grant comes too early. own
// tells whether in is the client's own, else it is the loop's.
func (c *client) advance(in []byte, own bool) {
	l := c.loop
	out := l.out[:0]
	if c.out != nil {
		out = append(out, *c.out...)
		c.dropOut()
	}
	var listing time.Time // since when long replies are given out
	for over := false; ; {
		out = c.stream.Settle(out)
		in, out = c.stream.Feed(in, out)
		for !over && c.stream.Listing() && len(out) < l.hub.cfg.MaxOutput {
			if listing.IsZero() {
				listing = time.Now()
			}
			out = c.stream.Continue(out)
			over = time.Since(listing) > longTurn
		}
		if c.stream.Early() > 0 {
			c.keep(in, own, out)
			l.queue(c)
			return
		}
		done := !c.stream.Listing() && !c.stream.Settles() &&
			(len(in) == 0 || c.stream.Waiting() || c.stream.Closing())
		if done || len(out) >= l.hub.cfg.MaxOutput {
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
			out = out[:0]
			over = true
		}
		if done {
			c.pause(in, own)
			return
		}
		if over {
			c.keep(in, own, out)
			l.queue(c)
			return
		}
	}
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

// pause is where a client has nothing to be done for it, or waits for a lock.
func (c *client) pause(in []byte, own bool) {
	switch {
	case c.stream.Closing():
		c.end(true) // epoll does not know it any more
	case c.stream.Waiting():
		c.keepIn(in, own)
	case !c.loop.draining || c.stream.Holds():
		c.last = false
	case c.last:
		c.end(true)
	default:
		c.last = true // read what is there, then end
		c.loop.queue(c)
	}
}

// block stops reading until the client reads, or goes on.
func (c *client) block(blocked bool) {
	c.blocked = blocked
	if blocked {
		c.watch(syscall.EPOLLOUT)
	} else {
		c.watch(listening)
	}
}

// listening is what epoll watches for unless something is in the way.
const listening = syscall.EPOLLIN | syscall.EPOLLRDHUP

// watch changes what epoll watches for.
func (c *client) watch(events uint32) {
	if err := c.loop.control(syscall.EPOLL_CTL_MOD, c, events); err != nil {
		c.loop.hub.cfg.Logger.Error("cannot watch a connection", "client", c.stream.main.peer.addr, "err", err)
		c.end(false)
	}
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
	n, errno := write(int(c.fd), out)
	switch errno {
	case 0:
		c.stream.tally.bytesOut.Add(uint64(n))
		return n, true
	case syscall.EAGAIN, syscall.EINTR:
		return 0, true
	}
	return 0, false
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
	c.loop.hub.cfg.Logger.Debug("disconnected", "client", c.stream.main.peer.addr, "locks", c.stream.main.owner.Held())
	c.loop.forget(c)
	c.close()
}

// close does a turn's worth of closing the session.
func (c *client) close() {
	if !c.stream.CloseSome() {
		c.loop.queue(c)
		return
	}
	c.loop.hub.leave(c.transport)
	if c.politely && c.loop.hub.mayPart() {
		c.beginParting()
	} else {
		c.shut()
	}
}

// shut closes the connection.
func (c *client) shut() {
	c.gone = true
	syscall.Close(int(c.fd))
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
	if c.part(); c.gone {
		return
	}
	if err := c.loop.control(syscall.EPOLL_CTL_ADD, c, listening); err != nil {
		c.endParting()
		return
	}
	l := c.loop
	c.parting.timer = time.AfterFunc(partingWait, func() { l.post(letter{what: endParting, client: c}) })
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
	c.loop.hub.parted()
	c.shut()
}
