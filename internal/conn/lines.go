package conn

import (
	"net"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// readBuffer is how much is read from a connection at a time.
const readBuffer = 4 << 10

// keepAlive finds out within some 35 seconds that a client's machine is gone,
// so that the locks of the dead are free again even when nobody closed the
// connection.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4}

func setKeepAlive(c net.Conn) {
	if c, ok := c.(*net.TCPConn); ok {
		c.SetKeepAliveConfig(keepAlive)
	}
}

// ServeLines serves a connection that carries requests as lines, until it
// ends. It closes the connection.
func (h *Hub) ServeLines(c net.Conn, t Transport) {
	if !h.track(c) {
		c.Close()
		return
	}
	defer h.untrack(c)
	if !h.admit(t) {
		c.SetWriteDeadline(time.Now().Add(hangUpWait))
		c.Write([]byte(wire.TooManyConnections))
		hangUp(c)
		return
	}
	defer h.leave(t)
	l := h.newLink(c, t)
	polite := l.serveLines()
	l.end(polite)
}

// serveLines feeds the session until the connection ends. It tells whether it
// is the server that ends it.
func (l *link) serveLines() bool {
	in := make([]byte, readBuffer)
	for {
		n, err := l.Read(in)
		for rest := in[:n]; ; {
			out := l.pending()
			rest, *out = l.session.Feed(rest, *out)
			if l.session.Closing() {
				return true
			}
			if len(rest) == 0 && !l.session.Listing() {
				break
			}
			if l.flush() != nil {
				return false
			}
		}
		if err != nil {
			return err == errDrained
		}
	}
}
