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
	if !h.admit(t) {
		h.turnAway(c, wire.TooManyConnections)
		return
	}
	l := h.newLink(c, t)
	if l == nil {
		c.Close()
		return
	}
	lines := &lines{link: l}
	l.run = lines.advance
	l.end(lines.serve())
}

// lines is a connection that carries requests as lines.
type lines struct {
	*link
	backlog []byte // input that waits until a lock is granted
}

// serve feeds the stream until the connection ends.
func (l *lines) serve() error {
	in := make([]byte, readBuffer)
	for {
		n, err := l.Read(in)
		if len(l.backlog) > 0 {
			l.backlog = append(l.backlog, in[:n]...)
			err2 := l.advance()
			if err == nil {
				err = err2
			}
		} else if err2 := l.feed(in[:n]); err == nil {
			err = err2
		}
		if hungUp(err) {
			l.stream.HangUp()
			l.advance()
		}
		if err != nil {
			return err
		}
	}
}

// advance settles what can be and goes on with the input that waited for it.
func (l *lines) advance() error {
	in := l.backlog
	l.backlog = nil
	return l.feed(in)
}

// feed runs the stream over input, until it waits for a lock.
func (l *lines) feed(in []byte) error {
	for {
		out := l.pending()
		*out = l.stream.Settle(*out)
		in, *out = l.stream.Feed(in, *out)
		if err := l.ripen(); err != nil {
			return err
		}
		for l.stream.Listing() && len(*out) < l.hub.cfg.MaxOutput {
			*out = l.stream.Continue(*out)
		}
		if l.stream.Closing() && !l.stream.Listing() {
			return errClosing
		}
		if !l.stream.Listing() && !l.stream.Settles() && (len(in) == 0 || l.stream.Waiting()) {
			l.backlog = append(l.backlog, in...)
			return nil
		}
		if err := l.relieve(); err != nil {
			return err
		}
	}
}
