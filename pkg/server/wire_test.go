package server_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// A wire is a connection as the server sees it: each Read returns the next of
// the pieces, then the end, and what is written is kept, write by write. So
// what arrives in one read and what leaves in one write is up to the test and
// not to the kernel.
type wire struct {
	next   func() []byte // the next piece; nil at the end
	piece  []byte
	mu     sync.Mutex
	writes []string
	closed chan struct{}
	once   sync.Once
}

// pieces gives out strings one after another.
func pieces(ps ...string) func() []byte {
	return func() []byte {
		for len(ps) > 0 {
			p := ps[0]
			ps = ps[1:]
			if p != "" {
				return []byte(p)
			}
		}
		return nil
	}
}

func (w *wire) Read(p []byte) (int, error) {
	select {
	case <-w.closed:
		return 0, net.ErrClosed
	default:
	}
	if len(w.piece) == 0 {
		if w.piece = w.next(); w.piece == nil {
			return 0, io.EOF
		}
	}
	n := copy(p, w.piece)
	w.piece = w.piece[n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = append(w.writes, string(p))
	return len(p), nil
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

func (w *wire) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9999}
}

// wireAddr is what stands for a wire's client in replies.
const wireAddr = "127.0.0.1:40000"

func (w *wire) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}
}

func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// A wireListener is a listener that accepts the wires it is given.
type wireListener struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *wireListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *wireListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *wireListener) Addr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9999}
}

// A wireServer is a server whose connections are wires.
type wireServer struct {
	*server.Server
	l *wireListener
}

func startWired(tb testing.TB, opts server.Options) *wireServer {
	tb.Helper()
	s := &wireServer{newServer(tb, opts), &wireListener{accept: make(chan net.Conn), closed: make(chan struct{})}}
	done := make(chan error)
	go func() { done <- s.Serve(s.l) }()
	tb.Cleanup(func() {
		s.Shutdown(canceled())
		if err := <-done; err != server.ErrServerClosed {
			tb.Errorf("Serve returned %v", err)
		}
	})
	return s
}

// run lets a client send pieces and returns what the server wrote, write by
// write, once it has closed the connection.
func (s *wireServer) run(tb testing.TB, next func() []byte) []string {
	tb.Helper()
	w := &wire{next: next, closed: make(chan struct{})}
	s.l.accept <- w
	select {
	case <-w.closed:
	case <-time.After(giveUp):
		tb.Fatal("the server does not close the connection")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writes
}
