package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
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

// TestLockerTryDo: fn is called if the lock is free, whatever the server, and not
// otherwise.
func TestLockerTryDo(t *testing.T) {
	old := newFake(t, nodejs)
	for name, opts := range map[string]client.Options{
		"lockd": transports["tcp"](t, server.Options{}),
		"old":   {Target: old.addr},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			w, opts := wired(opts)
			l := locker(t, fast(opts))
			mine := errors.New("mine")
			err := l.TryDo(ctx, "x", func(_ context.Context, lock *client.Lock) error {
				if lock.Name() != "x" {
					t.Error(lock.Name())
				}
				mustBe(t, l.TryDo(ctx, "x", nil), client.ErrNotAcquired)
				return mine
			})
			if err != mine {
				t.Error(err)
			}
			must(t, l.TryDo(ctx, "x", func(context.Context, *client.Lock) error { return nil })) // it was released

			err = l.TryDo(ctx, "x", func(ctx context.Context, _ *client.Lock) error {
				w.cut(false)
				<-ctx.Done()
				return context.Cause(ctx)
			})
			mustBe(t, err, client.ErrLost)
			mustBe(t, l.TryDo(ctx, "a\nb", nil), client.ErrBadName)
		})
	}
}

// TestLockerDoLostOnce: what was lost is told once, whatever fn makes of it.
func TestLockerDoLostOnce(t *testing.T) {
	for name, fn := range map[string]func(ctx context.Context) error{
		"the cause":         func(ctx context.Context) error { return context.Cause(ctx) },
		"wrapped":           func(ctx context.Context) error { return fmt.Errorf("at work: %w", context.Cause(ctx)) },
		"its text":          func(ctx context.Context) error { return errors.New(context.Cause(ctx).Error()) },
		"the context's own": func(ctx context.Context) error { return ctx.Err() },
		"nothing":           func(ctx context.Context) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			l, accept := scriptedLocker(t, client.LockerOptions{})
			s := accept()
			done := make(chan error)
			var said error
			go func() {
				done <- l.TryDo(within(t), "x", func(ctx context.Context, lock *client.Lock) error {
					s.conn.Close()
					<-ctx.Done()
					said = fn(ctx)
					return said
				})
			}()
			s.expect("1 g x")
			s.reply("1 9 Lock Get Success: x\n")
			err := <-done
			mustBe(t, err, client.ErrLost)
			mustBe(t, err, io.EOF)
			if said != nil {
				mustBe(t, err, said)
			}
			if n := strings.Count(err.Error(), "connection lost"); n != 1 {
				t.Errorf("told %d times: %q", n, err)
			}
		})
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
