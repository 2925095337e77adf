package conn

import (
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// A Transport is a way in which clients connect.
type Transport uint8

// The transports.
const (
	TCP Transport = iota
	Unix
	WebSocket
	TLS    // lines within TLS
	WSS    // WebSocket within TLS
	Memory // from within the server's own process
	HTTP   // requests that stand alone, see callers.go
	Transports
)

func (t Transport) String() string {
	return [...]string{"tcp", "unix", "websocket", "tls", "wss", "memory", "http"}[t]
}

// MarshalText implements encoding.TextMarshaler, for logs in JSON.
func (t Transport) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// admission counts connections and keeps them within their bound. It is
// written when a connection comes or goes, never for a request.
type admission struct {
	total atomic.Int64
	// handshakes are connections to WebSocket listeners that have not become
	// WebSocket connections yet.
	handshakes atomic.Int64
	// admitted are those of the handshakes that are being admitted, or that
	// total counts already.
	admitted atomic.Int64
	open     [Transports]atomic.Int64
	accepted [Transports]atomic.Uint64
	refused  [refusals]atomic.Uint64
	fullAt   atomic.Int64 // when the log last said that there are too many connections
}

// A refusal is a reason not to serve a connection, or to end it.
type refusal uint8

const (
	tooManyConnections refusal = iota
	foreignOrigin              // a WebSocket from a page of another site
	badHandshake               // an HTTP request that is no WebSocket handshake
	messageTooBig
	badFrame        // a WebSocket frame that breaks RFC 6455
	foreignHost     // a WebSocket from a page that asks for a name that is not known
	noProxyHeader   // a connection from a proxy that does not begin with a PROXY header
	failedHandshake // a TLS handshake that comes to nothing
	noMemory        // for a connection
	noIdentity      // a client has not said who it is, in time or when its place was needed
	refusals
)

func (r refusal) String() string {
	return [...]string{"too_many_connections", "origin", "handshake", "message_too_big", "bad_frame", "host", "proxy_header", "tls_handshake", "connection_memory", "auth_timeout"}[r]
}

// admit takes a place for a connection; leave gives it back. Without memory for one
// more, there are too many.
func (s *Server) admit(t Transport) bool {
	if !s.hub.Room() {
		s.refuse(noMemory)
		return false
	}
	// In this order, none is counted both in total and as shaking hands.
	total, admitted := s.admission.total.Add(1), s.admission.admitted.Load()
	if shaking := max(0, s.admission.handshakes.Load()-admitted); total+shaking > int64(s.cfg.MaxConnections) && !s.makeRoom() {
		s.admission.total.Add(-1)
		s.refuse(tooManyConnections)
		return false
	}
	s.admission.open[t].Add(1)
	s.admission.accepted[t].Add(1)
	return true
}

// reserve prepares the stream of a connection that was admitted, and is one of the
// last that may be: those places are for clients that come back to what is kept.
func (s *Server) reserve(st *session.Stream) {
	if reserved := s.hub.Reserved(); reserved > 0 && s.admission.total.Load() > int64(max(0, s.cfg.MaxConnections-reserved)) {
		st.MustResume()
	}
}

func (s *Server) leave(t Transport) {
	s.admission.open[t].Add(-1)
	s.admission.total.Add(-1)
}

func (s *Server) refuse(r refusal) {
	s.admission.refused[r].Add(1)
	if r == tooManyConnections {
		s.warnFull(time.Now())
	}
}

// warnFull logs, at most once a minute, that clients are turned away.
func (s *Server) warnFull(now time.Time) {
	last := s.admission.fullAt.Load()
	if last != 0 && now.Sub(time.Unix(0, last)) < time.Minute || !s.admission.fullAt.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	s.cfg.Logger.Warn("too many connections: refusing more", "max-connections", s.cfg.MaxConnections)
}
