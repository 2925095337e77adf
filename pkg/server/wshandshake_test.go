package server_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// A page of another site must not connect, unless the options let it.
func TestWebSocketOrigins(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		allow  []string
		origin string // HOST stands for the server's own
		ok     bool
	}{
		{nil, "", true},
		{nil, "http://HOST", true},
		{nil, "https://HOST", true},
		{nil, "http://example.com", false},
		{nil, "http://HOST.example.com", false},
		{nil, "http://HOST0", false},
		{nil, "http://example.com/HOST", false},
		{nil, "http://HOST@example.com", false},
		{nil, "http://127.0.0.1:1", false},
		{nil, "http://127.0.0.1", false},
		{nil, "null", false},
		{nil, "file://", false},
		{nil, "HOST", false},
		{[]string{"https://example.com"}, "https://example.com", true},
		{[]string{"https://example.com"}, "http://example.com", false},
		{[]string{"https://example.com"}, "https://example.com:8443", false},
		{[]string{"https://example.com"}, "https://www.example.com", false},
		{[]string{"https://example.com"}, "https://example.com.evil.org", false},
		{[]string{"https://example.com"}, "null", false},
		{[]string{"https://example.com"}, "http://HOST", true},
		{[]string{"https://example.com", "http://example.org:81"}, "http://example.org:81", true},
		{[]string{"https://example.com/"}, "https://example.com", true}, // New takes it with its slash
		{[]string{"*"}, "http://example.com", true},
		{[]string{"*"}, "null", true},
		{[]string{"https://example.com", "*"}, "http://example.org", true},
	} {
		t.Run(strings.Join(v.allow, ",")+" "+v.origin, func(t *testing.T) {
			t.Parallel()
			s := start(t, server.Options{WebSocketOrigins: v.allow})
			d := ws.Dialer{}
			if v.origin != "" {
				d.Header = ws.HandshakeHeaderHTTP{"Origin": {strings.ReplaceAll(v.origin, "HOST", s.ws)}}
			}
			c, err := tryWS(t, d, s.webSocketURL)
			if v.ok {
				must(t, err)
				c.ask("g foo", "1 Lock Get Success: foo")
				return
			}
			var status ws.StatusError
			if !errors.As(err, &status) || int(status) != http.StatusForbidden {
				t.Fatalf("got %v, not 403", err)
			}
			if n := metric(t, s.Server, "lockd_rejected_total", "reason=origin"); n != 1 {
				t.Errorf("%d counted, not 1", n)
			}
			if n := metric(t, s.Server, "lockd_connections_accepted_total"); n != 0 {
				t.Errorf("%d connections accepted", n)
			}
		})
	}
}

// A browser gives a connection up whose server agrees to none of its
// subprotocols; one that asks for none gets none.
func TestWebSocketSubprotocol(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	for _, ask := range [][]string{nil, {"lockd"}, {"first", "second"}} {
		_, _, hs, err := ws.Dialer{Protocols: ask}.Dial(t.Context(), s.webSocketURL)
		must(t, err)
		want := ""
		if len(ask) > 0 {
			want = ask[0]
		}
		if hs.Protocol != want {
			t.Errorf("asked for %q, got %q", ask, hs.Protocol)
		}
	}
}

// Any path will do.
func TestWebSocketPaths(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	for _, path := range []string{"", "/", "/lockd", "/a/b?c=d"} {
		c := dialWS(t, "ws://"+s.ws+path)
		c.ask("i foo", "0 Lock Not Locked: foo")
		addr := c.LocalAddr().String()
		c.ask("me", "1 "+addr+" "+addr)
	}
}

// get sends an HTTP request and returns the status.
func get(tb testing.TB, addr, request string) int {
	tb.Helper()
	c, err := net.Dial("tcp", addr)
	must(tb, err)
	defer c.Close()
	must(tb, c.SetDeadline(time.Now().Add(giveUp)))
	_, err = io.WriteString(c, request)
	must(tb, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(tb, err)
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// What is no WebSocket handshake is answered with an error, and keeps no place
// from others.
func TestWebSocketBadHandshake(t *testing.T) {
	t.Parallel()
	const bad = 8
	s := start(t, server.Options{MaxConnections: bad})
	const key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for what, request := range map[string]string{
		"plain":       "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"HTTP/1.0":    "GET / HTTP/1.0\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" + key + "\r\n",
		"POST":        "POST / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nContent-Length: 6\r\n" + key + "\r\ng foo\n",
		"no key":      "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
		"no version":  "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + key + "\r\n",
		"old version": "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n" + key + "\r\n",
		"no HTTP":     "g foo\n\n",
		"large":       "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
	} {
		if status := get(t, s.ws, request); status < 400 || status > 599 {
			t.Errorf("%s: status %d", what, status)
		}
	}
	if n := metric(t, s.Server, "lockd_commands_total"); n != 0 {
		t.Errorf("%d requests were executed", n)
	}
	for range bad {
		eventually(t, "a place", func() bool {
			_, err := tryWS(t, ws.Dialer{}, s.webSocketURL)
			return err == nil
		})
	}
}

// Requests may follow the handshake without waiting for its answer.
func TestWebSocketEarlyRequests(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	conn, err := net.Dial("tcp", s.ws)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(giveUp)))
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"+
		message(ws.OpText, "g foo")+message(ws.OpText, "i foo")[:3])
	must(t, err)
	c := &wsClient{Conn: conn, tb: t, in: bufio.NewReader(conn)}
	resp, err := http.ReadResponse(c.in, nil)
	must(t, err)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %s", resp.Status)
	}
	c.expect(ws.OpText, "1 Lock Get Success: foo\n")
	c.send(message(ws.OpText, "i foo")[3:])
	c.expect(ws.OpText, "1 Lock Is Locked: foo\n")
}

