package client_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// TestLimiterNothing: nothing can always be taken, however much is open.
func TestLimiterNothing(t *testing.T) {
	ctx := within(t)
	l := locker(t, client.LockerOptions{Options: transports["memory"](t, server.Options{})})
	r := l.Limiter("x", 3, time.Hour)
	for open := 3; open >= 0; open-- {
		d, err := r.AllowN(ctx, 0)
		if err != nil || d != (client.Decision{Allowed: true, Open: open}) {
			t.Errorf("%+v, %v; %d are open", d, err, open)
		}
		must(t, r.WaitN(ctx, 0))
		if d, err := r.Allow(ctx); err != nil || d.Allowed != (open > 0) {
			t.Errorf("%+v, %v; %d were open", d, err, open)
		}
	}
}

// TestLimiterDeadline: who accepts to wait until just before the deadline asks
// before it.
func TestLimiterDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, accept := pipedLocker(t, client.LockerOptions{Options: client.Options{ReadTimeout: -1}})
		s := accept()
		r := l.Limiter("x", 1, time.Second)
		for _, spare := range []time.Duration{1, time.Millisecond, 10 * time.Millisecond, time.Second} {
			for range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond+spare)
				errs := make(chan error, 1)
				go func() { errs <- r.Wait(ctx) }()
				s.expect("1 rl 1 1000 1 x")
				begun := time.Now()
				s.reply("1 0 Rate Limited 400 ms: x\n")
				s.expect("1 rl 1 1000 1 x")
				if waited := time.Since(begun); waited < 400*time.Millisecond || waited > 450*time.Millisecond {
					t.Errorf("asked again after %v", waited)
				}
				s.reply("1 1 Rate Allowed: x\n")
				must(t, <-errs)
				cancel()
			}
		}
	})
}

// TestLimiterRoundsUp: of what is no whole number of milliseconds rather too few
// units come than too many.
func TestLimiterRoundsUp(t *testing.T) {
	l, accept := scriptedLocker(t, client.LockerOptions{})
	s := accept()
	for per, want := range map[time.Duration]string{
		time.Millisecond: "1", 1500 * time.Microsecond: "2", 999_999_001: "1000", 24 * time.Hour: "86400000",
	} {
		errs := make(chan error, 1)
		go func() {
			_, err := l.Limiter("x", 2, per).Allow(within(t))
			errs <- err
		}()
		s.expect("1 rl 2 " + want + " 1 x")
		s.reply("1 2 Rate Allowed: x\n")
		must(t, <-errs)
	}
}
