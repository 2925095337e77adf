//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// A transport is a way to the server, in lines.
type transport struct {
	name string
	dial func(addresses) (net.Conn, error)
}

// transports are all of them. What lies within TLS, and who has to say who he is,
// belongs here: then all actors use it.
var transports = []transport{
	{"tcp", func(a addresses) (net.Conn, error) { return net.Dial("tcp", a.TCP) }},
	{"unix", func(a addresses) (net.Conn, error) { return net.Dial("unix", a.Unix) }},
	{"websocket", func(a addresses) (net.Conn, error) {
		c, br, _, err := ws.Dial(context.Background(), "ws://"+a.WebSocket)
		if err != nil {
			return nil, err
		}
		if br == nil {
			br = bufio.NewReader(c)
		}
		return &framed{Conn: c, in: br}, nil
	}},
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
		case !frame.Header.OpCode.IsControl():
			f.rest = frame.Payload
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// patience bounds how long a reply may take: a server that answers later has lost
// it, for all that anybody can tell.
const patience = 60 * time.Second

// A line is a connection to the server.
type line struct {
	net.Conn
	in  *bufio.Reader
	two bool // speaks protocol 2, where requests begin with a session
}

func connect(at addresses, t transport, two bool) (*line, error) {
	c, err := t.dial(at)
	if err != nil {
		return nil, err
	}
	l := &line{Conn: c, in: bufio.NewReaderSize(c, 256), two: two}
	l.SetDeadline(time.Now().Add(patience))
	if two {
		if got, err := l.say("hello 2"); err != nil || !strings.HasPrefix(got, "2 lockd ") {
			c.Close()
			return nil, fmt.Errorf("hello 2: got %q, %v", got, err)
		}
	}
	return l, nil
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
	return strings.TrimSuffix(got, "\n"), err
}

// ask asks in a session, in protocol 1 there is but one, and returns the number and
// the text.
func (l *line) ask(session int, request string) (uint64, string, error) {
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
	if tcp, ok := l.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	l.Close()
}

// halfClose closes the sending side and reads the rest.
func (l *line) halfClose() {
	if half, ok := l.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		io.Copy(io.Discard, l.in)
	}
	l.Close()
}
