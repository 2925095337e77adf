package conn

import (
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A link is a connection with its session, for the transports that give each
// connection a goroutine. It sends what is pending before it waits for more
// input, so replies to pipelined requests share writes and none waits for the
// next request.
type link struct {
	hub     *Hub
	conn    net.Conn
	session *Session
	out     *[]byte // replies that have not been sent; nil while there are none
}

// errDrained ends a link whose server is shutting down, once its session
// holds nothing.
var errDrained = errors.New("the server is shutting down")

// drainGrace is how long a link that is to be ended is still read from, for
// requests that were under way.
const drainGrace = 50 * time.Millisecond

// newLink begins to serve a connection.
func (h *Hub) newLink(c net.Conn, t Transport) *link {
	l := &link{hub: h, conn: c, session: h.NewSession(address(c, t))}
	h.cfg.Logger.Debug("connected", "client", l.session.peer.addr, "transport", t)
	return l
}

// end sends what is pending and ends the connection, politely if it is the
// server that ends it. The locks go before the connection: who sees it end
// finds them free.
func (l *link) end(politely bool) {
	l.flush()
	l.hub.cfg.Logger.Debug("disconnected", "client", l.session.peer.addr, "locks", l.session.owner.Held())
	l.session.Close()
	if politely {
		hangUp(l.conn)
	} else {
		l.conn.Close()
	}
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
	var err error
	if out := *l.out; len(out) > 0 {
		_, err = l.conn.Write(out)
		l.session.tally.bytesOut.Add(uint64(len(out)))
	}
	recycle(l.out)
	l.out = nil
	return err
}

// Read flushes, then reads from the client. It fails with errDrained when the
// server is shutting down and the session holds nothing.
func (l *link) Read(p []byte) (int, error) {
	if err := l.flush(); err != nil {
		return 0, err
	}
	for {
		if l.hub.draining.Load() && !l.session.Holds() {
			l.conn.SetReadDeadline(time.Now().Add(drainGrace))
		}
		n, err := l.conn.Read(p)
		l.session.tally.bytesIn.Add(uint64(n))
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if !l.session.Holds() {
			return 0, errDrained
		}
		l.conn.SetReadDeadline(time.Time{})
	}
}

// hangUp closes a connection so that the client can read what it was sent:
// closing one that has unread input would reset it, and the last replies
// would be lost. So the sending side is closed first, and input is passed
// over until the client closes too, for a moment.
func hangUp(c net.Conn) {
	defer c.Close()
	half, ok := c.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.SetReadDeadline(time.Now().Add(hangUpWait))
	buf := make([]byte, 4<<10)
	for total := 0; total < hangUpBytes; {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		total += n
	}
}

const (
	hangUpWait  = time.Second
	hangUpBytes = 1 << 20
)

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
