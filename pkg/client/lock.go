package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// A Lock is a lock that is held: by its own owner, which no other Lock shares,
// until it is released or the connection is lost (for longer than the server keeps it,
// with LockerOptions.Keep). Its methods may be called by many goroutines at once.
type Lock struct {
	name   string
	number int64 // an exclusive lock's token or a shared lock's count
	shared bool

	mux     *mux
	session *session

	old    *oldPool // protocol 1
	client *Client

	// Of a mux with notices, which may lose this lock alone.
	lost  chan struct{} // nil: it is lost with the mux only
	why   error         // set by the mux before it closes lost; guarded by its mutex until then
	taken bool          // by its caller; guarded by the mux's mutex

	released atomic.Bool
}

// Name returns the lock's name, in the server's spelling.
func (l *Lock) Name() string { return l.name }

// Token returns the fencing token: a number that grows with every grant of the
// name, also over restarts of the server. What is written under the lock
// should carry it, and whoever stores it should refuse a token that is smaller
// than one it has seen: then a holder that has lost the lock and does not know
// it yet does no harm. It is below 2^53, so that all languages can store it.
// It is 0 for a shared lock, and with a server that speaks protocol 1 only.
func (l *Lock) Token() uint64 {
	if l.shared || l.client != nil {
		return 0
	}
	return uint64(l.number)
}

// Count returns how many held a shared lock when it was granted, this one
// included. It is 1 for an exclusive lock.
func (l *Lock) Count() int {
	if l.shared {
		return int(l.number)
	}
	return 1
}

// Lost returns a channel that closes when the lock is lost because the
// connection is, or because it was taken away; Err then tells why. With
// LockerOptions.Keep it closes only when the lock is really lost: when the server did
// not have it any more, or could not be reached in time. From then on someone else may hold it,
// perhaps since a moment before; what must not be done twice whatever happens
// needs the Token. When the lock is released, the channel has no meaning any
// more.
func (l *Lock) Lost() <-chan struct{} {
	switch {
	case l.client != nil:
		return l.client.Lost()
	case l.lost != nil:
		return l.lost
	}
	return l.mux.ctx.Done()
}

// Err returns nil as long as the lock is held. When it is lost, Err returns an
// ErrLost that wraps why: ErrTimeout if the server fell silent, io.EOF if it
// closed the connection, ErrClosed if the Locker was closed, an error of the
// network, ErrRevoked if it was taken away. Once Release was called it is ErrNotHeld, even if the lock was lost
// before: that is what Release returns.
func (l *Lock) Err() error {
	if l.released.Load() {
		return ErrNotHeld
	}
	return l.lostErr()
}

// lostErr is Err before Release was called.
func (l *Lock) lostErr() error {
	switch {
	case l.lost != nil:
		l.mux.lapsed() // of a process that was stopped nobody else may have noticed yet
		select {
		case <-l.lost:
			return l.why
		default:
			return nil
		}
	case l.client == nil:
		return l.mux.err()
	}
	err := l.client.Err()
	if err != nil && !errors.Is(err, ErrLost) {
		err = lost(err)
	}
	return err
}

// Silence returns how long ago the server was last heard on the connection that
// the lock hangs on, whatever it said: the less, the likelier is the lock to
// last. Since a Locker asks a silent server, it is hardly more than ReadTimeout
// as long as the server answers. When the lock is lost or released it has no
// meaning any more.
//
// It is measured by the monotonic clock, as time.Since does, which goes on while
// the process is stopped; while the machine sleeps it stands still on some
// systems, Linux for one. What came in the meantime counts when it is read: a
// process that was stopped for an hour may see an hour of silence for a moment.
// That alone does not end the lock, see ReadTimeout in LockerOptions.
func (l *Lock) Silence() time.Duration {
	if l.client != nil {
		return l.client.transport.silence()
	}
	return l.mux.silence()
}

// Release releases the lock. It does so also if ctx has ended: the context
// bounds only how long to wait for the server's word, and if it ends first,
// Release returns its error and the lock is released nevertheless, a moment
// later or, if the connection is lost, with it. So to release without waiting,
// give it a context that has ended.
//
// Release returns an ErrLost if the lock was lost before, and ErrNotHeld if it
// was called before, whatever came of that.
//
// When there is no connection for a while, and the server keeps the lock meanwhile (see
// LockerOptions.Keep), Release returns when there is one again and the server has
// said that the lock is free, or ctx ends. The lock is never held again after it was
// called.
func (l *Lock) Release(ctx context.Context) error {
	if l.released.Swap(true) {
		return ErrNotHeld
	}
	return l.release(ctx)
}

