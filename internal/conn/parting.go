package conn

import (
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// Parting is how the server ends a connection so that the client can read what
// it was sent: closing one that has unread input would reset it, and the last
// replies would be lost. So the sending side is closed first, and input is
// passed over until the client closes too, for a moment.
const (
	partingWait  = time.Second
	partingBytes = 16 << 20
	// maxPartings is how many may part at a time beyond the bound on
	// connections: each has a descriptor. While the server shuts down there is
	// no bound: those that end were within the one on connections.
	maxPartings = 32
)

// partings counts the connections that part.
type partings struct{ n atomic.Int64 }

// mayPart tells whether one more may part, and counts it in; parted counts it
// out. One that may not is closed at once.
func (s *Server) mayPart() bool {
	if s.partings.n.Add(1) <= maxPartings || s.draining.Load() {
		return true
	}
	s.partings.n.Add(-1)
	return false
}

func (s *Server) parted() { s.partings.n.Add(-1) }

// part ends a connection that has a goroutine.
func (s *Server) part(c net.Conn) {
	defer c.Close()
	half, ok := c.(interface{ CloseWrite() error })
	if !ok || !s.mayPart() {
		return
	}
	defer s.parted()
	if half.CloseWrite() != nil {
		return
	}
	c.SetReadDeadline(time.Now().Add(partingWait))
	buf := make([]byte, 4<<10)
	for total := 0; total < partingBytes; {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		total += n
	}
}

// turnAway tells a client that there are too many and ends its connection.
func (s *Server) turnAway(c net.Conn) {
	c.SetWriteDeadline(time.Now().Add(partingWait))
	io.WriteString(c, wire.TooManyConnections)
	s.part(c)
}
