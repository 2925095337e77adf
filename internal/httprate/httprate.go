// Package httprate takes units of rates for those who ask over HTTP, a request at a
// time: reverse proxies that ask before they pass a request on, and programs without a
// connection to keep.
//
//	POST /api/v1/rates/NAME/take?limit=100&window=1m
//	GET  /api/v1/rates/NAME/take?limit=100&window=1m   for subrequests of proxies
//
// A request is answered 200 if the units were taken and 429 if they were not (or 403, if
// it asks for that), with the header fields of draft-ietf-httpapi-ratelimit-headers-10.
// Whatever is no such decision has another status: who asks can tell "no" from "I don't
// know". It is decided by internal/session as the request `rl` is; here is what is HTTP.
//
// A request's numbers and its name are its URL's, or its body's. What the header has
// counts for nothing, but where the URL says so: proxies pass on what strangers wrote.
package httprate

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/conn"
	"github.com/nylen/lockd/internal/hosts"
	"github.com/nylen/lockd/internal/session"
)

// How long a client may take to send a request, and to take the answer, and how long it
// may do nothing between two: longer than proxies keep connections by themselves, so that
// it is they who close them, and none of their requests meets an end.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second // since the request has begun, too
	idleTimeout  = 2 * time.Minute
	bodyFor      = 100 * time.Millisecond // to send what is passed over, since the request has come
)

// Config is what requests are held to.
type Config struct {
	Bounds     session.RateBounds
	Hosts      hosts.Allowed       // under which one may ask
	WrongToken func(client string) // is told of wrong tokens
}

// Handler answers requests over connections of conn.Callers, and no others.
type Handler struct {
	cfg    Config
	counts [len(statuses)]atomic.Uint64
}

// statuses are the status codes that answers have.
var statuses = [...]int{
	http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
	http.StatusMethodNotAllowed, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests,
	http.StatusInternalServerError, http.StatusServiceUnavailable,
}

// New returns a handler.
func New(cfg Config) *Handler { return &Handler{cfg: cfg} }

// Server returns an HTTP server for it.
func (h *Handler) Server() *http.Server {
	return &http.Server{
		Handler:        h,
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: conn.CallerHeader - 4<<10, // net/http lets 4 KB more through
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			switch caller := c.(*conn.CallerConn); state {
			case http.StateActive, http.StateIdle:
				caller.Asking(state == http.StateActive)
			case http.StateClosed:
				caller.End()
			}
		},
		DisableGeneralOptionsHandler: true, // or it would answer `OPTIONS *`, for whatever host
	}
}

type connKey struct{}

// Requests returns how many were answered, by status code.
func (h *Handler) Requests() map[string]uint64 {
	all := make(map[string]uint64)
	for i, status := range statuses {
		all[strconv.Itoa(status)] = h.counts[i].Load()
	}
	return all
}

// A refusal is an answer that is no decision.
type refusal struct {
	status int
	text   string
	close  bool // and the connection ends with it
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, text string) *refusal { return &refusal{status: status, text: text} }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*conn.CallerConn)
	if r.Method != http.MethodPost && r.ContentLength != 0 {
		// Nobody has a use for it, and net/http would wait for it.
		w.Header().Set("Connection", "close")
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyFor))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := h.take(w, r, c); err != nil {
		h.fail(w, r, err)
	}
}

// take answers a request, unless it returns why it does not.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, c *conn.CallerConn) error {
	if !h.cfg.Hosts.Has(r.Host) {
		return &refusal{http.StatusForbidden, hosts.Refusal(r.Host), true}
	}
	access, err := h.identify(r, c)
	if err != nil {
		return err
	}
	c.Met()
	raw, ok := rateOf(r.URL.EscapedPath())
	if !ok {
		return refuse(http.StatusNotFound, "there is nothing at this path: ask for /api/v1/rates/NAME/take")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, POST")
		return refuse(http.StatusMethodNotAllowed, "units are taken with POST or GET, not with "+r.Method)
	}
	a, err := h.read(w, r, raw)
	if err != nil {
		return err
	}
	v, err := c.Caller.TakeRate(access, []byte(a.name), a.rate, a.cost)
	if err != nil {
		return err
	}
	if text, ok := bound(v.Outcome); ok {
		return refuse(http.StatusServiceUnavailable, text)
	}
	h.decide(w, a, v)
	return nil
}

// identify returns what who asks may do; nil: nobody was asked.
func (h *Handler) identify(r *http.Request, c *conn.CallerConn) (*session.Access, error) {
	a, err := c.Caller.Identify(bearer(r), c.Asks)
	if errors.Is(err, session.ErrWrongToken) {
		h.cfg.WrongToken(r.RemoteAddr)
		select {
		case <-time.After(session.WrongTokenTakes):
		case <-r.Context().Done():
		}
	}
	return a, err
}

// bearer returns the token of a request, or nil if it shows none.
func bearer(r *http.Request) []byte {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	return []byte(strings.TrimSpace(token))
}

// fail answers a request with what was wrong.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var no *refusal
	switch {
	case errors.As(err, &no):
	case errors.Is(err, session.ErrWrongToken):
		w.Header().Set("WWW-Authenticate", `Bearer realm="lockd", error="invalid_token"`)
		no = &refusal{http.StatusUnauthorized, "wrong token", true}
	case errors.Is(err, session.ErrNotAuthenticated):
		w.Header().Set("WWW-Authenticate", `Bearer realm="lockd"`)
		no = &refusal{http.StatusUnauthorized, "this takes a token of role lock or admin: Authorization: Bearer TOKEN", true}
	case errors.Is(err, session.ErrNotAllowed):
		no = refuse(http.StatusForbidden, "this token may not take units of this rate: that takes role lock, for names that begin so, or admin")
	case errors.Is(err, session.ErrShuttingDown):
		no = &refusal{http.StatusServiceUnavailable, "the server is shutting down", true}
	default:
		no = refuse(http.StatusInternalServerError, err.Error())
	}
	status := no.status
	if r.URL.Query().Has(deniedWord) && (status == http.StatusUnauthorized || status == http.StatusForbidden) {
		// Who asks for another status than 429 takes these two for decisions.
		status = http.StatusInternalServerError
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	if no.close {
		w.Header().Set("Connection", "close")
	}
	h.answer(w, status, appendError(nil, no.text))
}

func (h *Handler) answer(w http.ResponseWriter, status int, body []byte) {
	for i := range statuses {
		if statuses[i] == status {
			h.counts[i].Add(1)
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}
