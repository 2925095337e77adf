package conn

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	headerV1 = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 9999\r\n"
	headerV2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x27\x0f"
	behind   = "192.0.2.1:56324" // the client in both
)

// serveBehind serves a server to connections that begin with a header, until the
// test ends: on event loops where there are such, or over another listener that
// wrap makes.
func serveBehind(t *testing.T, networks string, wrap func(*Server, net.Listener) net.Listener) (*Server, net.Listener, *logLines) {
	t.Helper()
	return serveBehindWith(t, testConfig(), handshakeTimeout, networks, wrap)
}

func serveBehindWith(t *testing.T, cfg Config, headerFor time.Duration, networks string, wrap func(*Server, net.Listener) net.Listener) (*Server, net.Listener, *logLines) {
	t.Helper()
	lines := logTo(&cfg)
	var err error
	if cfg.Proxies, err = ParseProxies([]string{networks}); err != nil {
		t.Fatal(err)
	}
	h := NewServer(cfg)
	h.headerFor = headerFor
	network, addr := "tcp", "127.0.0.1:0"
	if networks == "unix" {
		network, addr = "unix", filepath.Join(t.TempDir(), "s")
	}
	inner, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	var l net.Listener = NewOwnListener(inner, cfg.Logger)
	if wrap != nil {
		l = wrap(h, inner)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		<-served
		drainNow(h)
	})
	return h, inner, lines
}

// ways are how connections behind a proxy are served.
var ways = map[string]func(*Server, net.Listener) net.Listener{
	"loops": nil,
	"links": func(_ *Server, l net.Listener) net.Listener { return l },
}

func dialTo(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(60 * time.Second))
	return c
}

// wantReplies sends pieces and reads exactly these replies, and the end.
func wantReplies(t *testing.T, c net.Conn, want string, pieces ...string) {
	t.Helper()
	for _, piece := range pieces {
		if _, err := io.WriteString(c, piece); err != nil {
			t.Fatal(err)
		}
		if len(pieces) > 1 {
			time.Sleep(time.Millisecond) // for it to be read by itself, mostly
		}
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	got, err := io.ReadAll(c)
	if err != nil || string(got) != want {
		t.Fatalf("%.200q: got %q, %v, want %q", pieces, got, err, want)
	}
}

// The header may come in pieces and together with requests, none of which is lost.
func TestProxiedInPieces(t *testing.T) {
	t.Parallel()
	for way, wrap := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h, l, _ := serveBehind(t, "127.0.0.0/8", wrap)
			const requests = "me\ng foo\nr foo\n"
			const replies = "1 " + behind + " " + behind + "\n1 Lock Get Success: foo\n1 Lock Release Success: foo\n"
			for _, header := range []string{headerV1, headerV2} {
				all := header + requests
				wantReplies(t, dialTo(t, l), replies, all)
				for i := 1; i < len(all); i++ {
					wantReplies(t, dialTo(t, l), replies, all[:i], all[i:])
				}
				wantReplies(t, dialTo(t, l), replies, strings.Split(all, "")...)
			}
			if n := h.Stats().Rejected["proxy_header"]; n != 0 {
				t.Errorf("%d refused", n)
			}
		})
	}
}

// A long line, and many requests, behind the header are as ever.
func TestProxiedWithMuch(t *testing.T) {
	t.Parallel()
	for way, wrap := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			_, l, _ := serveBehind(t, "127.0.0.1", wrap)
			n := 100_000
			c := dialTo(t, l)
			go func() {
				io.WriteString(c, headerV2+strings.Repeat("i foo\n", n))
				c.(*net.TCPConn).CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if err != nil || string(got) != strings.Repeat("0 Lock Not Locked: foo\n", n) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// The proxy's own connections, and those of clients without an IP address, have the
// proxy's address.
func TestProxiedUnknown(t *testing.T) {
	t.Parallel()
	for way, wrap := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			_, l, _ := serveBehind(t, "127.0.0.0/8", wrap)
			for _, header := range []string{
				"PROXY UNKNOWN\r\n", "PROXY UNKNOWN x y\r\n",
				"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "\r\n\r\n\x00\r\nQUIT\n\x21\x00\x00\x00", "\r\n\r\n\x00\r\nQUIT\n\x20\x11\x00\x03xyz",
			} {
				c := dialTo(t, l)
				a := c.LocalAddr().String()
				wantReplies(t, c, "1 "+a+" "+a+"\n0 Not Allowed: kick\n", header+"me\nkick "+a+"\n")
			}
		})
	}
}

// Who comes through a proxy is not on this machine, though it says so.
func TestProxiedIsNotLocal(t *testing.T) {
	t.Parallel()
	for way, wrap := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			for _, networks := range []string{"127.0.0.0/8", "unix"} {
				_, l, _ := serveBehind(t, networks, wrap)
				for _, addr := range []string{"127.0.0.1", "192.0.2.1"} {
					wantReplies(t, dialTo(t, l), "1 "+addr+":5 "+addr+":5\n0 Not Allowed: kick\n",
						"PROXY TCP4 "+addr+" 127.0.0.1 5 9999\r\nme\nkick "+addr+":5\n")
				}
			}
		})
	}
}

