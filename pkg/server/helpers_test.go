package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/internal/netlab"
	"github.com/nylen/lockd/pkg/server"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// giveUp is how long a test waits for what must come. Nothing is measured by
// it: it only ends a test that would hang.
const giveUp = 60 * time.Second

// A testServer is a server that listens in all ways, each on an address that
// nobody else has.
type testServer struct {
	*server.Server
	tb           testing.TB
	tcp, unix    string
	ws           string
	webSocketURL string
	tls, wss     string
	upstream     *testServer // of a proxy
}

// start starts a server that ends with the test.
func start(tb testing.TB, opts server.Options) *testServer {
	tb.Helper()
	s := &testServer{tb: tb, unix: socketPath(tb)}
	own := netlab.OwnHost() + ":0"
	opts.TCP = append(opts.TCP, own)
	opts.Unix = append(opts.Unix, s.unix)
	opts.WebSocket = append(opts.WebSocket, own)
	opts.TLS = append(opts.TLS, own)
	opts.WSS = append(opts.WSS, own)
	if opts.TLSCert == "" && opts.TLSConfig == nil {
		opts.TLSConfig = anybody()
	}
	s.Server = listen(tb, opts)
	for _, a := range s.Addrs() {
		switch a.Transport {
		case "tcp":
			s.tcp = a.String()
		case "tls":
			s.tls = a.String()
		case "wss":
			s.wss = a.String()
		case "websocket":
			s.ws = a.String()
			s.webSocketURL = "ws://" + s.ws + "/"
		}
	}
	return s
}

// newServer makes a server that ends with the test and listens nowhere.
func newServer(tb testing.TB, opts server.Options) *server.Server {
	tb.Helper()
	s, err := server.New(opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Shutdown(canceled()) })
	return s
}

// listen makes a server that ends with the test and listens where the options
// say.
func listen(tb testing.TB, opts server.Options) *server.Server {
	tb.Helper()
	s := newServer(tb, opts)
	if err := s.Listen(); err != nil {
		tb.Fatal(err)
	}
	return s
}

// canceled returns a context that is done.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// socketPath returns a path for a unix socket. Those of t.TempDir are too
// long for one.
func socketPath(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "lockd")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// eventually waits until a condition holds.
func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for end := time.Now().Add(giveUp); !condition(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(end) {
			tb.Fatalf("waited in vain: %s", what)
		}
	}
}

// metric returns the sum of a server's samples of one name whose labels
// include all of those given, as NAME=VALUE.
func metric(tb testing.TB, s *server.Server, name string, labels ...string) int {
	tb.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.Collector())
	families, err := registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			has := make(map[string]bool)
			for _, l := range m.GetLabel() {
				has[l.GetName()+"="+l.GetValue()] = true
			}
			all := true
			for _, l := range labels {
				all = all && has[l]
			}
			if all {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return int(sum)
}

// waitConnections waits until the server counts n connections.
func waitConnections(tb testing.TB, s *server.Server, n int) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%d connections", n), func() bool {
		return metric(tb, s, "lockd_connections") == n
	})
}

// must ends the test if there is an error.
func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// A client is a connection that speaks the line protocol.
type client struct {
	net.Conn
	tb testing.TB
	in *bufio.Reader
}

func newClient(tb testing.TB, c net.Conn, err error) *client {
	tb.Helper()
	must(tb, err)
	must(tb, c.SetDeadline(time.Now().Add(giveUp)))
	tb.Cleanup(func() { c.Close() })
	return &client{c, tb, bufio.NewReader(c)}
}

// hold has a client hold so many locks, until the test ends: 00000000, 00000001 and so on.
func (s *testServer) hold(tb testing.TB, locks int) {
	tb.Helper()
	holder := s.dial(tb, "memory")
	var in bytes.Buffer
	for i := range locks {
		fmt.Fprintf(&in, "g %08d\n", i)
	}
	holder.sendAll(in.String())
	for range locks {
		holder.line()
	}
}

// dial connects by a stream transport: tcp, tls, unix or memory. No two clients have
// the same address, as two of one host may that have come to different ports.
func (s *testServer) dial(tb testing.TB, transport string) *client {
	tb.Helper()
	var c net.Conn
	var err error
	switch transport {
	case "tcp":
		c, err = net.Dial("tcp", s.tcp)
	case "tls":
		from := net.Dialer{}
		if runtime.GOOS == "linux" { // others have one address of loopback
			from.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}
		}
		c, err = tls.DialWithDialer(&from, "tcp", s.tls, trusting())
	case "unix":
		c, err = net.Dial("unix", s.unix)
	case "memory":
		c, err = s.Dial()
	default:
		tb.Fatalf("no stream transport: %s", transport)
	}
	return newClient(tb, c, err)
}

// streams are the transports that carry lines.
var streams = []string{"tcp", "tls", "unix", "memory"}

// overStreams runs a test over every transport that carries lines.
func overStreams(t *testing.T, opts server.Options, test func(t *testing.T, s *testServer, transport string)) {
	for _, transport := range streams {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			test(t, start(t, opts), transport)
		})
	}
}

// send sends bytes as they are.
func (c *client) send(s string) {
	c.tb.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.tb.Fatalf("send %.40q: %v", s, err)
	}
}

