package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// Without an auth file, this machine may see profiles; with one, who shows a token of
// role admin, also on this machine.
func TestProfiles(t *testing.T) {
	t.Parallel()
	ask := func(addr, path, token string) int {
		t.Helper()
		request := "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
		if token != "" {
			request += "Authorization: Bearer " + token + "\r\n"
		}
		c := sent(t, addr, request+"\r\n")
		resp, err := http.ReadResponse(c.in, nil)
		must(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	const heap = "/debug/pprof/heap"
	_, _, open := startAdmin(t, server.Options{})
	_, _, asks := startAdmin(t, server.Options{AuthFile: authFile(t, "ops admin token:master", "grafana read token:look", "ci lock token:ci")})
	for _, c := range []struct {
		addr, path, token string
		want              int
	}{
		{open, heap, "", 200}, {open, "/debug/pprof/", "", 200}, {open, "/debug/pprof/profile?seconds=0", "", 400},
		{asks, heap, "", 401}, {asks, heap, "look", 403}, {asks, heap, "ci", 403}, {asks, heap, "wrong", 401}, {asks, heap, "master", 200},
		{asks, "/metrics", "", 200},
	} {
		if got := ask(c.addr, c.path, c.token); got != c.want {
			t.Errorf("%s of %v, token %q: %d, want %d", c.path, c.addr == asks, c.token, got, c.want)
		}
	}
	elsewhere := notLoopback(t)
	s := listen(t, server.Options{Admin: elsewhere + ":0"})
	if status, text := sent(t, s.Addrs()[0].String(), "GET "+heap+" HTTP/1.1\r\nHost: "+elsewhere+"\r\nConnection: close\r\n\r\n").answer(); status != 403 || !strings.Contains(text, "--auth-file") {
		t.Errorf("from elsewhere: %d %q", status, text)
	}
}
