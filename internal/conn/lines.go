package conn

import (
	"net"

	"github.com/nylen/lockd/internal/wire"
)

// readBuffer is how much is read from a connection at a time.
const readBuffer = 4 << 10

// ServeLines serves a connection that carries requests as lines, until it
// ends. It closes the connection.
func (h *Hub) ServeLines(c net.Conn, t Transport) {
	if !h.track(c) {
		c.Close()
		return
	}
	defer h.untrack(c)
	if !h.admit(t) {
		turnAway(c, wire.TooManyConnections)
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
			for l.session.Listing() && len(*out) < l.hub.cfg.MaxOutput {
				*out = l.session.Continue(*out)
			}
			if l.session.Closing() {
				return true
			}
			if len(rest) == 0 && !l.session.Listing() {
				break
			}
			if len(*out) >= l.hub.cfg.MaxOutput && l.flush() != nil {
				return false
			}
		}
		if err != nil {
			return err == errDrained
		}
	}
}