// sendAll sends bytes while the test reads.
func (c *client) sendAll(s string, then ...func()) {
	go func() {
		if _, err := io.WriteString(c, s); err != nil {
			c.tb.Errorf("send %.40q: %v", s, err)
		}
		for _, f := range then {
			f()
		}
	}()
}

// line reads one line.
func (c *client) line() string {
	c.tb.Helper()
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.tb.Fatalf("got %q and then: %v", line, err)
	}
	return line
}

// ask sends a request and expects a reply of one line, both given without
// their newlines.
func (c *client) ask(request, reply string) {
	c.tb.Helper()
	c.send(request + "\n")
	if got := c.line(); got != reply+"\n" {
		c.tb.Fatalf("%q: got %q, not %q", request, got, reply)
	}
}

// end expects that nothing more comes and that the server has closed.
func (c *client) end() {
	c.tb.Helper()
	rest, err := io.ReadAll(c.in)
	if err != nil || len(rest) > 0 {
		c.tb.Fatalf("got %.60q, %v instead of the end", rest, err)
	}
}

func (c *client) closeWrite() {
	c.tb.Helper()
	must(c.tb, c.Conn.(interface{ CloseWrite() error }).CloseWrite())
}

// A wsClient is a connection that speaks WebSocket, frame by frame.
type wsClient struct {
	net.Conn
	tb testing.TB
	in *bufio.Reader
}

func dialWS(tb testing.TB, url string) *wsClient {
	tb.Helper()
	c, err := tryWS(tb, ws.Dialer{}, url)
	must(tb, err)
	return c
}

func tryWS(tb testing.TB, d ws.Dialer, url string) (*wsClient, error) {
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	c, br, _, err := d.Dial(ctx, url)
	if err != nil {
		if c != nil {
			c.Close()
		}
		return nil, err
	}
	must(tb, c.SetDeadline(time.Now().Add(giveUp)))
	tb.Cleanup(func() { c.Close() })
	if br == nil {
		br = bufio.NewReader(c)
	}
	return &wsClient{Conn: c, tb: tb, in: br}, nil
}

// frames are the bytes of frames that a client sends, masked.
func frames(fs ...ws.Frame) string {
	var b strings.Builder
	for _, f := range fs {
		f.Payload = append([]byte(nil), f.Payload...)
		if err := ws.WriteFrame(&b, ws.MaskFrameInPlaceWith(f, [4]byte{0x12, 0xf3, 0x00, 0x9c})); err != nil {
			panic(err)
		}
	}
	return b.String()
}

func message(op ws.OpCode, s string) string { return frames(ws.NewFrame(op, true, []byte(s))) }

// send sends bytes as they are.
func (c *wsClient) send(s string) {
	c.tb.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.tb.Fatal(err)
	}
}

// frame reads a frame, which a server never masks.
func (c *wsClient) frame() ws.Frame {
	c.tb.Helper()
	f, err := ws.ReadFrame(c.in)
	if err != nil {
		c.tb.Fatal("no frame: ", err)
	}
	if f.Header.Masked || f.Header.Rsv != 0 {
		c.tb.Fatalf("a server's frame with the header %+v", f.Header)
	}
	return f
}

// next reads the next frame that is no ping: a client that is silent for a second, on
// a busy machine, gets one, also within a message.
func (c *wsClient) next() ws.Frame {
	c.tb.Helper()
	f := c.frame()
	for f.Header.OpCode == ws.OpPing {
		f = c.frame()
	}
	return f
}

// message reads a message, with all of its frames.
func (c *wsClient) message() (ws.OpCode, string) {
	c.tb.Helper()
	f := c.next()
	op, b := f.Header.OpCode, f.Payload
	for !f.Header.Fin {
		if f = c.next(); f.Header.OpCode != ws.OpContinuation {
			c.tb.Fatalf("a frame of type %d within a message", f.Header.OpCode)
		}
		b = append(b, f.Payload...)
	}
	if op == ws.OpText && !utf8.Valid(b) {
		c.tb.Fatalf("a text message that is not UTF-8: %.60q", b)
	}
	return op, string(b)
}

// expect reads a message and compares it.
func (c *wsClient) expect(op ws.OpCode, want string) {
	c.tb.Helper()
	if gotOp, got := c.message(); gotOp != op || got != want {
		c.tb.Fatalf("got a message of type %d, %q, not of type %d, %q", gotOp, got, op, want)
	}
}

// ask sends a request as a text message and expects a reply of one line, both
// given without their newlines.
func (c *wsClient) ask(request, reply string) {
	c.tb.Helper()
	c.send(message(ws.OpText, request))
	c.expect(ws.OpText, reply+"\n")
}

// expectClose reads the server's close frame, and then the end.
func (c *wsClient) expectClose(code ws.StatusCode) {
	c.tb.Helper()
	f := c.next()
	if f.Header.OpCode != ws.OpClose {
		c.tb.Fatalf("got a frame of type %d, %q, not a close frame", f.Header.OpCode, f.Payload)
	}
	if got, text := ws.ParseCloseFrameData(f.Payload); got != code {
		c.tb.Fatalf("closed with %d %q, not with %d", got, text, code)
	}
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		c.tb.Fatalf("after the close frame: %q, %v", rest, err)
	}
}

// giveUpSoon is for a wait that is known to be over at once if it is ever.
func giveUpSoon() <-chan time.Time { return time.After(giveUp / 6) }
