// Package server is a lockd server for use inside a program: over listeners
// of its own or of the caller's, as a WebSocket path of the caller's HTTP
// server, or in memory, for clients in the same process.
//
//	s, err := server.New(server.Options{TCP: []string{"127.0.0.1:9999"}})
//	if err != nil {
//		return err
//	}
//	if err := s.Listen(); err != nil { // serves in the background
//		return err
//	}
//	defer func() {
//		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
//		defer cancel()
//		s.Shutdown(ctx) // holders have that long to release
//	}()
//
// What it does on the wire is described in docs/protocol.md.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/nylen/lockd/internal/admin"
	"github.com/nylen/lockd/internal/api"
	"github.com/nylen/lockd/internal/certs"
	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/conn"
	"github.com/nylen/lockd/internal/httprate"
	"github.com/nylen/lockd/internal/metrics"
	"github.com/nylen/lockd/internal/state"
	"github.com/prometheus/client_golang/prometheus"
)

// ErrServerClosed is what Serve and ListenAndServe return after Shutdown.
var ErrServerClosed = errors.New("lockd: server closed")

// ErrNoFiles is what Reload returns when the options name no files.
var ErrNoFiles = errors.New("lockd: there are no files to read again")

// Server is a lockd server. Its methods may be called by any number of
// goroutines.
type Server struct {
	opts      Options
	conns     *conn.Server
	webSocket *http.Server
	admin     *http.Server
	api       *api.API // a part of admin
	rates     *httprate.Handler
	http      *http.Server    // for the same
	certs     *certs.Store    // nil: none, or not from files
	state     *state.File     // nil: none
	member    *cluster.Member // of a cluster; nil: of none
	host      *clusterHost    // what it tells
	leaves    func()          // ends its part; nil: it has none yet
	files     []reloader      // that are read again when they change

	mu        sync.Mutex                  // guards what follows
	retired   bool                        // /readyz says so
	closing   bool                        // Shutdown was called
	ended     bool                        // nobody is let in any more
	lost      bool                        // a listener that Listen opened has ended by itself
	listeners map[*conn.Listener]struct{} // the clients'
	addrs     []Addr
	serving   sync.WaitGroup // goroutines that Listen started
	closed    chan struct{}  // closed when Shutdown is done
}

// A reloader has files that are read again when they change.
type reloader interface {
	Check() error // looks now
	Close()
}

// Addr is an address that a server listens on.
type Addr struct {
	Transport string // "tcp", "unix", "websocket", "tls", "wss", "http" or "admin"
	net.Addr
	Asks bool // its clients have to show who they are
}

// New returns a server that does not listen yet, or what is wrong with opts. With
// an AuthFile it looks after that until Shutdown, and with a State it has that file until
// then.
func New(opts Options) (*Server, error) {
	if err := opts.complete(); err != nil {
		return nil, fmt.Errorf("lockd: %w", err)
	}
	access, watched, err := opts.openAuth()
	if err != nil {
		return nil, fmt.Errorf("lockd: %w", err)
	}
	s := &Server{opts: opts, listeners: make(map[*conn.Listener]struct{}), closed: make(chan struct{})}
	if watched != nil {
		s.files = append(s.files, watched)
	}
	errorLog := slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug)
	if err := s.openCertificates(); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("lockd: %w", err)
	}
	cfg := opts.config(access)
	if err := s.openState(&cfg); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("lockd: %w", err)
	}
	if err := s.openCluster(&cfg); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("lockd: %w", err)
	}
	s.conns = conn.NewServer(cfg)
	if s.host != nil {
		s.host.hub, s.host.conns = s.conns.Hub(), s.conns
	}
	s.webSocket = s.conns.NewWebSocketServer(opts.WebSocketOrigins)
	s.webSocket.ErrorLog = errorLog
	s.rates = httprate.New(httprate.Config{Bounds: s.conns.Hub().RateBounds(), Hosts: opts.hosts, WrongToken: s.conns.Denied})
	s.http = s.rates.Server()
	s.http.ErrorLog = errorLog
	told := api.Config{Hub: s.conns.Hub(), Version: Version, Revision: Revision(), NoNames: opts.DisableDump, Every: opts.samples}
	if s.member != nil {
		told.Cluster = s.member.Health
	}
	s.api = api.New(told)
	s.admin = admin.New(admin.Config{
		Metrics: s.Collector(), Ready: s.ready, Hosts: opts.hosts, Guard: s.guard(access), API: s.api, Logger: opts.Logger,
	})
	s.admin.ErrorLog = errorLog
	return s, nil
}

// over tells whether nobody is let in any more.
func (s *Server) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// ready tells why a new client may be in vain.
func (s *Server) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.retired:
		return errors.New("shutting down")
	case s.lost:
		return errors.New("a listener has failed; the log says why")
	case s.member != nil:
		return s.member.May()
	}
	return nil
}

