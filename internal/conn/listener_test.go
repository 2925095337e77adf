package conn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A fakeListener accepts what a function says.
type fakeListener struct {
	accept func() (net.Conn, error)
	closes int
}

func (l *fakeListener) Accept() (net.Conn, error) { return l.accept() }
func (l *fakeListener) Close() error              { l.closes++; return nil }
func (l *fakeListener) Addr() net.Addr            { return &net.TCPAddr{} }

// scripted accepts connections for nil and fails with the errors, and in the end
// with io.EOF.
func scripted(outcomes ...error) *fakeListener {
	return &fakeListener{accept: func() (net.Conn, error) {
		if len(outcomes) == 0 {
			return nil, io.EOF
		}
		err := outcomes[0]
		outcomes = outcomes[1:]
		if err != nil {
			return nil, err
		}
		c, _ := Pipe()
		return c, nil
	}}
}

func acceptError(errno syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: "tcp", Addr: &net.TCPAddr{}, Err: os.NewSyscallError("accept4", errno)}
}

// told keeps when lines were logged, and their failures.
type told struct {
	slog.Handler
	at       []time.Time
	failures []int64
}

func (h *told) Handle(_ context.Context, r slog.Record) error {
	h.at = append(h.at, time.Now())
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "failures" {
			h.failures = append(h.failures, a.Value.Int64())
		}
		return true
	})
	return nil
}

func newTold() *told { return &told{Handler: slog.NewTextHandler(io.Discard, nil)} }

// TestListenerGoesOn: with what passes.
func TestListenerGoesOn(t *testing.T) {
	for _, errno := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOSPC, syscall.ECONNABORTED,
		syscall.ECONNRESET, syscall.EINTR, syscall.EAGAIN, syscall.EPROTO, syscall.EPERM, syscall.ENETDOWN,
		syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.EOPNOTSUPP, syscall.ENETUNREACH,
		syscall.ETIMEDOUT,
	} {
		for _, err := range []error{acceptError(errno), errno, fmt.Errorf("wrapped: %w", errno)} {
			synctest.Test(t, func(t *testing.T) {
				l := NewListener(scripted(err, err, nil), slog.New(slog.DiscardHandler))
				if c, got := l.Accept(); got != nil {
					t.Errorf("%v: %v", err, got)
				} else {
					c.Close()
				}
			})
		}
	}
}

// TestListenerEnds: with what does not pass, at once and whoever asks.
func TestListenerEnds(t *testing.T) {
	for _, err := range []error{
		io.EOF,
		errors.New("mine"),
		acceptError(syscall.EBADF), acceptError(syscall.EINVAL), acceptError(syscall.ENOTSOCK), acceptError(syscall.EFAULT),
		&net.OpError{Op: "accept", Net: "tcp", Err: os.ErrDeadlineExceeded},
		&net.DNSError{Err: "it says of itself that it passes", IsTemporary: true, IsTimeout: true},
		net.ErrClosed,
	} {
		synctest.Test(t, func(t *testing.T) {
			log := newTold()
			begin := time.Now()
			l := NewListener(scripted(err, nil), slog.New(log))
			if _, got := l.Accept(); !errors.Is(got, err) || got.Error() != err.Error() {
				t.Errorf("%v: %v", err, got)
			} else if _, ok := got.(net.Error); ok {
				t.Errorf("%v: net/http would ask whether it is temporary", err)
			}
			if waited := time.Since(begin); waited > 0 || len(log.at) > 0 {
				t.Errorf("%v: after %v, with %d lines in the log", err, waited, len(log.at))
			}
		})
	}
}

// TestHubServeEnds as its listener does.
func TestHubServeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewServer(testConfig())
		begin := time.Now()
		err := h.Serve(NewListener(scripted(acceptError(syscall.EMFILE), acceptError(syscall.ENFILE), io.EOF), slog.New(slog.DiscardHandler)))
		if !errors.Is(err, io.EOF) || time.Since(begin) != 15*time.Millisecond {
			t.Errorf("%v, after %v", err, time.Since(begin))
		}
	})
}