func (l *Lock) release(ctx context.Context) error {
	v := release
	if l.shared {
		v = releaseShared
	}
	if l.client != nil {
		return l.old.release(ctx, l.client, v, l.name)
	}
	m, s := l.mux, l.session
	for first := true; ; first = false {
		if err := m.giveBack(l, v); err != nil {
			return err
		}
		if err := m.wait(ctx, s); err != nil {
			return err
		}
		if !errors.Is(s.err, ErrNotAuthenticated) {
			break
		}
		refused := s.err
		if ok, _ := m.knownAgain(ctx, s); !ok || !first {
			m.close(errUnknown)
			return refused
		}
	}
	err := s.err
	switch {
	case errors.Is(err, ErrUnavailable):
		m.giveUpSession(s)
	case err == nil || !errors.Is(err, ErrLost):
		m.put(s)
	}
	if l.lost != nil && err == ErrNotHeld {
		// It was taken away while it was asked, or it was released before, when the
		// answer was lost, or because it was not claimed.
		return l.lostErr()
	}
	return err
}

// maxWait is the longest wait that a server takes.
const maxWait = wire.MaxWait * time.Millisecond

// Acquire acquires the exclusive lock name, waiting in its queue, first come first
// served, as long as ctx allows. When ctx ends it gives up at once and
// returns the context's error; a grant that came too late is given back. If
// the connection is lost on the way it goes on with the next one, at the end
// of the queue. If ctx ends while there is no connection, the error is an
// ErrLost, too: then it is not that somebody else holds the lock.
//
// A name is any string without a line break, see the package's Names, else the
// error is ErrBadName; ErrLineTooLong if it is too long. Other errors:
// ErrTooManyWaiters, ErrTooManySessions and ErrTooManyLocks, when a bound is
// reached; ErrNoWaiting, with a server that speaks protocol 1 only; ErrClosed;
// and an ErrLost when there is no connection for longer than
// LockerOptions.MaxOutage or, with FailFast, when there is none or it ends.
func (l *Locker) Acquire(ctx context.Context, name string) (*Lock, error) {
	return l.acquire(ctx, getWait, 0, name)
}

// TryAcquire acquires the exclusive lock name, or returns ErrNotAcquired at
// once if it is held, be it by this Locker. Its other errors are those of
// Acquire, without ErrTooManyWaiters and ErrNoWaiting.
func (l *Locker) TryAcquire(ctx context.Context, name string) (*Lock, error) {
	return l.acquire(ctx, get, 0, name)
}

// AcquireShared acquires the shared lock name of which at most limit can be
// held at a time, and waits like Acquire while there are as many. All that use
// the name should use the same limit: each is held to its own. A limit of 0 means
// none: then there is nothing to wait for, whoever else holds it or waits for it.
// Its errors are those of Acquire, and an ErrBadArgument for a limit that is not
// between 0 and 4294967294; a server that speaks protocol 1 only has just those
// locks without a limit.
func (l *Locker) AcquireShared(ctx context.Context, name string, limit int) (*Lock, error) {
	if limit == 0 {
		return l.acquire(ctx, getShared, 0, name)
	}
	if err := checkLimit(limit); err != nil {
		return nil, err
	}
	return l.acquire(ctx, getSharedWait, limit, name)
}

// TryAcquireShared acquires the shared lock name, or returns ErrNotAcquired at
// once if limit hold it already or someone waits for it. A limit of 0 means
// none, as in AcquireShared. With a server that speaks protocol 1 only, any other limit gets
// ErrNoSharedLimits. Its other errors are those of TryAcquire, and
// ErrBadArgument.
func (l *Locker) TryAcquireShared(ctx context.Context, name string, limit int) (*Lock, error) {
	if limit == 0 {
		return l.acquire(ctx, getShared, 0, name)
	}
	if err := checkLimit(limit); err != nil {
		return nil, err
	}
	return l.acquire(ctx, getSharedLimit, limit, name)
}

func checkLimit(limit int) error {
	if limit < 1 || int64(limit) > wire.MaxLimit {
		return fmt.Errorf("%w: limit %d", ErrBadArgument, limit)
	}
	return nil
}

