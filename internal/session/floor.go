package session

import (
	"sync/atomic"
	"time"
)

// A floor is what later servers' fencing tokens begin with. It is written ahead, so
// that a grant waits neither for the disk nor, as where nothing is written, for the
// clock to reach its token.
type floor struct {
	store   Store
	clock   *clock
	durable atomic.Uint64
	raising atomic.Bool
	failing atomic.Bool // it could not be written at last
}

// floorAhead is how far ahead of the tokens it is written: a server that starts again
// begins that much later than it would have to, some two seconds' worth of the clock's
// microseconds. So tokens are hardly ever ahead of the clock, and grow even if what is
// written is lost, as a server that finds nothing waits for longer than that.
const floorAhead = 1 << 21

// init begins with what is written, and has it raised at once, so that the first grants
// do not wait for the disk.
func (f *floor) init(c *clock, durable, start uint64) {
	f.clock = c
	f.durable.Store(durable)
	f.noteRaised()
	f.until(start)
}

// noteRaised has the clock pass tokens that are far below the floor without a look.
func (f *floor) noteRaised() {
	f.clock.last.Store(f.durable.Load() - min(f.durable.Load(), floorAhead/2))
}

// until is 0 if a token may be given, else for how long to wait before one looks again.
func (f *floor) until(token uint64) time.Duration {
	durable := f.durable.Load()
	if token+floorAhead/2 >= durable && f.raising.CompareAndSwap(false, true) {
		to := max(token, durable) + floorAhead
		f.store.Raise(to, func(err error) {
			f.failing.Store(err != nil)
			if err != nil {
				time.AfterFunc(floorRetry, func() { f.raising.Store(false) })
				return
			}
			f.durable.Store(to)
			f.noteRaised()
			f.raising.Store(false)
		})
	}
	if token < f.durable.Load() {
		return 0
	}
	if f.failing.Load() {
		// As where nothing is written: the next server begins with its time, if that is
		// later than the floor.
		if now := f.clock.microseconds(); token > now {
			return min(time.Duration(token-now)*time.Microsecond, floorLook)
		}
		return 0
	}
	return floorLook
}

const (
	floorLook  = time.Millisecond
	floorRetry = time.Second // where it cannot be written
)
