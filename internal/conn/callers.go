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
	asking  bool
	server  *Server
	traffic *traffic
}

// callerBytes is about what net/http keeps for a connection: two buffers and a goroutine.
// CallerHeader bounds a request's header, which is what proxies let through of their
// clients', and pass on with the question; so much more there is while one is under way.
const (
	callerBytes  = 16 << 10
	CallerHeader = 40 << 10
)

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
		if s.logs() {
			s.cfg.Logger.Debug("connected", "client", c.RemoteAddr().String(), "transport", HTTP)
		}
		return one, nil
	}
}

// Asking notes that a request has begun, or that the client has its answer. Without memory
// for what it may send, the connection ends.
func (c *CallerConn) Asking(now bool) {
	if now == c.asking {
		return
	}
	c.asking = now
	if !now {
		c.server.hub.Occupy(-CallerHeader)
		return
	}
	c.server.hub.Occupy(CallerHeader)
	if !c.server.hub.Room() {
		c.server.refuse(noMemory)
		c.Close()
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
	c.Asking(false)
	c.server.newcomers.forget(c)
	c.Caller.End()
	c.server.hub.Occupy(-callerBytes)
	c.server.leave(HTTP)
	if c.server.logs() {
		c.server.cfg.Logger.Debug("disconnected", "client", c.RemoteAddr().String(), "transport", HTTP)
	}
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

// turnCallerAway tells a client that there is no place for it, and ends its connection. An
// answer that comes before the question is none to a client, so it waits for that, if
// there are not too many who wait.
func (s *Server) turnCallerAway(c net.Conn) {
	if s.mayPart() {
		c.SetReadDeadline(time.Now().Add(partingWait))
		c.Read(make([]byte, 4<<10))
		s.parted()
	}
	const text = `{"error":"too many connections"}` + "\n"
	c.SetWriteDeadline(time.Now().Add(partingWait))
	fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"+
		"Connection: close\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	s.part(c)
}
