package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// sent connects, sends something, and keeps its side open.
func sent(tb testing.TB, addr, what string) *client {
	tb.Helper()
	c, err := net.Dial("tcp", addr)
	cl := newClient(tb, c, err)
	cl.send(what)
	return cl
}

// answer reads an HTTP answer and then the end of the connection.
func (c *client) answer() (status int, text string) {
	c.tb.Helper()
	resp, err := http.ReadResponse(c.in, nil)
	must(c.tb, err)
	body, err := io.ReadAll(resp.Body)
	must(c.tb, err)
	if !resp.Close {
		c.tb.Errorf("an answer that does not tell of the end: %v", resp.Header)
	}
	c.end()
	return resp.StatusCode, string(body)
}

const upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

// DNS rebinding: a page whose own host's name points to the server asks for that
// name, and its origin is the same.
func TestDNSRebinding(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		allow, origins []string
		host, origin   string
		ok             bool
	}{
		{nil, nil, "evil.example", "http://evil.example", false},
		{nil, nil, "evil.example:9998", "http://evil.example:9998", false},
		{nil, nil, "EVIL.example.", "http://evil.example.", false},
		{nil, nil, "127.0.0.1.evil.example", "http://127.0.0.1.evil.example", false},
		{[]string{"lock.example.com"}, nil, "evil.example", "http://evil.example", false},
		{nil, []string{"*"}, "evil.example", "http://evil.example", false},
		{nil, []string{"http://evil.example"}, "evil.example", "http://evil.example", false},
		{nil, nil, "evil.example", "", true}, // no browser
		{nil, nil, "127.0.0.1", "http://127.0.0.1", true},
		{nil, nil, "[::1]:9998", "http://[::1]:9998", true},
		{nil, nil, "localhost:9998", "http://localhost:9998", true},
		{[]string{"lock.example.com"}, nil, "lock.example.com:9998", "http://lock.example.com:9998", true},
		{[]string{"Lock.Example.COM"}, nil, "lock.example.com:9998", "http://lock.example.com:9998", true},
		{[]string{"*"}, nil, "any.example", "http://any.example", true},
		{[]string{"lock.example.com"}, []string{"https://app.example.com"}, "lock.example.com", "https://app.example.com", true},
		{[]string{"lock.example.com"}, nil, "lock.example.com", "https://app.example.com", false},
	} {
		s := start(t, server.Options{AllowedHosts: v.allow, WebSocketOrigins: v.origins})
		request := "GET / HTTP/1.1\r\nHost: " + v.host + "\r\n" + upgrade
		if v.origin != "" {
			request += "Origin: " + v.origin + "\r\n"
		}
		c := sent(t, s.ws, request+"\r\n"+message(ws.OpText, "g poison"))
		if v.ok {
			if resp, err := http.ReadResponse(c.in, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Errorf("%+v: %v, %v", v, resp, err)
			}
			continue
		}
		status, text := c.answer()
		known := v.host == "lock.example.com"
		if status != http.StatusForbidden || strings.Contains(text, "--allowed-host") == known {
			t.Errorf("%+v: %d %q", v, status, text)
		}
		if n := metric(t, s.Server, "lockd_commands_total"); n != 0 {
			t.Errorf("%+v: %d requests executed", v, n)
		}
		if n := metric(t, s.Server, "lockd_rejected_total", "reason=host"); n == 0 != known {
			t.Errorf("%+v: %d counted", v, n)
		}
	}
}

