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
	"strings"
	"time"

	"github.com/nylen/lockd/internal/api"
	"github.com/nylen/lockd/internal/hosts"
	"github.com/nylen/lockd/internal/page"
	"github.com/prometheus/client_golang/prometheus"
)

const index = `lockd

/         a page for browsers, which shows what /api/v1/ tells
/metrics  counters for Prometheus
/healthz  200 while the process runs
/readyz   200 while it takes new connections, 503 once it is shutting down
          or one of its listeners has failed
/api/v1/  JSON: stats history events locks locks/NAME clients clients/ADDRESS
          rates losses, and POST clients/ADDRESS/kick
          /api/v1/openapi.json describes it
/debug/pprof/
          profiles, for role admin; without an auth file, for this machine
`

// Config is what the pages show, and to whom.
type Config struct {
	Metrics prometheus.Collector
	Ready   func() error  // tells why the server does not take all new connections
	Hosts   hosts.Allowed // under which one may ask for the pages
	Guard   Guard         // of what not everybody may; its Handler is set here
	API     *api.API
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
	postFor      = 2 * time.Second        // to send what is not
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
	ui := page.Handler()
	mux.Handle("GET /ui/", ui)
	handleProfiles(mux, cfg.Guard)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			ui.ServeHTTP(w, r)
			return
		}
		fmt.Fprint(w, index)
	})
	handler := known(cfg.Hosts, split(cfg.Guard.forAPI(cfg.API), mux))
	if cfg.Guard.Authority != nil {
		guard := cfg.Guard
		guard.Handler = handler
		handler = guard
	}
	places := newPlaces(cfg.Logger)
	return &http.Server{
		Handler:                      handler,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               16 << 10,
		ConnState:                    places.follow,
		ConnContext:                  places.name,
		DisableGeneralOptionsHandler: true, // or it would answer `OPTIONS *`, for whatever host
	}
}

// split gives the API what is for it. A mux would not let all names of locks through:
// it takes a path apart that is not clean.
func split(forAPI, others http.Handler) http.Handler {
	others, asks, acts := closing(bodyFor, others), closing(bodyFor, forAPI), closing(postFor, forAPI)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !isForAPI(r):
			others.ServeHTTP(w, r)
		case r.Method == http.MethodPost:
			acts.ServeHTTP(w, r)
		default:
			asks.ServeHTTP(w, r)
		}
	})
}

func isForAPI(r *http.Request) bool { return strings.HasPrefix(r.URL.EscapedPath(), api.Path) }

// known refuses those who ask for a host that is not known, as a page in somebody's
// browser may.
func known(names hosts.Allowed, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !names.Has(r.Host) {
			w.Header().Set("Connection", "close")
			fail(w, r, http.StatusForbidden, hosts.Refusal(r.Host))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// closing ends the connection of who sends a body, which has some time to come. A page
// has no use for one, and what has is done once in a while; net/http would wait for all
// of it before it sends a reply.
func closing(after time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(after))
		}
		h.ServeHTTP(w, r)
	})
}
