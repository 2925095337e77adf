package server_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// A peer is a client of any transport: it sends requests and reads replies
// line by line, telling where a reply ends if the transport shows it.
type peer interface {
	request(line string)
	raw(bytes string)
	// line reads the next line, the first one of a reply or a later one.
	line(first bool) string
	// next reads the next line, of whatever reply.
	next() string
	// done fails if the reply that was read last has more lines.
	done()
	addr() string // "" if the client cannot know it
	closeWrite()
	reset()            // makes Close reset the connection where there is such a thing
	ended(kicked bool) // expects that the server closes and nothing comes before
	io.Closer
}

// transports are all the ways to connect. websocket sends text messages
// without a newline, websocket-binary binary messages with one.
var transports = []string{"tcp", "tls", "unix", "memory", "websocket", "websocket-binary", "wss"}

func (s *testServer) peer(tb testing.TB, transport string) peer {
	tb.Helper()
	switch transport {
	case "websocket":
		return &wsPeer{wsClient: dialWS(tb, s.webSocketURL), op: ws.OpText}
	case "wss":
		c, err := tryWS(tb, ws.Dialer{TLSConfig: trusting()}, "wss://"+s.wss+"/")
		must(tb, err)
		return &wsPeer{wsClient: c, op: ws.OpText}
	case "websocket-binary":
		return &wsPeer{wsClient: dialWS(tb, s.webSocketURL), op: ws.OpBinary, end: "\n"}
	}
	return linePeer{s.dial(tb, transport)}
}

type linePeer struct{ c *client }

func (p linePeer) request(line string)    { p.c.send(line + "\n") }
func (p linePeer) raw(bytes string)       { p.c.send(bytes) }
func (p linePeer) line(first bool) string { return p.c.line() }
func (p linePeer) next() string           { return p.c.line() }
func (p linePeer) done()                  {}
func (p linePeer) addr() string           { return localAddr(p.c) }
func (p linePeer) closeWrite()            { p.c.closeWrite() }
func (p linePeer) reset()                 { linger(p.c.Conn) }
func (p linePeer) ended(bool)             { p.c.tb.Helper(); p.c.end() }
func (p linePeer) Close() error           { return p.c.Close() }

// linger makes Close of a TCP connection reset it.
func linger(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
}

type wsPeer struct {
	*wsClient
	op  ws.OpCode
	end string
	got string // what is left of the message
}

func (p *wsPeer) request(line string) {
	p.tb.Helper()
	if p.op == ws.OpText && !utf8.ValidString(line) {
		p.tb.Fatalf("%q cannot go in a text message", line)
	}
	p.send(message(p.op, line+p.end))
}

func (p *wsPeer) raw(string) { p.tb.Fatal("there are no raw bytes in WebSocket") }

func (p *wsPeer) line(first bool) string {
	p.tb.Helper()
	if first {
		p.done()
		var op ws.OpCode
		if op, p.got = p.message(); op != p.op {
			p.tb.Fatalf("got a message of type %d, %q, not of type %d", op, p.got, p.op)
		}
	}
	line, rest, ok := strings.Cut(p.got, "\n")
	if !ok {
		p.tb.Fatalf("no whole line in what is left of the message: %q", p.got)
	}
	p.got = rest
	return line + "\n"
}

func (p *wsPeer) next() string { return p.line(p.got == "") }

func (p *wsPeer) done() {
	p.tb.Helper()
	if p.got != "" {
		p.tb.Fatalf("the reply has more: %q", p.got)
	}
}

func (p *wsPeer) addr() string { return localAddr(p.Conn) }

func (p *wsPeer) closeWrite() {
	p.tb.Helper()
	must(p.tb, p.Conn.(interface{ CloseWrite() error }).CloseWrite())
}

func (p *wsPeer) reset() { linger(p.Conn) }

func (p *wsPeer) ended(kicked bool) {
	p.tb.Helper()
	p.done()
	code := ws.StatusNormalClosure
	if kicked {
		code = ws.StatusPolicyViolation
	}
	p.expectClose(code)
}

func localAddr(c net.Conn) string {
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		return a.String()
	}
	return ""
}

// addresses replaces {A} by the address of A. That of a client on a unix
// socket is learnt when it is seen first.
type addresses map[byte]string

// match compares what came with what is wanted, in which {A} may stand.
func (as addresses) match(got, want string) error {
	if _, through := as[throughProxy]; through && upstreamsAddress.MatchString(got) {
		got = upstreamsAddress.ReplaceAllString(got, "SESSION")
		want = scriptsAddress.ReplaceAllString(want, "SESSION")
	}
	full := ""
	for want != "" {
		if len(want) < 3 || want[0] != '{' || want[2] != '}' || want[1] < 'A' || want[1] > 'Z' {
			full, want = full+want[:1], want[1:]
			continue
		}
		who := want[1]
		if as[who] == "" && strings.HasPrefix(got, full) {
			as[who] = as.learn(got[len(full):])
		}
		full, want = full+as[who], want[3:]
	}
	if got != full {
		return fmt.Errorf("got  %q\nwant %q", got, full)
	}
	return nil
}

// put replaces {A} in a request by an address that is known.
func (as addresses) put(text string) string {
	for who, addr := range as {
		text = strings.ReplaceAll(text, "{"+string(who)+"}", addr)
	}
	return text
}

// learn returns the address that stands at the beginning of s, unless it is
// somebody else's.
func (as addresses) learn(s string) string {
	kind, number, _ := strings.Cut(s, ":")
	if kind != "unix" && kind != "memory" {
		return "?"
	}
	n := 0
	for n < len(number) && number[n] >= '0' && number[n] <= '9' {
		n++
	}
	addr := kind + ":" + number[:n]
	for _, other := range as {
		if n == 0 || other == addr {
			return "?"
		}
	}
	return addr
}
