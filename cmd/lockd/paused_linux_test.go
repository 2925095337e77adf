package main_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// TestPausedServer: a server that was stopped for longer than clients may be silent finds
// nobody dead who was there all the time, whatever it looks at first; and whom it has kept
// for long enough is not kept any longer.
func TestPausedServer(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "-w", anyPort, "--admin", "off", "--dead-peer-timeout", "2s", "--max-keep", "2s")
	plain, other := dial(t, "tcp", d.addr("tcp")), dial(t, "tcp", d.addr("tcp"))
	plain.ask("g plain", "1 Lock Get Success: plain")
	kept := dial(t, "tcp", d.addr("tcp"))
	fmt.Fprint(kept, "hello 2\n0 keep 2000\n")
	kept.in.ReadString('\n')
	if line, _ := kept.in.ReadString('\n'); !strings.HasPrefix(line, "0 2000 Kept Blips Only: ") {
		t.Fatalf("keep: %q", line)
	}
	fmt.Fprint(kept, "0 g kept\n")
	kept.in.ReadString('\n')
	kept.Close()

	// It answers a ping by itself, and then one that it gets just before the server stops.
	conn, _, _, err := ws.Dial(context.Background(), "ws://"+d.addr("websocket"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	say := func(frame ws.Frame) {
		if err := ws.WriteFrame(conn, ws.MaskFrameInPlace(frame)); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(op ws.OpCode) []byte {
		for {
			f, err := ws.ReadFrame(conn)
			if err != nil {
				t.Fatalf("the connection over WebSocket: %v", err)
			}
			switch f.Header.OpCode {
			case op:
				return f.Payload
			case ws.OpPing:
				say(ws.NewPongFrame(f.Payload))
			}
		}
	}
	say(ws.NewTextFrame([]byte("g web")))
	hear(ws.OpText)
	say(ws.NewPongFrame(hear(ws.OpPing)))
	payload := hear(ws.OpPing)
	d.cmd.Process.Signal(syscall.SIGSTOP)
	say(ws.NewPongFrame(payload))
	fmt.Fprint(plain, "ping\n")
	time.Sleep(5 * time.Second)
	d.cmd.Process.Signal(syscall.SIGCONT)

	if line, err := plain.in.ReadString('\n'); line != "1 pong\n" {
		t.Errorf("who has asked meanwhile: %q, %v", line, err)
	}
	await(t, func() bool {
		io.WriteString(other, "g kept\n")
		line, err := other.in.ReadString('\n')
		return err == nil && line == "1 Lock Get Success: kept\n"
	})
	for range 2 { // some looks more
		say(ws.NewPongFrame(hear(ws.OpPing)))
	}
	say(ws.NewTextFrame([]byte("r web")))
	if got := string(hear(ws.OpText)); got != "1 Lock Release Success: web\n" {
		t.Errorf("over WebSocket: %q", got)
	}
	plain.ask("r plain", "1 Lock Release Success: plain")
}
