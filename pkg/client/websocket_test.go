package client_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// scriptedWebSocket returns a client and the server's end of its WebSocket.
func scriptedWebSocket(t *testing.T) (*client.Client, net.Conn) {
	t.Helper()
	l := listen(t)
	c := start(t, client.Options{Target: "ws://" + l.Addr().String() + "/some/path", ReadTimeout: -1})
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	u := ws.Upgrader{OnRequest: func(uri []byte) error {
		if string(uri) != "/some/path" {
			t.Errorf("path %q", uri)
		}
		return nil
	}}
	if _, err := u.Upgrade(conn); err != nil {
		t.Fatal(err)
	}
	return c, conn
}

func expectFrame(t *testing.T, conn net.Conn, op ws.OpCode, payload string) {
	t.Helper()
	f, err := ws.ReadFrame(conn)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Header.Masked {
		t.Error("the frame is not masked")
	}
	f = ws.UnmaskFrame(f)
	if f.Header.OpCode != op || !f.Header.Fin || string(f.Payload) != payload {
		t.Fatalf("got frame %v %q, want %v %q", f.Header.OpCode, f.Payload, op, payload)
	}
}

func sendFrame(t *testing.T, conn net.Conn, f ws.Frame) {
	t.Helper()
	if err := ws.WriteFrame(conn, f); err != nil {
		t.Fatal(err)
	}
}

func TestWebSocketFrames(t *testing.T) {
	ctx := within(t)
	c, conn := scriptedWebSocket(t)
	errs := make(chan error)
	get := func(name string) { go func() { errs <- c.Get(ctx, name) }() }
	done := func() {
		t.Helper()
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}

	// In pieces, with a ping between them, and without a newline.
	get("a")
	expectFrame(t, conn, ws.OpText, "g a")
	sendFrame(t, conn, ws.NewFrame(ws.OpText, false, []byte("1 Lock Get ")))
	sendFrame(t, conn, ws.NewPingFrame([]byte("still there?")))
	expectFrame(t, conn, ws.OpPong, "still there?")
	sendFrame(t, conn, ws.NewFrame(ws.OpContinuation, false, nil))
	sendFrame(t, conn, ws.NewFrame(ws.OpContinuation, true, []byte("Success: a")))
	done()

	// What is not UTF-8 cannot be text.
	get("\xff")
	expectFrame(t, conn, ws.OpBinary, "g \xff")
	sendFrame(t, conn, ws.NewBinaryFrame([]byte("1 Lock Get Success: \xff\n")))
	done()

	// Empty messages and pongs mean nothing.
	sendFrame(t, conn, ws.NewTextFrame(nil))
	sendFrame(t, conn, ws.NewPongFrame(nil))
	get("b")
	expectFrame(t, conn, ws.OpText, "g b")
	sendFrame(t, conn, ws.NewTextFrame(nil))
	sendFrame(t, conn, ws.NewTextFrame([]byte("1 Lock Get Success: b\r\n")))
	done()

	// Closing says so.
	go c.Close()
	expectFrame(t, conn, ws.OpClose, string(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
}

func TestWebSocketLost(t *testing.T) {
	for name, f := range map[string]struct {
		frame ws.Frame
		cause error
	}{
		"close":            {ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusGoingAway, "bye")), io.EOF},
		"too many, close":  {ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(1013), "0 Too Many Connections")), client.ErrTooManyConnections},
		"too many, text":   {ws.NewTextFrame([]byte("0 Too Many Connections\n")), client.ErrTooManyConnections},
		"masked":           {ws.MaskFrame(ws.NewTextFrame([]byte("x"))), client.ErrProtocol},
		"no beginning":     {ws.NewFrame(ws.OpContinuation, true, nil), client.ErrProtocol},
		"reserved":         {ws.NewFrame(ws.OpCode(5), true, nil), client.ErrProtocol},
		"huge control":     {ws.NewPingFrame(make([]byte, 126)), client.ErrProtocol},
		"never asked for":  {ws.NewTextFrame([]byte("1 Lock Get Success: x")), client.ErrProtocol},
		"endless line":     {ws.NewTextFrame(make([]byte, 1<<20+1)), client.ErrProtocol},
		"empty close code": {ws.NewCloseFrame(nil), io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			c, conn := scriptedWebSocket(t)
			go ws.WriteFrame(conn, f.frame)
			<-c.Lost()
			mustBeLost(t, c, c.Err(), f.cause)
		})
	}
}

func TestWebSocketRefused(t *testing.T) {
	for status, cause := range map[int]error{503: client.ErrTooManyConnections, 404: ws.StatusError(404)} {
		l := listen(t)
		c := start(t, client.Options{Target: "ws://" + l.Addr().String()})
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		conn.Read(buf)
		fmt.Fprintf(conn, "HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n", status)
		mustBeLost(t, c, c.Get(context.Background(), "x"), cause)
		conn.Close()
	}
}

// TestWebSocketLockerCloses: a Locker says goodbye.
func TestWebSocketLockerCloses(t *testing.T) {
	listener := listen(t)
	l := locker(t, client.LockerOptions{Options: client.Options{Target: "ws://" + listener.Addr().String()}, Anonymous: true})
	conn, err := listener.Accept()
	must(t, err)
	defer conn.Close()
	_, err = ws.Upgrade(conn)
	must(t, err)
	next := func() string {
		t.Helper()
		f, err := ws.ReadFrame(conn)
		must(t, err)
		return string(ws.UnmaskFrame(f).Payload)
	}
	reply := func(line string) { t.Helper(); sendFrame(t, conn, ws.NewTextFrame([]byte(line))) }
	answer := func(inspection string) string {
		return "0 Lock Not Locked: " + strings.TrimPrefix(inspection, "i ")
	}
	reply(answer(next()))
	next() // ping
	next() // limits
	mark := next()
	next() // hello 2
	reply("1 pong")
	reply(answer(mark))
	reply("2 lockd test")
	must(t, l.Ready(within(t)))
	go l.Close()
	expectFrame(t, conn, ws.OpClose, string(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
}

// TestWebSocketProxy: a reverse proxy between the two may give the server
// another name than the one that the client knows.
func TestWebSocketProxy(t *testing.T) {
	backend := httptest.NewServer(newServer(t, server.Options{}).WebSocketHandler())
	t.Cleanup(backend.Close)
	to, err := url.Parse(backend.URL)
	must(t, err)
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	t.Cleanup(proxy.Close)
	opts := client.Options{Target: "ws://" + proxy.Listener.Addr().String() + "/locks"}
	must(t, start(t, opts).Get(within(t), "x"))
	mustBe(t, second(locker(t, client.LockerOptions{Options: opts}).TryAcquire(within(t), "x")), client.ErrNotAcquired)
}