func (l *Locker) acquire(ctx context.Context, v *verb, limit int, name string) (*Lock, error) {
	name, err := l.check(name)
	if err != nil {
		return nil, err
	}
	isShared := v.space == shared
	for {
		var until time.Time // when the server's wait should be over
		a := arguments{note: noteOf(ctx)}
		if limit > 0 {
			a.n[0], a.count = uint64(limit), 1
		}
		if v.waits {
			begun, wait := time.Now(), maxWait
			if at, ok := ctx.Deadline(); ok {
				if wait = min(at.Sub(begun), maxWait); wait <= 0 {
					if _, err := l.connection(ctx); errors.Is(err, ErrLost) {
						return nil, err
					}
					return nil, fmt.Errorf("lockd: %s %q: %w", v, name, context.DeadlineExceeded)
				}
			}
			until = begun.Add(wait)
			a.n[a.count] = uint64((wait + time.Millisecond - 1) / time.Millisecond)
			a.count++
		}
		m, s, err := l.call(ctx, v, a, name, true)
		if err != nil {
			return nil, err
		}
		if s == nil {
			lock, err := l.old.acquire(ctx, m, v, limit, name)
			if err, again := l.afterOld(ctx, err); !again {
				return lock, err
			}
			continue
		}
		switch s.err {
		case nil:
			if m.notices {
				return m.take(s), nil
			}
			return &Lock{name: name, number: s.n, shared: isShared, mux: m, session: s}, nil
		case errWaitedOut:
			// The deadline is near, or it was a long day. Or the server is
			// ending, and lets nobody wait.
			m.put(s)
			m.pause(ctx, time.Until(until))
		default:
			err := s.err
			m.put(s)
			return nil, err
		}
	}
}

// maxPause is the longest pause.
const maxPause = 50 * time.Millisecond

// pause waits for a moment, but not longer than early says, nor when the mux
// ends.
func (m *mux) pause(ctx context.Context, early time.Duration) {
	if early <= 0 {
		return
	}
	timer := time.NewTimer(min(early, maxPause/5+rand.N(maxPause*4/5)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-m.ctx.Done():
	}
}

// Do calls fn while it holds the exclusive lock name, for which it waits as
// Acquire does. The context that fn gets ends when the lock is lost, or ctx
// ends; context.Cause then tells which.
//
// Do returns what fn returned. If the lock was lost before fn did, the error
// is an ErrLost besides: fn may not have been alone. What comes after Do may
// rely on the lock being free. But when ctx has ended, Do gives the server just
// another second to confirm the release, and then returns ctx's error besides;
// the lock is released nevertheless, see Lock.Release. Fn may release the lock
// itself, and need not.
func (l *Locker) Do(ctx context.Context, name string, fn func(ctx context.Context, lock *Lock) error) error {
	lock, err := l.Acquire(ctx, name)
	if err != nil {
		return err
	}
	return lock.do(ctx, fn)
}

// TryDo is Do for a lock that is free at once; else it returns ErrNotAcquired,
// as TryAcquire does, and does not call fn. It works with all servers.
func (l *Locker) TryDo(ctx context.Context, name string, fn func(ctx context.Context, lock *Lock) error) error {
	lock, err := l.TryAcquire(ctx, name)
	if err != nil {
		return err
	}
	return lock.do(ctx, fn)
}

// do calls fn while the lock is held, and releases it.
func (lock *Lock) do(ctx context.Context, fn func(ctx context.Context, lock *Lock) error) (err error) {
	inner, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer lock.whenLost(end)()
	defer func() {
		if lock.released.Swap(true) {
			return
		}
		late, giveUp := after(ctx, grace)
		defer giveUp()
		releaseErr := lock.release(late)
		if errors.Is(releaseErr, context.Canceled) { // as ctx was, or its deadline passed
			releaseErr = fmt.Errorf("lockd: release %q: %w", lock.name, ctx.Err())
		}
		err = besides(err, releaseErr)
	}()
	return fn(inner, lock)
}

// whenLost calls f with the reason when the lock is lost, until it is told to
// stop.
func (l *Lock) whenLost(f func(error)) (stop func()) {
	if l.client == nil && l.lost == nil {
		mux := l.mux
		unhook := context.AfterFunc(mux.ctx, func() { f(mux.err()) })
		return func() { unhook() }
	}
	done := make(chan struct{})
	go func() {
		select {
		case <-l.Lost():
			f(l.lostErr())
		case <-done:
		}
	}()
	return func() { close(done) }
}

// after returns a context that ends so long after another one.
func after(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(d, cancel)
		context.AfterFunc(late, func() { timer.Stop() })
	})
	return late, func() {
		unhook()
		cancel()
	}
}