// refusals are requests that come to nothing on the WebSocket port, in all the ways
// that would make an HTTP server wait for more.
var refusals = map[string]string{
	"a foreign origin and a withheld body":      "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\nContent-Length: 1000\r\n\r\n",
	"a foreign host and a withheld body":        "POST / HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\nContent-Length: 1000\r\n\r\n",
	"a withheld body":                           "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n",
	"a withheld body to a handshake":            "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n" + upgrade + "Content-Length: 1000\r\n\r\n",
	"a half body":                               "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\nContent-Length: 1000\r\n\r\nhalf",
	"a large body":                              "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\nContent-Length: 100000000\r\n\r\n" + strings.Repeat("x", 100000),
	"chunks that stop":                          "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	"Expect: 100-continue":                      "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
	"keep-alive":                                "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\n\r\n",
	"keep-alive of HTTP/1.0":                    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	"keep-alive with a foreign origin":          "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n\r\n",
	"pipelined requests":                        strings.Repeat("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n\r\n", 100),
	"OPTIONS *":                                 "OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n",
	"HEAD":                                      "HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n\r\n",
	"CONNECT":                                   "CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\nOrigin: http://evil.example\r\n\r\n",
	"an old version of WebSocket, with a body":  "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nContent-Length: 1000\r\n\r\n",
	"a preface of HTTP/2":                       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"an upgrade to HTTP/2, and a withheld body": "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 10\r\n\r\n",
}

// A refused handshake ends at once, whatever its client withholds.
func TestRefusedHandshakeEnds(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	for what, request := range refusals {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := sent(t, s.ws, request)
			resp, err := http.ReadResponse(c.in, &http.Request{Method: strings.Fields(request)[0]})
			must(t, err)
			if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode < 400 || !resp.Close && !strings.Contains(what, "old version") {
				t.Errorf("got %v, %v", resp, err)
			}
			c.end()
		})
	}
}

// What net/http answers by itself is bounded in time, too.
func TestHandshakeThatHangsEnds(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	var all []*client
	for _, request := range []string{
		"", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n",
		"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: the worst\r\nContent-Length: 1000\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: x\r\n\r\n",
	} {
		all = append(all, sent(t, s.ws, request))
	}
	for _, c := range all {
		if _, err := io.ReadAll(c.in); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Error(err)
		}
	}
}

// A hundred POSTs with a foreign origin and a withheld body: lock clients have their
// places nonetheless.
func TestWithheldBodiesTakeNoPlaces(t *testing.T) {
	t.Parallel()
	const most = 100
	s := start(t, server.Options{MaxConnections: most})
	for range most + 20 {
		sent(t, s.ws, refusals["a foreign origin and a withheld body"]).answer()
	}
	for range most / 2 {
		s.dial(t, "tcp").ask("i foo", "0 Lock Not Locked: foo")
		dialWS(t, s.webSocketURL).ask("i foo", "0 Lock Not Locked: foo")
	}
}

// The handler in a caller's HTTP server ends refused connections as well, though
// the server itself keeps them, and has no bounds.
func TestRefusedHandshakeEndsInHandler(t *testing.T) {
	t.Parallel()
	s := newServer(t, server.Options{})
	h := httptest.NewServer(s.WebSocketHandler())
	defer h.Close()
	for what, request := range refusals {
		if strings.HasPrefix(what, "OPTIONS") { // the caller's server answers that
			continue
		}
		t.Run(what, func(t *testing.T) {
			c := sent(t, h.Listener.Addr().String(), request)
			resp, err := http.ReadResponse(c.in, &http.Request{Method: strings.Fields(request)[0]})
			must(t, err)
			if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode < 400 {
				t.Errorf("got %v, %v", resp, err)
			}
			c.end()
		})
	}
}

// Over HTTP/2 there is no connection to end, but the request is refused.
func TestRefusedHandshakeOfHTTP2(t *testing.T) {
	t.Parallel()
	s := newServer(t, server.Options{})
	h := httptest.NewUnstartedServer(s.WebSocketHandler())
	h.EnableHTTP2 = true
	h.StartTLS()
	defer h.Close()
	for _, origin := range []string{"http://evil.example", ""} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", h.URL, strings.NewReader("x"))
		must(t, err)
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		resp, err := h.Client().Do(r)
		must(t, err)
		resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode < 400 {
			t.Errorf("got %v", resp)
		}
	}
	if n := metric(t, s, "lockd_connections"); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// A connection that begins with a control character is closed, and nothing of it
