package server_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

func frame(op ws.OpCode, fin bool, payload string) ws.Frame {
	return ws.NewFrame(op, fin, []byte(payload))
}

// Fragments make one message; pings may come between them and are answered
// at once, with what they carry.
func TestWebSocketFragments(t *testing.T) {
	t.Parallel()
	c := dialWS(t, start(t, server.Options{}).webSocketURL)
	c.send(frames(frame(ws.OpText, false, "g f"), frame(ws.OpContinuation, false, ""), frame(ws.OpContinuation, true, "oo")))
	c.expect(ws.OpText, "1 Lock Get Success: foo\n")
	// The letter é is cut in two.
	c.send(frames(frame(ws.OpText, false, "g caf\xc3"), frame(ws.OpPing, true, "are you \xff there?")))
	c.expect(ws.OpPong, "are you \xff there?")
	c.send(frames(frame(ws.OpPing, true, ""), frame(ws.OpContinuation, true, "\xa9"), frame(ws.OpPing, true, "3")))
	c.expect(ws.OpPong, "")
	c.expect(ws.OpText, "1 Lock Get Success: café\n")
	c.expect(ws.OpPong, "3")
	// A pong that nobody asked for is passed over.
	c.send(frames(frame(ws.OpPong, true, "?")))
	payload := strings.Repeat("x", ws.MaxControlFramePayloadSize)
	c.send(frames(frame(ws.OpPing, true, payload)))
	c.expect(ws.OpPong, payload)
	// Cut byte by byte, by fragments and by writes.
	var all []ws.Frame
	for i, b := range strings.Split("r foo\nr café", "") {
		op := ws.OpContinuation
		if i == 0 {
			op = ws.OpText
		}
		all = append(all, frame(op, false, b))
	}
	all[len(all)-1].Header.Fin = true
	for _, b := range strings.Split(frames(all...), "") {
		c.send(b)
	}
	c.expect(ws.OpText, "1 Lock Release Success: foo\n")
	c.expect(ws.OpText, "1 Lock Release Success: café\n")
}

// "A message is a request, with or without its `\n`; the whole reply to it, its
// `\n` included, is ONE message, of the request's type (text or binary); no
// reply, no message. A message of several lines gets a message a reply."
func TestWebSocketMessages(t *testing.T) {
	t.Parallel()
	c := dialWS(t, start(t, server.Options{}).webSocketURL)
	for _, end := range []string{"", "\n", "\r\n", " \r\n\n"} {
		for _, op := range []ws.OpCode{ws.OpText, ws.OpBinary} {
			c.send(message(op, "g foo"+end))
			c.expect(op, "1 Lock Get Success: foo\n")
		}
	}
	for _, none := range []string{"", "\n", "\n\n\r\n", "xx", "xx\nyy\n", "d none", "who\n"} {
		c.send(message(ws.OpText, none))
		c.send(message(ws.OpBinary, none))
	}
	c.ask("i none", "0 Lock Not Locked: none")
	c.send(message(ws.OpBinary, "g a\r\n\nxx\ng b\ndump\nd none\ni c"))
	addr := c.LocalAddr().String()
	c.expect(ws.OpBinary, "1 Lock Get Success: a\n")
	c.expect(ws.OpBinary, "1 Lock Get Success: b\n")
	c.expect(ws.OpBinary, "map[a:"+addr+" b:"+addr+" foo:"+addr+"]\n")
	c.expect(ws.OpBinary, "0 Lock Not Locked: c\n")
	// A line does not go on in the next message.
	c.send(message(ws.OpText, "i fo") + message(ws.OpText, "o"))
	c.expect(ws.OpText, "0 Lock Not Locked: fo\n")
	// A line over the bound in a message within its own.
	c.send(message(ws.OpText, "g "+strings.Repeat("x", 5000)+"\ni x"))
	c.expect(ws.OpText, "0 Line Too Long\n")
	c.expect(ws.OpText, "0 Lock Not Locked: x\n")
	// Names that are not UTF-8 cannot be shown in a text message.
	c.send(message(ws.OpBinary, "g \xff"))
	c.expect(ws.OpBinary, "1 Lock Get Success: \xff\n")
	c.send(message(ws.OpBinary, "d \xff"))
	c.expect(ws.OpBinary, "\xff: "+addr+"\n")
	c.send(message(ws.OpText, "dump"))
	c.expect(ws.OpText, "map[a:"+addr+" b:"+addr+" foo:"+addr+" \uFFFD:"+addr+"]\n")
}

