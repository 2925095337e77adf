package conn

import (
	"sync"
	"time"
)

// rarely is when the log is told of what happens over and over: the first time,
// and then at most once a second, and less and less often while it goes on. Its
// zero value is ready to use, by one goroutine.
type rarely struct {
	untold int       // how often it has happened since the log was told
	last   time.Time // when it has happened last
	told   time.Time
	pause  time.Duration // until the log may be told again
}

const (
	tellEvery  = time.Second
	tellSeldom = time.Minute
	// overAfter is how long nothing happens when it has ended: the next time is
	// the first one.
	overAfter = 10 * time.Second
)

// now notes that it happens, and returns how often it has since the log was told,
// or 0 if it is too early for that.
func (r *rarely) now() (n int) {
	now := time.Now()
	if now.Sub(r.last) > overAfter {
		r.pause = 0
	}
	r.last = now
	if r.untold++; now.Sub(r.told) < max(r.pause, tellEvery) {
		return 0
	}
	n, r.untold = r.untold, 0
	r.told, r.pause = now, min(max(2*r.pause, tellEvery), tellSeldom)
	return n
}

// rarelyAnywhere is the same for any number of goroutines.
type rarelyAnywhere struct {
	mu     sync.Mutex // guards rarely
	rarely rarely
}

func (r *rarelyAnywhere) now() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rarely.now()
}
