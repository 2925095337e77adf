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

	// Target is who it is connected to, as "tcp://10.0.0.1:9999", or was at last.
	Target string

	// From is who it was connected to before, of KeepMoved. Else it is empty.
	From string

	// Err is why: of KeepBlip, why the connection was lost; of KeepGone, an ErrLost that
	// says why it could not come back; of KeepLimited, what Missing tells. Else it is nil.
	Err error

	// Span is how long the connection may be away, of KeepBegun and KeepLimited: what
	// the server has granted; of KeepBlip, what is left of it; of KeepResumed,
	// KeepRecovered and KeepMoved, how long it was away. Else it is 0.
	Span time.Duration

	// Lost is how many locks have not come back, of KeepResumed, KeepRecovered and
	// KeepMoved, each of which was told by Lock.Lost, too.
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

	// KeepMoved: it is back, at another one of several targets: another node of the
	// cluster, or another proxy of the server. That tells nothing of the one before, which
	// may be there and not be reached.
	KeepMoved
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
	case KeepMoved:
		return "moved"
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
	pending []KeepEvent
	telling bool
}

func (n *keepNews) add(to target, e KeepEvent) {
	if n.log == nil && n.tell == nil {
		return
	}
	e.Target = to.String()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending = append(n.pending, e)
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
			n.tell(e)
		}
	}
}

// write writes the lines of the log that nobody else does: of a loss the Locker tells.
func (n *keepNews) write(e KeepEvent) {
	if n.log == nil {
		return
	}
	switch e.Kind {
	case KeepBegun:
		n.log.Info("lockd: locks are kept without a connection", "target", e.Target, "for", e.Span)
	case KeepLimited:
		n.log.Warn("lockd: locks are not kept as was asked", "target", e.Target, "for", e.Span, "err", e.Err)
	case KeepBlip:
		n.log.Warn("lockd: connection lost, its locks are kept", "target", e.Target, "err", e.Err, "left", e.Span)
	case KeepResumed:
		n.log.Info("lockd: connection resumed", "target", e.Target, "after", e.Span, "lost", e.Lost)
	case KeepRecovered:
		n.log.Info("lockd: connection resumed, the server was restarted", "target", e.Target, "after", e.Span, "lost", e.Lost)
	case KeepMoved:
		n.log.Info("lockd: connection resumed elsewhere", "target", e.Target, "from", e.From, "after", e.Span, "lost", e.Lost)
	case KeepDraining:
		n.log.Info("lockd: server is about to end", "target", e.Target)
	}
}
