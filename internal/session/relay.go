package session

import (
	"bytes"
	"sync"

	"github.com/nylen/lockd/internal/wire"
)

// relayReply is the reply to a request that a proxy passes on over a connection of its
// own: a list, or one that takes its time. What comes is given out as the client reads
// it, and no more is taken from upstream meanwhile.
type relayReply struct {
	session *Session
	command *command

	mu      sync.Mutex // guards what follows
	cancel  func()     // nil: it has not begun
	room    sync.Cond
	buffer  []byte
	within  bool // a line has begun
	skips   bool // it is not the client's
	last    bool // it is the last one
	done    bool
	closed  bool
	hurried bool
}

// relayBytes is about how much is kept of it.
const relayBytes = 64 << 10

// relay passes a request on.
func (s *Session) relay(c *command, name, out []byte) []byte {
	if a := s.stream.Access(); c.flags&leavesOut != 0 && len(name) == 0 && a != nil && a.Prefix != "" {
		return s.notAllowed(c, out)
	}
	return s.list(s.newRelay(c, name), out)
}

func (s *Session) newRelay(c *command, name []byte) *relayReply {
	l := &relayReply{session: s, command: c}
	l.room.L = &l.mu
	request := appendRequest(nil, c, s.args(), name)
	s.hub.upstream.after(func() { l.begin(request) })
	return l
}

// begin makes the request, now that it does not overtake what clients have asked before.
// A client of protocol 1 does not wait for a server that is away, as it takes a late line
// for the next reply.
func (l *relayReply) begin(request []byte) {
	u := l.session.hub.upstream
	if !l.session.stream.multiplexed && u.live.Load() == 0 {
		l.Fail()
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.cancel = u.cfg.Relay("", request, l)
	}
}

// Take takes a part of what upstream has sent, without the number of its session: whole
// lines, or parts of one. It waits until there is room, and tells whether there is more
// to come, and anybody who wants it.
func (l *relayReply) Take(part []byte) (more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.buffer) >= relayBytes && !l.closed {
		l.room.Wait()
	}
	if !l.within {
		part = l.beginLocked(part)
	}
	ends := len(part) > 0 && part[len(part)-1] == '\n'
	l.within = !ends
	if !l.skips {
		l.buffer = append(l.buffer, part...)
	}
	if ends && l.last {
		l.done = true
	}
	l.session.stream.wake()
	return !l.done && !l.closed
}

// beginLocked begins a line.
func (l *relayReply) beginLocked(part []byte) []byte {
	s := l.session
	item := bytes.HasPrefix(part, []byte(wire.Item))
	l.last, l.skips = !item, false
	if s.stream.multiplexed {
		l.buffer = appendNumber(l.buffer, uint64(s.number))
		return part
	}
	switch v := l.command.verb; {
	case item:
		return part[len(wire.Item):]
	case string(part) == wire.End:
		l.skips = v != wire.Look && v != wire.LookAll
	case v == wire.DumpMap:
		return bytes.TrimPrefix(part, []byte("1 "))
	}
	return part
}

// Fail says that no more comes. Behind a part of a reply the connection ends: nobody could
// tell that it is not all.
func (l *relayReply) Fail() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return
	}
	l.done = true
	if s := l.session; len(l.buffer) == 0 && !l.within {
		l.buffer = s.reply(nil, 0, wire.Unavailable, []byte(l.command.verb))
	} else if c := s.stream.carriedBy(); c != nil {
		s.hub.network.Detach(c)
	}
	l.session.stream.wake()
}

func (l *relayReply) queued() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.hurried && !l.done && len(l.buffer) < pieceBytes // a short reply leaves in one write
}

func (l *relayReply) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hurried = true
}

func (l *relayReply) next(out []byte) (_ []byte, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.buffer) == 0 && !l.done {
		l.session.stream.pause(censusLook) // it was hurried
		return out, true
	}
	out = append(out, l.buffer...)
	l.buffer = l.buffer[:0]
	l.room.Signal()
	return out, !l.done
}

func (*relayReply) rest() {}

func (l *relayReply) keeps() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return cap(l.buffer)
}

func (l *relayReply) close() {
	l.mu.Lock()
	l.closed = true
	l.room.Signal()
	cancel := l.cancel
	l.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// A Relay takes a reply that comes over a connection of its own.
type Relay interface {
	Take(part []byte) (more bool)
	Fail()
}
