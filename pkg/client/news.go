package client

import (
	"log/slog"
	"sync"
	"time"
)

// A news tells a log what becomes of a Locker's connections.
//
// A call without a deadline waits for a server that is not there for as long as
// that takes, and a caller that waits cannot say why. So somebody has to be told,
// even if nobody asked to be: then slog's default logger is, of such outages alone,
// when they have lasted for outageTold, once in a remindAfter and when they are
// over. It is told nothing if calls end by themselves and their errors name the
// reason.
type news struct {
	log    *slog.Logger // nil: the default one
	target string
	silent bool // there is nobody to be told

	mu   sync.Mutex // guards what follows
	told time.Time  // when the default logger was told last
	bad  bool       // and not yet that it is over
}

const (
	outageTold  = time.Second
	remindAfter = time.Minute
)

func newNews(o *LockerOptions, target string) *news {
	return &news{log: o.Logger, target: target, silent: o.Logger == nil && o.outage() != forever}
}

func (n *news) connected(target string, protocol int) {
	switch {
	case n.log != nil:
		n.log.Info("lockd: connected", "target", target, "protocol", protocol)
	case n.over():
		slog.Info("lockd: connected", "target", target, "protocol", protocol)
	}
}

// over ends an outage, and returns whether the default logger was told of it.
func (n *news) over() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	bad := n.bad
	n.bad = false
	return bad
}

// lost is not for the default logger: those whose lock was lost know it.
func (n *news) lost(err error, retry time.Duration) {
	if n.log != nil {
		n.log.Warn("lockd: connection lost", "target", n.target, "err", err, "retry_in", retry)
	}
}

// retired is not for the default logger, either: calls that wait for the next server
// are told of as an outage if that takes its time.
func (n *news) retired(retry time.Duration) {
	if n.log != nil {
		n.log.Warn("lockd: server is shutting down, looking for the next one", "target", n.target, "retry_in", retry)
	}
}

// failed tells that there is no connection, as there has been none for so long. No
// call waits for a server that refuses this client.
func (n *news) failed(err error, retry, outage time.Duration) {
	switch {
	case n.log != nil:
		n.log.Warn("lockd: cannot connect", "target", n.target, "err", err, "retry_in", retry)
	case !n.silent && !isRefusal(err) && outage >= outageTold && n.due():
		slog.Warn("lockd: cannot connect, and calls wait until it can", "target", n.target, "err", err, "for", outage.Round(time.Second))
	}
}

func (n *news) due() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bad && time.Since(n.told) < remindAfter {
		return false
	}
	n.told, n.bad = time.Now(), true
	return true
}
