package admin

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/session"
)

type authority map[string]*session.Access

func (a authority) Token(token []byte) *session.Access { return a["token "+string(token)] }
func (a authority) Cert(name string) *session.Access   { return a["cert "+name] }
func (a authority) UID(uint32) *session.Access         { return nil }

// newGuard guards a secret, and notes who has shown a wrong token.
func newGuard(denied *[]string) Guard {
	return Guard{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "secret") }),
		Authority: authority{
			"token r": {Name: "r", Role: session.RoleRead}, "token a": {Name: "a", Role: session.RoleAdmin},
			"token l": {Name: "l", Role: session.RoleLock}, "token rx": {Name: "rx", Role: session.RoleRead, Prefix: "x"},
			"token ax":  {Name: "ax", Role: session.RoleAdmin, Prefix: "x"},
			"cert prom": {Name: "prom", Role: session.RoleRead}, "cert ci": {Name: "ci", Role: session.RoleLock},
			"cert root": {Name: "root", Role: session.RoleAdmin},
		},
		Cert: func(state *tls.ConnectionState) string {
			if state == nil {
				return ""
			}
			return state.ServerName // stands for the client's
		},
		Denied: func(client string) { *denied = append(*denied, client) },
	}
}

// Who comes from another machine shows a token, or a certificate, of who may look
// at all. Probes and this machine need not.
func TestGuard(t *testing.T) {
	var denied []string
	g := newGuard(&denied)
	for _, c := range []struct {
		addr, path, auth, cert string
		code                   int
		text                   string
	}{
		{"192.0.2.1:1", "/metrics", "", "", 401, "takes a token of role read or admin"},
		{"192.0.2.1:1", "/metrics", "Bearer r", "", 200, ""},
		{"192.0.2.1:1", "/metrics", "bearer  r ", "", 200, ""},
		{"192.0.2.1:1", "/metrics", "Bearer a", "", 200, ""},
		{"192.0.2.1:1", "/metrics", "Bearer l", "", 403, "l may not see this"},
		{"192.0.2.1:1", "/metrics", "Bearer rx", "", 403, "rx may not see this"},
		{"192.0.2.1:1", "/metrics", "Bearer wrong", "", 401, "wrong token"},
		{"192.0.2.1:1", "/metrics", "Bearer ", "", 401, "wrong token"},
		{"192.0.2.1:1", "/metrics", "Basic r", "", 401, "takes a token"},
		{"192.0.2.1:1", "/metrics", "r", "", 401, "takes a token"},
		{"192.0.2.1:1", "/metrics", "", "prom", 200, ""},
		{"192.0.2.1:1", "/metrics", "", "ci", 403, "ci may not see this"},
		{"192.0.2.1:1", "/metrics", "", "nobody", 401, "takes a token"},
		{"192.0.2.1:1", "/metrics", "Bearer wrong", "prom", 401, "wrong token"},
		{"192.0.2.1:1", "/metrics", "Bearer r", "ci", 200, ""},
		{"192.0.2.1:1", "/healthz", "", "", 200, ""},
		{"192.0.2.1:1", "/readyz", "", "", 200, ""},
		{"192.0.2.1:1", "/", "", "", 200, ""},
		{"192.0.2.1:1", "/ui/app.js", "", "", 200, ""},
		{"192.0.2.1:1", "/ui/app.js", "Bearer wrong", "", 200, ""},
		{"192.0.2.1:1", "/ui/../metrics", "", "", 401, ""},
		{"192.0.2.1:1", "/ui/", "", "", 401, ""},
		{"192.0.2.1:1", "//", "", "", 401, ""},
		{"192.0.2.1:1", "//healthz", "", "", 401, ""},
		{"192.0.2.1:1", "/healthz/../metrics", "", "", 401, ""},
		{"127.0.0.1:1", "/metrics", "", "", 200, ""},
		{"[::1]:1", "/metrics", "", "", 200, ""},
		{"[::ffff:127.0.0.1]:1", "/metrics", "", "", 200, ""},
		{"", "/metrics", "", "", 401, ""},
		{"localhost:1", "/metrics", "", "", 401, ""},
	} {
		r := httptest.NewRequest("GET", "http://lockd"+c.path, nil)
		r.RemoteAddr = c.addr
		if c.auth != "" {
			r.Header.Set("Authorization", c.auth)
		}
		if c.cert != "" {
			r.TLS = &tls.ConnectionState{ServerName: c.cert}
		}
		w := httptest.NewRecorder()
		began := time.Now()
		g.ServeHTTP(w, r)
		body := w.Body.String()
		if w.Code != c.code || strings.Contains(body, "secret") != (c.code == 200) || !strings.Contains(body, c.text) {
			t.Errorf("%+v: %d %q", c, w.Code, body)
		}
		if challenge := w.Header().Get("WWW-Authenticate"); (challenge != "") != (c.code != 200) {
			t.Errorf("%+v: %q", c, challenge)
		}
		if c.text == "wrong token" && time.Since(began) < deniedAfter {
			t.Errorf("%+v: after %v", c, time.Since(began))
		}
	}
	// What a proxy on this machine passes on is not from this machine.
	for _, header := range []string{"X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"} {
		for _, c := range []struct {
			auth string
			code int
		}{{"", 401}, {"Bearer r", 200}, {"Bearer l", 403}} {
			r := httptest.NewRequest("GET", "http://lockd/metrics", nil)
			r.RemoteAddr = "127.0.0.1:1"
			r.Header.Set(header, "127.0.0.1")
			r.Header.Set("Authorization", c.auth)
			w := httptest.NewRecorder()
			if g.ServeHTTP(w, r); w.Code != c.code {
				t.Errorf("%s, %q: %d", header, c.auth, w.Code)
			}
		}
	}
	if len(denied) != 3 {
		t.Errorf("told of %q", denied)
	}
}

