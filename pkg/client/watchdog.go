package client

import (
	"sync"
	"time"
)

// A watchdog calls expired when a reply that is due does not come in time.
//
// Most replies come, so expecting one costs a look at the clock and no timer:
// one timer runs on while there is traffic, and when it fires it looks whether
// the reply that is due now is late, and otherwise sleeps until it would be.
type watchdog struct {
	timeout time.Duration // not positive: never expires
	expired func()

	mu      sync.Mutex // guards what follows
	due     time.Time  // zero when no reply is due
	timer   *time.Timer
	running bool // the timer is going to fire
	stopped bool
}

// expect says that a reply is due within the timeout from now.
func (w *watchdog) expect() {
	if w.timeout <= 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due = time.Now().Add(w.timeout)
	switch {
	case w.running || w.stopped:
		return
	case w.timer == nil:
		w.timer = time.AfterFunc(w.timeout, w.look)
	default:
		w.timer.Reset(w.timeout)
	}
	w.running = true
}

// met says that no reply is due any more.
func (w *watchdog) met() {
	if w.timeout <= 0 {
		return
	}
	w.mu.Lock()
	w.due = time.Time{}
	w.mu.Unlock()
}

// stop ends the watch for good.
func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watchdog) look() {
	w.mu.Lock()
	w.running = false
	late := false
	if !w.stopped && !w.due.IsZero() {
		left := time.Until(w.due)
		late = left <= 0
		if !late {
			w.timer.Reset(left)
			w.running = true
		}
	}
	w.mu.Unlock()
	if late {
		w.expired()
	}
}
