package conn

import (
	"crypto/tls"
	"encoding/asn1"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Secure is a listener for TLS: its Accept returns connections that have shaken
// hands. Each does so in a goroutine of its own, so none waits for another one's
// client. One goroutine may accept.
type Secure struct {
	*Listener
	server *Server
	config *tls.Config
	begin  sync.Once
	ready  chan *tls.Conn
	over   chan struct{} // closed when accepting has failed
	err    error         // why; to be read once over is closed
	shakes sync.WaitGroup
}

// Secure returns a listener for the connections of another one.
func (s *Server) Secure(l *Listener, config *tls.Config) *Secure {
	return &Secure{Listener: l, server: s, config: config, ready: make(chan *tls.Conn), over: make(chan struct{})}
}

// ServeTLS serves the line protocol within TLS to the connections of a listener
// until its Accept fails, and returns why.
func (s *Server) ServeTLS(l *Listener, config *tls.Config) error {
	s.accepting.Add(1)
	defer s.accepting.Add(-1)
	secure := s.Secure(l, config)
	for {
		c, err := secure.Accept()
		if err != nil {
			return err
		}
		s.ServeLines(c, TLS)
	}
}

// Accept implements net.Listener. The connections are *tls.Conn. When it fails,
// no handshake is under way any more.
func (l *Secure) Accept() (net.Conn, error) {
	l.begin.Do(func() { go l.accept() })
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.over:
		return nil, l.err
	}
}

// accept takes connections until there are none.
func (l *Secure) accept() {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			l.err = err
			break
		}
		l.server.keep(c)
		s := &handshake{Conn: l.server.behindProxy(c), listener: l, computing: l.server.handshakes.computing}
		if !l.server.handshakes.begin(s, l.closed) {
			c.Close()
			continue // to be told why
		}
		l.shakes.Go(func() { l.shake(s) })
	}
	l.Listener.Close() // whoever waits to give a connection out gives it up
	l.server.handshakes.closeThose(l)
	l.shakes.Wait()
	close(l.over)
}

// shake shakes hands, and gives the connection out.
func (l *Secure) shake(s *handshake) {
	c := tls.Server(s, l.config)
	s.Conn.SetDeadline(time.Now().Add(handshakeTimeout))
	err := c.Handshake()
	s.over()
	l.server.handshakes.end(s)
	if err != nil {
		l.fail(s, err)
		return
	}
	s.Conn.SetDeadline(time.Time{})
	select {
	case l.ready <- c:
	case <-l.closed:
		s.Conn.Close()
	}
}

// fail ends a connection whose handshake has failed. The client may have sent more
// than was read, and is to get the alert that tells it why all the same.
func (l *Secure) fail(s *handshake, err error) {
	if p := proxiedBelow(s.Conn); p != nil && p.begin() != nil {
		s.Conn.Close()
		return // that has been counted, and said
	}
	l.server.refuse(failedHandshake)
	l.server.logHandshake(s.Conn.RemoteAddr(), err)
	var header tls.RecordHeaderError
	switch {
	case isEnd(err), errors.Is(err, os.ErrDeadlineExceeded):
		s.Conn.Close()
		return
	case errors.As(err, &header) && isHTTP(header.RecordHeader):
		s.Conn.SetDeadline(time.Now().Add(partingWait))
		io.WriteString(s.Conn, "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"+
			"lockd: an HTTP request came without TLS to a port that speaks TLS: use https:// or wss://\n")
	}
	l.server.part(socket(s.Conn))
	s.Conn.Close() // a caller's listener may count its own
}

// isEnd tells whether a handshake has failed as the client, or the server, has
// closed the connection.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isHTTP tells whether what came in place of TLS begins as a request does.
func isHTTP(header [5]byte) bool {
	switch string(header[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// logHandshake tells of a handshake that has failed: the debug log always, all
// others rarely, as strangers can have as many fail as they like; and not of
// clients that just went, as those do that look whether a port is open.
func (s *Server) logHandshake(client net.Addr, err error) {
	text := cut(err.Error(), 500) // there may be 64 KiB in it that the client says
	s.cfg.Logger.Debug("TLS handshake failed", "client", client.String(), "err", text)
	if isEnd(err) {
		return
	}
	if n := s.handshakes.failures.now(); n > 0 {
		s.cfg.Logger.Warn("TLS handshakes fail", "failures", n, "client", client.String(), "err", text)
	}
}

var commonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// CertName is the name in the certificate that a client has shown and that was
// verified: its common name, or else the first DNS name or URI that it is for.
// It is "" if there is none, or several common names, as others may have looked at
// another one than we would.
func CertName(state *tls.ConnectionState) string {
	if state == nil || len(state.VerifiedChains) == 0 {
		return ""
	}
	leaf := state.PeerCertificates[0]
	names := 0
	for _, name := range leaf.Subject.Names {
		if name.Type.Equal(commonName) {
			names++
		}
	}
	switch {
	case names > 1:
		return ""
	case leaf.Subject.CommonName != "":
		return leaf.Subject.CommonName
	case len(leaf.DNSNames) > 0:
		return leaf.DNSNames[0]
	case len(leaf.URIs) > 0:
		return leaf.URIs[0].String()
	}
	return ""
}
