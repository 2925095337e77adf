package conn

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/internal/session"
)

// nobody is a carrier that nobody wakes.
type nobody struct{}

func (nobody) Wake() {}

// clientFrame returns a frame as clients send them, with a mask that changes
// nothing.
func clientFrame(op ws.OpCode, fin bool, payload string) string {
	f := appendFrame(nil, op, fin, nil)
	f = f[:1]
	switch n := len(payload); {
	case n < 126:
		f = append(f, 0x80|byte(n))
	default:
		f = append(f, 0x80|126, byte(n>>8), byte(n))
	}
	return string(f) + "\x00\x00\x00\x00" + payload
}

// said are the frames of a server, less what depends on the time: numbers, and
// whether replies that come one after the other share a message, which they do
// when that is not late.
func said(t *testing.T, out []byte) string {
	t.Helper()
	var all strings.Builder
	var op ws.OpCode // of the messages whose payload is in message
	var message []byte
	flush := func() {
		if len(message) > 0 {
			fmt.Fprintf(&all, "%d %q\n", op, numbers.ReplaceAll(message, []byte("#")))
			message = message[:0]
		}
	}
	for r := bytes.NewReader(out); r.Len() > 0; {
		f, err := ws.ReadFrame(r)
		if err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		switch code := f.Header.OpCode; {
		case code.IsControl():
			flush()
			fmt.Fprintf(&all, "%d %q\n", code, f.Payload)
			continue
		case code != ws.OpContinuation && code != op:
			flush()
			op = code
		}
		message = append(message, f.Payload...)
	}
	flush()
	return all.String()
}

var numbers = regexp.MustCompile(`\d+`)

// FuzzFrames feeds WebSocket frames whatever comes: what is said does not depend
// on how the bytes are cut, and little is kept of them.
func FuzzFrames(f *testing.F) {
	text := func(s string) string { return clientFrame(ws.OpText, true, s) }
	for _, seed := range []string{
		text("g foo") + text("r foo\ni foo\n") + clientFrame(ws.OpBinary, true, "g \xff"),
		text("hello 2") + text("1 g a\n2 g a\n3 d\n4 sd") + text("1 bye\n0 bye"),
		clientFrame(ws.OpText, false, "g fo") + clientFrame(ws.OpPing, true, "?") + clientFrame(ws.OpContinuation, true, "o\n\n\ng"),
		text("d\nsd\ndump\ndump shared\nwho\nq\ni x"),
		text("g \xff") + text("g x"),
		text(strings.Repeat("i x\n", 200)) + text("") + text("bye") + text("g x"),
		text(strings.Repeat("x", 600)),
		clientFrame(ws.OpText, true, strings.Repeat("x", 2000)),
		clientFrame(ws.OpClose, true, "\x03\xe8bye") + text("g x"),
		clientFrame(ws.OpClose, true, "") + clientFrame(ws.OpClose, true, "x"),
		clientFrame(ws.OpContinuation, true, "g x"), clientFrame(ws.OpPing, false, "x"), "\x81\x05hello", "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		text("GET / HTTP/1.1\r\n") + text("g x"),
	} {
		f.Add([]byte(seed), []byte{1})
		f.Add([]byte(seed), []byte{3, 0, 200, 1})
	}
	cfg := testConfig()
	cfg.Session.MaxLine, cfg.Session.MaxOutput, cfg.MaxMessage = 500, 300, 1000
	cfg.Session.Table.Start = 1
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		run := func(cuts []byte) (string, bool) {
			h := NewServer(cfg)
			var st session.Stream
			st.Begin(h.hub, session.Address{Name: "fuzz:1"}, nobody{}, new(session.Turn))
			fr := newFrames(h, &st)
			defer h.hub.Close()
			defer st.Close()
			var all, in []byte
			left := bytes.Clone(data)
			next := session.Idle
			for i := 0; next != session.Closing; i++ {
				if i > 200_000 {
					t.Fatalf("no end: next is %d, %d bytes left", next, len(in))
				}
				var out []byte
				if next == session.Idle || next == session.Waiting {
					n := len(left)
					if len(cuts) > 0 && i < 10_000 {
						n = min(n, int(cuts[i%len(cuts)]))
					}
					if in, left = append(in, left[:n]...), left[n:]; n == 0 && len(left) == 0 && len(in) == 0 {
						break
					}
				}
				in, out, next = fr.Advance(in, out)
				if limit := 2*cfg.Session.MaxOutput + 40<<10; len(out) > limit {
					t.Fatalf("%d bytes at a time", len(out))
				}
				all = append(all, out...)
				if next == session.Early {
					time.Sleep(st.Early())
				}
				if next == session.Waiting {
					all = fr.write(all, true, st.GiveUp(nil))
				}
				if len(fr.body)+len(fr.ping) > cfg.MaxMessage {
					t.Fatalf("%d bytes of a message are kept", len(fr.body)+len(fr.ping))
				}
			}
			return said(t, all), next == session.Closing
		}
		want, wantClosing := run(nil)
		got, gotClosing := run(cuts)
		if got != want || gotClosing != wantClosing {
			t.Fatalf("in pieces:\n%sclosing %v, in one piece:\n%sclosing %v", got, gotClosing, want, wantClosing)
		}
	})
}

// A message of many requests that take long has as many turns as it needs.
func TestLongMessagesTakeTurns(t *testing.T) {
	h := NewServer(testConfig())
	defer h.hub.Close()
	var st session.Stream
	st.Begin(h.hub, session.Address{Name: "a:1"}, nobody{}, new(session.Turn))
	defer st.Close()
	fr := newFrames(h, &st)
	const n = 5000
	in := []byte(clientFrame(ws.OpText, true, strings.Repeat("q\n", n)))
	turns, replies := 0, 0
	for next := session.More; next != session.Idle; turns++ {
		var out []byte
		in, out, next = fr.Advance(in, out)
		replies += strings.Count(string(out), "connections:")
	}
	if replies != n || turns < 2 {
		t.Errorf("%d replies in %d turns", replies, turns)
	}
}
