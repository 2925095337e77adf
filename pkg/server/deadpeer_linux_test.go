package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/nylen/lockd/internal/netlab"
	"github.com/nylen/lockd/pkg/server"
)

// A cutServer is a server on a lab's near machine.
type cutServer struct {
	*server.Server
	t     *testing.T
	lab   *netlab.Lab
	addrs map[string]string // by transport
}

func startCut(t *testing.T, h time.Duration) *cutServer {
	t.Helper()
	s := &cutServer{t: t, lab: netlab.New(t), addrs: make(map[string]string)}
	s.Server = newServer(t, server.Options{TCP: []string{netlab.Near + ":0"}, WebSocket: []string{netlab.Near + ":0"}, DeadPeerTimeout: h})
	var secret net.Listener
	s.lab.AtNear(func() {
		if err := s.Listen(); err != nil {
			t.Error(err)
		}
		l, err := net.Listen("tcp", netlab.Near+":0")
		if err != nil {
			t.Error(err)
			return
		}
		secret = tls.NewListener(l, testTLS(t))
	})
	if t.Failed() {
		t.FailNow()
	}
	go s.Serve(secret)
	for _, a := range s.Addrs() {
		s.addrs[a.Transport] = a.String()
	}
	s.addrs["tls"] = secret.Addr().String()
	return s
}

// testTLS returns the configuration of a server whose certificate nobody checks.
func testTLS(t *testing.T) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}
}

// A cutPeer is a client that reads whatever comes, and answers pings.
type cutPeer struct {
	t    *testing.T
	conn net.Conn
	ws   bool

	lines chan string // replies
	ended chan struct{}
	mu    sync.Mutex // guards writes
	pings int        // guarded, too
}

func (s *cutServer) dial(transport string, far bool) *cutPeer {
	s.t.Helper()
	at := s.lab.AtNear
	if far {
		at = s.lab.AtFar
	}
	var conn net.Conn
	var err error
	at(func() { conn, err = net.DialTimeout("tcp", s.addrs[transport], giveUp) })
	if err != nil {
		s.t.Fatal(err)
	}
	return s.speak(transport, conn)
}

// speak makes a peer of a connection.
func (s *cutServer) speak(transport string, conn net.Conn) *cutPeer {
	s.t.Helper()
	p := &cutPeer{t: s.t, conn: conn, ws: transport == "websocket", lines: make(chan string, 100), ended: make(chan struct{})}
	s.t.Cleanup(func() {
		p.conn.Close()
		<-p.ended
	})
	var r io.Reader
	switch transport {
	case "tls":
		p.conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		r = p.conn
	case "websocket":
		if _, _, _, err := (ws.Dialer{NetDial: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}).
			Dial(context.Background(), "ws://"+s.addrs[transport]+"/"); err != nil {
			close(p.ended)
			s.t.Fatal(err)
		}
		r = p
	default:
		r = p.conn
	}
	go p.read(bufio.NewReader(r))
	return p
}

func (p *cutPeer) read(r *bufio.Reader) {
	defer close(p.ended)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		select {
		case p.lines <- strings.TrimSuffix(line, "\n"):
		default: // nobody asked
		}
	}
}

// Read reads a message of a WebSocket.
func (p *cutPeer) Read(b []byte) (int, error) {
	for {
		h, err := ws.ReadHeader(p.conn)
		if err != nil {
			return 0, err
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(p.conn, payload); err != nil {
			return 0, err
		}
		switch h.OpCode {
		case ws.OpPing:
			p.mu.Lock()
			p.pings++
			err = ws.WriteFrame(p.conn, ws.MaskFrame(ws.NewPongFrame(payload)))
			p.mu.Unlock()
		case ws.OpText, ws.OpBinary:
			return copy(b, payload), nil
		}
		if err != nil {
			return 0, err
		}
	}
}

func (p *cutPeer) say(line string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if p.ws {
		err = wsutil.WriteClientText(p.conn, []byte(line))
	} else {
		_, err = io.WriteString(p.conn, line+"\n")
	}
	if err != nil {
		p.t.Errorf("%s: %v", line, err)
	}
}

func (p *cutPeer) ask(line string) string {
	p.t.Helper()
	p.say(line)
	select {
	case got := <-p.lines:
		return got
	case <-p.ended:
		p.t.Fatalf("%s: the connection has ended", line)
	case <-time.After(giveUp):
		p.t.Fatalf("%s: no reply", line)
	}
	return ""
}

func (p *cutPeer) want(line, reply string) {
	p.t.Helper()
	if got := p.ask(line); !strings.HasPrefix(got, reply) {
		p.t.Fatalf("%s: got %q, want %q", line, got, reply)
	}
}

// free waits until a lock is free.
func (p *cutPeer) free(name string) {
	p.t.Helper()
	for end := time.Now().Add(giveUp); p.ask("i "+name) != "0 Lock Not Locked: "+name; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Errorf("%s is still held", name)
			return
		}
	}
}

