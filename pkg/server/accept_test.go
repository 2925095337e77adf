package server_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/netlab"
	"github.com/nylen/lockd/pkg/server"
)

// A failingListener fails some times before it accepts a connection.
type failingListener struct {
	net.Listener
	errs   []error
	closes atomic.Int32
}

func (l *failingListener) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

func (l *failingListener) Close() error {
	l.closes.Add(1)
	return l.Listener.Close()
}

func failing(t *testing.T, errs ...error) *failingListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return &failingListener{Listener: l, errs: errs}
}

// "Any other error ends it", whichever protocol it serves; the listener is
// closed then, once, and the server is not.
func TestServeEndsWithItsListener(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.dial(t, "tcp")
	c.ask("g foo", "1 Lock Get Success: foo")
	mine := errors.New("mine")
	var all []*failingListener
	for _, want := range []error{io.EOF, mine, syscall.EBADF, os.ErrDeadlineExceeded} {
		for _, serve := range []func(net.Listener) error{s.Serve, s.ServeWebSocket} {
			l := failing(t, want)
			if want == os.ErrDeadlineExceeded { // a real one
				l.errs = nil
				must(t, l.Listener.(*net.TCPListener).SetDeadline(time.Unix(1, 0)))
			}
			if err := serve(l); !errors.Is(err, want) || errors.Is(err, server.ErrServerClosed) {
				t.Errorf("%v: %v", want, err)
			}
			if l.closes.Load() == 0 {
				t.Errorf("%v: it is still open", want)
			}
			all = append(all, l)
		}
	}
	c.ask("i foo", "1 Lock Is Locked: foo")
	s.Shutdown(canceled())
	for _, l := range all {
		if n := l.closes.Load(); n != 1 {
			t.Errorf("closed %d times", n)
		}
	}
}

// A caller's listener that wraps nothing ends it too: by a deadline that is set
// while it is served, and when the caller closes it.
func TestServeEndsWithAPlainListener(t *testing.T) {
	t.Parallel()
	s := newServer(t, server.Options{})
	for _, network := range []string{"tcp", "unix"} {
		for want, end := range map[error]func(net.Listener) error{
			os.ErrDeadlineExceeded: func(l net.Listener) error {
				return l.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now())
			},
			net.ErrClosed: net.Listener.Close,
		} {
			addr := netlab.OwnHost() + ":0"
			if network == "unix" {
				addr = socketPath(t)
			}
			l, err := net.Listen(network, addr)
			must(t, err)
			done := make(chan error, 1)
			go func() { done <- s.Serve(l) }()
			conn, err := net.Dial(network, l.Addr().String())
			c := newClient(t, conn, err)
			c.ask("g foo", "1 Lock Get Success: foo")
			must(t, end(l))
			if err := <-done; !errors.Is(err, want) {
				t.Errorf("%s: %v, not %v", network, err, want)
			}
			c.ask("r foo", "1 Lock Release Success: foo")
			if c, err := net.Dial(network, l.Addr().String()); err == nil {
				c.Close()
				t.Errorf("%s: %v: it is still open", network, want)
			}
		}
	}
}

// "When accepting fails for a reason that passes, that is tried again", over
// HTTP as well.
func TestServeGoesOn(t *testing.T) {
	t.Parallel()
	s := newServer(t, server.Options{})
	errs := []error{syscall.EMFILE, os.NewSyscallError("accept4", syscall.ENOBUFS), &net.OpError{Op: "accept", Err: syscall.ENOMEM}}
	lines, messages := failing(t, errs...), failing(t, errs...)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(lines); err != server.ErrServerClosed {
			t.Error(err)
		}
	})
	serving.Go(func() {
		if err := s.ServeWebSocket(messages); err != server.ErrServerClosed {
			t.Error(err)
		}
	})
	conn, err := net.Dial("tcp", lines.Addr().String())
	newClient(t, conn, err).ask("i foo", "0 Lock Not Locked: foo")
	dialWS(t, "ws://"+messages.Addr().String()).ask("i foo", "0 Lock Not Locked: foo")
	s.Shutdown(canceled())
	serving.Wait()
	for _, l := range []*failingListener{lines, messages} {
		if n := l.closes.Load(); n != 1 {
			t.Errorf("closed %d times", n)
		}
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// "A listener that fails for good later is closed; the log says so, and
// /readyz is 503 from then on. The others are served on, and nobody loses a
// lock."
func TestListenerOfListenFails(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	path := socketPath(t)
	s := listen(t, server.Options{
		TCP: []string{"127.0.0.1:0"}, Unix: []string{path}, Admin: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	var tcp, admin string
	for _, a := range s.Addrs() {
		switch a.Transport {
		case "tcp":
			tcp = a.String()
		case "admin":
			admin = a.String()
		}
	}
	conn, err := net.Dial("unix", path)
	holder := newClient(t, conn, err)
	holder.ask("g foo", "1 Lock Get Success: foo")
	ready := func() (int, string) {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get("http://" + admin + "/readyz")
		must(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, string(body)
	}
	if status, body := ready(); status != 200 {
		t.Errorf("before: %d %q", status, body)
	}
	must(t, s.Listener("unix").Close())
	eventually(t, "503", func() bool { status, _ := ready(); return status == 503 })
	if _, body := ready(); !strings.Contains(body, "a listener has failed") {
		t.Errorf("/readyz says %q", body)
	}
	if got := log.String(); strings.Count(got, "stopped listening") != 1 || !strings.Contains(got, "transport=unix addr="+path) {
		t.Errorf("the log says %s", got)
	}
	for _, file := range []string{path, path + ".lock"} {
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", file, err)
		}
	}
	conn, err = net.Dial("tcp", tcp)
	newClient(t, conn, err).ask("i foo", "1 Lock Is Locked: foo")
	holder.ask("r foo", "1 Lock Release Success: foo")
}
