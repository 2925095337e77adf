package client_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// The whole server at a glance, over each transport.
func TestOverview(t *testing.T) {
	for name, transport := range transports {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			opts := transport(t, server.Options{MaxConnections: 50})
			looker := start(t, opts)
			opts.Name = "holder"
			holder := start(t, opts)
			must(t, holder.Get(ctx, "one"))
			for i := range 3 {
				_, err := holder.GetShared(ctx, fmt.Sprint("shared ", i))
				must(t, err)
			}
			_, err := looker.GetShared(ctx, "shared 1")
			must(t, err)
			for {
				locks, err := looker.Top(ctx, 100, client.OldestHold)
				must(t, err)
				found := map[string]client.TopLock{}
				for _, l := range locks {
					found[l.Name] = l
				}
				one, shared := found["one"], found["shared 1"]
				if len(found) < 4 { // the answer is a tenth of a second old
					time.Sleep(10 * time.Millisecond)
					continue
				}
				if one.Kind != client.KindExclusive || one.Holders != 1 || one.Token == 0 || one.Registered != "holder" || one.Addr == "" ||
					shared.Kind != client.KindShared || shared.Holders != 2 || shared.Token != 0 {
					t.Errorf("got %+v and %+v", one, shared)
				}
				break
			}
			if locks, err := looker.Top(ctx, 2, client.OldestHold); err != nil || len(locks) != 2 {
				t.Errorf("of two locks got %v, %v", locks, err)
			}
			peers, err := looker.Connections(ctx, 100, client.MostLocks)
			must(t, err)
			if len(peers) != 2 || peers[0].Registered != "holder" || peers[0].Locks != 4 || peers[0].Sessions != 1 || peers[0].Bytes == 0 || peers[0].Transport == "" || peers[1].Locks != 1 {
				t.Errorf("got %+v", peers)
			}
			figures, err := looker.Figures(ctx)
			must(t, err)
			for name, want := range map[string]int64{"connections": 2, "max_connections": 50, "locks": 1, "shared_locks": 3, "holders": 4, "waiters": 0, "entries": 5} {
				if figures[name] != want {
					t.Errorf("%s is %d, want %d", name, figures[name], want)
				}
			}
			if _, err := looker.Top(ctx, 5, "nonsense"); err == nil {
				t.Error("an order that there is not was taken")
			}
		})
	}
}

// What the server does not tell, and one that is too old.
func TestNoOverview(t *testing.T) {
	ctx := within(t)
	all := func(c *client.Client) (errs [3]error) {
		_, errs[0] = c.Top(ctx, 1, client.Busiest)
		_, errs[1] = c.Connections(ctx, 1, client.OldestConnection)
		_, errs[2] = c.Figures(ctx)
		return errs
	}
	errs := all(start(t, transports["tcp"](t, server.Options{DisableDump: true})))
	if !errors.Is(errs[0], client.ErrDisabled) || !errors.Is(errs[1], client.ErrDisabled) || errs[2] != nil {
		t.Errorf("got %v", errs)
	}
	for _, f := range flavors {
		for _, err := range all(start(t, client.Options{Target: newFake(t, f).addr})) {
			if !errors.Is(err, client.ErrNoOverview) || !errors.Is(err, client.ErrUnsupported) {
				t.Errorf("%s: got %v", f.name, err)
			}
		}
	}
}

// Lines may get more fields; those that lack one, or have none but words where
// numbers are to be, are no lines.
func TestOverviewLines(t *testing.T) {
	for line, want := range map[string]bool{
		"a\texclusive\t1\t5\t7\t0\t0\t2.5\ta:1\tx":       true,
		"a\texclusive\t1\t5\t7\t0\t0\t2.5\ta:1\tx\tmore": true,
		"a\texclusive\t1\t5\t7\t0\t0\t2.5\t\t":           true,
		"a\texclusive\t1\t5\t7\t0\t0\t2.5\ta:1":          false,
		"a\texclusive\t1\t-5\t7\t0\t0\t2.5\ta:1\tx":      false,
		"a\texclusive\t1\t5\t7\t0\t0\tx\ta:1\tx":         false,
	} {
		ctx := within(t)
		c, s := scripted(t, client.Options{})
		errs := make(chan error, 1)
		go func() {
			locks, err := c.Top(ctx, 3, client.LongestQueue)
			if err == nil && (len(locks) != 1 || locks[0].Held != 5*time.Millisecond || locks[0].Busy != 2.5) {
				err = fmt.Errorf("got %+v", locks)
			}
			errs <- err
		}()
		s.reply("0 Lock Not Locked: " + s.expectMark() + "\n")
		s.expect("top 3 queue")
		s.reply(line + "\n1 End\n" + "0 Lock Not Locked: " + s.expectMark() + "\n")
		var wrong *client.ReplyError
		if err := <-errs; want && err != nil || !want && !errors.As(err, &wrong) {
			t.Errorf("%q: %v", line, err)
		}
	}
}