// Listen opens all listeners that the options name and serves them in the
// background. If one cannot be opened, none is.
//
// A listener that fails for good later is closed; the log says so, and /readyz
// is 503 from then on. The others are served on, and nobody loses a lock.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return ErrServerClosed
	}
	type opening struct {
		transport, addr string
		listen          func(addr string) (net.Listener, error)
		serve           func(net.Listener) error
		listener        net.Listener
	}
	var all []opening
	plan := func(transport string, addrs []string, listen func(string) (net.Listener, error), serve func(net.Listener) error) {
		for _, addr := range addrs {
			all = append(all, opening{transport: transport, addr: addr, listen: listen, serve: serve})
		}
	}
	plan("tcp", s.opts.TCP, s.own(s.openTCP), s.serveOwn)
	plan("unix", s.opts.Unix, s.own(s.listenUnix), s.serveOwn)
	plan("websocket", s.opts.WebSocket, s.openTCP, s.ServeWebSocket)
	plan("tls", s.opts.TLS, s.openTCP, s.ServeTLS)
	plan("wss", s.opts.WSS, s.openTCP, s.ServeWSS)
	plan("http", s.opts.HTTP, s.openTCP, s.serveHTTP)
	if s.opts.Admin != "" {
		plan("admin", []string{s.opts.Admin}, s.openTCP, s.serveAdmin)
	}
	for i := range all {
		var err error
		if all[i].listener, err = all[i].listen(all[i].addr); err != nil {
			for _, o := range all[:i] {
				o.listener.Close()
			}
			return &OptionError{all[i].transport, err}
		}
	}
	for _, o := range all {
		s.addrs = append(s.addrs, Addr{o.transport, o.listener.Addr(), s.opts.asksAt(o.transport)})
		if own, ok := o.listener.(*conn.Listener); ok {
			s.conns.Open(own)
		}
		s.serving.Go(func() {
			if err := o.serve(o.listener); !errors.Is(err, ErrServerClosed) {
				s.opts.Logger.Error("stopped listening", "transport", o.transport, "addr", o.listener.Addr().String(), "err", err)
				s.mu.Lock()
				s.lost = true
				s.mu.Unlock()
			}
		})
	}
	s.joinCluster()
	return nil
}

// ListenAndServe opens all listeners that the options name and serves until
// Shutdown is done; then it returns ErrServerClosed.
func (s *Server) ListenAndServe() error {
	if err := s.Listen(); err != nil {
		return err
	}
	<-s.closed
	return ErrServerClosed
}

// Serve serves the line protocol to the connections of a listener until
// Shutdown, and closes it. It returns ErrServerClosed or what went wrong. When
// accepting a connection fails for a reason that passes, such as no more
// descriptors, that is logged and tried again; any other error, a deadline's
// and io.EOF among them, ends it. Connections from the networks of ProxyProtocol
// must still begin with their headers.
func (s *Server) Serve(l net.Listener) error {
	return s.serveClients(conn.NewListener(l, s.opts.Logger), s.conns.Serve)
}

// own opens listeners that nobody else has.
func (s *Server) own(listen func(addr string) (net.Listener, error)) func(addr string) (net.Listener, error) {
	return func(addr string) (net.Listener, error) {
		l, err := listen(addr)
		if err != nil {
			return nil, err
		}
		return conn.NewOwnListener(l, s.opts.Logger), nil
	}
}

// serveOwn serves one of these as Serve does.
func (s *Server) serveOwn(l net.Listener) error {
	return s.serveClients(l.(*conn.Listener), s.conns.Serve)
}

// ServeWebSocket serves WebSocket connections of a listener, on any path,
// until Shutdown, and closes it. It returns as Serve does.
func (s *Server) ServeWebSocket(l net.Listener) error {
	return s.serveClients(conn.NewListener(l, s.opts.Logger), func(l net.Listener) error {
		return s.webSocket.Serve(s.conns.Proxied(l))
	})
}

// serveHTTP serves requests for units of rates. Those who ask are proxies themselves, and
// cannot send PROXY headers with what they ask.
func (s *Server) serveHTTP(l net.Listener) error {
	return s.serveClients(conn.NewListener(l, s.opts.Logger), func(l net.Listener) error {
		return s.http.Serve(s.conns.Callers(l))
	})
}

func (s *Server) serveAdmin(l net.Listener) error {
	c := conn.NewListener(l, s.opts.Logger)
	s.api.Start()
	return s.serve(c, func(l net.Listener) error {
		if s.opts.AdminTLS {
			l = tls.NewListener(l, s.tlsConfig(certs.Admin))
		}
		return s.admin.Serve(l)
	})
}

