package conn

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/nylen/lockd/internal/proxyheader"
	"github.com/nylen/lockd/internal/session"
)

// proxied is a connection that begins with a PROXY header, whose client's address
// is the one that stands there. The header is read by whoever first reads, or
// asks for the address, which is its own goroutine, so nobody waits for another's;
// it must have come when the handshake's time is over. TLS, and HTTP, come behind
// it.
//
// A goroutine reads it also where event loops serve the connection then, with
// what has come behind it.
type proxied struct {
	net.Conn // with the proxy
	server   *Server
	until    time.Time // the header must have come

	once   sync.Once
	err    error          // what is wrong with the header
	client netip.AddrPort // not valid: the proxy itself, or who has no such address
	rest   []byte         // what has been read behind the header

	mu       sync.Mutex // guards what follows, and the read deadline
	begun    bool       // the header has been read
	deadline time.Time  // for reading, of those who read
}

// proxied returns the connection of a client behind a proxy.
func (s *Server) proxied(c net.Conn) *proxied {
	p := &proxied{Conn: c, server: s, until: time.Now().Add(s.headerFor)}
	c.SetReadDeadline(p.until)
	return p
}

// behindProxy returns a connection that is told whose it is, if it comes from a
// proxy, unless what is below it is one.
func (s *Server) behindProxy(c net.Conn) net.Conn {
	if p := &s.cfg.Proxies; p.any() && proxiedBelow(c) == nil && p.sends(c) {
		return s.proxied(c)
	}
	return c
}

// Proxied returns a listener whose connections from proxies begin behind their
// PROXY headers and have their clients' addresses. TLS or HTTP can be put on top.
// To ask for an address may wait for the header, so it is not for the goroutine
// that accepts.
func (s *Server) Proxied(l net.Listener) net.Listener {
	if !s.cfg.Proxies.any() {
		return l
	}
	return proxiedListener{l, s}
}

type proxiedListener struct {
	net.Listener
	server *Server
}

func (l proxiedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.server.keep(c) // nobody sees later what kind of connection it is
	return l.server.behindProxy(c), nil
}

// serveProxied serves lines to a client behind a proxy that was admitted.
func (s *Server) serveProxied(p *proxied, t Transport) {
	if l := s.beginProxied(p, t); l != nil {
		l.end(l.serve(nil))
	}
}

// beginProxied waits for the header, and returns a link for the client unless a
// loop serves it, or nobody does.
func (s *Server) beginProxied(p *proxied, t Transport) *link {
	if !s.shake(p) { // the server is shutting down
		s.leave(t)
		p.Close()
		return nil
	}
	defer s.shaken(p)
	if p.begin() != nil {
		s.leave(t)
		p.Close()
		return nil
	}
	if s.adopt(p, t, nil) {
		return nil
	}
	l := s.newLink(p, t)
	if l == nil {
		p.Close()
	}
	return l
}

// NetConn returns the connection with the proxy.
func (p *proxied) NetConn() net.Conn { return p.Conn }

// begin reads the header, unless that has been done.
func (p *proxied) begin() error {
	p.once.Do(func() {
		var n int
		if n, p.err = p.readHeader(); p.err != nil {
			p.server.refuseHeader(p.Conn, n, p.err)
			// As one of reading, or net/http would answer that it is a bad request.
			p.err = &net.OpError{Op: "read", Net: "tcp", Addr: p.Conn.RemoteAddr(), Err: p.err}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.begun = true
		p.Conn.SetReadDeadline(p.deadline)
	})
	return p.err
}

// readHeader reads the header and returns how much has come if that failed.
func (p *proxied) readHeader() (int, error) {
	var in []byte
	buf := make([]byte, proxyheader.MaxSize)
	for {
		n, err := p.Conn.Read(buf[len(in):])
		in = buf[:len(in)+n]
		if n > 0 {
			client, size, broken := proxyheader.Parse(in)
			switch {
			case broken != nil:
				return len(in), broken
			case size > 0:
				p.client = client
				if size < len(in) {
					p.rest = append(p.rest, in[size:]...)
				}
				return 0, nil
			}
		}
		if err != nil {
			return len(in), err
		}
	}
}

// Read implements net.Conn.
func (p *proxied) Read(b []byte) (int, error) {
	if err := p.begin(); err != nil {
		return 0, err
	}
	if len(p.rest) > 0 {
		n := copy(b, p.rest)
		if p.rest = p.rest[n:]; len(p.rest) == 0 {
			p.rest = nil
		}
		return n, nil
	}
	return p.Conn.Read(b)
}

// RemoteAddr implements net.Conn: the client's address, or the proxy's if there is
// no client.
func (p *proxied) RemoteAddr() net.Addr {
	if p.begin(); p.client.IsValid() {
		return net.TCPAddrFromAddrPort(p.client)
	}
	return p.Conn.RemoteAddr()
}

// address returns what stands for the client. It is not on this machine, whatever
// its address is: 127.0.0.1 is the proxy's machine. Nor is it the process that has
// connected.
func (p *proxied) address(t Transport) session.Address {
	if p.begin(); p.client.IsValid() {
		return session.Address{IP: p.client}
	}
	a := address(p.Conn, t)
	a.Local, a.Process = false, nil
	return a
}

// proxiedBelow returns the connection behind a proxy that c is, or that is below
// TLS; else nil.
func proxiedBelow(c net.Conn) *proxied {
	for {
		switch below := c.(type) {
		case *proxied:
			return below
		case interface{ NetConn() net.Conn }:
			c = below.NetConn()
		default:
			return nil
		}
	}
}

// SetDeadline implements net.Conn.
func (p *proxied) SetDeadline(t time.Time) error {
	if err := p.SetReadDeadline(t); err != nil {
		return err
	}
	return p.Conn.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn. The header's own holds until it has come.
func (p *proxied) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	if !p.begun && (t.IsZero() || t.After(p.until)) {
		t = p.until
	}
	return p.Conn.SetReadDeadline(t)
}

// CloseWrite closes the sending side, where there is such a thing.
func (p *proxied) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// refuseHeader notes a connection of which n bytes have come, and that is ended
// for that. A load balancer that only looks whether somebody is there connects and
// says nothing.
func (s *Server) refuseHeader(c net.Conn, n int, err error) {
	if n == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	s.refuse(noProxyHeader)
	failures := s.headers.now()
	if failures == 0 {
		return
	}
	peer, why := "unknown", err.Error()
	if a := c.RemoteAddr(); a != nil { // else it has gone before Go's runtime had its socket
		peer = a.String()
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		why = "its PROXY header did not come in time"
	case err == io.EOF:
		why = "it has ended within its PROXY header"
	}
	s.cfg.Logger.Warn("refused a connection from a network of --proxy-protocol",
		"peer", peer, "err", why, "failures", failures)
}
