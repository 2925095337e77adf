package client_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// TestLockerDoEarly: fn may release the lock itself.
func TestLockerDoEarly(t *testing.T) {
	ctx := within(t)
	l := locker(t, client.LockerOptions{Options: transports["memory"](t, server.Options{})})
	must(t, l.Do(ctx, "x", func(ctx context.Context, lock *client.Lock) error { return lock.Release(ctx) }))
	mine := errors.New("mine")
	err := l.Do(ctx, "x", func(ctx context.Context, lock *client.Lock) error {
		must(t, lock.Release(ctx))
		return mine
	})
	if err != mine {
		t.Error(err)
	}
}

// TestLockerDoSilence: when the context has ended, Do does not wait long for a
// server that does not answer, and before that it does.
func TestLockerDoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, accept := pipedLocker(t, client.LockerOptions{})
		s := accept()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		done := make(chan error, 1)
		begun := time.Now()
		go func() {
			done <- l.Do(ctx, "x", func(context.Context, *client.Lock) error { return nil })
		}()
		s.expect("1 gw 2000 x")
		s.reply("1 9 Lock Get Success: x\n")
		s.expect("1 r x")
		mustBe(t, <-done, context.DeadlineExceeded)
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("Do took %v", took)
		}

		// Answered in time.
		ctx, cancel = context.WithCancel(t.Context())
		go func() {
			done <- l.Do(ctx, "x", func(ctx context.Context, _ *client.Lock) error {
				cancel()
				<-ctx.Done()
				return nil
			})
		}()
		s.expect("2 gw 86400000 x") // the first session waits for its answer
		s.reply("2 10 Lock Get Success: x\n")
		s.expect("2 r x")
		time.Sleep(900 * time.Millisecond)
		s.reply("2 1 Lock Release Success: x\n")
		must(t, <-done)
	})
}