// Over a unix socket the client is not the process that has connected.
func TestProxiedUnix(t *testing.T) {
	t.Parallel()
	for way, wrap := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			_, l, _ := serveBehind(t, "unix", wrap)
			c := dialTo(t, l)
			io.WriteString(c, "PROXY UNKNOWN\r\ng foo\nlook foo\nkick unix:1\n")
			r := bufio.NewReader(c)
			var got string
			for range 4 {
				line, _ := r.ReadString('\n')
				got += line
			}
			if !strings.Contains(got, "\tunix:") || strings.Contains(got, "pid=") || strings.Contains(got, "uid=") || !strings.HasSuffix(got, "0 Not Allowed: kick\n") {
				t.Errorf("got %q", got)
			}
		})
	}
}

// What begins without a proper header is closed, counted and logged once, and none
// of it is executed.
func TestProxiedRefused(t *testing.T) {
	t.Parallel()
	for way, wrap := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h, l, lines := serveBehind(t, "127.0.0.0/8", wrap)
			refused := 0
			for _, sent := range []string{
				"g foo\n", "\ng foo\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\ng foo\n",
				"PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\ng foo\n",
				"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff\xc0\x00\x02\x01", // too long, as it says at once
				"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x01xg foo\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\ng foo\n",
			} {
				c := dialTo(t, l)
				io.WriteString(c, sent)
				got, _ := io.ReadAll(c) // it may be reset
				if len(got) > 0 {
					t.Errorf("%q: got %q", sent, got)
				}
				refused++
			}
			// An end within the header, too.
			wantReplies(t, dialTo(t, l), "", headerV1[:10])
			refused++
			await(t, "that all are counted", func() bool { return h.Stats().Rejected["proxy_header"] == uint64(refused) })
			await(t, "that no place is taken", func() bool { return h.Connections() == 0 })
			if n := h.Hub().Stats().Commands["g"]; n != 0 {
				t.Errorf("%d requests were executed", n)
			}
			if told := lines.with("refused a connection"); len(told) == 0 || len(told) > 3 || !strings.Contains(told[0], "does not begin with a PROXY header") {
				t.Errorf("%d lines in the log: %q", len(told), told)
			}
		})
	}
}

// A balancer that looks whether somebody is there, and says nothing, is no refusal.
func TestProxiedCheckWithoutHeader(t *testing.T) {
	t.Parallel()
	for way, wrap := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h, l, lines := serveBehind(t, "127.0.0.0/8", wrap)
			wantReplies(t, dialTo(t, l), "")
			c := dialTo(t, l)
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
			wantReplies(t, dialTo(t, l), "1 pong\n", headerV1+"ping\n")
			await(t, "the end of all", func() bool { return h.Connections() == 0 })
			if n := h.Stats().Rejected["proxy_header"]; n != 0 || len(lines.with("refused")) > 0 {
				t.Errorf("%d refused: %q", n, lines.with("refused"))
			}
		})
	}
}

// A header that does not come keeps a place for the time of a handshake.
func TestProxiedWithheldHeader(t *testing.T) {
	t.Parallel()
	for way, wrap := range ways {
		for _, sent := range []string{"", headerV1[:20], headerV2[:20]} {
			t.Run(way, func(t *testing.T) {
				t.Parallel()
				h, l, lines := serveBehindWith(t, testConfig(), 50*time.Millisecond, "127.0.0.0/8", wrap)
				c := dialTo(t, l)
				io.WriteString(c, sent)
				if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
					t.Errorf("got %q, %v", got, err)
				}
				await(t, "that the place is free", func() bool { return h.Connections() == 0 })
				if n := h.Stats().Rejected["proxy_header"]; n != 1 {
					t.Errorf("%d counted", n)
				}
				lines.await(t, "did not come in time", 1)
			})
		}
	}
}

// Those whose header has not come count as connections.
func TestProxiedTooMany(t *testing.T) {
	t.Parallel()
	for way, wrap := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig()
			cfg.MaxConnections = 2
			h, l, _ := serveBehindWith(t, cfg, handshakeTimeout, "127.0.0.0/8", wrap)
			first, second := dialTo(t, l), dialTo(t, l)
			await(t, "that two are there", func() bool { return h.Connections() == 2 })
			c := dialTo(t, l)
			io.WriteString(c, headerV1+"ping\n")
			if got, _ := io.ReadAll(c); string(got) != "0 Too Many Connections\n" {
				t.Errorf("got %q", got)
			}
			first.Close()
			await(t, "that one has gone", func() bool { return h.Connections() == 1 })
			wantReplies(t, dialTo(t, l), "1 pong\n", headerV1+"ping\n")
			wantReplies(t, second, "1 pong\n", headerV1+"ping\n")
			await(t, "that all have gone", func() bool { return h.Connections() == 0 })
		})
	}
}

