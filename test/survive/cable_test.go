//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
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
		{"they give up too late", -12 * time.Second, "holders at once"},
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

// Whoever comes first when a server starts and then vanishes is found to have done so.
func TestTheFirstVanishes(t *testing.T) {
	t.Parallel()
	o := options{keep: 4 * time.Second, lockd: lockd}
	var c *cable
	var err error
	if c, err = newCable(); errors.Is(err, netlab.ErrUnavailable) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer c.remove()
	server, err := newServer(o, t.TempDir(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.start(); err != nil {
		t.Fatal(err)
	}
	defer func() { server.kill() }()
	var first net.Conn
	for end := time.Now().Add(patience); first == nil; {
		if time.Now().After(end) {
			t.Fatalf("nobody gets a connection: %v; the server's log:\n%s", err, server.tail(20))
		}
		if e := c.AtFar(func() { first, err = net.DialTimeout("tcp", server.addr, time.Second) }); e != nil {
			t.Fatal(e)
		}
	}
	defer first.Close()
	first.SetDeadline(time.Now().Add(patience))
	io.WriteString(first, "g x\n")
	if got, err := bufio.NewReader(first).ReadString('\n'); err != nil || !strings.HasPrefix(got, "1 ") {
		t.Fatalf("the first gets %q, %v", got, err)
	}
	if err := c.Cut(netlab.Both); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(server.dial, time.Minute, "gw 30000 x"); err != nil || !strings.HasPrefix(got, "1 ") {
		t.Errorf("who wants what the first has gets %q, %v", got, err)
	}
}

// cutOff has clients on both machines of a cable that is cut for a while.
func cutOff(t *testing.T, stop time.Duration) error {
	t.Helper()
	o := options{kept: 6, keep: 3 * time.Second, lockd: lockd, names: 4}
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
	toServer, err := (&relay{dial: b.server.dial}).open()
	if err != nil {
		t.Fatal(err)
	}
	defer toServer.close()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var all sync.WaitGroup
	// Those beyond the cable come first, and most of what they hold is for longer than
	// it is cut.
	far := b.family("kept, over a cable", b.server.addr, o.kept)
	far.Longest, far.Stop = 100*o.keep, stop
	if _, err := b.bear(&all, ctx, far, b.cable.FarCommand, 1_000_000); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	for range o.kept {
		all.Go(func() { b.load.keepers(ctx, b.w, "kept", toServer.addr(), 2) })
	}
	time.Sleep(time.Second)
	if err := b.cable.Cut(netlab.Both); err != nil {
		t.Fatal(err)
	}
	// By then the server has noticed, as others want what they hold, and has kept it.
	time.Sleep(11 * time.Second)
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