// is executed, however its bytes are cut up.
func TestControlByteFirst(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		closed := 0
		for b := range 256 {
			c := byte(b)
			if c >= ' ' && c != 0x7f || strings.IndexByte("\t\n\v\f\r", c) >= 0 {
				continue
			}
			for _, pieces := range [][]string{{string(c) + "\ng poison\n"}, {string(c), "\ng poison\n"}, {string(c) + "g poison\n"}} {
				cl := s.dial(t, transport)
				for _, piece := range pieces {
					io.WriteString(cl, piece) // it may be closed already
				}
				if got, _ := io.ReadAll(cl.in); len(got) > 0 {
					t.Errorf("%q: got %q", pieces, got)
				}
				closed++
			}
		}
		c := s.dial(t, transport)
		c.ask("i poison", "0 Lock Not Locked: poison")
		if n := metric(t, s.Server, "lockd_commands_total", "command=g"); n != 0 {
			t.Errorf("%d executed", n)
		}
		tlsOnes := metric(t, s.Server, "lockd_rejected_total", "reason=tls")
		if n := metric(t, s.Server, "lockd_rejected_total", "reason=control_byte"); n+tlsOnes != closed || tlsOnes > 1 {
			t.Errorf("%d and %d counted, not %d", n, tlsOnes, closed)
		}
		// Later on it is a byte like any other.
		c.ask("i \x16\x03", "0 Lock Not Locked: \x16\x03")
		c.send("\x16\x03\x01\n")
		c.ask("i foo", "0 Lock Not Locked: foo")
		// Blanks, ends of lines, and what is beyond ASCII may come first.
		for _, first := range []string{" ", "\t", "\r", "\v", "\f", "\n", "\r\n", "\x80\n", "\xff\n", "\u00e9\n"} {
			s.dial(t, transport).ask(first+"i foo", "0 Lock Not Locked: foo")
		}
	})
}

// A TLS client on a port of lines: closed at once, and the log and the metrics say
// what it was. What it sends may be chosen so that it has lines in it.
func TestTLSOnLinePort(t *testing.T) {
	t.Parallel()
	log := new(syncBuilder)
	s := start(t, server.Options{Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for i, transport := range streams {
		c := s.dial(t, transport)
		c.send("\x16\x03\x01\x02\x00\x01\ng poison\n")
		c.end()
		d := s.dial(t, transport)
		if err := tls.Client(d.Conn, &tls.Config{ServerName: "\ng poison\n.example"}).Handshake(); err == nil {
			t.Error("shook hands")
		}
		if n := metric(t, s.Server, "lockd_rejected_total", "reason=tls"); n != 2*(i+1) {
			t.Errorf("%s: %d counted", transport, n)
		}
	}
	if n := metric(t, s.Server, "lockd_commands_total"); n != 0 {
		t.Errorf("%d executed", n)
	}
	eventually(t, "the log", func() bool {
		return strings.Count(log.String(), "it speaks TLS, which is not for this port") == 2*len(streams)
	})
}

// syncBuilder is a strings.Builder for several goroutines.
type syncBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuilder) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuilder) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Behind a proxy, over lines and WebSocket, a client has its own address wherever
// clients are shown.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{ProxyProtocol: []string{"127.0.0.0/8"}})
	const header = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 9999\r\n"
	c := sent(t, s.tcp, header)
	c.ask("me", "1 192.0.2.7:4711 192.0.2.7:4711")
	c.ask("g foo", "1 Lock Get Success: foo")
	conn, err := net.Dial("tcp", s.ws)
	must(t, err)
	w := newClient(t, conn, err)
	w.send(strings.ReplaceAll(header, "4711", "4712") + "GET / HTTP/1.1\r\nHost: x\r\n" + upgrade + "\r\n" + message(ws.OpText, "me") + message(ws.OpText, "g bar"))
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", resp, err)
	}
	wc := &wsClient{Conn: w.Conn, tb: t, in: w.in}
	wc.expect(ws.OpText, "1 192.0.2.7:4712 192.0.2.7:4712\n")
	wc.expect(ws.OpText, "1 Lock Get Success: bar\n")
	wc.ask("kick 192.0.2.7:4711", "0 Not Allowed: kick") // it is not on this machine
	wc.ask("dump", "map[bar:192.0.2.7:4712 foo:192.0.2.7:4711]")
	// A unix socket is none of those networks: it may kick by these addresses.
	u := s.dial(t, "unix")
	u.ask("dump", "map[bar:192.0.2.7:4712 foo:192.0.2.7:4711]")
	u.ask("kick 192.0.2.7:4712", "1 Kicked: 192.0.2.7:4712")
	u.ask("kick 192.0.2.7:4711", "1 Kicked: 192.0.2.7:4711")
	u.ask("dump", "map[]")
	c.end()

	// On the WebSocket port, too, what has no header is refused, and in pieces it is taken.
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: x\r\n" + upgrade + "\r\n", "PROXY TCP4 1.2.3.4\r\n"} {
		c := sent(t, s.ws, request)
		if got, _ := io.ReadAll(c.in); len(got) > 0 {
			t.Errorf("%q: got %q", request, got)
		}
	}
	eventually(t, "the counter", func() bool {
		return metric(t, s.Server, "lockd_rejected_total", "reason=proxy_header") == 2
	})
	w = sent(t, s.ws, "")
	for _, b := range strings.Split(header+"GET / HTTP/1.1\r\nHost: x\r\n"+upgrade+"\r\n"+message(ws.OpText, "me"), "") {
		w.send(b)
	}
	resp, err = http.ReadResponse(w.in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", resp, err)
	}
	(&wsClient{Conn: w.Conn, tb: t, in: w.in}).expect(ws.OpText, "1 192.0.2.7:4711 192.0.2.7:4711\n")
}