// A reply of any size is one message.
func TestWebSocketHugeReply(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := dialWS(t, s.webSocketURL)
	const n = 20_000
	holder := s.dial(t, "memory")
	var gets strings.Builder
	for i := range n {
		fmt.Fprintf(&gets, "g lock number %d\n", i)
	}
	holder.sendAll(gets.String())
	for range n {
		holder.line()
	}
	for _, op := range []ws.OpCode{ws.OpText, ws.OpBinary} {
		// The fragments let nothing come between.
		c.send(message(op, "d") + frames(frame(ws.OpPing, true, "?")) + message(op, "dump\ni x"))
		gotOp, d := c.message()
		seen := make(map[string]bool)
		for line := range strings.Lines(d) {
			name, holder, ok := strings.Cut(line, ": memory:")
			if !ok || !strings.HasPrefix(name, "lock number ") || !strings.HasSuffix(holder, "\n") {
				t.Fatalf("a line of d: %q", line)
			}
			seen[name] = true
		}
		if gotOp != op || len(seen) != n || strings.Count(d, "\n") != n {
			t.Fatalf("d is of type %d and has %d names, %d lines", gotOp, len(seen), strings.Count(d, "\n"))
		}
		c.expect(ws.OpPong, "?")
		gotOp, dump := c.message()
		if gotOp != op || strings.Count(dump, ":memory:") != n || !strings.HasSuffix(dump, "]\n") {
			t.Fatalf("dump is of type %d and has %d locks", gotOp, strings.Count(dump, ":memory:"))
		}
		c.expect(op, "0 Lock Not Locked: x\n")
	}
}

// What breaks RFC 6455 ends the connection with the code that it names. The
// requests before it are answered, those after it not, and the locks are free.
func TestWebSocketViolations(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{MaxMessage: 1000})
	unmasked := func(f ws.Frame) string { return string(ws.MustCompileFrame(f)) }
	rsv := func(bits byte) string {
		f := frame(ws.OpText, true, "g bad")
		f.Header.Rsv = bits
		return frames(f)
	}
	claim := func(op ws.OpCode, length uint64) string {
		return string([]byte{0x80 | byte(op), 0xff}) + string(binary.BigEndian.AppendUint64(nil, length)) + "mask"
	}
	big := strings.Repeat("g bad\n", 100) // 600 bytes
	for _, v := range []struct {
		what, bytes string
		code        ws.StatusCode
		reason      string
	}{
		{"unmasked", unmasked(frame(ws.OpText, true, "g bad")), ws.StatusProtocolError, "bad_frame"},
		{"unmasked ping", unmasked(frame(ws.OpPing, true, "")), ws.StatusProtocolError, "bad_frame"},
		{"reserved bit 1", rsv(4), ws.StatusProtocolError, "bad_frame"},
		{"reserved bit 2", rsv(2), ws.StatusProtocolError, "bad_frame"},
		{"reserved bit 3", rsv(1), ws.StatusProtocolError, "bad_frame"},
		{"reserved type of data", frames(frame(3, true, "g bad")), ws.StatusProtocolError, "bad_frame"},
		{"reserved type of control", frames(frame(11, true, "g bad")), ws.StatusProtocolError, "bad_frame"},
		{"a large ping", frames(frame(ws.OpPing, true, strings.Repeat("x", 126))), ws.StatusProtocolError, "bad_frame"},
		{"a ping of fragments", frames(frame(ws.OpPing, false, "x")), ws.StatusProtocolError, "bad_frame"},
		{"a ping that claims much", claim(ws.OpPing, 1<<62), ws.StatusProtocolError, "bad_frame"},
		{"continuation of nothing", frames(frame(ws.OpContinuation, true, "g bad")), ws.StatusProtocolError, "bad_frame"},
		{"a message within a message", frames(frame(ws.OpText, false, "g b"), frame(ws.OpText, true, "g bad")), ws.StatusProtocolError, "bad_frame"},
		{"a claim with its highest bit set", claim(ws.OpText, 1<<63|5), ws.StatusProtocolError, "bad_frame"},
		{"a close frame of one byte", frames(frame(ws.OpClose, true, "x")), ws.StatusProtocolError, "bad_frame"},
		{"close code 0", frames(frame(ws.OpClose, true, "\x00\x00")), ws.StatusProtocolError, "bad_frame"},
		{"close code 999", frames(frame(ws.OpClose, true, "\x03\xe7")), ws.StatusProtocolError, "bad_frame"},
		{"close code 1005", frames(frame(ws.OpClose, true, "\x03\xed")), ws.StatusProtocolError, "bad_frame"},
		{"not UTF-8", message(ws.OpText, "g bad\ng \xff\n"), ws.StatusInvalidFramePayloadData, "bad_frame"},
		{"not UTF-8, in fragments", frames(frame(ws.OpText, false, "g bad\n"), frame(ws.OpContinuation, true, "g \xc3")), ws.StatusInvalidFramePayloadData, "bad_frame"},
		{"too big", message(ws.OpText, big+big), ws.StatusMessageTooBig, "message_too_big"},
		{"too big by a byte", message(ws.OpBinary, (big + big)[:1001]), ws.StatusMessageTooBig, "message_too_big"},
		{"too big, in fragments", frames(frame(ws.OpText, false, big), frame(ws.OpContinuation, true, big)), ws.StatusMessageTooBig, "message_too_big"},
		{"a claim of 2^62", claim(ws.OpText, 1<<62), ws.StatusMessageTooBig, "message_too_big"},
		{"a claim of 2^63-1", claim(ws.OpBinary, 1<<63-1), ws.StatusMessageTooBig, "message_too_big"},
		{"a claim of 2^62 in a fragment", frames(frame(ws.OpText, false, "g b")) + claim(ws.OpContinuation, 1<<62), ws.StatusMessageTooBig, "message_too_big"},
	} {
		t.Run(v.what, func(t *testing.T) {
			before := metric(t, s.Server, "lockd_rejected_total", "reason="+v.reason)
			c := dialWS(t, s.webSocketURL)
			c.ask("g foo", "1 Lock Get Success: foo")
			c.send(message(ws.OpText, "g bar") + v.bytes + message(ws.OpText, "g bad"))
			c.expect(ws.OpText, "1 Lock Get Success: bar\n")
			c.expectClose(v.code)
			if got := metric(t, s.Server, "lockd_rejected_total", "reason="+v.reason); got != before+1 {
				t.Errorf("%d counted as %s, not 1", got-before, v.reason)
			}
			other := s.dial(t, "memory")
			for _, name := range []string{"foo", "bar", "bad"} {
				other.ask("g "+name, "1 Lock Get Success: "+name)
				other.ask("r "+name, "1 Lock Release Success: "+name)
			}
		})
	}
}

