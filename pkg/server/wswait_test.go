package server_test

import (
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// A WebSocket client that waits for a lock: control frames are answered
// meanwhile, messages behind the wait are answered after it, each in its type.
func TestWebSocketWaits(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	holder := s.dial(t, "tcp")
	holder.ask("g foo", "1 Lock Get Success: foo")
	w := dialWS(t, s.webSocketURL)
	w.send(message(ws.OpText, "gw 86400000 foo"))
	waitWaiters(t, s.Server, 1)
	w.send(message(ws.OpBinary, "i foo\nping\n") + frames(ws.NewPingFrame([]byte("hello"))) +
		frames(ws.NewFrame(ws.OpText, false, []byte("r f")), ws.NewPingFrame([]byte("within")), ws.NewFrame(ws.OpContinuation, true, []byte("oo"))) +
		message(ws.OpBinary, "gw 0 foo"))
	for _, want := range []string{"hello", "within"} {
		if f := w.next(); f.Header.OpCode != ws.OpPong || string(f.Payload) != want {
			t.Fatalf("got a frame of type %d, %q, not a pong", f.Header.OpCode, f.Payload)
		}
	}
	holder.ask("r foo", "1 Lock Release Success: foo")
	w.expect(ws.OpText, "1 Lock Get Success: foo\n")
	w.expect(ws.OpBinary, "1 Lock Is Locked: foo\n")
	w.expect(ws.OpBinary, "1 pong\n")
	w.expect(ws.OpText, "1 Lock Release Success: foo\n")
	w.expect(ws.OpBinary, "1 Lock Get Success: foo\n")
	w.ask("r foo", "1 Lock Release Success: foo")

	// In one message: the wait's reply is a message, and so is each after it.
	holder.ask("g foo", "1 Lock Get Success: foo")
	w.send(message(ws.OpText, "ping\ngw 86400000 foo\nping\nr foo"))
	w.expect(ws.OpText, "1 pong\n")
	waitWaiters(t, s.Server, 1)
	holder.ask("r foo", "1 Lock Release Success: foo")
	w.expect(ws.OpText, "1 Lock Get Success: foo\n")
	w.expect(ws.OpText, "1 pong\n")
	w.expect(ws.OpText, "1 Lock Release Success: foo\n")

	// Closed while it waits, by a close frame and with messages behind the wait.
	holder.ask("g foo", "1 Lock Get Success: foo")
	w.send(message(ws.OpText, "gw 86400000 foo\ng bar"))
	waitWaiters(t, s.Server, 1)
	w.send(frames(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))))
	for {
		f := w.next() // the wait may be answered before
		if f.Header.OpCode == ws.OpClose {
			break
		}
		if got := string(f.Payload); got != "0 Lock Get Canceled: foo\n" && got != "1 Lock Get Success: bar\n" {
			t.Fatalf("got %q", got)
		}
	}
	waitWaiters(t, s.Server, 0)
	w.Close()
	waitConnections(t, s.Server, 1)
	holder.ask("i bar", "0 Lock Not Locked: bar")
}

// Protocol 2 over WebSocket: "a message holds whole lines, one or many, both
// ways".
func TestWebSocketTwo(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	holder := s.dial(t, "tcp")
	holder.ask("sg foo", "1 Shared Lock Get Success: foo")
	w := dialWS(t, s.webSocketURL)
	w.send(message(ws.OpBinary, "hello 2\n"))
	w.expect(ws.OpBinary, "2 lockd "+server.Version+"\n")
	// With and without the last newline, and with many.
	w.send(message(ws.OpText, "1 ping"))
	w.expect(ws.OpText, "1 1 pong\n")
	for tries := 1; ; tries++ {
		w.send(message(ws.OpText, "1 ping\n\n\n2 ping\n"))
		_, body := w.message()
		if body == "1 1 pong\n2 1 pong\n" {
			break
		}
		if body != "1 1 pong\n" || tries == 100 { // they share a message unless the machine is busy
			t.Fatalf("try %d: got %q", tries, body)
		}
		w.expect(ws.OpText, "2 1 pong\n")
	}
	// A request may not be cut by a message's end.
	w.send(message(ws.OpText, "1 pi") + message(ws.OpText, "1 ping"))
	w.expect(ws.OpText, "1 0 Invalid Command: pi\n")
	w.expect(ws.OpText, "1 1 pong\n")
	// No reply, no message.
	w.send(message(ws.OpText, "1 sgw 1 86400000 foo") + message(ws.OpText, "\n") + message(ws.OpText, ""))
	waitWaiters(t, s.Server, 1)
	w.ask("2 ping", "2 1 pong")
	holder.ask("sr foo", "1 Shared Lock Release Success: foo")
	w.expect(ws.OpText, "1 1 Shared Lock Get Success: foo\n")

	// Much in one message, and long lists: every line whole within a message.
	const n = 4000 // 60 kB
	var requests strings.Builder
	for range n {
		requests.WriteString("3 sg some/name\n")
	}
	w.send(message(ws.OpText, requests.String()+"3 sd\n4 dump shared\n5 ping"))
	lines, last := 0, ""
	for last != "5 1 pong" {
		_, body := w.message()
		if !strings.HasSuffix(body, "\n") {
			t.Fatalf("a message ends in %q", body[max(0, len(body)-40):])
		}
		for _, line := range strings.Split(strings.TrimSuffix(body, "\n"), "\n") {
			lines++
			last = line
			switch {
			case line == "3 1 Shared Lock Get Success: some/name", line == "3 1 End", line == "5 1 pong",
				strings.HasPrefix(line, "3 - "), strings.HasPrefix(line, "4 1 map["):
			default:
				t.Fatalf("got %q", line)
			}
		}
	}
	if lines != n+2+1+1+1 {
		t.Errorf("%d lines", lines)
	}
}