// wantStatus expects a handshake to be refused with a status.
func wantStatus(t *testing.T, url string, want int) {
	t.Helper()
	c, err := tryWS(t, ws.Dialer{}, url)
	if err == nil {
		c.Close()
		t.Fatalf("connected, where status %d was to come", want)
	}
	var status ws.StatusError
	if !errors.As(err, &status) || int(status) != want {
		t.Fatalf("got %v, not status %d", err, want)
	}
}

// Over the bound on connections, on the server's own listener.
func TestWebSocketTooManyConnections(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{MaxConnections: 2})
	a, b := dialWS(t, s.webSocketURL), s.dial(t, "tcp")
	a.ask("g foo", "1 Lock Get Success: foo")
	b.ask("g foo", "0 Lock Get Failure: foo")
	wantStatus(t, s.webSocketURL, http.StatusServiceUnavailable)
	b.Close()
	waitConnections(t, s.Server, 1)
	c := dialWS(t, s.webSocketURL)
	c.ask("g foo", "0 Lock Get Failure: foo")
	if n := metric(t, s.Server, "lockd_rejected_total", "reason=too_many_connections"); n != 1 {
		t.Errorf("%d counted, not 1", n)
	}
}

// As long as there is room for all, none is refused, though all shake hands
// at the same time.
func TestWebSocketRoomForAll(t *testing.T) {
	t.Parallel()
	const n = 16
	for range 50 {
		s := start(t, server.Options{MaxConnections: n})
		var wg sync.WaitGroup
		var refused atomic.Int32
		for range n {
			wg.Go(func() {
				if _, err := tryWS(t, ws.Dialer{}, s.webSocketURL); err != nil {
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		if refused.Load() > 0 {
			t.Fatalf("%d of %d were refused, where %d may connect", refused.Load(), n, n)
		}
		s.Shutdown(canceled())
	}
}

// WebSocketHandler serves on a path of somebody else's HTTP server.
func TestWebSocketHandler(t *testing.T) {
	t.Parallel()
	s := newServer(t, server.Options{MaxConnections: 2})
	mux := http.NewServeMux()
	mux.Handle("/lockd", s.WebSocketHandler())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "mine") })
	h := httptest.NewServer(mux)
	defer h.Close()
	url := "ws" + strings.TrimPrefix(h.URL, "http") + "/lockd"
	a, b := dialWS(t, url), dialWS(t, url)
	a.ask("g foo", "1 Lock Get Success: foo")
	b.ask("g foo", "0 Lock Get Failure: foo")
	addr := a.LocalAddr().String()
	b.send(message(ws.OpText, "d"))
	b.expect(ws.OpText, "foo: "+addr+"\n")

	wantStatus(t, url, http.StatusServiceUnavailable)
	b.Close()
	waitConnections(t, s, 1)
	b = dialWS(t, url)
	b.ask("i foo", "1 Lock Is Locked: foo")
	if status := get(t, h.Listener.Addr().String(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); status != http.StatusOK {
		t.Errorf("the rest of the HTTP server: status %d", status)
	}

	// "Its connections end with Shutdown": one that holds nothing is told.
	b.ask("r foo", "0 Lock Release Failure: foo")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() { done <- s.Shutdown(ctx) }()
	b.expectClose(ws.StatusGoingAway)
	b.Close()
	a.ask("i foo", "1 Lock Is Locked: foo")
	a.ask("r foo", "1 Lock Release Success: foo")
	a.expectClose(ws.StatusGoingAway)
	a.Close()
	must(t, <-done)
	// A handshake comes to nothing now.
	if c, err := tryWS(t, ws.Dialer{}, url); err == nil {
		c.Write([]byte(message(ws.OpText, "g foo")))
		if f, err := ws.ReadFrame(c.in); err == nil {
			t.Errorf("a frame after Shutdown: %q", f.Payload)
		}
	}
}