// A message as big as may be is answered.
func TestWebSocketLargestMessage(t *testing.T) {
	t.Parallel()
	c := dialWS(t, start(t, server.Options{MaxMessage: 1000}).webSocketURL)
	name := strings.Repeat("x", 998)
	c.ask("g "+name, "1 Lock Get Success: "+name)
	c.send(frames(frame(ws.OpText, false, "i "), frame(ws.OpContinuation, false, name), frame(ws.OpContinuation, true, "")))
	c.expect(ws.OpText, "1 Lock Is Locked: "+name+"\n")
}

// A close frame is answered with its code, and the locks are free.
func TestWebSocketClose(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	for _, code := range []ws.StatusCode{ws.StatusNormalClosure, ws.StatusGoingAway, 3000, 4999} {
		c := dialWS(t, s.webSocketURL)
		c.ask("g foo", "1 Lock Get Success: foo")
		c.send(frames(ws.NewCloseFrame(ws.NewCloseFrameBody(code, "so long"))) + message(ws.OpText, "g late"))
		c.expectClose(code)
		other := s.dial(t, "memory")
		other.ask("i foo", "0 Lock Not Locked: foo")
		other.ask("i late", "0 Lock Not Locked: late")
	}
	// Without a code; within a message; a connection that just ends.
	c := dialWS(t, s.webSocketURL)
	c.send(frames(frame(ws.OpText, false, "g fo"), ws.NewCloseFrame(nil)))
	c.expectClose(ws.StatusNormalClosure)
	c.Close()
	c = dialWS(t, s.webSocketURL)
	c.ask("g foo", "1 Lock Get Success: foo")
	c.Close()
	waitConnections(t, s.Server, 4) // those in memory above
	s.dial(t, "memory").ask("i foo", "0 Lock Not Locked: foo")
}

// Half a message at disconnect is dropped unexecuted, be it cut within a
// frame or between two.
func TestWebSocketHalfMessage(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	whole := message(ws.OpText, "g foo\ng bar\n")
	for i := range len(whole) {
		c := dialWS(t, s.webSocketURL)
		c.send(whole[:i])
		closeWriteAndWait(t, c)
	}
	c := dialWS(t, s.webSocketURL)
	c.send(frames(frame(ws.OpText, false, "g foo\ng bar\n")))
	closeWriteAndWait(t, c)
	if n := metric(t, s.Server, "lockd_commands_total", "command=g"); n != 0 {
		t.Errorf("%d gets were executed", n)
	}
}

// closeWriteAndWait half-closes and expects the end and nothing else.
func closeWriteAndWait(t *testing.T, c *wsClient) {
	t.Helper()
	must(t, c.Conn.(interface{ CloseWrite() error }).CloseWrite())
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		t.Fatalf("got %q, %v", rest, err)
	}
	c.Close()
}

// A message of many requests gets as many messages, in order.
func TestWebSocketManyRequestsInOneMessage(t *testing.T) {
	t.Parallel()
	c := dialWS(t, start(t, server.Options{}).webSocketURL)
	const n = 5000
	var requests strings.Builder
	for i := range n {
		fmt.Fprintf(&requests, "i %d\n", i)
	}
	all := requests.String()
	for _, bytes := range []string{
		message(ws.OpText, all),
		frames(frame(ws.OpText, false, all[:4097]), frame(ws.OpContinuation, false, all[4097:12001]), frame(ws.OpContinuation, true, all[12001:])),
	} {
		sent := make(chan error, 1)
		go func() {
			_, err := c.Write([]byte(bytes))
			sent <- err
		}()
		for i := range n {
			c.expect(ws.OpText, fmt.Sprintf("0 Lock Not Locked: %d\n", i))
		}
		must(t, <-sent)
	}
}
