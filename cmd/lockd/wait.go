package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// What lockd run does before its command starts: it waits for the server, for
// the lock and for the rate. All that time it holds nothing that the end of a
// connection could take, but for the lock while it waits for the rate, under
// which nothing was done yet. So when the server is restarted it begins anew,
// and only the time that it has goes on.

// retryAfter is how soon the Locker, which connects by itself, is asked again
// whether it has.
const retryAfter = 100 * time.Millisecond

// waiting is a lockd run that has no lock yet.
type waiting struct {
	*runCmd
	locker *client.Locker
	begun  time.Time
	until  time.Time // when --wait is over; zero until the server was reached
	gone   time.Time // since when the server gives no answers; zero if it does
	news   *waitNews
	warned bool // that the lock does not survive a restart of the server
}

// errConflict: the lock or the rate was not to be had in time.
type errConflict string

func (e errConflict) Error() string { return string(e) }

// errAway: the server is away, or was for too long.
type errAway struct {
	error         // why
	first  bool   // it has never been reached
	waited string // for what it was waited in vain, in words
}

func (e errAway) Unwrap() error { return e.error }

// newWaiting begins to say what is waited for.
func (c *runCmd) newWaiting(l *client.Locker) *waiting {
	w := &waiting{runCmd: c, locker: l, begun: time.Now()}
	w.news = newWaitNews(w)
	return w
}

// acquire gets all that the command needs.
func (w *waiting) acquire() (*client.Lock, error) {
	for {
		lock, err := w.attempt()
		if err == nil {
			select {
			case <-lock.Lost():
				err = lock.Err()
			default:
				return lock, nil
			}
		}
		if !errors.Is(err, client.ErrLost) || errors.Is(err, client.ErrProtocol) {
			return nil, err
		}
		if err := w.comeBack(err); err != nil {
			return nil, err
		}
	}
}

// comeBack waits until there is a connection again, or for the first time, if
// that may be. Whether the server answers is found out by the next attempt.
func (w *waiting) comeBack(cause error) error {
	first := w.until.IsZero()
	if first && w.ServerPatience == nil { // a wrong address is told at once
		return errAway{cause, first, ""}
	}
	if w.gone.IsZero() {
		w.gone = time.Now()
		if first {
			w.gone = w.begun
		}
	}
	end, waited := time.Now().Add(forever), ""
	if !first && w.Wait != nil {
		end, waited = w.until, fmt.Sprintf("; waited %v for %s", *w.Wait, quote(w.name))
	}
	if d := w.ServerPatience; d != nil && w.gone.Add(*d).Before(end) {
		end, waited = w.gone.Add(*d), fmt.Sprintf("; waited %v for it", *d)
	}
	ctx, cancel := context.WithDeadline(context.Background(), end) // for the first attempt, which is waited for
	defer cancel()
	for time.Now().Before(end) {
		w.news.away(errAway{cause, first, ""}, w.gone)
		time.Sleep(min(retryAfter, time.Until(end)))
		err := w.locker.Ready(ctx)
		if !errors.Is(err, client.ErrLost) {
			return nil
		}
		cause = err
	}
	return errAway{cause, first, waited}
}

// attempt gets all that the command needs over a connection that stands. An
// ErrLost means that it does not stand any more.
func (w *waiting) attempt() (*client.Lock, error) {
	old, err := w.reach()
	if err != nil {
		return nil, err
	}
	if old && (w.Limit != nil || w.Rate.n > 0) {
		return nil, errors.New("the server knows neither --limit nor --rate (it speaks protocol 1 only)")
	}
	// What is free is had however little time there is.
	lock, err := w.try()
	if err == nil || errors.Is(err, client.ErrNotAcquired) {
		w.gone = time.Time{}
		w.news.answered()
	}
	if errors.Is(err, client.ErrNotAcquired) && time.Now().Before(w.until) {
		w.news.lock()
		if old {
			lock, err = w.poll()
		} else {
			lock, err = w.wait()
		}
	}
	if errors.Is(err, client.ErrNotAcquired) {
		return nil, w.conflict(err)
	}
	if err == nil && w.Rate.n > 0 {
		if err = w.takeRate(lock); err != nil {
			release(lock)
		}
	}
	return lock, err
}

// reach tells whether the server is an old one. The time of --wait begins when
// it is reached for the first time.
func (w *waiting) reach() (old bool, err error) {
	ctx := context.Background()
	if w.until.IsZero() && w.ServerPatience != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(*w.ServerPatience, time.Millisecond))
		defer cancel()
	}
	missing, err := w.locker.Missing(ctx)
	if err != nil {
		return false, err
	}
	if w.until.IsZero() {
		w.until = time.Now().Add(forever)
		if w.Wait != nil {
			w.until = time.Now().Add(*w.Wait)
		}
	}
	for _, err := range missing {
		switch {
		case errors.Is(err, client.ErrNoWaiting):
			old = true
		case errors.Is(err, client.ErrNoKeep), errors.Is(err, client.ErrShortKeep):
			return false, errUnkept{err, w.runCmd}
		case errors.Is(err, client.ErrBlipsOnly) && !w.warned:
			w.warned = true
			w.warn("the server runs without --state, so the lock will not survive a restart of it")
		}
	}
	return old, nil
}

