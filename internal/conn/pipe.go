package conn

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipeBytes is how much may be under way in one direction of a pipe: like a
// socket, and unlike net.Pipe, it takes what is written without a reader.
const pipeBytes = 64 << 10

// Pipe returns the two ends of a connection within the process. An end may be
// closed for writing alone, as a socket's can, with CloseWrite.
func Pipe() (net.Conn, net.Conn) {
	a, b := newPipeHalf(), newPipeHalf()
	return &pipeEnd{in: a, out: b}, &pipeEnd{in: b, out: a}
}

type pipeEnd struct{ in, out *pipeHalf }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "memory" }
func (pipeAddr) String() string  { return "memory" }

func (e *pipeEnd) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *pipeEnd) Write(p []byte) (int, error) { return e.out.write(p) }
func (e *pipeEnd) LocalAddr() net.Addr         { return pipeAddr{} }
func (e *pipeEnd) RemoteAddr() net.Addr        { return pipeAddr{} }

func (e *pipeEnd) CloseWrite() error {
	e.out.end(false)
	return nil
}

func (e *pipeEnd) Close() error {
	e.out.end(false)
	e.in.end(true)
	return nil
}

func (e *pipeEnd) SetReadDeadline(t time.Time) error {
	e.in.setDeadline(&e.in.readBy, t)
	return nil
}

func (e *pipeEnd) SetWriteDeadline(t time.Time) error {
	e.out.setDeadline(&e.out.writeBy, t)
	return nil
}

func (e *pipeEnd) SetDeadline(t time.Time) error {
	e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

// A pipeHalf is one direction of a pipe.
type pipeHalf struct {
	mu      sync.Mutex // guards the rest
	change  sync.Cond
	bytes   []byte
	ended   bool // nothing more will be written
	unread  bool // nothing more will be read
	readBy  deadline
	writeBy deadline
}

// A deadline wakes who waits on a half when its time has come.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newPipeHalf() *pipeHalf {
	s := &pipeHalf{}
	s.change.L = &s.mu
	return s
}

func (s *pipeHalf) setDeadline(d *deadline, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
	if !at.IsZero() {
		d.timer = time.AfterFunc(time.Until(at), func() {
			s.mu.Lock()
			s.change.Broadcast()
			s.mu.Unlock()
		})
	}
	s.change.Broadcast()
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (s *pipeHalf) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.unread:
			return 0, net.ErrClosed
		case s.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case len(s.bytes) > 0:
			n := copy(p, s.bytes)
			if s.bytes = s.bytes[n:]; len(s.bytes) == 0 {
				s.bytes = nil
			}
			s.change.Broadcast()
			return n, nil
		case s.ended:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		s.change.Wait()
	}
}

// over tells whether nothing more will be written.
func (s *pipeHalf) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

func (s *pipeHalf) write(p []byte) (written int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 {
		switch room := pipeBytes - len(s.bytes); {
		case s.ended:
			return written, net.ErrClosed
		case s.unread:
			return written, io.ErrClosedPipe
		case s.writeBy.passed():
			return written, os.ErrDeadlineExceeded
		case room > 0:
			n := min(room, len(p))
			s.bytes = append(s.bytes, p[:n]...)
			p = p[n:]
			written += n
			s.change.Broadcast()
		default:
			s.change.Wait()
		}
	}
	return written, nil
}

// end closes the half at its reader's side or at its writer's.
func (s *pipeHalf) end(reader bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reader {
		s.unread, s.bytes = true, nil
	} else {
		s.ended = true
	}
	for _, d := range []*deadline{&s.readBy, &s.writeBy} {
		if d.timer != nil && (reader == (d == &s.readBy)) {
			d.timer.Stop()
			d.timer = nil
		}
	}
	s.change.Broadcast()
}