// serveClients serves a listener that Shutdown closes when it has drained.
func (s *Server) serveClients(c *conn.Listener, by func(net.Listener) error) error {
	if !s.add(c) {
		c.Close()
		return ErrServerClosed
	}
	defer s.drop(c)
	return s.serve(c, by)
}

func (s *Server) serve(l *conn.Listener, by func(net.Listener) error) error {
	defer l.Close()
	err := by(l)
	if s.over() {
		return ErrServerClosed
	}
	return fmt.Errorf("lockd: %w", err)
}

// add notes a listener for Shutdown.
func (s *Server) add(l *conn.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended { // not before: one that Listen has opened may get here while the server drains
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) drop(l *conn.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// Reload has files that the options name read again if they have changed, as the
// server does every other second by itself, and returns what is wrong with them:
// what was read before stays in use then. It returns ErrNoFiles if there are none.
func (s *Server) Reload() error {
	if len(s.files) == 0 {
		return ErrNoFiles
	}
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Check())
	}
	return errors.Join(errs...)
}

// Responds returns when all that clients depend on has done something since it was
// called: each event loop, and each part of the table of locks. It fails when ctx is
// done first. So it tells a watchdog more than that the process is there.
func (s *Server) Responds(ctx context.Context) error { return s.conns.Responds(ctx) }

func (s *Server) closeFiles() {
	for _, f := range s.files {
		f.Close()
	}
}

// Addrs returns the addresses that Listen opened.
func (s *Server) Addrs() []Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Addr(nil), s.addrs...)
}

// Dial connects to the server in memory, for a client in the same process.
// Like any connection it may be refused, which shows when it is read from.
func (s *Server) Dial() (net.Conn, error) {
	if s.over() {
		return nil, ErrServerClosed
	}
	client, server := conn.Pipe()
	s.conns.ServeLines(server, conn.Memory)
	return client, nil
}

// WebSocketHandler returns a handler that serves WebSocket connections on a
// path of the caller's own HTTP server. Its connections end with Shutdown. Pages
// have to ask for that server by an address or a name of AllowedHosts; PROXY headers
// are the caller's business. A request that is refused ends its connection, unless it
// is of HTTP/2; how long a request may take to come, the caller's server says.
func (s *Server) WebSocketHandler() http.Handler {
	return s.conns.WebSocket(s.opts.WebSocketOrigins)
}

// Collector returns a prometheus.Collector of the server's metrics, those that
// the admin address serves, except the ones of the process.
func (s *Server) Collector() prometheus.Collector {
	c := metrics.New(Version, cmp.Or(Revision(), "unknown"), s.conns)
	c.CertificateExpiry, c.Ready, c.Watched = s.certificateExpiry, s.ready, s.opts.WatchNames
	c.HTTPRequests = s.rates.Requests
	if s.member != nil {
		c.Cluster = s.member.Health
	}
	if s.state != nil {
		c.StateFailures = s.state.Failures
	}
	return c
}

// Retire has /readyz say that the server is shutting down, and changes nothing
// else, so that balancers have the time to send new clients elsewhere. Shutdown
// follows.
func (s *Server) Retire() {
	s.mu.Lock()
	s.retired = true
	s.mu.Unlock()
}

// endHTTP ends the connections over HTTP when the answers that are under way are given.
// None takes long: nobody waits for anything there, but with a wrong token.
func (s *Server) endHTTP() {
	ctx, stop := context.WithTimeout(context.Background(), httpGrace)
	defer stop()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
}

// httpGrace is how long an answer may take to be given, at the end.
const httpGrace = 200 * time.Millisecond

// Shutdown ends the connections: those that hold no lock at once, after the
// requests that were under way, the others as soon as they hold none. Nobody gets
// anything new meanwhile, neither a lock nor a place in line nor units of a rate,
// and those that wait for a lock stop waiting, see docs/protocol.md. Who asks is
// answered, new clients, too, until those that held something are gone; then the
// listeners are closed.
//
// When ctx is done it cuts off what is left and returns ctx's error; a ctx that
// never ends waits as long as any client holds a lock. The admin address answers
// until the end. Shutdown may be called again, to cut off earlier.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		err := s.conns.Drain(ctx)
		<-s.closed
		return err
	}
	s.retired, s.closing = true, true
	s.mu.Unlock()
	s.leaveCluster(ctx)
	err := s.conns.DrainThen(ctx, func() {
		s.mu.Lock()
		s.ended = true
		for l := range s.listeners {
			l.Close()
		}
		s.mu.Unlock()
		s.webSocket.Close()
		s.endHTTP()
	})
	s.admin.Close()
	s.serving.Wait()
	s.api.Close()
	s.closeFiles()
	s.closeState()
	close(s.closed)
	return err
}