// A header that does not come ends a WebSocket connection, and Shutdown waits for
// none.
func TestProxyProtocolShutdown(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{ProxyProtocol: []string{"127.0.0.1"}})
	all := []*client{sent(t, s.tcp, ""), sent(t, s.tcp, "PROXY "), sent(t, s.ws, ""), sent(t, s.ws, "PROXY ")}
	eventually(t, "two lines' connections", func() bool { return metric(t, s.Server, "lockd_connections", "transport=tcp") == 2 })
	ctx, cancel := context.WithTimeout(t.Context(), giveUp)
	defer cancel()
	must(t, s.Shutdown(ctx))
	for _, c := range all {
		io.ReadAll(bufio.NewReader(c))
	}
	if n := metric(t, s.Server, "lockd_connections"); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// WebSocket connections whose headers do not come count as those that shake hands:
// beyond the bound and its reserve one more is closed at once, and when they have gone
// there is room again.
func TestProxyProtocolWebSocketBound(t *testing.T) {
	t.Parallel()
	const most, reserve = 2, 16
	s := start(t, server.Options{MaxConnections: most, ProxyProtocol: []string{"127.0.0.1"}})
	var all []*client
	for range most + reserve {
		all = append(all, sent(t, s.ws, ""))
	}
	refused := func() int { return metric(t, s.Server, "lockd_rejected_total", "reason=too_many_connections") }
	for range 3 {
		c, err := net.Dial("tcp", s.ws)
		io.ReadAll(newClient(t, c, err).in) // it may be reset
	}
	if n := refused(); n != 3 {
		t.Errorf("%d refused, not 3", n)
	}
	if got := s.dial(t, "unix").line(); got != "0 Too Many Connections\n" {
		t.Errorf("got %q", got)
	}
	for _, c := range all {
		c.Close()
	}
	eventually(t, "a place", func() bool {
		c := s.dial(t, "unix")
		defer c.Close()
		c.send("i foo\n")
		return c.line() == "0 Lock Not Locked: foo\n"
	})
}
