package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// A Limiter is a rate limiter on the server, shared by all that use its name
// with the same rate. It is made by Locker.Limiter, costs nothing, and need
// not be closed.
type Limiter struct {
	locker *Locker
	name   string
	limit  int
	ms     uint64
	err    error // why it cannot be used
}

// A Decision is what a Limiter said.
type Decision struct {
	// Allowed tells whether the units were taken.
	Allowed bool

	// Open is how many units were open just before they were taken. It is 0
	// if they were not.
	Open int

	// RetryAfter is when the units will be open if nobody else takes them: a
	// day at most. It is 0 if they were taken.
	RetryAfter time.Duration
}

// Limiter returns the rate limiter name, which allows at most limit units in a
// time of per, evenly spread, and bursts of up to limit. Per is between a
// millisecond and a day and counts in whole milliseconds. A rate or a name that
// makes no sense is reported by the Limiter's methods, as an ErrBadArgument, an
// ErrBadName or ErrLineTooLong. They return ErrNoRates with a server that
// speaks protocol 1 only, and ErrTooManyLocks when the server's bound is
// reached: a rate of which units were taken counts as a lock.
func (l *Locker) Limiter(name string, limit int, per time.Duration) *Limiter {
	r := &Limiter{locker: l, limit: limit}
	if r.name, r.err = l.check(name); r.err != nil {
		return r
	}
	if r.err = checkLimit(limit); r.err != nil {
		return r
	}
	r.ms = uint64((per + time.Millisecond - 1) / time.Millisecond)
	if per <= 0 || per > maxWait {
		r.err = fmt.Errorf("%w: rate per %v", ErrBadArgument, per)
	}
	return r
}

// Allow takes one unit if one is open now, and tells whether it did.
func (r *Limiter) Allow(ctx context.Context) (Decision, error) { return r.AllowN(ctx, 1) }

// AllowN takes n units if they are all open now, and tells whether it did. It
// returns an ErrBadArgument if n is more than the limit, which never are. None
// are always allowed: with an n of 0 nothing is taken.
//
// If the connection is lost on the way, the error is an ErrLost, and if ctx
// ends, the context's. Nobody knows then whether the units were taken, and
// nothing gives them back.
func (r *Limiter) AllowN(ctx context.Context, n int) (Decision, error) {
	if err := r.check(n); err != nil {
		return Decision{}, err
	}
	a := arguments{n: [3]uint64{uint64(r.limit), r.ms, uint64(n)}, count: 3}
	number, err := r.ask(ctx, takeRate, a)
	switch err {
	case nil:
		return Decision{Allowed: true, Open: number}, nil
	case errRateLimited:
		return Decision{RetryAfter: time.Duration(number) * time.Millisecond}, nil
	}
	return Decision{}, err
}

// Open returns how many units are open now, and takes none.
func (r *Limiter) Open(ctx context.Context) (int, error) {
	if err := r.check(0); err != nil {
		return 0, err
	}
	return r.ask(ctx, inspectRate, arguments{n: [3]uint64{uint64(r.limit), r.ms}, count: 2})
}

// Wait takes one unit, and waits until one is open. It returns an error at
// once if that is after ctx's deadline, for which
// errors.Is(err, context.DeadlineExceeded) holds. As with Allow, it is an
// ErrLost if the connection is lost while it asks, since asking again might
// take a unit twice.
func (r *Limiter) Wait(ctx context.Context) error { return r.WaitN(ctx, 1) }

// WaitN takes n units, and waits until they are all open, as Wait does. Those
// that wait are in no queue: who asks at the right moment has them, so
// one that wants many may be passed by those that want few.
func (r *Limiter) WaitN(ctx context.Context, n int) error {
	for {
		d, err := r.AllowN(ctx, n)
		if err != nil || d.Allowed {
			return err
		}
		// Of many that wait for the same moment, not all need to ask in it.
		jitter := min(d.RetryAfter/8+time.Millisecond, maxJitter)
		if at, ok := ctx.Deadline(); ok {
			spare := time.Until(at) - d.RetryAfter
			if spare < 0 {
				return fmt.Errorf("lockd: rate %q is open in %v: %w", r.name, d.RetryAfter, context.DeadlineExceeded)
			}
			jitter = min(jitter, spare/2) // the rest is for the asking
		}
		// A server that says 0 is not asked without a pause.
		timer := time.NewTimer(max(d.RetryAfter, time.Millisecond) + rand.N(jitter+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("lockd: rate %q: %w", r.name, ctx.Err())
		}
	}
}

// maxJitter is the most that WaitN waits longer than it has to.
const maxJitter = 50 * time.Millisecond

func (r *Limiter) check(n int) error {
	switch {
	case r.err != nil:
		return r.err
	case n < 0 || n > r.limit:
		return fmt.Errorf("%w: %d units of at most %d", ErrBadArgument, n, r.limit)
	}
	return nil
}

// ask does a call that holds nothing.
func (r *Limiter) ask(ctx context.Context, v *verb, a arguments) (int, error) {
	m, s, err := r.locker.call(ctx, v, a, r.name, v != takeRate)
	if err != nil {
		return 0, err
	}
	if s == nil {
		return 0, ErrNoRates
	}
	n, err := int(s.n), s.err
	m.put(s)
	return n, err
}
