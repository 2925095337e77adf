// Package admin serves the pages for those who operate a server: its metrics
// and whether it is up. It listens apart from the clients' ports, on loopback
// unless asked otherwise.
//
// Whatever is done to it, clients do not notice: its connections are few, and
// have descriptors that are kept for them, and each has a bound on its time.
package admin

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/nylen/lockd/internal/hosts"
	"github.com/prometheus/client_golang/prometheus"
)

const index = `lockd

/metrics  counters for Prometheus
/healthz  200 while the process runs
/readyz   200 while it takes new connections, 503 once it is shutting down
          or one of its listeners has failed
/debug/pprof/
          profiles, for role admin; without an auth file, for this machine
`

// Config is what the pages show, and to whom.
type Config struct {
	Metrics prometheus.Collector
	Ready   func() error  // tells why the server does not take all new connections
	Hosts   hosts.Allowed // under which one may ask for the pages
	Guard   Guard         // of what not everybody may; its Handler is set here
	Logger  *slog.Logger
}

// How long a client may take to send a request, with its body, if there is one,
// and to take the answer; and how long it may do nothing between two. Prometheus
// asks every minute at least.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
	idleTimeout  = 2 * time.Minute
	bodyFor      = 100 * time.Millisecond // to send what is passed over, since the request has come
)

// New returns an HTTP server for the admin address. Where the guard knows nobody, the
// pages are open to all who reach it.
func New(cfg Config) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", newMetrics(cfg.Metrics))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := cfg.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	handleProfiles(mux, cfg.Guard)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, index)
	})
	handler := known(cfg.Hosts, bodiless(mux))
	if cfg.Guard.Authority != nil {
		guard := cfg.Guard
		guard.Handler = handler
		handler = guard
	}
	return &http.Server{
		Handler:                      handler,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               16 << 10,
		ConnState:                    newPlaces(cfg.Logger).follow,
		DisableGeneralOptionsHandler: true, // or it would answer `OPTIONS *`, for whatever host
	}
}

// known refuses those who ask for a host that is not known, as a page in somebody's
// browser may.
func known(names hosts.Allowed, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !names.Has(r.Host) {
			w.Header().Set("Connection", "close")
			http.Error(w, hosts.Refusal(r.Host), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// bodiless ends the connection of who sends a body, which no page has a use for, and
// does not wait for it, as net/http would.
func bodiless(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyFor))
		}
		h.ServeHTTP(w, r)
	})
}
