package conn

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/internal/hosts"
	"github.com/nylen/lockd/internal/wire"
)

// WebSocket returns a handler that serves WebSocket connections (RFC 6455) on
// whatever path it is put at. A browser's page must ask for the server by an
// address or a name that is known, and be of the same host as the request or of
// one of origins, each `scheme://host[:port]`, or "*" for any; clients that are no
// browsers send no origin and are let in.
//
// Who is not let in is told why, and the connection ends with that: else a
// request whose body never comes, or the next one, would keep a place.
func (s *Server) WebSocket(origins []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" && !s.cfg.Hosts.Has(r.Host) {
			s.refuse(foreignHost)
			s.answer(w, r, http.StatusForbidden, hosts.Refusal(r.Host))
			return
		}
		if !allowed(r, origins) {
			s.refuse(foreignOrigin)
			s.answer(w, r, http.StatusForbidden, "lockd: pages of "+r.Header.Get("Origin")+
				" may not connect here: allow them with --websocket-origin")
			return
		}
		if s.over() {
			s.answer(w, r, http.StatusServiceUnavailable, "lockd: "+shuttingDown)
			return
		}
		if r.Method != http.MethodGet || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			s.refuse(badHandshake)
			s.answer(w, r, http.StatusBadRequest, "lockd: only WebSocket clients can connect here; metrics and health have an address of their own")
			return
		}
		t := WebSocket
		if r.TLS != nil {
			t = WSS
		}
		s.admission.admitted.Add(1)
		defer s.admission.admitted.Add(-1)
		if !s.admit(t) {
			s.answer(w, r, http.StatusServiceUnavailable, strings.TrimSpace(wire.TooManyConnections))
			return
		}
		c, rw, _, err := upgrader.Upgrade(r, w)
		if err != nil {
			s.refuse(badHandshake)
			s.leave(t)
			if c != nil {
				s.part(c)
			}
			return
		}
		early, _ := rw.Reader.Peek(rw.Reader.Buffered())
		s.serveFrames(c, t, bytes.Clone(early))
	})
}

// answer answers a request in place of net/http, which would wait for its body
// first, and for another request then, and ends the connection.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, status int, text string) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2, in a caller's server: no connection of its own
		w.Header().Set("Connection", "close")
		http.Error(w, text, status)
		return
	}
	if text += "\n"; r.Method == http.MethodHead {
		text = ""
	}
	c.SetDeadline(time.Now().Add(partingWait))
	fmt.Fprintf(rw, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"X-Content-Type-Options: nosniff\r\nContent-Length: %d\r\n\r\n%s", status, http.StatusText(status), len(text), text)
	if rw.Flush() != nil {
		c.Close()
		return
	}
	s.part(c)
}

// upgrader agrees to the first subprotocol that a client asks for, as glockd
// does: a browser gives a connection up whose server agrees to none.
var upgrader = ws.HTTPUpgrader{
	Protocol: func(string) bool { return true },
	Timeout:  handshakeTimeout, // to send the answer
}

func allowed(r *http.Request, origins []string) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(origins, "*") || slices.Contains(origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// handshakeTimeout bounds how long a client may take for what comes before its
// requests: a PROXY header, or an HTTP request.
const handshakeTimeout = 5 * time.Second

// handshakeReserve is how many handshakes are let in beyond the bound on
// connections, to be told that there are too many.
const handshakeReserve = 16

// NewWebSocketServer returns an HTTP server for listeners that have nothing
// but WebSocket connections. Those that have not shaken hands yet count, too,
// when it comes to the bound on connections.
func (s *Server) NewWebSocketServer(origins []string) *http.Server {
	h := &http.Server{
		Handler: s.WebSocket(origins),
		// Also of what net/http answers itself, such as a broken request.
		ReadTimeout:    handshakeTimeout,
		WriteTimeout:   handshakeTimeout,
		MaxHeaderBytes: 16 << 10,
		// Or it would answer `OPTIONS *`.
		DisableGeneralOptionsHandler: true,
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				n := s.admission.handshakes.Add(1) + s.admission.total.Load() - s.admission.admitted.Load()
				if n > int64(s.cfg.MaxConnections)+handshakeReserve && !s.makeRoom() {
					s.refuse(tooManyConnections)
					c.Close()
					return
				}
				s.note(c, &newcomer{http: c})
			case http.StateHijacked, http.StateClosed:
				s.admission.handshakes.Add(-1)
				s.newcomers.forget(c)
			}
		},
	}
	h.SetKeepAlivesEnabled(false)
	return h
}

// serveFrames serves a connection that has shaken hands and has been admitted,
// on its own, with input that has come already.
func (s *Server) serveFrames(c net.Conn, t Transport, early []byte) {
	s.keep(c)
	if s.adopt(c, t, early) {
		return
	}
	l := s.newLink(c, t)
	if l == nil {
		c.SetWriteDeadline(time.Now().Add(partingWait))
		ws.WriteFrame(c, ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusGoingAway, shuttingDown)))
		c.Close()
		return
	}
	l.frames = newFrames(s, l.stream)
	// In a goroutine of its own: this one holds the HTTP server's buffers.
	go func() { l.end(l.serve(early)) }()
}
