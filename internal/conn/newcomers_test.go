package conn

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/internal/session"
)

// oneToken is an authority that knows one.
type oneToken struct{ access *session.Access }

func (a oneToken) Token(token []byte) *session.Access {
	if string(token) == "right" {
		return a.access
	}
	return nil
}
func (oneToken) Cert(string) *session.Access { return nil }
func (oneToken) UID(uint32) *session.Access  { return nil }

// askingConfig is for a server that asks all clients for that token.
func askingConfig() Config {
	cfg := testConfig()
	cfg.Session.Authority = oneToken{&session.Access{Name: "ci", Role: session.RoleLock}}
	for t := range cfg.Asks {
		cfg.Asks[t] = true
	}
	return cfg
}

// says sends a line and expects another one.
func says(t *testing.T, c net.Conn, line, want string) {
	t.Helper()
	io.WriteString(c, line+"\n")
	got, err := bufio.NewReader(c).ReadString('\n')
	if got != want+"\n" {
		t.Fatalf("%q is answered %q, %v, not %q", line, got, err, want)
	}
}

// ends expects a connection to end without a word.
func ends(t *testing.T, c net.Conn) {
	t.Helper()
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
		t.Fatalf("got %q, %v, not the end", got, err)
	}
}

func eachKind(t *testing.T, f func(t *testing.T, loops bool)) {
	t.Run("loops", func(t *testing.T) { f(t, true) })
	t.Run("links", func(t *testing.T) { f(t, false) })
}

// Who does not say who it is, silent or not, has its time and no more; who has said
// it has no bound.
func TestTimeToSayWhoOneIs(t *testing.T) {
	eachKind(t, func(t *testing.T, loops bool) {
		cfg := askingConfig()
		log := logTo(&cfg)
		h := NewServer(cfg)
		h.newcomers.may = time.Hour
		path, end := serveUnix(t, h, loops)
		defer end()
		known, silent, asks := dialUnix(t, path), dialUnix(t, path), dialUnix(t, path)
		says(t, known, "auth right", "1 ok")
		says(t, known, "g x", "1 Lock Get Success: x")
		says(t, asks, "ping", "1 pong")
		says(t, silent, "auth wrong", "0 Auth Failed")

		h.newcomers.mu.Lock()
		h.newcomers.may = 0
		h.newcomers.mu.Unlock()
		h.endLate()
		ends(t, silent)
		ends(t, asks)
		says(t, known, "i x", "1 Lock Is Locked: x")
		if n := h.Stats().Rejected["auth_timeout"]; n != 2 {
			t.Errorf("%d were counted", n)
		}
		log.await(t, "do not say who they are", 1)

		h.newcomers.mu.Lock()
		h.newcomers.may = 10 * time.Millisecond
		h.newcomers.mu.Unlock()
		ends(t, dialUnix(t, path)) // by itself
		says(t, known, "i x", "1 Lock Is Locked: x")
	})
}

// Strangers who take all places have to make room, the oldest first; who is known
// does not, and who has come just now has its time.
func TestStrangersGiveWay(t *testing.T) {
	eachKind(t, func(t *testing.T, loops bool) {
		cfg := askingConfig()
		cfg.MaxConnections = 4
		log := logTo(&cfg)
		h := NewServer(cfg)
		path, end := serveUnix(t, h, loops)
		defer end()
		dial := func() net.Conn {
			t.Helper()
			c := dialUnix(t, path)
			says(t, c, "ping", "1 pong")
			return c
		}
		known := dial()
		says(t, known, "auth right", "1 ok")
		says(t, known, "g x", "1 Lock Get Success: x")
		strangers := []net.Conn{dial(), dial(), dial()}
		age := func(by time.Duration) {
			h.newcomers.mu.Lock()
			defer h.newcomers.mu.Unlock()
			for _, one := range h.newcomers.all {
				one.since = time.Now().Add(-by)
			}
		}
		refused := func() {
			t.Helper()
			if got, _ := bufio.NewReader(dialUnix(t, path)).ReadString('\n'); got != "0 Too Many Connections\n" {
				t.Fatalf("one more got %q", got)
			}
		}
		age(-time.Hour)
		refused()
		age(newcomerPatience)
		for _, first := range strangers {
			one := dial()
			says(t, one, "auth right", "1 ok")
			ends(t, first)
			defer one.Close()
		}
		refused() // all are known
		log.await(t, "too many connections: ending", 1)
		says(t, known, "i x", "1 Lock Is Locked: x")

		known.Close()
		await(t, "that there is a place", func() bool { return h.Connections() == 3 })
		stranger := dial()
		age(newcomerPatience)
		h.newcomers.mu.Lock()
		if h.newcomers.going != 0 {
			t.Errorf("%d are still about to go", h.newcomers.going)
		}
		h.newcomers.going = mostGoing
		h.newcomers.mu.Unlock()
		refused() // too many are about to go
		says(t, stranger, "ping", "1 pong")
		h.newcomers.mu.Lock()
		h.newcomers.going = 0
		h.newcomers.mu.Unlock()
		dial()
		ends(t, stranger)
	})
}

