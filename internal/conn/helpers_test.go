package conn

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/session"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig() Config {
	return Config{
		Session:        session.Config{Shards: 4, MaxLine: 4096, MaxOutput: 64 << 10, MaxSessions: 100},
		MaxMessage:     64 << 10,
		MaxConnections: 1000,
		MaxHandshakes:  MaxHandshakes,
		Logger:         slog.New(slog.DiscardHandler),
	}
}

// logLines is a log whose lines tests wait for.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

// with returns the lines with a text.
func (l *logLines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// await waits until there are n lines with a text.
func (l *logLines) await(t *testing.T, text string, n int) []string {
	t.Helper()
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(time.Millisecond) {
		if found := l.with(text); len(found) >= n {
			return found
		}
	}
	t.Fatalf("no %d lines with %q in %q", n, text, l.with(""))
	return nil
}

// logTo has a server log everything, as JSON.
func logTo(cfg *Config) *logLines {
	lines := new(logLines)
	cfg.Logger = slog.New(slog.NewJSONHandler(lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return lines
}

// serveUnix serves a server at a unix socket until end is called: on event loops
// where there are such, or with a goroutine for each connection.
func serveUnix(t *testing.T, h *Server, loops bool) (path string, end func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	inner, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var l net.Listener = NewOwnListener(inner, h.cfg.Logger)
	if !loops {
		l = plain{inner}
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	return path, func() {
		l.Close()
		<-served
		drainNow(h)
	}
}

// plain is a listener whose connections get a goroutine each.
type plain struct{ net.Listener }

func (l plain) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wrapped{c}, nil
}

// wrapped is no plain socket any more, as with TLS.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

func drainNow(h *Server) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h.Drain(ctx)
}

// dialUnix connects to a unix socket, for a minute at most.
func dialUnix(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(60 * time.Second))
	return c
}

// takeLocks has a client get n locks, 000000 and so on.
func takeLocks(c net.Conn, n int) {
	in := make([]byte, 0, 20*n)
	for i := range n {
		in = fmt.Appendf(in, "g %06d\n", i)
	}
	go c.Write(in)
	for lines, got := bufio.NewScanner(c), 0; got < n && lines.Scan(); got++ {
	}
}
