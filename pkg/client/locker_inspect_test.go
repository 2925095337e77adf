package client_test

import (
	"context"
	"testing"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// TestLockerInspect: whether a lock is held, and by how many, whoever they are.
func TestLockerInspect(t *testing.T) {
	check := func(t *testing.T, opts client.Options, holders bool) {
		ctx := within(t)
		l, other := locker(t, fast(opts)), start(t, opts)
		expect := func(held bool, count int) {
			t.Helper()
			if got, err := l.Inspect(ctx, " x"); err != nil || got != held {
				t.Errorf("held: %v, %v", got, err)
			}
			if holders {
				count = 0
			}
			if got, err := l.InspectShared(ctx, "x"); err != nil || got != count {
				t.Errorf("held by %d, %v, want %d", got, err, count)
			}
		}
		expect(false, 0)
		must(t, other.Get(ctx, "x"))
		_, err := other.GetShared(ctx, "x")
		must(t, err)
		expect(true, 1)
		must(t, other.Release(ctx, "x"))
		lock, err := l.TryAcquire(ctx, "x")
		must(t, err)
		shared, err := l.AcquireShared(ctx, "x", 0)
		must(t, err)
		expect(true, 2)
		must(t, lock.Release(ctx))
		must(t, shared.Release(ctx))
		expect(false, 1)

		_, err = l.Inspect(ctx, "a\nb")
		mustBe(t, err, client.ErrBadName)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, err = l.Inspect(ended, "x")
		mustBe(t, err, context.Canceled)
		l.Close()
		_, err = l.InspectShared(ctx, "x")
		mustBe(t, err, client.ErrClosed)
	}
	overTransports(t, server.Options{}, func(t *testing.T, opts client.Options) { check(t, opts, false) })
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) { check(t, client.Options{Target: newFake(t, f).addr}, f.holders) })
	}
}

// TestLockerInspectLost: it asks again over the next connection.
func TestLockerInspectLost(t *testing.T) {
	l, accept := scriptedLocker(t, fast(client.Options{}))
	s := accept()
	done := make(chan error)
	held := false
	go func() {
		var err error
		held, err = l.Inspect(within(t), "x")
		done <- err
	}()
	s.expect("1 i x")
	s.conn.Close()
	s = accept()
	s.expect("1 i x")
	s.reply("1 1 Lock Is Locked: x\n")
	must(t, <-done)
	if !held {
		t.Error("not held")
	}
}