// TestListenerPauses: for twice as long each time, up to a second, and anew
// after a connection.
func TestListenerPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		begin := time.Now()
		l := NewListener(&fakeListener{accept: func() (net.Conn, error) {
			at = append(at, time.Since(begin))
			switch len(at) {
			case 12:
				c, _ := Pipe()
				return c, nil
			case 15:
				return nil, io.EOF
			}
			return nil, syscall.EMFILE
		}}, slog.New(slog.DiscardHandler))
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			c.Close()
		}
		var pauses []int64
		for i := range at[1:] {
			pauses = append(pauses, (at[i+1] - at[i]).Milliseconds())
		}
		if want := []int64{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000, 0, 5, 10}; !slices.Equal(pauses, want) {
			t.Errorf("pauses of %v ms, want %v", pauses, want)
		}
	})
}

// TestListenerTellsRarely: at once, then at most once a second, and in an outage
// that lasts once a minute; also when every other connection succeeds, as where
// there is a descriptor whenever a client goes. After the outage it begins anew.
func TestListenerTellsRarely(t *testing.T) {
	const outage, calm = 10 * time.Minute, time.Minute
	for every := range 4 { // how many failures before each connection; 0: no connections
		synctest.Test(t, func(t *testing.T) {
			log := newTold()
			begin, calls, failures := time.Now(), 0, int64(0)
			again := false
			l := NewListener(&fakeListener{accept: func() (net.Conn, error) {
				calls++
				switch since := time.Since(begin); {
				case since > outage && !again:
					time.Sleep(calm)
					again = true
				case since > outage:
					return nil, io.EOF
				case every > 0 && calls%(every+1) == 0:
					c, _ := Pipe()
					return c, nil
				}
				failures++
				return nil, syscall.EMFILE
			}}, slog.New(log))
			for {
				c, err := l.Accept()
				if err != nil {
					break
				}
				c.Close()
			}
			if len(log.at) < 3 {
				t.Fatalf("%d failures a connection: %d lines", every, len(log.at))
			}
			for i := range log.at[1:] {
				if apart := log.at[i+1].Sub(log.at[i]); apart < time.Second {
					t.Errorf("%d failures a connection: lines %v apart", every, apart)
				}
			}
			if at := log.at[1].Sub(begin); log.at[0] != begin && every == 0 || at > 3*time.Second {
				t.Errorf("%d failures a connection: the second line comes after %v", every, at)
			}
			var counted int64
			for _, n := range log.failures {
				counted += n
			}
			// 0, 1, 3, 7, 15, 31, 63 seconds, and each minute; then one.
			if lines := len(log.at); lines < 14 || lines > 18 || counted != failures {
				t.Errorf("%d failures a connection: %d lines in ten minutes, %d of %d failures in them", every, lines, counted, failures)
			}
			if last := log.at[len(log.at)-1]; last.Sub(begin) < outage+calm {
				t.Errorf("%d failures a connection: the last line comes after %v", every, last.Sub(begin))
			}
		})
	}
}

// TestListenerIsClosed: once, and that ends a pause.
func TestListenerIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &fakeListener{accept: func() (net.Conn, error) { return nil, syscall.EMFILE }}
		l := NewListener(inner, slog.New(slog.DiscardHandler))
		ended := make(chan error, 1)
		go func() {
			_, err := l.Accept()
			ended <- err
		}()
		time.Sleep(10*time.Second + time.Millisecond)
		closed := time.Now()
		for range 3 {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := <-ended; !errors.Is(err, net.ErrClosed) || time.Since(closed) > 0 {
			t.Errorf("%v, after %v", err, time.Since(closed))
		}
		if inner.closes != 1 {
			t.Errorf("closed %d times", inner.closes)
		}
	})
}

// TestPassingHere: what the system calls by names of its own.
func TestPassingHere(t *testing.T) {
	for _, errno := range passingHere {
		if !passes(acceptError(errno)) || strings.TrimSpace(errno.Error()) == "" {
			t.Errorf("%d", errno)
		}
	}
}
