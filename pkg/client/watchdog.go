package client

import (
	"sync"
	"time"
)

// A watchdog calls expired when a reply that is due does not come in time.
//
// Most replies come, so expecting one costs a look at the clock and no timer:
// one timer runs on while there is traffic, and when it fires it looks whether
// the reply that is due now is late, and otherwise sleeps on.
//
// A process that was stopped, or starved, may find on waking that the reply is
// late, and has it in a socket and not read it. So the watchdog does not sleep
// for longer than a part of the timeout, and one that overslept judges nothing:
// it sleeps for another part, in which the reply can be read. But a machine that
// was only slow must not make the timeout longer by more than such a part or
// little more: a holder's has to end before the server's time does.
type watchdog struct {
	expired func()

	mu      sync.Mutex    // guards what follows
	timeout time.Duration // not positive: never expires
	due     time.Time     // zero when no reply is due
	timer   *time.Timer
	since   time.Time // when the timer was set
	running bool      // the timer is going to fire
	stopped bool
}

// naps is how many parts the timeout has.
const naps = 4

// overslept is at least so much too long: a busy machine has delays, too.
const overslept = 50 * time.Millisecond

// expect says that a reply is due within the timeout from now.
func (w *watchdog) expect() { w.extend(time.Now()) }

// extend says that one is due within the timeout from a time on.
func (w *watchdog) extend(from time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timeout <= 0 {
		return
	}
	w.due = from.Add(w.timeout)
	if !w.running && !w.stopped {
		now := time.Now()
		w.sleepLocked(now, w.due.Sub(now))
	}
}

// setTimeout changes the timeout of what is expected from now on.
func (w *watchdog) setTimeout(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timeout = d
	if w.running && !w.stopped && d > 0 { // and it may sleep for a part of a longer one
		w.sleepLocked(time.Now(), d)
	}
}

// sleepLocked sets the timer, to when the reply would be late or earlier.
func (w *watchdog) sleepLocked(now time.Time, left time.Duration) {
	left = max(min(left, w.timeout/naps), 0)
	if w.timer == nil {
		w.timer = time.AfterFunc(left, w.look)
	} else {
		w.timer.Reset(left)
	}
	w.since, w.running = now, true
}

// met says that no reply is due any more.
func (w *watchdog) met() {
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
		now, nap := time.Now(), w.timeout/naps
		left := w.due.Sub(now)
		if left <= 0 && now.Sub(w.since)-nap > max(nap/2, overslept) {
			left = pardon(-left, nap)
		}
		late = left <= 0
		if !late {
			w.sleepLocked(now, left)
		}
	}
	w.mu.Unlock()
	if late {
		w.expired()
	}
}

// pardon is for how long one goes on sleeping that overslept and finds the reply late
// by so much.
func pardon(late, nap time.Duration) time.Duration {
	if late < nap {
		return max(nap-late, nap/naps)
	}
	return nap // the process was stopped, and nobody knows what has become of the lock
}
