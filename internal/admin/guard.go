package admin

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/api"
	"github.com/nylen/lockd/internal/page"
	"github.com/nylen/lockd/internal/session"
)

// A Guard is a handler that asks who it is that wants to see what is behind
// another one: the counters of all clients. Requests from this machine are not
// asked, nor are those of probes, which cannot say and are told next to nothing, nor
// those for the page, which holds nothing and asks for a token itself.
type Guard struct {
	http.Handler
	Authority session.Authority
	Cert      func(*tls.ConnectionState) string // the name in the certificate that was shown, or ""
	Denied    func(client string)               // is told of wrong tokens
}

// deniedAfter is how late a wrong token is answered, as on the clients' ports.
const deniedAfter = 100 * time.Millisecond

// ServeHTTP implements http.Handler.
func (g Guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" || page.Has(r.URL.Path) || isLocal(r) {
		g.Handler.ServeHTTP(w, r)
		return
	}
	a, ok := g.access(w, r)
	switch {
	case !ok:
	case a == nil:
		refuse(w, r, http.StatusUnauthorized, "", "from other machines this takes a token of role read or admin: Authorization: Bearer TOKEN")
	case a.Role == session.RoleLock || a.Prefix != "":
		refuse(w, r, http.StatusForbidden, insufficient,
			fmt.Sprintf("%s may not see this: it takes role read or admin, without a prefix", a.Name))
	default:
		g.Handler.ServeHTTP(w, r)
	}
}

// Admin returns a handler for what changes something, or looks deep into the server.
// Where there is an authority that takes role admin, also on this machine, which
// others may use, too; where there is none, only this machine may. And no page of
// another site, in somebody's browser here, may have it done.
func (g Guard) Admin(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
			fail(w, r, http.StatusForbidden, "lockd: a page of another site may not have this done")
			return
		}
		if g.Authority == nil {
			if !isLocal(r) {
				fail(w, r, http.StatusForbidden, "lockd: without an auth file (--auth-file) this is for the server's own machine")
				return
			}
			h.ServeHTTP(w, r)
			return
		}
		a, ok := g.access(w, r)
		switch {
		case !ok:
		case a == nil:
			refuse(w, r, http.StatusUnauthorized, "", "this takes a token of role admin: Authorization: Bearer TOKEN")
		case a.Role != session.RoleAdmin || a.Prefix != "":
			refuse(w, r, http.StatusForbidden, insufficient,
				fmt.Sprintf("%s may not do this: it takes role admin, without a prefix", a.Name))
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// access returns whose access a request shows, nil if it shows none or a certificate
// that is nobody's. A wrong token it answers itself: then it is not ok.
func (g Guard) access(w http.ResponseWriter, r *http.Request) (a *session.Access, ok bool) {
	if token, shown := bearer(r); shown {
		// Which counts before a certificate that a proxy may have shown.
		if a = g.Authority.Token([]byte(token)); a != nil {
			return a, true
		}
		g.Denied(r.RemoteAddr)
		select {
		case <-time.After(deniedAfter):
		case <-r.Context().Done():
		}
		refuse(w, r, http.StatusUnauthorized, `, error="invalid_token"`, "wrong token")
		return nil, false
	}
	if name := g.Cert(r.TLS); name != "" {
		a = g.Authority.Cert(name)
	}
	return a, true
}

// insufficient is what a challenge says of somebody who is known and may not.
const insufficient = `, error="insufficient_scope"`

func refuse(w http.ResponseWriter, r *http.Request, code int, challenge, text string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="lockd"`+challenge)
	fail(w, r, code, "lockd: "+text)
}

// fail answers that something is not to be had, in the form that the path's replies
// have.
func fail(w http.ResponseWriter, r *http.Request, code int, text string) {
	if isForAPI(r) {
		api.Fail(w, code, text)
	} else {
		http.Error(w, text, code)
	}
}

// bearer returns the token of a request, if it shows one.
func bearer(r *http.Request) (token string, ok bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

// isLocal tells whether a request is from this machine. What a proxy on it passes on
// is not, as far as the proxy says that it does.
func isLocal(r *http.Request) bool {
	for name := range r.Header {
		if name == "Forwarded" || name == "X-Real-Ip" || name == "Via" || strings.HasPrefix(name, "X-Forwarded-") {
			return false
		}
	}
	ip, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && ip.Addr().Unmap().IsLoopback()
}
