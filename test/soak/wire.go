//go:build unix

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// A transport is a way to the server, in lines.
type transport struct {
	name   string
	secure bool // within TLS
	target func(addresses) string
}

// transports are all of them.
var transports = []transport{
	{"tcp", false, func(a addresses) string { return "tcp://" + a.TCP }},
	{"unix", false, func(a addresses) string { return "unix://" + a.Unix }},
	{"websocket", false, func(a addresses) string { return "ws://" + a.WebSocket }},
	{"tls", true, func(a addresses) string { return "tls://" + a.TLS }},
	{"wss", true, func(a addresses) string { return "wss://" + a.WSS }},
}

// dial connects, and shakes hands.
func (c caller) dial(at addresses) (net.Conn, error) {
	scheme, address, _ := strings.Cut(c.target(at), "://")
	network := "tcp"
	if scheme == "unix" {
		network = scheme
	}
	dialer := net.Dialer{Timeout: patience}
	if c.from != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: c.from}
	}
	conn, err := dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	shaken, err := c.shakeHands(conn, scheme, at)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%v: %w", c, err)
	}
	return shaken, nil
}

func (c caller) shakeHands(conn net.Conn, scheme string, at addresses) (net.Conn, error) {
	if c.secure {
		config, err := c.tls(at)
		if err != nil {
			return nil, err
		}
		within := tls.Client(conn, config)
		if err := within.Handshake(); err != nil {
			return nil, err
		}
		conn = within
	}
	if scheme != "ws" && scheme != "wss" {
		return conn, nil
	}
	host := at.WebSocket
	if c.secure {
		host = at.WSS
	}
	in, _, err := ws.DefaultDialer.Upgrade(conn, &url.URL{Scheme: "ws", Host: host, Path: "/"})
	if err != nil {
		return nil, err
	}
	if in == nil {
		in = bufio.NewReader(conn)
	}
	return &framed{Conn: conn, in: in}, nil
}

// framed is a WebSocket connection as a stream of lines.
type framed struct {
	net.Conn
	in   *bufio.Reader
	rest []byte
}

func (f *framed) Write(p []byte) (int, error) {
	return len(p), wsutil.WriteClientBinary(f.Conn, bytes.Clone(p))
}

func (f *framed) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		frame, err := ws.ReadFrame(f.in)
		switch {
		case err != nil:
			return 0, err
		case frame.Header.OpCode == ws.OpClose:
			return 0, io.EOF
		case frame.Header.OpCode == ws.OpPing:
			if err := wsutil.WriteClientMessage(f.Conn, ws.OpPong, frame.Payload); err != nil {
				return 0, err
			}
		case !frame.Header.OpCode.IsControl():
			f.rest = frame.Payload
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// CloseWrite says that nothing more comes, as far as WebSocket has it.
func (f *framed) CloseWrite() error {
	return wsutil.WriteClientMessage(f.Conn, ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))
}

// patience bounds how long a reply may take: a server that answers later has lost
// it, for all that anybody can tell.
const patience = 60 * time.Second

// A line is a connection to the server.
type line struct {
	net.Conn
	in    *bufio.Reader
	two   bool // speaks protocol 2, where requests begin with a session
	at    addresses
	who   caller
	token string // that was presented last
}

// connect connects, and shows who is calling: whoever can.
func connect(at addresses, who caller, two bool) (*line, error) {
	c, err := who.dial(at)
	if err != nil {
		return nil, err
	}
	l := &line{Conn: c, in: bufio.NewReaderSize(c, 256), at: at, who: who}
	l.SetDeadline(time.Now().Add(patience))
	if err := l.greet(two); err != nil {
		c.Close()
		return nil, err
	}
	return l, nil
}

func (l *line) greet(two bool) error {
	if two {
		if got, err := l.say("hello 2"); err != nil || !strings.HasPrefix(got, "2 lockd ") {
			return fmt.Errorf("%v: hello 2: got %q, %v", l.who, got, err)
		}
		l.two = true
	}
	if l.who.how == byToken {
		return l.present()
	}
	return nil
}

// say sends a line and reads one.
func (l *line) say(request string) (string, error) {
	l.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(l, request+"\n"); err != nil {
		return "", err
	}
	return l.next()
}

func (l *line) next() (string, error) {
	got, err := l.in.ReadString('\n')
	if err := l.hear(got); err != nil {
		return "", err
	}
	return strings.TrimSuffix(got, "\n"), err
}

// rest reads all that comes yet, and returns what is wrong with that.
func (l *line) rest() error {
	for {
		if _, err := l.next(); errors.As(err, new(breach)) {
			return err
		} else if err != nil {
			return nil
		}
	}
}

// ask asks in a session, in protocol 1 there is but one, and returns the number and
// the text. If the token was replaced meanwhile, it presents the new one.
func (l *line) ask(session int, request string) (uint64, string, error) {
	n, text, err := l.askOnce(session, request)
	for tries := 0; err == nil && n == 0 && text == "Not Authenticated" && tries < 5; tries++ {
		if l.who.how != byToken {
			break
		}
		if err := l.present(); err != nil {
			return 0, "", err
		}
		n, text, err = l.askOnce(session, request)
	}
	return n, text, err
}

func (l *line) askOnce(session int, request string) (uint64, string, error) {
	if l.two {
		request = fmt.Sprint(session, " ", request)
	}
	got, err := l.say(request)
	if err != nil {
		return 0, "", err
	}
	if l.two {
		rest, ok := strings.CutPrefix(got, fmt.Sprint(session, " "))
		if !ok {
			return 0, "", fmt.Errorf("%q is answered %q", request, got)
		}
		got = rest
	}
	number, text, _ := strings.Cut(got, " ")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, "", fmt.Errorf("%q is answered %q", request, got)
	}
	return n, text, nil
}

// reset closes the connection so that the server is told at once, by an error.
func (l *line) reset() {
	bare := l.Conn
	if f, ok := bare.(*framed); ok {
		bare = f.Conn
	}
	if within, ok := bare.(*tls.Conn); ok {
		bare = within.NetConn()
	}
	if tcp, ok := bare.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	bare.Close() // without a word of TLS or WebSocket
}

// halfClose closes the sending side and reads the rest.
func (l *line) halfClose() error {
	defer l.Close()
	l.SetDeadline(time.Now().Add(patience))
	if half, ok := l.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		return l.rest()
	}
	return nil
}
