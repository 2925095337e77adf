package load

import "sync/atomic"

// A handoff is where a worker and the goroutine that reports meet while the run
// goes on. The worker works on one of two tallies and changes them when it is
// asked to, so that it never waits and nobody reads what it writes.
type handoff struct {
	replies atomic.Int64 // all so far
	want    atomic.Bool
	handed  chan *tally
	spare   chan *tally
	endedAt int64 // when the measured time ended; to be read when the worker is done
}

func (h *handoff) open() {
	h.handed = make(chan *tally, 1)
	h.spare = make(chan *tally, 1)
	h.spare <- newTally()
}

// hand hands over the tally if it is wanted, and returns the one to go on
// with.
func (h *handoff) hand(t *tally) *tally {
	select {
	case next := <-h.spare:
		h.want.Store(false)
		h.handed <- t
		return next
	default:
		return t
	}
}

// collect adds to sum what was measured until the last time that it was
// called, about, and has the worker hand over what it has since.
func (h *handoff) collect(sum *tally) {
	select {
	case t := <-h.handed:
		sum.add(t)
		h.spare <- t
	default:
	}
	h.want.Store(true)
}