// Who is elsewhere sends no header: one is an unknown verb.
func TestProxiedFromElsewhere(t *testing.T) {
	t.Parallel()
	for way, wrap := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h, l, _ := serveBehind(t, "192.0.2.0/24", wrap)
			c := dialTo(t, l)
			a := c.LocalAddr().String()
			wantReplies(t, c, "1 "+a+" "+a+"\n0 No Such Client: 192.0.2.1:56324\n", headerV1+"me\nkick 192.0.2.1:56324\n")
			if n := h.Hub().Stats().Invalid; n != 1 {
				t.Errorf("%d invalid", n)
			}
		})
	}
}

// A shutdown does not wait for headers that do not come.
func TestProxiedShutdown(t *testing.T) {
	t.Parallel()
	for way, wrap := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h, l, _ := serveBehind(t, "127.0.0.0/8", wrap)
			c := dialTo(t, l)
			await(t, "that it is there", func() bool {
				h.mu.Lock()
				defer h.mu.Unlock()
				return len(h.shaking) == 1
			})
			if err := h.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			if h.Connections() != 0 || h.Stats().Rejected["proxy_header"] != 0 {
				t.Errorf("%d connections, %v", h.Connections(), h.Stats().Rejected)
			}
			if got, err := io.ReadAll(c); len(got) > 0 {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// TLS begins behind the header, as balancers pass it through.
func TestProxiedTLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"lock.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	_, l, _ := serveBehind(t, "127.0.0.0/8", func(h *Server, l net.Listener) net.Listener {
		return tls.NewListener(h.Proxied(l), config)
	})
	hangs := dialTo(t, l) // nobody else waits for its header
	defer hangs.Close()
	for _, header := range []string{headerV1, headerV2, "PROXY UNKNOWN\r\n"} {
		c := dialTo(t, l)
		io.WriteString(c, header)
		a := behind
		if strings.Contains(header, "UNKNOWN") {
			a = c.LocalAddr().String()
		}
		wantReplies(t, tls.Client(c, &tls.Config{InsecureSkipVerify: true}),
			"1 "+a+" "+a+"\n0 Not Allowed: kick\n", "me\nkick "+a+"\n")
	}
}

// Deadlines of those who read hold, before the header and behind it, and the
// header's own is not lost.
func TestProxiedDeadlines(t *testing.T) {
	t.Parallel()
	h := NewServer(testConfig())
	h.headerFor = 500 * time.Millisecond
	defer drainNow(h)
	var ends [2]net.Conn
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pair := func() (net.Conn, *proxied) {
		if ends[0], err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if ends[1], err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ends[0].Close(); ends[1].Close() })
		return ends[0], h.proxied(ends[1])
	}
	timesOut := func(p *proxied) {
		t.Helper()
		if n, err := p.Read(make([]byte, 9)); err == nil || n > 0 || !err.(net.Error).Timeout() {
			t.Fatalf("got %d bytes, %v", n, err)
		}
	}
	_, p := pair()
	p.SetDeadline(time.Now().Add(time.Hour)) // the header's is sooner
	timesOut(p)
	_, p = pair()
	p.SetReadDeadline(time.Now())
	timesOut(p)
	client, p := pair()
	p.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	io.WriteString(client, headerV1)
	timesOut(p) // the caller's still holds behind the header, or ran out before
	client, p = pair()
	io.WriteString(client, headerV1)
	if got := p.RemoteAddr().String(); got != behind {
		t.Fatal(got)
	}
	time.AfterFunc(h.headerFor+100*time.Millisecond, func() { io.WriteString(client, "x") })
	if n, err := p.Read(make([]byte, 9)); n != 1 || err != nil { // the header's is over
		t.Errorf("got %d bytes, %v", n, err)
	}
}

func TestParseProxies(t *testing.T) {
	t.Parallel()
	p, err := ParseProxies([]string{"192.0.2.7/24", "198.51.100.1", "2001:db8::/32", "::ffff:203.0.113.0/120", "fe80::1"})
	if err != nil || p.unix {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"192.0.2.0": true, "192.0.2.255": true, "192.0.3.0": false, "::ffff:192.0.2.1": true,
		"198.51.100.1": true, "198.51.100.2": false, "2001:db8:1::": true, "2001:db9::": false, "203.0.113.9": true, "203.0.114.9": false,
		"fe80::1%lo": true, "fe80::2%lo": false, "127.0.0.1": false, "::1": false,
	} {
		if got := p.has((&net.TCPAddr{IP: net.ParseIP(strings.TrimSuffix(addr, "%lo")), Zone: map[bool]string{true: "lo"}[strings.HasSuffix(addr, "%lo")]}).AddrPort().Addr()); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	for _, bad := range []string{"", "x", "192.0.2.0/33", "192.0.2.0-192.0.2.9", "localhost", "fe80::1%lo", "192.0.2.1:80", "Unix", "::ffff:0.0.0.0/90"} {
		if _, err := ParseProxies([]string{"10.0.0.0/8", bad}); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// await waits for what must come.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain: ", what)
		}
	}
}
