package server_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// A client within TLS is known by its certificate, and need not say who it is. One
// whose line changes is somebody else from its next request on.
func TestAuthByCertificate(t *testing.T) {
	t.Parallel()
	path := authFile(t, "ci lock:deploy/ cert", "ops admin token:master")
	files := newCertFiles(t)
	s := listen(t, server.Options{
		TLS: []string{"127.0.0.1:0"}, WSS: []string{"127.0.0.1:0"}, AuthFile: path,
		TLSCert: files.cert, TLSKey: files.key, TLSClientCA: files.ca,
	})
	var addr string
	for _, a := range s.Addrs() {
		if !a.Asks {
			t.Errorf("%s asks nobody", a.Transport)
		}
		if a.Transport == "tls" {
			addr = a.String()
		}
	}
	dial := func(name string) *client {
		c, err := tls.Dial("tcp", addr, trusting(clientCert(authority(), name)))
		return newClient(t, c, err)
	}
	ci, other := dial("ci"), dial("other")
	ci.ask("g deploy/x", "1 Lock Get Success: deploy/x")
	ci.ask("g x", "0 Not Allowed: g")
	other.ask("g x", "0 Not Authenticated")
	other.ask("auth wrong", "0 Auth Failed")
	other.ask("auth master", "1 ok")
	other.ask("i deploy/x", "1 Lock Is Locked: deploy/x")

	writeAuth(t, path, "ci read cert")
	must(t, s.Reload())
	ci.ask("r deploy/x", "0 Not Allowed: r")
	other.ask("i deploy/x", "0 Not Authenticated")
	writeAuth(t, path, "other lock cert")
	must(t, s.Reload())
	ci.ask("i deploy/x", "0 Not Authenticated")
	other.ask("i deploy/x", "0 Not Authenticated") // it has shown a token, and is no longer who that was
	dial("other").ask("i deploy/x", "1 Lock Is Locked: deploy/x")
}

// So is who asks the admin address.
func TestAdminAsksByCertificate(t *testing.T) {
	t.Parallel()
	elsewhere := notLoopback(t)
	files := newCertFiles(t)
	s := listen(t, server.Options{
		Admin: "0.0.0.0:0", AdminTLS: true, AuthFile: authFile(t, "prom read cert", "ci lock cert", "web read token:w"), AllowedHosts: []string{"*"},
		TLSCert: files.cert, TLSKey: files.key, TLSClientCA: files.ca,
	})
	_, port, err := net.SplitHostPort(s.Addrs()[0].String())
	must(t, err)
	get := func(config *tls.Config, token string) int {
		t.Helper()
		r, err := http.NewRequest("GET", "https://"+net.JoinHostPort(elsewhere, port)+"/metrics", nil)
		must(t, err)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		c := http.Client{Timeout: giveUp, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		res, err := c.Do(r)
		must(t, err)
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		must(t, err)
		return res.StatusCode
	}
	for _, c := range []struct {
		config *tls.Config
		token  string
		want   int
	}{
		{trusting(clientCert(authority(), "prom")), "", 200}, {trusting(clientCert(authority(), "ci")), "", 403},
		{trusting(clientCert(authority(), "nobody")), "", 401}, {trusting(), "", 401}, {trusting(), "w", 200},
	} {
		if got := get(c.config, c.token); got != c.want {
			t.Errorf("%d, want %d", got, c.want)
		}
	}
}

// notLoopback returns an address of this machine by which it does not look as one of
// its own.
func notLoopback(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	must(t, err)
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			return ip.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback")
	return ""
}
