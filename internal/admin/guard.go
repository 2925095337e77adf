package admin

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

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
	refuse := func(code int, challenge, text string) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="lockd"`+challenge)
		http.Error(w, "lockd: "+text, code)
	}
	var a *session.Access
	if name := g.Cert(r.TLS); name != "" {
		a = g.Authority.Cert(name)
	}
	if token, ok := bearer(r); ok {
		// Which counts before a certificate that a proxy may have shown.
		if a = g.Authority.Token([]byte(token)); a == nil {
			g.Denied(r.RemoteAddr)
			select {
			case <-time.After(deniedAfter):
			case <-r.Context().Done():
			}
			refuse(http.StatusUnauthorized, `, error="invalid_token"`, "wrong token")
			return
		}
	}
	switch {
	case a == nil:
		refuse(http.StatusUnauthorized, "", "from other machines this takes a token of role read or admin: Authorization: Bearer TOKEN")
	case a.Role == session.RoleLock || a.Prefix != "":
		refuse(http.StatusForbidden, `, error="insufficient_scope"`,
			fmt.Sprintf("%s may not see this: it takes role read or admin, without a prefix", a.Name))
	default:
		g.Handler.ServeHTTP(w, r)
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
	for _, name := range [...]string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header[name] != nil {
			return false
		}
	}
	ip, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && ip.Addr().Unmap().IsLoopback()
}
