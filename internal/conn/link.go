package conn

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A link is a connection with its stream, for the transports that give each
// connection a goroutine. It sends what is pending before it waits for more
// input, so replies to pipelined requests share writes and none waits for the
// next request.
type link struct {
	hub       *Hub
	conn      net.Conn
	transport Transport
	stream    *Stream
	last      bool         // the server is shutting down, and this is the last turn
	out       *[]byte      // replies that have not been sent; nil while there are none
	run       func() error // settles waits that are over, and goes on with what waited for them

	mu    sync.Mutex // guards what follows, and the read deadline
	woken bool       // the stream has something to settle
	over  bool       // the stream has ended: nobody interrupts a read any more

	killed atomic.Bool // the connection has been closed
}

var (
	// errDrained ends a link whose server is shutting down, once it holds
	// nothing.
	errDrained = errors.New(shuttingDown)
	// errClosing ends a link whose stream cuts the client off.
	errClosing = errors.New("the client is cut off")
)

// drainGrace is how long a link that is to be ended is still read from, for
// requests that were under way.
const drainGrace = 50 * time.Millisecond

// newLink begins to serve a connection that was admitted. It returns nil if the
// server is shutting down.
func (h *Hub) newLink(c net.Conn, t Transport) *link {
	l := &link{hub: h, conn: c, transport: t}
	if !h.track(l) {
		h.leave(t)
		return nil
	}
	l.stream = h.NewStream(address(c, t), l)
	h.cfg.Logger.Debug("connected", "client", l.stream.main.peer.addr, "transport", t)
	return l
}

// end sends what is pending and ends the connection, politely if it is the
// server that ends it. The locks and the place go before the connection: who
// sees it end finds them free.
func (l *link) end(err error) {
	l.flush()
	l.hub.cfg.Logger.Debug("disconnected", "client", l.stream.main.peer.addr, "locks", l.stream.main.owner.Held())
	l.stream.Close()
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.hub.leave(l.transport)
	if err == errDrained || err == errClosing {
		l.hub.part(l.conn)
	} else {
		l.conn.Close()
	}
	l.hub.untrack(l)
}

// wake implements waker: it interrupts Read. Who releases a lock may come to
// wake its next holder when that has ended: the connection parts then, and a
// deadline would reset it.
func (l *link) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.woken = true
	l.interruptLocked(time.Unix(1, 0))
}

// drain makes Read look whether the connection can end.
func (l *link) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.woken {
		l.interruptLocked(time.Now().Add(drainGrace))
	}
}

func (l *link) interruptLocked(at time.Time) {
	if !l.over {
		l.conn.SetReadDeadline(at)
	}
}

// kill ends the connection, and what waits for it. It closes what is below TLS, whose
// own Close may wait for a client that does not read.
func (l *link) kill() {
	c := l.conn
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	c.Close()
	l.killed.Store(true)
}

// outBuffers are the buffers for replies. An idle connection has none.
var outBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// keptOut is how large a buffer for replies may be to be used again.
const keptOut = 256 << 10

func recycle(out *[]byte) {
	if cap(*out) <= keptOut {
		*out = (*out)[:0]
		outBuffers.Put(out)
	}
}

// pending returns the buffer for replies.
func (l *link) pending() *[]byte {
	if l.out == nil {
		l.out = outBuffers.Get().(*[]byte)
	}
	return l.out
}

// flush sends the pending replies. It waits for as long as the client does
// not read: meanwhile nothing is read from that client either, and nobody
// else notices.
func (l *link) flush() error {
	if l.out == nil {
		return nil
	}
	err := l.ripen()
	if out := *l.out; len(out) > 0 && err == nil {
		var n int
		n, err = l.conn.Write(out)
		l.stream.tally.bytesOut.Add(uint64(n))
	}
	recycle(l.out)
	l.out = nil
	return err
}

// ripen waits for as long as what is pending comes too early. It fails when the
// connection is killed meanwhile.
func (l *link) ripen() error {
	for d := l.stream.Early(); d > 0; d = l.stream.Early() {
		if l.killed.Load() {
			return net.ErrClosed
		}
		time.Sleep(min(d, ripenStep))
	}
	return nil
}

// ripenStep is how long ripen goes without a look at whether the connection is
// killed.
const ripenStep = 10 * time.Millisecond

// relieve sends what is pending when it is as much as may be.
func (l *link) relieve() error {
	if l.out != nil && len(*l.out) >= l.hub.cfg.MaxOutput {
		l.stream.Rest() // the client may take its time
		return l.flush()
	}
	return nil
}

// Read flushes, then reads from the client; waits of the stream that are over
// meanwhile it settles. It fails with errDrained when the server is shutting
// down and the stream holds nothing.
func (l *link) Read(p []byte) (int, error) {
	for {
		if err := l.flush(); err != nil {
			return 0, err
		}
		if ends := l.hub.draining.Load() && !l.stream.Holds(); !ends {
			l.last = false
		} else if l.last {
			return 0, errDrained // it has had its last turn
		} else {
			l.last = true
			l.drain()
		}
		n, err := l.conn.Read(p)
		l.stream.tally.bytesIn.Add(uint64(n))
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		l.mu.Lock()
		woken := l.woken
		l.woken = false
		l.conn.SetReadDeadline(time.Time{})
		l.mu.Unlock()
		if woken {
			if err := l.run(); err != nil {
				return 0, err
			}
			l.last = false // it was cut short
		} else if l.hub.draining.Load() && !l.stream.Holds() {
			return 0, errDrained
		}
	}
}

// hungUp tells whether an error of Read means that the client has closed its
// side in order.
func hungUp(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

// localNames numbers the connections that have no address.
var localNames [Transports]atomic.Uint64

// address returns what stands for a client in replies: IP:PORT, or the
// transport's name and a number where there is no such thing.
func address(c net.Conn, t Transport) string {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.String()
	}
	if t == WebSocket {
		t = Unix
	}
	return t.String() + ":" + strconv.FormatUint(localNames[t].Add(1), 10)
}
