package server_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// authFile writes an auth file. Its lines have the token itself, TOKEN in place of
// its hash.
func authFile(tb testing.TB, lines ...string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "auth")
	writeAuth(tb, path, lines...)
	return path
}

func writeAuth(tb testing.TB, path string, lines ...string) {
	tb.Helper()
	var text strings.Builder
	text.WriteString("# test\n")
	for _, line := range lines {
		before, token, ok := strings.Cut(line, "token:")
		if ok {
			line = fmt.Sprintf("%ssha256:%x", before, sha256.Sum256([]byte(token)))
		}
		text.WriteString(line + "\n")
	}
	must(tb, os.WriteFile(path+".new", []byte(text.String()), 0o600))
	must(tb, os.Rename(path+".new", path))
}

// Everybody but who comes by a unix socket, or from within, has to show a token.
func TestAuthOverEveryTransport(t *testing.T) {
	t.Parallel()
	path := authFile(t, "ci lock:deploy/ token:secret", "ops admin token:master")
	for _, on := range [][]string{nil, {"unix"}, {"tcp", "unix", "websocket"}, {"none"}} {
		t.Run(fmt.Sprint(on), func(t *testing.T) {
			t.Parallel()
			s := start(t, server.Options{AuthFile: path, AuthOn: on})
			all := append([]string{"websocket"}, streams...)
			for _, transport := range all {
				asks := transport != "unix" && transport != "memory"
				if on != nil {
					asks = strings.Contains(strings.Join(on, " "), transport)
				}
				ask := s.asker(t, transport)
				if asks {
					ask("g other", "0 Not Authenticated")
					ask("ping", "1 pong")
				} else {
					ask("g other", "1 Lock Get Success: other")
					ask("r other", "1 Lock Release Success: other")
				}
				ask("auth wrong", "0 Auth Failed")
				ask("auth", "0 Auth Failed")
				ask("auth secret", "1 ok")
				ask("g other", "0 Not Allowed: g")
				ask("kick 127.0.0.1:1", "0 Not Allowed: kick")
				ask("g deploy/x", "1 Lock Get Success: deploy/x")
				ask("auth wrong", "0 Auth Failed")
				ask("r deploy/x", "1 Lock Release Success: deploy/x")
				ask("auth master", "1 ok")
				ask("kick 127.0.0.1:1", "0 No Such Client: 127.0.0.1:1")
			}
			for _, a := range s.Addrs() {
				want := a.Transport != "unix"
				if on != nil {
					want = strings.Contains(strings.Join(on, " "), a.Transport)
				}
				if a.Asks != want {
					t.Errorf("%s asks: %v", a.Transport, a.Asks)
				}
			}
			for reason, want := range map[string]int{"auth_failed": 3 * len(all), "not_allowed": 2 * len(all)} {
				if got := metric(t, s.Server, "lockd_rejected_total", "reason="+reason); got != want {
					t.Errorf("%d %s, want %d", got, reason, want)
				}
			}
		})
	}
}

// asker connects and returns what asks for a reply of one line.
func (s *testServer) asker(t *testing.T, transport string) func(request, reply string) {
	t.Helper()
	if transport == "websocket" {
		return dialWS(t, s.webSocketURL).ask
	}
	return s.dial(t, transport).ask
}

