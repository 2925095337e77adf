package client

import (
	"math/rand/v2"
	"time"
)

// A backoff is how long to wait before the next attempt to connect: a random
// time, lest a fleet comes back in step, and twice as long after each failure.
type backoff struct {
	least, most time.Duration // of the bound
	bound       time.Duration
}

func newBackoff(o *LockerOptions) backoff {
	return backoff{o.MinBackoff, o.MaxBackoff, o.MinBackoff}
}

// pause returns the next pause.
func (b *backoff) pause() time.Duration {
	pause := rand.N(b.bound)
	if b.bound > b.most/2 {
		b.bound = b.most
	} else {
		b.bound *= 2
	}
	return pause
}

// refused says that there is no hope for the moment, since the server knows nobody
// with this token.
func (b *backoff) refused() { b.bound = b.most }

// stood says for how long there was a connection. One that ends at once is no
// better than none.
func (b *backoff) stood(d time.Duration) {
	if d > b.most {
		b.bound = b.least
	}
}
