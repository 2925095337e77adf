package conn

import (
	"fmt"
	"net"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// Callers are clients over HTTP, each of whose requests stands alone (see
// internal/httprate). net/http serves them, and they hold nothing; what they have in
// common with the others is their places: they count among the connections, and take
// memory.

// Callers returns a listener for connections of callers. One for whom there is no place
// is told so. One goroutine may accept.
func (s *Server) Callers(l net.Listener) net.Listener { return callers{l, s} }

type callers struct {
	net.Listener
	server *Server
}

// A CallerConn is the connection of a caller. Whoever accepts it has to call End, once,
// when it is served no more.
type CallerConn struct {
	net.Conn
	Caller  *session.Caller
	Asks    bool // the client is asked who it is
	met     bool
	server  *Server
	traffic *traffic
}

// callerBytes is about what net/http keeps for a connection: two buffers, a goroutine,
// and the last request's header.
const callerBytes = 24 << 10

// Accept implements net.Listener.
func (l callers) Accept() (net.Conn, error) {
	s := l.server
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !s.admit(HTTP) {
			go s.turnCallerAway(c)
			continue
		}
		s.keep(c)
		s.hub.Occupy(callerBytes)
		one := &CallerConn{
			Conn: c, Caller: s.hub.NewCaller(bareAddress(c, HTTP)), Asks: s.cfg.Asks[HTTP],
			server: s, traffic: s.trafficOf(s.admission.accepted[HTTP].Load()),
		}
		s.note(one, &newcomer{http: c})
		return one, nil
	}
}

// Met notes that the client has asked for what it may have: its place is not for others
// any more.
func (c *CallerConn) Met() {
	if !c.met {
		c.met = true
		c.server.newcomers.forget(c)
	}
}

// End gives its place back.
func (c *CallerConn) End() {
	c.server.newcomers.forget(c)
	c.Caller.End()
	c.server.hub.Occupy(-callerBytes)
	c.server.leave(HTTP)
}

// Read implements net.Conn.
func (c *CallerConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.traffic.in.Add(uint64(n))
	return n, err
}

// Write implements net.Conn.
func (c *CallerConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.traffic.out.Add(uint64(n))
	return n, err
}

// turnCallerAway tells a client that there is no place for it, and ends its connection.
func (s *Server) turnCallerAway(c net.Conn) {
	const text = `{"error":"too many connections"}` + "\n"
	c.SetWriteDeadline(time.Now().Add(partingWait))
	fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"+
		"Connection: close\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	s.part(c)
}
