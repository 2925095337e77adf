// Package conn moves the bytes between clients and their streams: it takes
// connections, keeps them within their bound, and ends them.
//
// On Linux plain connections (TCP, unix sockets, WebSocket) are on event loops;
// all others, those within TLS among them, are links, with a goroutine each. Both have lines or WebSocket
// frames, whose bytes an Advance takes and gives; what they mean is the business
// of internal/session.
//
// What the connections of a server share is the Server.
package conn

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/hosts"
	"github.com/nylen/lockd/internal/session"
)

// Config is what a Server needs to know. Every field must be set; pkg/server
// fills in the defaults.
type Config struct {
	Session        session.Config
	MaxMessage     int // bytes of a WebSocket message
	MaxConnections int
	MaxHandshakes  int              // within TLS, beside the connections
	Asks           [Transports]bool // whose clients are asked who they are
	Proxies        Proxies          // who begin with a PROXY header
	Hosts          hosts.Allowed    // under which pages may ask for the server
	Logger         *slog.Logger     // connections, at level debug
	Upstream       *Upstream        // whose proxy this is; nil: nobody's
	Cluster        *Cluster         // of which it is a node; nil: of none
	LogLosses      bool             // it gets what clients lose, too
}

// Server is what all connections of a server share.
type Server struct {
	cfg        Config
	hub        *session.Hub
	admission  admission
	handshakes handshakes
	partings   partings
	traffic    [trafficStripes]traffic
	roster
	accepting atomic.Int32   // listeners with a goroutine that accepts
	headers   rarelyAnywhere // connections from proxies without a proper PROXY header
	headerFor time.Duration  // how long a PROXY header may take
	loops     loops
	denials   rarelyAnywhere // wrong tokens
	newcomers newcomers

	deadPeer  time.Duration // H, see deadpeer.go
	keepAlive net.KeepAliveConfig
	pace      pace
	began     time.Time
	dead      atomic.Uint64 // connections whose clients were found dead
	watched   watched
	losses    lossLog
	uplinks   uplinks // to other servers, of a proxy or a node of a cluster
	proxy     *uplink // the only one of a proxy; nil: this is none
}

// NewServer makes the common part of a server's connections.
func NewServer(cfg Config) *Server {
	h := cmp.Or(cfg.Session.DeadPeer, session.DefaultDeadPeer)
	s := &Server{cfg: cfg, headerFor: handshakeTimeout, deadPeer: h, keepAlive: keepAliveFor(h), pace: paceOf(h), began: time.Now()}
	if cfg.Session.Short == nil {
		cfg.Session.Short = s.logShortage
	}
	s.losses.init(s)
	if cfg.LogLosses {
		cfg.Session.Lost = s.losses.wake
	}
	s.uplinks.init()
	if cfg.Upstream != nil {
		s.proxy = newUplink(s, cfg.Upstream)
		cfg.Session.Upstream = s.proxy.config()
	}
	if cfg.Cluster != nil {
		cfg.Session.Cluster = s.cluster(cfg.Cluster)
	}
	s.hub = session.NewHub(cfg.Session, s)
	if s.proxy != nil {
		s.proxy.begin(s.hub.Upstream())
	}
	s.watched.init(s)
	s.newcomers.init(cfg.Asks)
	s.roster.init()
	s.handshakes.init(cfg.MaxHandshakes)
	return s
}

// Hub returns what the connections' sessions share.
func (s *Server) Hub() *session.Hub { return s.hub }

// logs tells whether connections are logged. To make an address's text for
// nobody would cost as much as a request.
func (s *Server) logs() bool { return s.cfg.Logger.Enabled(context.Background(), slog.LevelDebug) }

func (s *Server) logConnected(st *session.Stream, t Transport) {
	if s.logs() {
		attrs := appendAccess([]any{"client", st.Address(), "transport", t}, "as", st.Access())
		s.cfg.Logger.Debug("connected", appendProcess(attrs, st.Process())...)
	}
}

func (s *Server) logDisconnected(st *session.Stream) {
	if s.logs() {
		attrs := appendAccess([]any{"client", st.Address(), "locks", st.Held()}, "as", st.Access())
		if what := st.Stranger(); what != "" {
			attrs = append(attrs, "reason", what)
		}
		s.cfg.Logger.Debug("disconnected", appendProcess(attrs, st.Process())...)
	}
}

// Kick implements session.Network.
func (s *Server) Kick(c session.Carrier, k session.Kick) {
	attrs := appendAccess(appendName([]any{"client", k.Client}, "name", k.Name, k.Client), "as", k.Access)
	attrs = appendName(append(attrs, "by", k.By), "by-name", k.ByName, k.By)
	s.cfg.Logger.Info("kicked", appendAccess(attrs, "by-as", k.ByAccess)...)
	if c != nil {
		s.endFor(c, errKicked)
	}
}

// Detach implements session.Network.
func (s *Server) Detach(c session.Carrier) { s.endFor(c, errDetached) }

// Outlives implements session.Network.
func (s *Server) Outlives(c session.Carrier) {
	if l, ok := c.(*link); ok {
		s.release(&l.late)
	} else {
		s.releaseClient(c)
	}
}

// endFor ends the connection of a carrier soon, whatever is under way on it.
func (s *Server) endFor(c session.Carrier, why error) {
	if l, ok := c.(*link); ok {
		l.endFor(why)
	} else {
		endFromLoop(c, why)
	}
}

// looksEach is how many times the streams of one goroutine may ask whether
// others' clients are gone while it serves each of them once: a look takes a
// system call, some hundredth of what a turn that has as many refusals does.
const looksEach = 32

// Gone implements session.Network.
func (s *Server) Gone(carriers []session.Carrier) int {
	for i, c := range carriers {
		if l, ok := c.(*link); ok {
			if pipe, ok := l.conn.(*pipeEnd); ok && pipe.in.over() {
				return i
			}
		}
	}
	return goneFromLoops(carriers)
}

// Want implements session.Network.
func (s *Server) Want(carriers []session.Carrier) {
	if s.deadPeer <= wantedLimit {
		return // nobody would be found dead any sooner
	}
	for _, c := range carriers {
		if l, ok := c.(*link); ok {
			s.watched.want(l)
		} else {
			wantFromLoop(c)
		}
	}
}
