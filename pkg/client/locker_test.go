package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// locker makes a Locker that is closed when the test ends.
func locker(t *testing.T, opts client.LockerOptions) *client.Locker {
	t.Helper()
	l, err := client.NewLocker(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// holdsNothing waits until a server holds no lock and nobody waits for one.
func holdsNothing(t *testing.T, opts client.Options) {
	t.Helper()
	ctx := within(t)
	c := start(t, opts)
	for {
		stats, err := c.Stats(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if stats["locks"] == 0 && stats["shared_locks"] == 0 {
			return
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustBe(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func TestLocker(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, copts client.Options) {
		ctx := within(t)
		l := locker(t, client.LockerOptions{Options: copts})
		must(t, l.Ready(ctx))
		missing, err := l.Missing(ctx)
		if err != nil || len(missing) > 0 {
			t.Fatal(missing, err)
		}

		a, err := l.Acquire(ctx, " a   lock ")
		must(t, err)
		if a.Name() != "a lock" || a.Token() == 0 || a.Count() != 1 {
			t.Error(a.Name(), a.Token(), a.Count())
		}
		_, err = l.TryAcquire(ctx, "a lock")
		mustBe(t, err, client.ErrNotAcquired)
		must(t, a.Release(ctx))
		mustBe(t, a.Release(ctx), client.ErrNotHeld)
		b, err := l.TryAcquire(ctx, "a lock")
		must(t, err)
		if b.Token() <= a.Token() {
			t.Errorf("token %d after %d", b.Token(), a.Token())
		}
		must(t, b.Release(ctx))

		var held []*client.Lock
		for i := range 3 {
			s, err := l.AcquireShared(ctx, "s", 3)
			must(t, err)
			if s.Count() != i+1 || s.Token() != 0 {
				t.Error(s.Count(), s.Token())
			}
			held = append(held, s)
		}
		_, err = l.TryAcquireShared(ctx, "s", 3)
		mustBe(t, err, client.ErrNotAcquired)
		// No limit: others do not matter, nor does the queue.
		waiting, cancel := context.WithCancel(ctx)
		queued := make(chan error)
		go func() { queued <- second(l.AcquireShared(waiting, "s", 3)) }()
		for i, acquire := range []func(context.Context, string, int) (*client.Lock, error){l.TryAcquireShared, l.AcquireShared} {
			s, err := acquire(ctx, "s", 0)
			must(t, err)
			if s.Count() != i+4 {
				t.Error(s.Count())
			}
			held = append(held, s)
		}
		cancel()
		mustBe(t, <-queued, context.Canceled)
		for _, s := range held {
			must(t, s.Release(ctx))
		}

		for _, err := range []error{
			second(l.AcquireShared(ctx, "s", -1)), second(l.TryAcquireShared(ctx, "s", -1)),
		} {
			mustBe(t, err, client.ErrBadArgument)
		}
		_, err = l.Acquire(ctx, "a\nb")
		mustBe(t, err, client.ErrBadName)
		_, err = l.Acquire(ctx, fmt.Sprintf("%5000d", 1)+" "+string(make([]byte, 5000)))
		mustBe(t, err, client.ErrLineTooLong)

		select {
		case <-b.Lost():
			t.Error("lost")
		default:
		}
		holdsNothing(t, copts)
		l.Close()
		_, err = l.Acquire(ctx, "x")
		mustBe(t, err, client.ErrClosed)
	})
}

func second(_ *client.Lock, err error) error { return err }

// TestLockerExclusion: of the goroutines of one Locker, one is inside at a
// time, and tokens grow from one to the next.
func TestLockerExclusion(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, copts client.Options) {
		ctx := within(t)
		l := locker(t, client.LockerOptions{Options: copts, Connections: 2})
		inside, last := 0, uint64(0) // guarded by the lock, as the race detector can see
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for range 10 {
					lock, err := l.Acquire(ctx, "door")
					if err != nil {
						t.Error(err)
						return
					}
					if inside++; inside != 1 {
						t.Errorf("%d inside", inside)
					}
					if lock.Token() <= last {
						t.Errorf("token %d after %d", lock.Token(), last)
					}
					last = lock.Token()
					inside--
					if err := lock.Release(ctx); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		holdsNothing(t, copts)
	})
}

// TestLockerCancelStorm: contexts that end at any moment leave nothing behind.
func TestLockerCancelStorm(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, copts client.Options) {
		l := locker(t, client.LockerOptions{Options: copts, Connections: 2})
		all := within(t)
		must(t, l.Ready(all))
		var wg sync.WaitGroup
		var won atomic.Int64
		var inside [3]atomic.Int64
		for i := range 1000 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(all)
				if i%3 == 0 {
					ctx, cancel = context.WithTimeout(all, time.Duration(rand.IntN(30_000))*time.Microsecond)
				} else if i%3 == 1 {
					time.AfterFunc(time.Duration(rand.IntN(30_000))*time.Microsecond, cancel)
				}
				defer cancel()
				n := i % len(inside)
				name := fmt.Sprint("storm ", n)
				lock, err := func() (*client.Lock, error) {
					if n == 2 {
						return l.AcquireShared(ctx, name, 2)
					}
					return l.Acquire(ctx, name)
				}()
				if err != nil {
					if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					return
				}
				won.Add(1)
				if in := inside[n].Add(1); in > 2 || n < 2 && in > 1 {
					t.Errorf("%d inside %s", in, name)
				}
				inside[n].Add(-1)
				if err := lock.Release(ctx); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() == 0 {
			t.Error("nobody got in")
		}
		holdsNothing(t, copts)
		// The sessions are in order, too.
		for range 10 {
			lock, err := l.Acquire(all, "after")
			must(t, err)
			must(t, lock.Release(all))
		}
	})
}