// A file that is read again counts for who is there; a wrong one does not.
func TestAuthFileReadAgain(t *testing.T) {
	t.Parallel()
	path := authFile(t, "a lock token:a", "b lock token:b", "ops admin token:o")
	s := start(t, server.Options{AuthFile: path})
	a, b, ops := s.dial(t, "tcp"), s.dial(t, "tcp"), s.dial(t, "tcp")
	a.ask("auth a", "1 ok")
	b.ask("auth b", "1 ok")
	ops.ask("auth o", "1 ok")
	a.ask("g x", "1 Lock Get Success: x")
	b.ask("g y", "1 Lock Get Success: y")

	must(t, os.WriteFile(path, []byte("a lock\n"), 0o600))
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), path+":1:3: ") {
		t.Errorf("%v", err)
	}
	a.ask("r x", "1 Lock Release Success: x")
	a.ask("g x", "1 Lock Get Success: x")

	writeAuth(t, path, "b read token:b", "ops admin token:o", "c lock token:c")
	must(t, s.Reload())
	a.ask("r x", "0 Not Authenticated")
	a.ask("auth a", "0 Auth Failed")
	a.ask("ping", "1 pong")
	b.ask("r y", "0 Not Allowed: r")
	b.ask("i x", "1 Lock Is Locked: x")
	ops.ask("r x", "0 Lock Release Failure: x")
	c := s.dial(t, "tcp")
	c.ask("auth c", "1 ok")
	a.ask("auth c", "1 ok")
	a.ask("r x", "1 Lock Release Success: x")
}

// Many who show wrong tokens hold up nobody: if a loop waited for one of them, the
// others, and who does not show one, would wait for all.
func TestWrongTokensHoldUpNobody(t *testing.T) {
	t.Parallel()
	const clients, each = 400, 4 // that is 160 seconds, one after another
	s := start(t, server.Options{AuthFile: authFile(t, "a lock token:a")})
	var all sync.WaitGroup
	gate := make(chan struct{}, 100)
	for range clients {
		all.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			c, err := net.Dial("tcp", s.tcp)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			io.WriteString(c, strings.Repeat("auth wrong\n", each)+"bye\n")
			got, _ := io.ReadAll(c)
			if want := strings.Repeat("0 Auth Failed\n", each) + "1 bye\n"; string(got) != want {
				t.Errorf("got %q", got)
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	c := s.dial(t, "tcp")
	c.ask("auth a", "1 ok")
	for on := true; on; {
		c.ask("g x", "1 Lock Get Success: x")
		select {
		case <-done:
			on = false
		default:
		}
	}
	if got := metric(t, s.Server, "lockd_rejected_total", "reason=auth_failed"); got != clients*each {
		t.Errorf("%d were counted", got)
	}
}

// A million wrong tokens at once: one after another is answered, until more has come
// behind one than is kept; then the client is cut off.
func TestManyWrongTokensAtOnce(t *testing.T) {
	t.Parallel()
	for _, transport := range streams {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s := start(t, server.Options{AuthFile: authFile(t, "a lock token:a")})
			c := s.dial(t, transport)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				flood := []byte(strings.Repeat("auth wrong\n", 1000))
				for range 1000 {
					if _, err := c.Write(flood); err != nil {
						return
					}
				}
			}()
			// On a busy machine the first is over before the rest has come.
			got, _ := io.ReadAll(c.in)
			answered := strings.Count(string(got), "0 Auth Failed\n")
			if answered == 0 || answered > 1000 || len(got) != answered*len("0 Auth Failed\n") {
				t.Errorf("got %.60q, %d answers", got, answered)
			}
			c.Close()
			<-sent
			waitConnections(t, s.Server, 0)
			if got := metric(t, s.Server, "lockd_rejected_total", "reason=auth_failed"); got != answered {
				t.Errorf("%d were counted, %d answered", got, answered)
			}
		})
	}
	t.Run("websocket", func(t *testing.T) {
		t.Parallel()
		s := start(t, server.Options{AuthFile: authFile(t, "a lock token:a")})
		c := dialWS(t, s.webSocketURL)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			flood := []byte(strings.Repeat(message(ws.OpText, "auth wrong"), 1000))
			for range 100 {
				if _, err := c.Write(flood); err != nil {
					return
				}
			}
		}()
		answered := 0
		f := c.next()
		for ; f.Header.OpCode == ws.OpText && string(f.Payload) == "0 Auth Failed\n"; f = c.next() {
			answered++
		}
		if code, text := ws.ParseCloseFrameData(f.Payload); f.Header.OpCode != ws.OpClose || code != ws.StatusNormalClosure || answered == 0 || answered > 1000 {
			t.Errorf("%d answers, and then a frame of type %d, %d %q", answered, f.Header.OpCode, code, text)
		}
		c.Close()
		<-sent
		waitConnections(t, s.Server, 0)
		if got := metric(t, s.Server, "lockd_rejected_total", "reason=auth_failed"); got != answered {
			t.Errorf("%d were counted, %d answered", got, answered)
		}
	})
}

