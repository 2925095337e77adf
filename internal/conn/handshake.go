package conn

import (
	"bytes"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/internal/wire"
)

// WebSocket returns a handler that serves WebSocket connections (RFC 6455) on
// whatever path it is put at. A browser's page must be of the same host as the
// request or of one of origins, each `scheme://host[:port]`, or "*" for any;
// clients that are no browsers send no origin and are let in.
func (s *Server) WebSocket(origins []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allowed(r, origins) {
			s.refuse(foreignOrigin)
			http.Error(w, "lockd: pages of "+r.Header.Get("Origin")+
				" may not connect here: allow them with --websocket-origin", http.StatusForbidden)
			return
		}
		if s.draining.Load() {
			http.Error(w, "lockd: "+shuttingDown, http.StatusServiceUnavailable)
			return
		}
		s.admission.admitted.Add(1)
		defer s.admission.admitted.Add(-1)
		if !s.admit(WebSocket) {
			http.Error(w, strings.TrimSpace(wire.TooManyConnections), http.StatusServiceUnavailable)
			return
		}
		c, rw, _, err := upgrader.Upgrade(r, w)
		if err != nil {
			s.refuse(badHandshake)
			s.leave(WebSocket)
			if c != nil {
				c.Close()
			}
			return
		}
		early, _ := rw.Reader.Peek(rw.Reader.Buffered())
		s.serveFrames(c, bytes.Clone(early))
	})
}

// upgrader agrees to the first subprotocol that a client asks for, as glockd
// does: a browser gives a connection up whose server agrees to none.
var upgrader = ws.HTTPUpgrader{Protocol: func(string) bool { return true }}

func allowed(r *http.Request, origins []string) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(origins, "*") || slices.Contains(origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// handshakeTimeout bounds how long a client may take for its HTTP request.
const handshakeTimeout = 5 * time.Second

// handshakeReserve is how many handshakes are let in beyond the bound on
// connections, to be told that there are too many.
const handshakeReserve = 16

// NewWebSocketServer returns an HTTP server for listeners that have nothing
// but WebSocket connections. Those that have not shaken hands yet count, too,
// when it comes to the bound on connections.
func (s *Server) NewWebSocketServer(origins []string) *http.Server {
	return &http.Server{
		Handler:           s.WebSocket(origins),
		ReadHeaderTimeout: handshakeTimeout,
		IdleTimeout:       handshakeTimeout,
		MaxHeaderBytes:    16 << 10,
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				n := s.admission.handshakes.Add(1) + s.admission.total.Load() - s.admission.admitted.Load()
				if n > int64(s.cfg.MaxConnections)+handshakeReserve {
					s.refuse(tooManyConnections)
					c.Close()
				}
			case http.StateHijacked, http.StateClosed:
				s.admission.handshakes.Add(-1)
			}
		},
	}
}

// serveFrames serves a connection that has shaken hands and has been admitted,
// on its own, with input that has come already.
func (s *Server) serveFrames(c net.Conn, early []byte) {
	s.keep(c)
	if s.adopt(c, WebSocket, early) {
		return
	}
	l := s.newLink(c, WebSocket)
	if l == nil {
		c.SetWriteDeadline(time.Now().Add(partingWait))
		ws.WriteFrame(c, ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusGoingAway, shuttingDown)))
		c.Close()
		return
	}
	l.frames = newFrames(s, &l.stream)
	// In a goroutine of its own: this one holds the HTTP server's buffers.
	go func() { l.end(l.serve(early)) }()
}