// What changes something or looks deep takes role admin, from wherever one comes,
// or, where nobody says who may what, it is for this machine.
func TestGuardAdmin(t *testing.T) {
	var denied []string
	g := newGuard(&denied)
	for _, c := range []struct {
		authority              bool
		addr, auth, cert, site string
		code                   int
		text                   string
	}{
		{true, "192.0.2.1:1", "", "", "", 401, "takes a token of role admin"},
		{true, "192.0.2.1:1", "Bearer a", "", "", 200, ""},
		{true, "192.0.2.1:1", "Bearer r", "", "", 403, "r may not do this"},
		{true, "192.0.2.1:1", "Bearer l", "", "", 403, "l may not do this"},
		{true, "192.0.2.1:1", "Bearer ax", "", "", 403, "ax may not do this"},
		{true, "192.0.2.1:1", "Bearer wrong", "", "", 401, "wrong token"},
		{true, "192.0.2.1:1", "Bearer wrong", "root", "", 401, "wrong token"},
		{true, "192.0.2.1:1", "", "root", "", 200, ""},
		{true, "192.0.2.1:1", "", "prom", "", 403, "prom may not do this"},
		{true, "192.0.2.1:1", "", "nobody", "", 401, "takes a token of role admin"},
		{true, "127.0.0.1:1", "", "", "", 401, "takes a token of role admin"},
		{true, "127.0.0.1:1", "Bearer r", "", "", 403, "r may not do this"},
		{true, "127.0.0.1:1", "Bearer a", "", "", 200, ""},
		{true, "127.0.0.1:1", "Bearer a", "", "same-origin", 200, ""},
		{true, "127.0.0.1:1", "Bearer a", "", "cross-site", 403, "another site"},
		{false, "127.0.0.1:1", "", "", "", 200, ""},
		{false, "[::1]:1", "", "", "none", 200, ""},
		{false, "127.0.0.1:1", "", "", "cross-site", 403, "another site"},
		{false, "127.0.0.1:1", "", "", "same-site", 403, "another site"},
		{false, "192.0.2.1:1", "", "", "", 403, "--auth-file"},
		{false, "192.0.2.1:1", "Bearer a", "", "", 403, "--auth-file"},
		{false, "", "", "", "", 403, "--auth-file"},
	} {
		g := g
		if !c.authority {
			g.Authority = nil
		}
		r := httptest.NewRequest("GET", "http://lockd/debug/pprof/", nil)
		r.RemoteAddr = c.addr
		for name, value := range map[string]string{"Authorization": c.auth, "Sec-Fetch-Site": c.site} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		if c.cert != "" {
			r.TLS = &tls.ConnectionState{ServerName: c.cert}
		}
		w := httptest.NewRecorder()
		began := time.Now()
		g.Admin(g.Handler).ServeHTTP(w, r)
		body := w.Body.String()
		if w.Code != c.code || strings.Contains(body, "secret") != (c.code == 200) || !strings.Contains(body, c.text) {
			t.Errorf("%+v: %d %q", c, w.Code, body)
		}
		if challenge := w.Header().Get("WWW-Authenticate"); (challenge != "") != (c.authority && c.code != 200 && c.site == "") {
			t.Errorf("%+v: %q", c, challenge)
		}
		if c.text == "wrong token" && time.Since(began) < deniedAfter {
			t.Errorf("%+v: after %v", c, time.Since(began))
		}
	}
	if len(denied) != 2 {
		t.Errorf("told of %q", denied)
	}
	r := httptest.NewRequest("GET", "http://lockd/debug/pprof/", nil)
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("X-Forwarded-For", "192.0.2.1")
	w := httptest.NewRecorder()
	if (Guard{}).Admin(g.Handler).ServeHTTP(w, r); w.Code != 403 {
		t.Errorf("what a proxy passes on: %d", w.Code)
	}
}
