// Package api answers those who operate a server in JSON, over HTTP: what is held
// and who waits, who is there, what was lost, how the server is, and the end of a
// client. The page on the admin address asks it, and so may anybody's program: what
// there is stands in openapi.json.
//
// It counts and keeps nothing of locks itself, but for the numbers of the last
// minutes. Whatever many ask, the table is gone over once: one sampler and one
// census serve all. Every reply is bounded, and so is the work for it.
//
// Who asks, and what that one may do, is found out by who serves the handler
// (see WithAsker); the package does no networking of its own.
package api

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/session"
)

// Config is what the API tells of. Every field must be set, unless it says what
// nothing means.
type Config struct {
	Hub      *session.Hub
	Version  string
	Revision string // "": nobody knows
	NoNames  bool   // dumps are disabled: numbers are told, and nothing that has a name

	// Cluster returns how the server is as a node of a cluster; nil: it is none.
	Cluster func() cluster.Health

	Every time.Duration // between two samples; 0: a second
}

// An API is a handler for all whose paths begin with Path.
type API struct {
	cfg      Config
	started  time.Time
	whys     []string // the words for why something was lost
	sampler  sampler
	viewers  viewers
	searches places // who may search the table at a time
	made     made
}

// Path is what the paths of all that it serves begin with.
const Path = "/api/v1/"

// New returns an API. It samples nothing before Start.
func New(cfg Config) *API {
	a := &API{cfg: cfg, started: time.Now(), searches: newPlaces(mostSearches)}
	if a.cfg.Every == 0 {
		a.cfg.Every = time.Second
	}
	a.whys = slices.Sorted(maps.Keys(cfg.Hub.Stats().Losses))
	a.viewers.init()
	a.sampler.init(a)
	return a
}

// Start begins to sample, until Close.
func (a *API) Start() { a.sampler.start() }

// Close ends the sampler, and all who follow events, at once.
func (a *API) Close() {
	a.sampler.stop()
	a.viewers.close()
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if fromElsewhere(r) {
		fail(w, http.StatusForbidden, "a page of another site may not ask this server")
		return
	}
	route, args, allowed := find(r.Method, r.URL.EscapedPath())
	switch {
	case route == nil && allowed != "":
		h.Set("Allow", allowed)
		fail(w, http.StatusMethodNotAllowed, r.Method+" is not for this path: use "+allowed)
	case route == nil:
		fail(w, http.StatusNotFound, "there is no such path: see "+Path+"openapi.json")
	case route.names && a.cfg.NoNames:
		fail(w, http.StatusForbidden, "names are not told by this server (--disable-dump)")
	default:
		route.serve(a, &call{w: w, r: r, args: args})
	}
}

// fromElsewhere tells whether a browser says that the request is of another site's
// page: such a page could not read the reply, but have the work done. A link that a
// person follows is none.
func fromElsewhere(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		return r.Header.Get("Sec-Fetch-Mode") != "navigate"
	case "same-origin", "none":
		return false
	}
	// Without TLS, browsers say that only to servers on their own machine; and the
	// origin of other sites' pages.
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	from, err := url.Parse(origin)
	return err != nil || !strings.EqualFold(from.Host, r.Host)
}

// places is how many may do something at a time.
type places chan struct{}

func newPlaces(n int) places { return make(places, n) }

func (p places) take() bool {
	select {
	case p <- struct{}{}:
		return true
	default:
		return false
	}
}

func (p places) leave() { <-p }
