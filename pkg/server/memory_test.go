package server_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

func dialMemory(t *testing.T, s *server.Server) net.Conn {
	t.Helper()
	c, err := s.Dial()
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func wantTimeout(t *testing.T, what string, err error) {
	t.Helper()
	var timeout net.Error
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%s: %v, which is no timeout", what, err)
	}
}

// A connection in memory has deadlines, as a socket has.
func TestMemoryDeadlines(t *testing.T) {
	t.Parallel()
	c := dialMemory(t, newServer(t, server.Options{}))
	buf := make([]byte, 100)
	// One that has passed, one that passes while it waits.
	for _, d := range []time.Duration{-time.Second, 0, time.Millisecond} {
		must(t, c.SetReadDeadline(time.Now().Add(d)))
		_, err := c.Read(buf)
		wantTimeout(t, "Read", err)
		_, err = c.Read(buf)
		wantTimeout(t, "Read again", err)
	}
	// One that is set while it waits.
	must(t, c.SetReadDeadline(time.Time{}))
	read := make(chan error)
	go func() {
		_, err := c.Read(buf)
		read <- err
	}()
	must(t, c.SetDeadline(time.Now()))
	wantTimeout(t, "Read, the deadline set later", <-read)
	_, err := c.Write([]byte("g bar\n"))
	wantTimeout(t, "Write", err)

	// It goes on when the deadline is taken back, and nothing is lost.
	must(t, c.SetDeadline(time.Time{}))
	newClient(t, c, nil).ask("g foo", "1 Lock Get Success: foo")
}

// Who writes and does not read gets stuck, and its deadline helps.
func TestMemoryWriteDeadline(t *testing.T) {
	t.Parallel()
	c := dialMemory(t, newServer(t, server.Options{}))
	b := []byte(strings.Repeat("i foo\n", 1_000_000))
	n := 0
	for n == 0 {
		must(t, c.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
		var err error
		n, err = c.Write(b)
		wantTimeout(t, "Write", err)
	}
	if n >= len(b) {
		t.Fatal("it took all that was written, though nobody read the replies")
	}
	// What it took is answered; the request that was cut goes on.
	must(t, c.SetDeadline(time.Now().Add(giveUp)))
	go func() {
		c.Write(b[n : (n+5)/6*6])
		c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	must(t, err)
	if want := strings.Repeat("0 Lock Not Locked: foo\n", (n+5)/6); string(got) != want {
		t.Errorf("%d bytes of replies, not %d", len(got), len(want))
	}
}

func TestMemoryClose(t *testing.T) {
	t.Parallel()
	s := newServer(t, server.Options{})
	c := dialMemory(t, s)
	newClient(t, c, nil).ask("g foo", "1 Lock Get Success: foo")
	read := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	must(t, c.Close())
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read that waited: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read: %v", err)
	}
	if _, err := c.Write([]byte("i foo\n")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
	waitConnections(t, s, 0)
	newClient(t, dialMemory(t, s), nil).ask("i foo", "0 Lock Not Locked: foo")
}

// What is written after a half-close is refused; what was written before it
// is answered.
func TestMemoryHalfClose(t *testing.T) {
	t.Parallel()
	c := newClient(t, dialMemory(t, newServer(t, server.Options{})), nil)
	c.send("i foo\n")
	c.closeWrite()
	if _, err := c.Write([]byte("i foo\n")); err == nil {
		t.Error("Write after CloseWrite succeeded")
	}
	if got := c.line(); got != "0 Lock Not Locked: foo\n" {
		t.Errorf("got %q", got)
	}
	c.end()
}

func TestMemoryAddrs(t *testing.T) {
	t.Parallel()
	c := dialMemory(t, newServer(t, server.Options{}))
	for _, a := range []net.Addr{c.LocalAddr(), c.RemoteAddr()} {
		if a == nil || a.Network() == "" || a.String() == "" {
			t.Errorf("an address is %v", a)
		}
	}
}