// lost waits until the ledger has why a lock was lost.
func (p *cutPeer) lost(name, why string) {
	p.t.Helper()
	got := ""
	for end := time.Now().Add(giveUp); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got = p.ask("losses 1 " + name); got == "1 End" {
			continue
		}
		if end := <-p.lines; end != "1 End" {
			p.t.Errorf("behind a loss comes %q", end)
		}
		break
	}
	if !strings.Contains(got, "\texclusive\theld\t"+why+"\t") {
		p.t.Errorf("the ledger has %q of %s, not %s", got, name, why)
	}
}

// TestVanished: a client whose machine vanishes is gone soon, whatever was under
// way, and however it vanished.
func TestVanished(t *testing.T) {
	for _, way := range netlab.Ways {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			s := startCut(t, 2*time.Second)
			near := s.dial("tcp", false)
			var names []string
			for _, transport := range []string{"tcp", "tls", "websocket"} {
				for _, busy := range []string{"idle", "granted", "timed-out"} {
					name := transport + "-" + busy
					names = append(names, name)
					far := s.dial(transport, true)
					far.want("hello 2", "2 ")
					far.want("1 g "+name, "1 17") // a token
					switch busy {
					case "granted":
						near.want("g b-"+name, "1 ")
						far.say("2 gw 60000 b-" + name)
					case "timed-out":
						near.want("g b-"+name, "1 ")
						far.say("2 gw 500 b-" + name)
					}
					if busy != "idle" {
						far.want("3 ping", "3 1 pong") // and the wait is there
					}
				}
			}
			s.lab.Cut(way)
			cut := time.Now()
			for _, name := range names {
				if strings.HasSuffix(name, "granted") {
					near.want("r b-"+name, "1 ")
				}
			}
			for _, name := range names {
				near.free(name)
			}
			for _, name := range names {
				near.lost(name, "dead_peer")
			}
			// The kernel would end them by itself, after 14 s at the earliest.
			if took := time.Since(cut); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestVanishedLives: those who are there lose nothing, be they idle or not reading,
// for several times as long as a dead one would be allowed.
func TestVanishedLives(t *testing.T) {
	t.Parallel()
	const h = 2 * time.Second
	s := startCut(t, h)
	var names []string
	var silent []*cutPeer
	for _, transport := range []string{"tcp", "tls", "websocket"} {
		far := s.dial(transport, true)
		far.want("g idle-"+transport, "1 ")
		names = append(names, "idle-"+transport)
		silent = append(silent, far)
	}
	// These ask for more than there is room for, and read nothing of it.
	for _, transport := range []string{"tcp", "tls"} {
		var conn net.Conn
		var err error
		s.lab.AtFar(func() { conn, err = net.Dial("tcp", s.addrs[transport]) })
		if err != nil {
			t.Fatal(err)
		}
		conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		if transport == "tls" {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		defer conn.Close()
		name := "stuck-" + transport
		names = append(names, name)
		fmt.Fprintf(conn, "g %s\n", name)
		conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
		long := strings.Repeat("i "+strings.Repeat("x", 4000)+"\n", 10000)
		if n, err := io.WriteString(conn, long); err == nil {
			t.Errorf("%s: all of %d bytes were taken", transport, n)
		}
	}
	near := s.dial("tcp", false)
	for end := time.Now().Add(3 * h); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, name := range names {
			near.want("i "+name, "1 ")
		}
	}
	for _, p := range silent {
		p.want("g again", "")
	}
	// And when they vanish, they are gone.
	s.lab.Cut(netlab.Both)
	for _, name := range names {
		near.free(name)
	}
}

// TestVanishedWanted: a holder that somebody waits for, or was refused because of, is
// gone long before it would be otherwise; but not one that rests on its time.
func TestVanishedWanted(t *testing.T) {
	const h = time.Hour
	for _, transport := range []string{"tcp", "tls", "websocket"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s := startCut(t, h)
			near := s.dial("tcp", false)
			for _, name := range []string{"waited", "asked", "busy", "shared", "first", "rests"} {
				far := s.dial(transport, true)
				far.want("hello 2", "2 ")
				switch name {
				case "shared":
					far.want("1 sg shared", "1 1 ")
					continue
				case "rests":
					far.want("0 limits", "0 1 dead_peer_ms=3600000 max_keep_ms=30000")
				case "busy":
					near.want("g due", "1 ")
					far.say("2 gw 60000 due")
				}
				far.want("1 g "+name, "1 1")
			}
			// It is the second one to have it, and the first one is wanted, too.
			second := s.dial(transport, true)
			second.want("hello 2", "2 ")
			second.say("1 gw 60000 first")
			second.want("2 ping", "2 1 pong")

			s.lab.Cut(netlab.Both)
			near.want("r due", "1 ")
			waiter := s.dial("tcp", false)
			waiter.want("hello 2", "2 ")
			for i, request := range []string{"gw 60000 waited", "gw 60000 busy", "sgw 1 60000 shared", "gw 60000 first", "gw 60000 rests"} {
				waiter.say(fmt.Sprintf("%d %s", i+1, request))
			}
			for end := time.Now().Add(giveUp); !strings.HasPrefix(near.ask("g asked"), "1 "); time.Sleep(100 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("whoever asks is refused for ever")
				}
			}
			got := make(map[string]bool)
			for range 4 {
				select {
				case line := <-waiter.lines:
					got[line[:1]] = true
				case <-time.After(giveUp):
					t.Fatalf("only these were granted: %v", got)
				}
			}
			if got["5"] {
				t.Error("one that rests on its time was ended before it")
			}
			near.want("i rests", "1 ")
		})
	}
}

