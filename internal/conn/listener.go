package conn

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Serve serves the line protocol to the connections of a listener until its
// Accept fails, and returns why. An event loop accepts those of a Listener of its
// own, where there are such, else a goroutine does.
func (s *Server) Serve(l net.Listener) error {
	t := TCP
	if l.Addr().Network() == "unix" {
		t = Unix
	}
	if l, ok := l.(*Listener); ok {
		if s.Open(l); l.accepts() != nil {
			return l.accepts().wait()
		}
	}
	s.accepting.Add(1)
	defer s.accepting.Add(-1)
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		s.keep(c)
		s.ServeLines(s.behindProxy(c), t)
	}
}

// A Listener goes on when accepting a connection fails for a reason that
// passes, such as no more descriptors: they come back when connections end.
// So its Accept fails for good, which is what those who serve it stop at. (By
// net/http's rule a lack of memory would be for good, and a deadline would
// pass; and it tells the debug log only.) One goroutine may accept. Closing it
// closes the listener that it was made of, once.
type Listener struct {
	net.Listener
	log      *slog.Logger
	once     sync.Once
	closed   chan struct{}
	closeErr error
	own      bool // nobody else has a handle of it

	mu       sync.Mutex // guards acceptor
	acceptor *acceptor  // what accepts instead; nil: nothing

	failures rarely
}

// NewListener returns a Listener that accepts from another listener.
func NewListener(l net.Listener, log *slog.Logger) *Listener {
	return &Listener{Listener: l, log: log, closed: make(chan struct{})}
}

// NewOwnListener does the same with one that nobody else has a handle of. So an
// event loop may have its socket: of its handle, package net tells those who
// wait in Accept alone that it was closed or has passed a deadline, and wakes
// them for each connection.
//
// If the listener wraps that of package net, a method Socket returns the latter,
// which is closed then before the listener is.
func NewOwnListener(l net.Listener, log *slog.Logger) *Listener {
	own := NewListener(l, log)
	own.own = true
	return own
}

// The pauses before accepting is tried again, which double.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		c, err := l.Listener.Accept()
		if err == nil {
			return c, nil
		}
		if !passes(err) {
			return nil, lasting{err}
		}
		l.tell(err, pause)
		select {
		case <-time.After(pause):
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

func (l *Listener) tell(err error, pause time.Duration) {
	if n := l.failures.now(); n > 0 {
		l.log.Warn("cannot accept a connection", "addr", l.Addr(), "err", err, "failures", n, "retry", pause)
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() {
		l.mu.Lock()
		close(l.closed)
		a := l.acceptor
		l.mu.Unlock()
		l.closeErr = l.Listener.Close()
		if a != nil {
			a.Close()
			if errors.Is(l.closeErr, net.ErrClosed) {
				l.closeErr = nil
			}
		}
	})
	return l.closeErr
}

// give has an acceptor begin, unless there is one, or the listener is closed.
func (l *Listener) give(a *acceptor) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closed:
		return false
	default:
	}
	if l.acceptor != nil || !a.open() {
		return false
	}
	l.acceptor = a
	return true
}

func (l *Listener) accepts() *acceptor {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acceptor
}

// lasting is an error that is for good, whatever it says of itself: net/http
// tries again after a net.Error that says it is temporary.
type lasting struct{ error }

func (l lasting) Unwrap() error { return l.error }

// passing are the errors that pass: no room for one more connection, one that
// ended before it was accepted, an interruption, a firewall's refusal, and
// those that Linux's accept reports of a new connection ("treat them like
// EAGAIN", says accept(2)), or may report. ENOSPC is epoll's limit on watched descriptors.
var passing = append(passingHere,
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENOSPC,
	syscall.ECONNABORTED, syscall.ECONNRESET, syscall.ETIMEDOUT,
	syscall.EINTR, syscall.EAGAIN,
	syscall.EPERM,
	syscall.ENETDOWN, syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.EHOSTUNREACH,
	syscall.EOPNOTSUPP, syscall.ENETUNREACH,
)

func passes(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && slices.Contains(passing, errno)
}