// Who closes its sending side behind a wrong token is answered, also what it has
// sent behind that.
func TestWrongTokenAndHalfClose(t *testing.T) {
	t.Parallel()
	path := authFile(t, "a lock token:a")
	for _, transport := range []string{"tcp", "unix"} {
		for sent, want := range map[string]string{
			"auth wrong\nping\n":                        "0 Auth Failed\n1 pong\n",
			"hello 2\n5 auth wrong\n0 ping\n":           "2 lockd " + server.Version + "\n0 1 pong\n5 0 Auth Failed\n",
			"hello 2\n5 auth wrong\n5 ping\n6 auth a\n": "2 lockd " + server.Version + "\n5 0 Session Busy: ping\n6 0 Session Busy: auth\n5 0 Auth Failed\n",
		} {
			t.Run(fmt.Sprintf("%s/%.12q", transport, sent), func(t *testing.T) {
				t.Parallel()
				s := start(t, server.Options{AuthFile: path})
				c := s.dial(t, transport)
				c.send(sent)
				c.closeWrite()
				got, err := io.ReadAll(c.in)
				if string(got) != want || err != nil {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
			})
		}
	}
}

// The user of a process at a unix socket is known by its number, whether it is asked
// or not.
func TestAuthByUser(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" && runtime.GOOS != "freebsd" {
		t.Skip("the system does not tell who is at the other end of a unix socket")
	}
	for _, on := range [][]string{nil, {"unix"}} {
		s := start(t, server.Options{AuthFile: authFile(t, fmt.Sprintf("me lock:mine/ uid:%d", os.Getuid())), AuthOn: on})
		c := s.dial(t, "unix")
		c.ask("g x", "0 Not Allowed: g")
		c.ask("g mine/x", "1 Lock Get Success: mine/x")
	}
	s := start(t, server.Options{AuthFile: authFile(t, fmt.Sprintf("other lock uid:%d", os.Getuid()+1)), AuthOn: []string{"unix"}})
	s.dial(t, "unix").ask("g x", "0 Not Authenticated")
}