// A WebSocket client is told why.
func TestTimeToSayWhoOneIsWebSocket(t *testing.T) {
	eachKind(t, func(t *testing.T, loops bool) {
		h := NewServer(askingConfig())
		h.newcomers.may = 10 * time.Millisecond
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var l net.Listener = inner
		if !loops {
			l = plain{inner}
		}
		web := h.NewWebSocketServer(nil)
		served := make(chan error)
		go func() { served <- web.Serve(l) }()
		defer func() {
			web.Close()
			<-served
			drainNow(h)
		}()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, _, _, err := ws.Dial(ctx, "ws://"+inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		f, err := ws.ReadFrame(c)
		if err != nil || f.Header.OpCode != ws.OpClose || !strings.HasSuffix(string(f.Payload), errNoIdentity.Error()) {
			t.Errorf("got %v %q, %v", f.Header.OpCode, f.Payload, err)
		}
	})
}

// Without listeners that ask, nobody is noted.
func TestNobodyIsNew(t *testing.T) {
	h := NewServer(testConfig())
	path, end := serveUnix(t, h, true)
	defer end()
	c := dialUnix(t, path)
	says(t, c, "ping", "1 pong")
	if len(h.newcomers.all) > 0 || h.newcomers.timer != nil {
		t.Error("somebody is noted")
	}
}

// Of a client that has not said who it is no message is kept that is longer than
// that takes; then as much as of all others, also once that does not count any more,
// since it may hold locks.
func TestMessagesOfNewcomersAreShort(t *testing.T) {
	for _, c := range []struct {
		size int
		ok   bool
	}{{4096, true}, {4098, false}} {
		for _, who := range []string{"new", "known", "known once"} {
			cfg := askingConfig()
			s := NewServer(cfg)
			var st session.Stream
			st.Begin(s.hub, session.Address{Name: "f", Asks: true}, nobody{}, &session.Turn{})
			f := newFrames(s, &st)
			if who != "new" {
				f.Advance(masked("auth right"), nil)
			}
			if who == "known once" {
				cfg.Session.Authority.(oneToken).access.Replace(nil)
			}
			_, out, next := f.Advance(masked(strings.Repeat("x", c.size)), nil)
			if ended := next == session.Closing; ended != (!c.ok && who == "new") {
				t.Errorf("%d bytes, %s: ended %v, %q", c.size, who, ended, out)
			}
			st.Close()
			s.hub.Close()
		}
	}
}

// Whoever says nothing to a WebSocket listener gives way, too, also where nobody is
// asked.
func TestSilentHandshakesGiveWay(t *testing.T) {
	eachKind(t, func(t *testing.T, loops bool) {
		cfg := testConfig()
		cfg.MaxConnections = 2
		h := NewServer(cfg)
		path, end := serveUnix(t, h, loops)
		defer end()
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		web := h.NewWebSocketServer(nil)
		web.ReadTimeout = time.Hour // so that none ends by itself
		served := make(chan error)
		go func() { served <- web.Serve(ln) }()
		defer func() {
			web.Close()
			<-served
		}()
		hang := func() net.Conn {
			t.Helper()
			before := h.admission.handshakes.Load()
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			c.SetDeadline(time.Now().Add(time.Minute))
			await(t, "that it is noticed", func() bool { return h.admission.handshakes.Load() > before })
			return c
		}
		hangs := []net.Conn{hang(), hang()}
		if got, _ := bufio.NewReader(dialUnix(t, path)).ReadString('\n'); got != "0 Too Many Connections\n" {
			t.Fatalf("one more got %q", got)
		}
		for _, c := range hangs {
			h.newcomers.mu.Lock()
			for _, one := range h.newcomers.all {
				one.since = one.since.Add(-newcomerPatience)
			}
			h.newcomers.mu.Unlock()
			one := dialUnix(t, path)
			says(t, one, "ping", "1 pong")
			ends(t, c)
			await(t, "that it has gone", func() bool {
				h.newcomers.mu.Lock()
				defer h.newcomers.mu.Unlock()
				return h.newcomers.going == 0
			})
		}
		if n := h.Stats().Rejected["handshake"]; n != 2 {
			t.Errorf("%d were counted", n)
		}
	})
}
