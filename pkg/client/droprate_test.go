package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// TestDropRateReplies: what becomes of it, of a Client and of a Locker.
func TestDropRateReplies(t *testing.T) {
	overLookers(t, func(t *testing.T, l looker, answer func(string, []string, string)) {
		ctx := within(t)
		d := l.(interface {
			DropRate(ctx context.Context, name string) error
		})
		errs := make(chan error)
		for last, want := range map[string]error{
			"1 Rate Dropped: a b": nil,
			"0 No Such Rate: a b": client.ErrNoSuchRate,
			"0 Not Allowed: rd":   client.ErrNotAllowed,
			"":                    client.ErrNoDropRate,
		} {
			go func() { errs <- d.DropRate(ctx, " a  b") }()
			answer("rd a b", nil, last)
			if err := <-errs; !errors.Is(err, want) {
				t.Errorf("%q: got %v, want %v", last, err, want)
			}
		}
		mustBe(t, client.ErrNoDropRate, client.ErrUnsupported)
		mustBe(t, d.DropRate(ctx, "x\ny"), client.ErrBadName)
	})
}

// TestDropRate: units are open again, with a real server.
func TestDropRate(t *testing.T) {
	ctx := within(t)
	l := locker(t, client.LockerOptions{Options: transports["tcp"](t, server.Options{})})
	rate := l.Limiter("r", 1, time.Hour)
	for _, allowed := range []bool{true, false} {
		d, err := rate.Allow(ctx)
		must(t, err)
		if d.Allowed != allowed {
			t.Fatalf("%+v", d)
		}
	}
	must(t, l.DropRate(ctx, "r"))
	mustBe(t, l.DropRate(ctx, "r"), client.ErrNoSuchRate)
	d, err := rate.Allow(ctx)
	must(t, err)
	if !d.Allowed {
		t.Fatalf("%+v", d)
	}
}

// TestServerFull: the refusals of a server without memory have their error.
func TestServerFull(t *testing.T) {
	ctx := within(t)
	c, s := scripted(t, client.Options{})
	for _, reply := range []string{"0 Server Full: x", "0 Server Full"} {
		errs := make(chan error)
		go func() { errs <- c.Get(ctx, "x") }()
		if _, err := s.r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		s.reply(reply + "\n")
		mustBe(t, <-errs, client.ErrServerFull)
	}
}