// lines is a log that keeps what it is told.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The log tells of wrong tokens, with the address, rarely; of who is who; and never
// a token.
func TestLogOfAuth(t *testing.T) {
	t.Parallel()
	log := new(lines)
	s := start(t, server.Options{
		AuthFile: authFile(t, "ci lock token:sesame", "ops admin token:master", "web read cert", "x lock uid:1"),
		Logger:   slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	a, b := s.dial(t, "tcp"), s.dial(t, "tcp")
	a.ask("auth wrongone", "0 Auth Failed")
	a.ask("auth wrongtwo", "0 Auth Failed")
	a.ask("auth sesame", "1 ok")
	b.ask("auth master", "1 ok")
	b.ask("kick "+a.LocalAddr().String(), "1 Kicked: "+a.LocalAddr().String())
	a.end()
	got := log.String()
	for _, want := range []string{
		`level=WARN msg="wrong token" client=` + a.LocalAddr().String() + " failures=1",
		`msg=authenticated client=` + a.LocalAddr().String() + " as=ci role=lock",
		`msg=kicked client=` + a.LocalAddr().String() + " as=ci by=" + b.LocalAddr().String() + " by-as=ops",
		`msg=disconnected client=` + a.LocalAddr().String() + " locks=0 as=ci",
		`msg="lines of the auth file with cert have no effect`, `msg="users that are not in the auth file may do everything over unix sockets`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the log has no %q:\n%s", want, got)
		}
	}
	if strings.Count(got, "wrong token") != 1 {
		t.Errorf("the log tells of each:\n%s", got)
	}
	for _, secret := range []string{"sesame", "master", "wrongone", "wrongtwo"} {
		if strings.Contains(got, secret) {
			t.Errorf("the log has %s", secret)
		}
	}
}

func TestAuthOptions(t *testing.T) {
	t.Parallel()
	path := authFile(t, "a lock token:a")
	for _, c := range []struct {
		file string
		on   []string
		want string
	}{
		{"", []string{"tcp"}, "auth-on: needs an auth file"},
		{path, []string{"udp"}, `auth-on: must be some of tcp, websocket, tls, wss, http and unix, or none, not "udp"`},
		{path, []string{"tcp", "memory"}, `not "memory"`},
		{path, []string{"tcp", "none"}, "auth-on: none goes with nothing else"},
		{path + ".no", nil, "auth-file: cannot read the auth file " + path + ".no: no such file or directory"},
		{filepath.Dir(path), nil, "auth-file: cannot read the auth file " + filepath.Dir(path) + ": is a directory"},
		{authFile(t, "a lock"), nil, ":2:3: a line has three words"},
	} {
		s, err := server.New(server.Options{AuthFile: c.file, AuthOn: c.on})
		if err == nil {
			s.Shutdown(canceled())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) && runtime.GOOS != "windows" {
			t.Errorf("%q: %v", c.want, err)
		}
	}
	s, err := server.New(server.Options{AuthFile: path, AuthOn: []string{"tcp", "websocket", "tls", "wss", "unix"}})
	must(t, err)
	s.Shutdown(canceled())
}

// The admin address asks who comes from another machine.
func TestAdminAsks(t *testing.T) {
	t.Parallel()
	elsewhere := notLoopback(t)
	s := listen(t, server.Options{Admin: "0.0.0.0:0", AuthFile: authFile(t, "prom read token:p", "ci lock token:c")})
	_, port, err := net.SplitHostPort(s.Addrs()[0].String())
	must(t, err)
	get := func(host, path, token string) int {
		t.Helper()
		r, err := http.NewRequest("GET", "http://"+net.JoinHostPort(host, port)+path, nil)
		must(t, err)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		c := http.Client{Timeout: giveUp, Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := c.Do(r)
		must(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		must(t, err)
		if told := strings.Contains(string(body), "lockd_connections"); told != (res.StatusCode == 200 && path == "/metrics") {
			t.Errorf("%s%s: %d %.60q", host, path, res.StatusCode, body)
		}
		return res.StatusCode
	}
	if got := get("127.0.0.1", "/metrics", ""); got != 200 {
		t.Errorf("from this machine: %d", got)
	}
	for _, c := range []struct {
		path, token string
		want        int
	}{
		{"/metrics", "", 401}, {"/metrics", "x", 401}, {"/metrics", "c", 403}, {"/metrics", "p", 200}, {"/", "", 200}, {"/", "p", 200}, {"/ui/app.js", "", 200},
		{"/healthz", "", 200}, {"/readyz", "", 200}, {"/readyz", "x", 200}, {"/nothing", "", 401}, {"/healthz/", "", 401},
	} {
		if got := get(elsewhere, c.path, c.token); got != c.want {
			t.Errorf("%s with token %q: %d, want %d", c.path, c.token, got, c.want)
		}
	}
	open := listen(t, server.Options{Admin: "0.0.0.0:0"})
	_, port, err = net.SplitHostPort(open.Addrs()[0].String())
	must(t, err)
	if got := get(elsewhere, "/metrics", ""); got != 200 {
		t.Errorf("without an auth file: %d", got)
	}
}