// A narrowListener accepts connections on which little is under way.
type narrowListener struct{ net.Listener }

func (l narrowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return c, err
}

// TestVanishedInReply: a client is gone soon that vanishes while its first long reply is
// being sent, which nothing came before that would still be unconfirmed.
func TestVanishedInReply(t *testing.T) {
	t.Parallel()
	s := &cutServer{t: t, lab: netlab.New(t), addrs: make(map[string]string)}
	var log lockedBuffer
	s.Server = newServer(t, server.Options{DeadPeerTimeout: 2 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for _, transport := range []string{"tcp", "tls"} {
		var l net.Listener
		var err error
		s.lab.AtNear(func() { l, err = net.Listen("tcp", netlab.Near+":0") })
		if err != nil {
			t.Fatal(err)
		}
		s.addrs[transport] = l.Addr().String()
		l = narrowListener{l}
		if transport == "tls" {
			l = tls.NewListener(l, testTLS(t))
		}
		go s.Serve(l)
	}
	near := s.dial("tcp", false)
	for i := range 100 {
		near.want(fmt.Sprintf("g %d%s", i, strings.Repeat("x", 4000)), "1 ")
	}
	far := make(map[string]*cutPeer)
	for transport := range s.addrs {
		far[transport] = s.dial(transport, true)
		far[transport].want("g "+transport, "1 ")
	}
	time.Sleep(time.Second) // several rounds of looks: all is confirmed
	s.lab.Cut(netlab.Deaf)
	for _, p := range far {
		p.say("d")
	}
	for end := time.Now().Add(giveUp); near.ask("q") != fmt.Sprint("command_d: ", len(far)); time.Sleep(20 * time.Millisecond) {
		for !strings.HasPrefix(<-near.lines, "shared_orphans: ") {
		}
		if time.Now().After(end) {
			t.Fatal("they have not asked")
		}
	}
	for !strings.HasPrefix(<-near.lines, "shared_orphans: ") {
	}
	s.lab.Cut(netlab.Both)
	for transport := range far {
		near.free(transport)
	}
	// The kernel finds out, too, but takes 15 s here, and a quarter of an hour elsewhere.
	if text := log.String(); strings.Count(text, "silent=") != len(far) {
		t.Error(text)
	}
}
