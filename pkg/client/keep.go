package client

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// A KeepEvent is news of a connection whose locks the server keeps, see
// LockerOptions.OnKeep.
type KeepEvent struct {
	Kind KeepEventKind

	// Err is why: of KeepBlip, why the connection was lost; of KeepGone, an ErrLost that
	// says why it could not come back; of KeepLimited, what Missing tells. Else it is nil.
	Err error

	// Span is how long the connection may be away, of KeepBegun and KeepLimited: what
	// the server has granted; of KeepBlip, what is left of it; of KeepResumed and
	// KeepRecovered, how long it was away. Else it is 0.
	Span time.Duration

	// Lost is how many locks have not come back, of KeepResumed and KeepRecovered, each
	// of which was told by Lock.Lost, too.
	Lost int
}

// A KeepEventKind is what a KeepEvent is about.
type KeepEventKind int

const (
	// KeepBegun: there is a connection, and the server keeps its locks as was asked.
	KeepBegun KeepEventKind = iota + 1

	// KeepLimited: there is a connection, and the server keeps its locks for a shorter
	// time, or not over its own restart, or not at all.
	KeepLimited

	// KeepBlip: the connection is lost, the locks are not. It is tried to come back.
	KeepBlip

	// KeepResumed: it is back.
	KeepResumed

	// KeepRecovered: it is back, and the server had been restarted meanwhile.
	KeepRecovered

	// KeepDraining: the server has said that it is about to end.
	KeepDraining

	// KeepGone: it could not come back, or not in time. All locks of the connection are
	// lost. A next connection begins with none.
	KeepGone
)

func (k KeepEventKind) String() string {
	switch k {
	case KeepBegun:
		return "begun"
	case KeepLimited:
		return "limited"
	case KeepBlip:
		return "blip"
	case KeepResumed:
		return "resumed"
	case KeepRecovered:
		return "recovered"
	case KeepDraining:
		return "draining"
	case KeepGone:
		return "gone"
	}
	return fmt.Sprintf("KeepEventKind(%d)", int(k))
}

// A keepNews passes on events in their order. Nobody waits for who is told: what is
// told must not delay what it is about.
type keepNews struct {
	log   *slog.Logger    // may be nil
	tell  func(KeepEvent) // may be nil
	ended *sync.WaitGroup // of the Locker's goroutines

	mu      sync.Mutex // guards what follows
	pending []keepEvent
	telling bool
}

// A keepEvent is one of a connection to a target.
type keepEvent struct {
	KeepEvent
	target string
}

func (n *keepNews) add(to target, e KeepEvent) {
	if n.log == nil && n.tell == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending = append(n.pending, keepEvent{e, to.String()})
	if !n.telling {
		n.telling = true
		n.ended.Go(n.run)
	}
}

func (n *keepNews) run() {
	for {
		n.mu.Lock()
		if len(n.pending) == 0 {
			n.telling = false
			n.mu.Unlock()
			return
		}
		e := n.pending[0]
		n.pending = n.pending[1:]
		n.mu.Unlock()
		n.write(e)
		if n.tell != nil {
			n.tell(e.KeepEvent)
		}
	}
}

// write writes the lines of the log that nobody else does: of a loss the Locker tells.
func (n *keepNews) write(e keepEvent) {
	if n.log == nil {
		return
	}
	switch e.Kind {
	case KeepBegun:
		n.log.Info("lockd: locks are kept without a connection", "target", e.target, "for", e.Span)
	case KeepLimited:
		n.log.Warn("lockd: locks are not kept as was asked", "target", e.target, "for", e.Span, "err", e.Err)
	case KeepBlip:
		n.log.Warn("lockd: connection lost, its locks are kept", "target", e.target, "err", e.Err, "left", e.Span)
	case KeepResumed:
		n.log.Info("lockd: connection resumed", "target", e.target, "after", e.Span, "lost", e.Lost)
	case KeepRecovered:
		n.log.Info("lockd: connection resumed, the server was restarted", "target", e.target, "after", e.Span, "lost", e.Lost)
	case KeepDraining:
		n.log.Info("lockd: server is about to end", "target", e.target)
	}
}
