//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxies that are killed, and what is wrong then.
func TestProxiesAreKilled(t *testing.T) {
	if !hasProxy(t) {
		t.Skip("this lockd has no proxy")
	}
	y := func() func(client, server net.Conn) { return (&yesman{keep: 4000}).twist }
	for _, c := range []struct {
		what  string
		does  int
		twist func() func(client, server net.Conn) // between proxy and server
		kills int                                  // of the proxy
		own   bool                                 // of what is lost otherwise the proxy is guilty
		want  string
	}{
		{"the server keeps for them", keeps, nil, 3, false, ""},
		{"the server frees at once what they had", plainly, y, 3, false, "holders at once"},
		{"clients are cut off by what nobody has killed", keeps, nil, 0, true, "the proxy has closed the connection"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			for try := 1; ; try++ {
				b := killedProxy(t, c.does, c.twist, c.kills, c.own)
				err := errors.Join(b.w.findings()...)
				if c.want == "" {
					if err != nil {
						t.Error(err)
					}
					if killed := b.losses(func(l loss) bool { return l.Why == "its proxy is killed" }); killed == 0 && try < 6 {
						continue
					} else if killed == 0 {
						t.Error("nobody has lost anything when its proxy was killed")
					}
					return
				}
				if err != nil && strings.Contains(err.Error(), c.want) {
					return
				}
				if try == 6 { // on a busy machine it may have had no occasion before
					t.Fatalf("nobody has seen %q: %v", c.want, err)
				}
			}
		})
	}
}

func (b *lab) losses(of func(loss) bool) (n int) {
	for _, l := range b.w.losses {
		if of(l) {
			n++
		}
	}
	return n
}

// killedProxy is plain clients behind a proxy that is killed. They hear of that late:
// until then they believe in what they hold for as long as a ping is good for. Others,
// who have come to the server itself, want the same.
func killedProxy(t *testing.T, serves int, twist func() func(client, server net.Conn), kills int, own bool) *lab {
	t.Helper()
	o := options{plain: 16, keep: 4 * time.Second, lockd: lockd, names: 4}
	b := newLab(o, t.Output())
	dir := t.TempDir()
	var err error
	if serves == keeps {
		b.server, err = newServer(o, dir, nil)
	} else {
		b.server, err = newProcess(lockd, dir, "serve", "--max-keep", "0", "--dead-peer-timeout", silence.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := b.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { b.server.kill() }()
	toServer := &relay{dial: b.server.dial}
	if twist != nil {
		toServer.twist = twist()
	}
	upstream, err := toServer.open()
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.close()
	doors, toProxy, err := b.openDoors(t.Context(), dir, upstream)
	if err != nil {
		t.Fatal(err)
	}
	proxy := b.proxies[0]
	defer func() { proxy.kill() }()
	defer toProxy.close()
	late := doors[1]
	late.own = own
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	direct := door{kind: "plain, at the server", dial: b.server.dial, proxy: b.server, own: true}
	for range o.plain / 2 {
		all.Go(func() { b.load.plains(ctx, b.w, late) })
		all.Go(func() { b.load.plains(ctx, b.w, direct) })
	}
	for range kills {
		time.Sleep(time.Second)
		for _, p := range toProxy.some(1) {
			p.stick(silence*3/5, 0, 1)
		}
		if err := b.killProxy(ctx, proxy); err != nil {
			t.Fatal(err)
		}
		time.Sleep(silence)
	}
	if own {
		for range 5 {
			time.Sleep(300 * time.Millisecond)
			for _, p := range toProxy.some(1) {
				go p.reset() // which takes a while
			}
		}
	}
	stop()
	all.Wait()
	t.Logf("%d locks held, %d lost", len(b.w.holds), len(b.w.losses))
	return b
}

// Why a plain client has lost what it held, and for what nobody is forgiven.
func TestWhy(t *testing.T) {
	t.Parallel()
	const second = time.Second
	killed := &process{killed: 100 * second}
	bad := &cable{bad: true}
	well := &cable{}
	for _, c := range []struct {
		what  string
		door  door
		began time.Duration
		err   error
		want  string
		early bool
	}{
		{"silence", door{}, 0, os.ErrDeadlineExceeded, "no ping is answered", false},
		{"its proxy was killed", door{own: true, proxy: killed}, 99 * second, io.EOF, "its proxy is killed", false},
		{"its proxy was killed before", door{own: true, proxy: killed}, 101 * second, io.EOF, "the proxy has closed the connection", true},
		{"a relay cuts", door{proxy: &process{}}, second, io.EOF, "its own connection is cut", false},
		{"nobody cuts", door{own: true, proxy: &process{}}, second, io.EOF, "the proxy has closed the connection", true},
		{"a bad cable", door{own: true, proxy: &process{}, cable: bad}, second, io.EOF, "its cable is bad", false},
		{"a cable that is well", door{own: true, proxy: &process{}, cable: well}, second, io.EOF, "the proxy has closed the connection", true},
		{"nonsense", door{proxy: killed}, 99 * second, errStrange, "makes no sense", true},
	} {
		p := &plain{door: c.door, l: &load{keep: second}, began: c.began}
		if why, early := p.why(c.err); !strings.Contains(why, c.want) || early != c.early {
			t.Errorf("%s: %q, early %v", c.what, why, early)
		}
	}
}
