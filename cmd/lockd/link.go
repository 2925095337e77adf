package main

import (
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// A link is a connection to a server, of which a goroutine reads all that
// comes: so its end is noticed also while nothing is asked.
type link struct {
	*client.Conn
	parts chan part     // of the lines that came; closed at the end of the connection
	ended chan struct{} // closed before that
	err   error         // why, from then on
	quit  chan struct{} // closed when nobody wants what still comes
}

// A part is a line, or as much of a long one as is read at once.
type part struct {
	text  string
	begin bool // of a line
	end   bool
	at    time.Time // when it came
}

// newLink reads a connection, and calls lost when it has ended.
func newLink(c *client.Conn, lost func(*link)) *link {
	l := &link{
		Conn: c, parts: make(chan part, 64), ended: make(chan struct{}), quit: make(chan struct{}),
	}
	go func() {
		for begin := true; l.err == nil; {
			text, end, err := c.Read()
			if err != nil {
				l.err = err
				break
			}
			select {
			case l.parts <- part{string(text), begin, end, time.Now()}:
			case <-l.quit:
				l.err = client.ErrClosed
			}
			begin = end
		}
		close(l.ended)
		close(l.parts) // who is told of the end by this one finds that it has ended
		lost(l)
	}()
	return l
}

// close ends the connection, and gives back what it holds.
func (l *link) close() {
	close(l.quit)
	l.Close()
}
