//go:build linux

package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/netlab"
)

// Clients on a machine that is cut off, for longer than they are kept, while others want
// what they hold: no two at a time have it, by the witness. If they believe in it for
// longer than they may, the witness has to see that.
func TestClientsThatAreCutOff(t *testing.T) {
	for _, c := range []struct {
		what string
		stop time.Duration
		want string
	}{
		{"they give up in time", 100 * time.Millisecond, ""},
		{"they give up too late", -8 * time.Second, "holders at once"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			var err error
			for range 4 { // on a busy machine they may have had nothing when it was cut
				if err = cutOff(t, c.stop); c.want == "" || err != nil && strings.Contains(err.Error(), c.want) {
					break
				}
			}
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("nobody has seen %q: %v", c.want, err)
			}
		})
	}
}

// cutOff has clients on both machines of a cable that is cut for a while.
func cutOff(t *testing.T, stop time.Duration) error {
	t.Helper()
	o := options{kept: 6, keep: 4 * time.Second, lockd: lockd, names: 4}
	b := newLab(o, t.Output())
	var err error
	if b.cable, err = newCable(); errors.Is(err, netlab.ErrUnavailable) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer b.cable.remove()
	if b.server, err = newServer(o, t.TempDir(), b.cable); err != nil {
		t.Fatal(err)
	}
	if err := b.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { b.server.kill() }()
	toServer, err := newRelay(b.server.dial)
	if err != nil {
		t.Fatal(err)
	}
	defer toServer.close()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var all sync.WaitGroup
	for range o.kept {
		all.Go(func() { b.load.keepers(ctx, b.w, "kept", toServer.addr(), 2) })
	}
	far := b.family("kept, over a cable", b.server.addr, o.kept)
	far.Longest, far.Stop = 10*o.keep, stop
	if _, err := b.bear(&all, ctx, far, b.cable.FarCommand, 1_000_000); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	if err := b.cable.Cut(netlab.Both); err != nil {
		t.Fatal(err)
	}
	time.Sleep(silence + o.keep*3/2)
	if err := b.cable.Mend(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	end()
	all.Wait()
	select {
	case err := <-b.failed:
		t.Fatal(err)
	default:
	}
	lost := 0
	for _, l := range b.w.losses {
		if l.Kind == far.Kind {
			lost++
		}
	}
	t.Logf("%d locks held, %d lost beyond the cable", len(b.w.holds), lost)
	return errors.Join(b.w.findings()...)
}
