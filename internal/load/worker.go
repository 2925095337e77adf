package load

import "sync/atomic"

// desk is where a worker and the goroutine that reports meet while the run
// goes on. The worker works on one of two tallies and changes them when it is
// asked to, so that it never waits and nobody reads what it writes.
type desk struct {
	replies atomic.Int64 // all so far
	want    atomic.Bool
	handed  chan *tally
	spare   chan *tally
	endedAt int64 // when the measured time ended; to be read when the worker is done
}

func (d *desk) open() {
	d.handed = make(chan *tally, 1)
	d.spare = make(chan *tally, 1)
	d.spare <- newTally()
}

// hand hands over the tally if it is wanted, and returns the one to go on
// with.
func (d *desk) hand(t *tally) *tally {
	select {
	case next := <-d.spare:
		d.want.Store(false)
		d.handed <- t
		return next
	default:
		return t
	}
}

// collect adds to sum what was measured until the last time that it was
// called, about, and has the worker hand over what it has since.
func (d *desk) collect(sum *tally) {
	select {
	case t := <-d.handed:
		sum.add(t)
		d.spare <- t
	default:
	}
	d.want.Store(true)
}