// errUnkept: the server does not keep the lock for so long as --keep says.
type errUnkept struct {
	error
	run *runCmd
}

func (e errUnkept) Error() string {
	return fmt.Sprintf("--keep %v, and --kill-after %v: %s", e.run.Keep, e.run.KillAfter, strings.TrimPrefix(e.error.Error(), "lockd: "))
}

func (e errUnkept) Unwrap() error { return e.error }

// try asks for the lock once. A server that has just been started may give nothing to
// anybody yet; one may stand in line meanwhile, as where others hold it.
func (w *waiting) try() (lock *client.Lock, err error) {
	if w.Shared {
		lock, err = w.locker.TryAcquireShared(context.Background(), w.name, w.limit())
	} else {
		lock, err = w.locker.TryAcquire(context.Background(), w.name)
	}
	if errors.Is(err, client.ErrRecovering) {
		err = fmt.Errorf("%w (%w)", client.ErrNotAcquired, err)
	}
	return lock, err
}

// limit is of the shared lock; 0 means none.
func (c *runCmd) limit() int {
	if c.Limit == nil {
		return 0
	}
	return int(min(int64(*c.Limit), math.MaxInt)) // of 32 bits on some systems
}

// wait waits in the lock's queue.
func (w *waiting) wait() (lock *client.Lock, err error) {
	ctx, cancel := context.WithDeadline(context.Background(), w.until)
	defer cancel()
	if w.Shared {
		lock, err = w.locker.AcquireShared(ctx, w.name, w.limit())
	} else {
		lock, err = w.locker.Acquire(ctx, w.name)
	}
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, client.ErrLost) {
		lock, err = w.tryAfterWait()
	}
	return lock, err
}

// tryAfterWait asks for the lock when the time is up. By its answer the server
// has taken the wait back, too, so that it gives the lock to nobody who is gone.
// What it granted in time, while this process was stopped, is given back by the
// Locker before the second attempt.
func (w *waiting) tryAfterWait() (lock *client.Lock, err error) {
	for range 2 {
		lock, err = w.try()
		switch {
		case errors.Is(err, client.ErrLost) && !errors.Is(err, client.ErrTimeout):
			return nil, client.ErrNotAcquired // a server that ends has no use for one that waits no more
		case !errors.Is(err, client.ErrNotAcquired):
			return lock, err
		}
	}
	return nil, err
}

// poll asks for the lock over and over: a server of protocol 1 has no queue.
func (w *waiting) poll() (*client.Lock, error) {
	for {
		time.Sleep(min(750*time.Millisecond+rand.N(500*time.Millisecond), time.Until(w.until)))
		lock, err := w.try()
		if !errors.Is(err, client.ErrNotAcquired) || !time.Now().Before(w.until) {
			return lock, err
		}
	}
}

// takeRate takes a unit of the rate, as long as the lock is held.
func (w *waiting) takeRate(lock *client.Lock) error {
	limiter := w.locker.Limiter(w.name, int(min(int64(w.Rate.n), math.MaxInt)), w.Rate.window)
	for {
		d, err := limiter.Allow(context.Background())
		retry := max(d.RetryAfter, time.Millisecond) // not without a pause if the server says 0
		switch {
		case err != nil || d.Allowed:
			return err
		case retry > max(time.Until(w.until), 0):
			return errConflict(fmt.Sprintf("%s is over its rate, which opens in %v", quote(w.name), retry))
		}
		w.news.rate(time.Now().Add(retry))
		select {
		case <-time.After(retry):
		case <-lock.Lost():
			return lock.Err()
		}
	}
}

func (c *runCmd) conflict(why error) error {
	text := quote(c.name) + " is held by others"
	if errors.Is(why, client.ErrRecovering) {
		text = quote(c.name) + " may be held by others: the server has just been started and is recovering"
	}
	if *c.Wait > 0 {
		text += fmt.Sprintf(", waited %v", *c.Wait)
	}
	return errConflict(text)
}

// explain says why the command does not start.
func (c *runCmd) explain(err error) string {
	var away errAway
	switch errors.As(err, &away); {
	case errors.As(err, new(errConflict)), errors.As(err, new(errUnkept)):
		return err.Error()
	case away.first, errors.Is(err, client.ErrUnreachable):
		patience := c.ConnectTimeout
		if away.first && c.ServerPatience != nil {
			patience = min(patience, *c.ServerPatience)
		}
		return c.remote.explain(err, patience) + away.waited
	case errors.Is(err, client.ErrShuttingDown):
		return fmt.Sprintf("%s: the server is shutting down%s", c.Server, away.waited)
	case errors.Is(err, client.ErrLost):
		return fmt.Sprintf("%s: connection lost: %v%s", c.Server, c.why(err), away.waited)
	}
	return c.remote.explain(err, c.LostAfter)
}
