package conn

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

type halfCloser interface{ CloseWrite() error }

func TestPipeIsBuffered(t *testing.T) {
	a, b := Pipe()
	for _, text := range []string{"one ", "two ", "three"} {
		if n, err := a.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	buf := make([]byte, 100)
	if n, err := b.Read(buf); string(buf[:n]) != "one two three" || err != nil {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	// The other direction is the other half.
	b.Write([]byte("back"))
	if n, err := a.Read(buf[:2]); string(buf[:n]) != "ba" || err != nil {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if n, err := a.Read(buf); string(buf[:n]) != "ck" || err != nil {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if a.RemoteAddr().Network() != "memory" || a.LocalAddr().String() != "memory" {
		t.Errorf("addresses: %v, %v", a.RemoteAddr(), a.LocalAddr())
	}
	// A full buffer takes no more: as much as fits, then the writer waits.
	a.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	n, err := a.Write(make([]byte, 2*pipeBytes))
	if n != pipeBytes || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wrote %d, %v", n, err)
	}
}

func TestPipeHalfClose(t *testing.T) {
	a, b := Pipe()
	a.Write([]byte("last words"))
	if err := a.(halfCloser).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after half close: %v", err)
	}
	got, err := io.ReadAll(b)
	if string(got) != "last words" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	// The other direction goes on.
	if _, err := b.Write([]byte("reply")); err != nil {
		t.Error(err)
	}
	b.Close()
	if got, err := io.ReadAll(a); string(got) != "reply" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	a.Close()
}

func TestPipeClose(t *testing.T) {
	a, b := Pipe()
	a.Write([]byte("unread"))
	b.Write([]byte("lost"))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if _, err := a.Read(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if _, err := a.Write(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	if _, err := b.Write(buf); err == nil {
		t.Error("a write to an end that is closed succeeds")
	}
	// What was written before can still be read.
	if n, err := b.Read(buf); string(buf[:n]) != "unread" || err != nil {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if _, err := b.Read(buf); err != io.EOF {
		t.Errorf("read at the end: %v", err)
	}
	if err := errors.Join(a.Close(), b.Close(), b.Close()); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

// blocked begins an operation that has to wait and returns where its error
// comes out.
func blocked(op func() error) <-chan error {
	began, done := make(chan struct{}), make(chan error, 1)
	go func() {
		close(began)
		done <- op()
	}()
	<-began
	// So that it most often waits already; it is right either way.
	time.Sleep(2 * time.Millisecond)
	return done
}

func TestPipeWakesWhoWaits(t *testing.T) {
	buf := make([]byte, 10)
	big := make([]byte, 3*pipeBytes)
	passed := time.Now().Add(-time.Second)
	read := func(c net.Conn) func() error { return func() error { _, err := c.Read(buf); return err } }
	write := func(c net.Conn) func() error { return func() error { _, err := c.Write(big); return err } }
	for _, c := range []struct {
		what string
		op   func(a, b net.Conn) func() error
		wake func(a, b net.Conn)
		want error // nil: any
	}{
		{"reader, peer closes", func(a, b net.Conn) func() error { return read(a) }, func(a, b net.Conn) { b.Close() }, io.EOF},
		{"reader, peer half closes", func(a, b net.Conn) func() error { return read(a) }, func(a, b net.Conn) { b.(halfCloser).CloseWrite() }, io.EOF},
		{"reader, closes itself", func(a, b net.Conn) func() error { return read(a) }, func(a, b net.Conn) { a.Close() }, net.ErrClosed},
		{"reader, deadline", func(a, b net.Conn) func() error { return read(a) }, func(a, b net.Conn) { a.SetReadDeadline(time.Now().Add(5 * time.Millisecond)) }, os.ErrDeadlineExceeded},
		{"reader, deadline in the past", func(a, b net.Conn) func() error { return read(a) }, func(a, b net.Conn) { a.SetDeadline(passed) }, os.ErrDeadlineExceeded},
		{"writer, peer closes", func(a, b net.Conn) func() error { return write(a) }, func(a, b net.Conn) { b.Close() }, io.ErrClosedPipe},
		{"writer, closes itself", func(a, b net.Conn) func() error { return write(a) }, func(a, b net.Conn) { a.Close() }, net.ErrClosed},
		{"writer, half closes itself", func(a, b net.Conn) func() error { return write(a) }, func(a, b net.Conn) { a.(halfCloser).CloseWrite() }, net.ErrClosed},
		{"writer, deadline", func(a, b net.Conn) func() error { return write(a) }, func(a, b net.Conn) { a.SetWriteDeadline(time.Now().Add(5 * time.Millisecond)) }, os.ErrDeadlineExceeded},
		{"writer, deadline in the past", func(a, b net.Conn) func() error { return write(a) }, func(a, b net.Conn) { a.SetDeadline(passed) }, os.ErrDeadlineExceeded},
	} {
		t.Run(c.what, func(t *testing.T) {
			a, b := Pipe()
			defer a.Close()
			defer b.Close()
			done := blocked(c.op(a, b))
			c.wake(a, b)
			if err := <-done; !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// All four of those who can wait at the same time, and both ends closed.
func TestPipeCloseBothWhileBlocked(t *testing.T) {
	a, b := Pipe()
	fill := make([]byte, pipeBytes)
	a.Write(fill)
	b.Write(fill)
	var all []<-chan error
	for _, c := range []net.Conn{a, b} {
		all = append(all, blocked(func() error { _, err := c.Write(fill); return err }))
	}
	c, d := Pipe()
	for _, c := range []net.Conn{c, d} {
		all = append(all, blocked(func() error { _, err := c.Read(make([]byte, 1)); return err }))
	}
	var wg sync.WaitGroup
	for _, c := range []net.Conn{a, b, c, d} {
		wg.Go(func() { c.Close() })
	}
	wg.Wait()
	for i, done := range all {
		if err := <-done; err == nil {
			t.Errorf("waiter %d: no error", i)
		}
	}
}

func TestPipeDeadlines(t *testing.T) {
	a, b := Pipe()
	buf := make([]byte, 10)
	a.SetReadDeadline(time.Now().Add(-time.Second))
	for range 2 {
		if _, err := a.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
	}
	var timeout net.Error
	if _, err := a.Read(buf); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v is no timeout", err)
	}
	// Writing is not concerned, and a new deadline lifts the old one.
	if _, err := a.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	a.SetReadDeadline(time.Now().Add(time.Hour))
	b.Write([]byte("y"))
	if n, err := a.Read(buf); n != 1 || err != nil {
		t.Errorf("read: %d, %v", n, err)
	}
	a.SetReadDeadline(time.Now().Add(-time.Second))
	a.SetReadDeadline(time.Time{})
	done := blocked(func() error { _, err := a.Read(buf); return err })
	b.Write([]byte("z"))
	if err := <-done; err != nil {
		t.Error(err)
	}
	// A deadline that is moved on while somebody waits holds nobody up.
	a.SetReadDeadline(time.Now().Add(time.Hour))
	done = blocked(func() error { _, err := a.Read(buf); return err })
	a.SetReadDeadline(time.Now().Add(time.Millisecond))
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	a.Close()
	b.Close()
	for _, s := range []*pipeHalf{a.(*pipeEnd).in, a.(*pipeEnd).out} {
		if s.readBy.timer != nil || s.writeBy.timer != nil {
			t.Error("a timer is left when both ends are closed")
		}
	}
}

// A lot of bytes, both ways at the same time, in pieces of all sizes.
func TestPipeCarriesAll(t *testing.T) {
	a, b := Pipe()
	const total = 3 << 20
	var wg sync.WaitGroup
	sum := func(c net.Conn, seed uint64) (wrote func() [32]byte, read func() [32]byte) {
		wrote = func() [32]byte {
			rnd := rand.New(rand.NewPCG(seed, 1))
			data := make([]byte, total)
			for i := range data {
				data[i] = byte(rnd.Uint32())
			}
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 1+rnd.IntN(3*pipeBytes))
				if m, err := c.Write(rest[:n]); m != n || err != nil {
					t.Errorf("write: %d of %d, %v", m, n, err)
					return [32]byte{}
				}
				rest = rest[n:]
			}
			c.(halfCloser).CloseWrite()
			return sha256.Sum256(data)
		}
		read = func() [32]byte {
			rnd := rand.New(rand.NewPCG(seed, 2))
			var all bytes.Buffer
			buf := make([]byte, 100_000)
			for {
				n, err := c.Read(buf[:1+rnd.IntN(len(buf))])
				all.Write(buf[:n])
				if err != nil {
					if err != io.EOF {
						t.Error(err)
					}
					return sha256.Sum256(all.Bytes())
				}
			}
		}
		return
	}
	var wrote, got [2][32]byte
	for i, c := range []net.Conn{a, b} {
		w, r := sum(c, uint64(i))
		wg.Go(func() { wrote[i] = w() })
		wg.Go(func() { got[1-i] = r() })
	}
	wg.Wait()
	if wrote != got {
		t.Error("what comes out is not what went in")
	}
}
