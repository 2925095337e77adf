package session

import (
	"slices"
	"strconv"
	"strings"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// A longReply is a reply that may be larger than a connection's buffers, or
// takes long to make. It is given out in pieces, each of which ends where a line
// or an entry of it ends.
type longReply interface {
	// next appends a piece and tells whether there is more. A piece may be
	// empty. It takes no longer than about a millisecond.
	next(out []byte) (_ []byte, more bool)
	// rest gives back the memory that it can do without while the client does
	// not read, and its turn or its place in a queue.
	rest()
	// keeps is how many bytes it keeps meanwhile.
	keeps() int
	close()
}

// queued is a long reply that may have to wait for its turn. The stream's carrier is
// woken then.
type queued interface {
	queued() bool
	hurry() // it waits no more
}

// pieceBytes is the size of a piece, but for its last line.
const pieceBytes = 32 << 10

// dumpReply is the reply to `d` and `sd`: a line `NAME: HOLDER` a hold.
type dumpReply struct {
	*holds
	session *Session
}

func (l *dumpReply) next(out []byte) ([]byte, bool) {
	limit := len(out) + l.hub.pieceBytes()
	more := l.holds.next(func(name []byte, _ shard.Item, holder *peer) bool {
		out = appendHold(l.session.item(out), name, holder)
		return len(out) < limit
	})
	if !more {
		out = l.session.end(out)
	}
	return out, more
}

// appendHold appends a line of `d` or `sd`.
func appendHold(out, name []byte, holder *peer) []byte {
	return append(holder.appendName(wire.AppendKey(out, name)), '\n')
}

// mapReply is the reply to `dump`, after the first word: one line that lists all
// locks of a kind sorted by name, with their holders' addresses.
type mapReply struct {
	*sorted
	some bool // an entry came before
	open bool // it is that of a shared lock
}

func (l *mapReply) next(out []byte) ([]byte, bool) {
	limit := len(out) + l.hub.pieceBytes()
	more := l.sorted.next(func(name []byte, holder *peer, first bool) bool {
		switch {
		case l.open && first:
			out = append(out, ']', ' ')
		case l.some:
			out = append(out, ' ')
		}
		if first {
			out = append(append(out, name...), ':')
			if l.open = l.kind == shard.Shared; l.open {
				out = append(out, '[')
			}
		}
		l.some = true
		out = append(out, holder.addr()...)
		return len(out) < limit
	})
	if !more {
		if l.open {
			out = append(out, ']')
		}
		out = append(out, ']', '\n')
	}
	return out, more
}

// whoReply is the reply to `who`: a line `ADDR: REGISTERED` a registration.
type whoReply struct {
	session *Session
	only    string // if not "", list who is registered under this name
	number  uint64 // of the last registration looked at
}

// whoLooks is how many registrations a piece looks at, at most.
const whoLooks = 512

func (l *whoReply) next(out []byte) ([]byte, bool) {
	var more bool
	limit := len(out) + l.session.hub.pieceBytes()
	l.number, more = l.session.hub.directory.who(l.number, whoLooks, func(addr, name string) bool {
		if l.only == "" || l.only == name {
			out = wire.AppendKey(l.session.item(out), addr)
			out = append(append(out, name...), '\n')
		}
		return len(out) < limit
	})
	if !more {
		out = l.session.end(out)
	}
	return out, more
}

func (l *whoReply) rest()      {}
func (l *whoReply) keeps() int { return 0 }
func (l *whoReply) close()     {}

// countersReply is the reply to `q`. It is one piece, but many requests' worth
// of work.
type countersReply struct{ session *Session }

func (l countersReply) next(out []byte) ([]byte, bool) {
	all := l.session.hub.Counters()
	slices.SortFunc(all, func(a, b Counter) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range all {
		out = wire.AppendKey(l.session.item(out), c.Name)
		out = append(strconv.AppendUint(out, c.Value, 10), '\n')
	}
	return l.session.end(out), false
}

func (countersReply) rest()      {}
func (countersReply) keeps() int { return 0 }
func (countersReply) close()     {}

// quitReply is the reply to `bye`, which comes when all that the session held is
// released: that may be many locks, so it comes like a long one.
type quitReply struct{ session *Session }

func (l quitReply) next(out []byte) ([]byte, bool) {
	s := l.session
	st := s.stream
	if s == &st.main && st.isKept() { // which is the client's end
		if !st.letGoSome() {
			return out, true
		}
		st.closing = true
	} else if !s.letGoSome() {
		return out, true
	}
	if !st.multiplexed {
		st.closing = true
	}
	return append(s.prefix(out), wire.Bye...), false
}

func (quitReply) rest()      {}
func (quitReply) keeps() int { return 0 }
func (quitReply) close()     {}
