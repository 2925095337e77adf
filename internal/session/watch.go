package session

import (
	"sync"
	"sync/atomic"
	"time"
)

// DefaultDeadPeer is for how long a client may be silent if nothing else is said.
const DefaultDeadPeer = 20 * time.Second

// Rests tells whether the client has asked for the limits: its own deadline rests
// on them, so it is given all of its time, also when somebody wants what it holds.
// Any goroutine may ask.
func (st *Stream) Rests() bool { return st.rests.Load() }

// A watch keeps those wanted who keep others waiting, see Network: somebody may
// wait for hours, and whose turn it is to be waited for changes. Its goroutine is
// there while anybody waits.
type watch struct {
	hub     *Hub
	running atomic.Bool

	mu    sync.Mutex    // guards what follows
	over  chan struct{} // closed by stop; nil: it has never run
	ended sync.WaitGroup
	ends  bool
}

// watchEvery is how long somebody waits until those in the way are wanted, and how
// often they are: it takes seconds to find out that one is gone. With a million who wait
// it is less often, since it takes no more than a part of the time.
const (
	watchEvery = 500 * time.Millisecond
	watchPart  = 10
)

// begin is called when somebody waits.
func (w *watch) begin() {
	if w.running.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ends || !w.running.CompareAndSwap(false, true) {
		return
	}
	if w.over == nil {
		w.over = make(chan struct{})
	}
	w.ended.Go(w.run)
}

func (w *watch) run() {
	timer := time.NewTimer(watchEvery)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			begun := time.Now()
			w.want()
			timer.Reset(max(watchEvery, watchPart*time.Since(begun)))
		case <-w.over:
			return
		}
		if w.hub.locks.Waiting() > 0 {
			continue
		}
		// Who begins to wait from here on finds it not running, or is found.
		w.running.Store(false)
		if w.hub.locks.Waiting() == 0 || !w.running.CompareAndSwap(false, true) {
			return
		}
	}
}

// want goes over those who keep others waiting.
func (w *watch) want() {
	var ids []uint32
	var carriers []Carrier
	walk := w.hub.locks.Blockers()
	for on := true; on; {
		ids, on = walk.Next(ids[:0])
		carriers = carriers[:0]
		for _, id := range ids {
			if st := w.hub.streamOf(id); st != nil {
				carriers = append(carriers, st.carriedBy())
			}
		}
		w.hub.network.Want(carriers)
	}
}

// stop ends the goroutine and waits for that.
func (w *watch) stop() {
	w.mu.Lock()
	if !w.ends && w.over != nil {
		close(w.over)
	}
	w.ends = true
	w.mu.Unlock()
	w.ended.Wait()
}
