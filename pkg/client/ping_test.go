package client_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"github.com/nylen/lockd/pkg/client"
)

// upgraded returns the server's end of a WebSocket.
func upgraded(t *testing.T, conn net.Conn) net.Conn {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	_, err := ws.Upgrade(conn)
	must(t, err)
	return conn
}

// TestPingsUnread: a peer that sends pings and reads no pong keeps nobody from
// reading, nor a request's context from ending it.
func TestPingsUnread(t *testing.T) {
	ctx := within(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	must(t, err)
	defer l.Close()
	c := start(t, client.Options{Target: "ws://unix", Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}})
	conn, err := l.Accept()
	must(t, err)
	upgraded(t, conn)
	ping, err := ws.CompileFrame(ws.NewPingFrame(make([]byte, 125)))
	must(t, err)
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	for range 20_000 { // ten times what a socket holds
		if _, err := conn.Write(ping); err != nil {
			t.Fatal(err)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	mustBe(t, c.Get(ended, "x"), context.Canceled)
	must(t, c.Err())
}

// TestPongs: of the pings that came since the last pong, the latest is
// answered.
func TestPongs(t *testing.T) {
	for name, begin := range map[string]func(*testing.T, client.Options){
		"Client": func(t *testing.T, opts client.Options) { start(t, opts) },
		"Locker": func(t *testing.T, opts client.Options) { locker(t, client.LockerOptions{Options: opts}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				begin(t, client.Options{Target: "ws://pipe", ConnectTimeout: time.Hour, Dial: func(context.Context) (net.Conn, error) { return near, nil }})
				conn := upgraded(t, far)
				if name == "Locker" {
					expectMessage(t, conn) // the first of the handshake
				}
				sendFrame(t, conn, ws.NewPingFrame([]byte("0")))
				synctest.Wait() // its pong is being written
				for i := range 1000 {
					sendFrame(t, conn, ws.NewPingFrame([]byte(fmt.Sprint(i))))
				}
				synctest.Wait()
				expectFrame(t, conn, ws.OpPong, "0")
				expectFrame(t, conn, ws.OpPong, "999")
			})
		})
	}
}

func expectMessage(t *testing.T, conn net.Conn) {
	t.Helper()
	h, err := ws.ReadHeader(conn)
	must(t, err)
	_, err = io.CopyN(io.Discard, conn, h.Length)
	must(t, err)
}
