//go:build linux

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/nylen/lockd/internal/netlab"
)

// A cable is what is between the server's machine, the near one, and a far one with a
// proxy and some of the kept clients: packets are lost on it, where relays, whose kernel
// acknowledges all that it gets, only hold up what is in them.
type cable struct {
	*netlab.Cable
	near chan func() // what has to be done on the near machine

	mu    sync.Mutex // guards what follows
	bad   bool
	since time.Duration // it has been as it is
}

// newCable lays one, that can do all that is asked of it.
func newCable() (*cable, error) {
	laid, err := netlab.Lay()
	if err != nil {
		return nil, err
	}
	err = laid.Lose(netlab.Loss{In: 1, Parts: 2})
	if err == nil {
		err = laid.Mend()
	}
	c := &cable{Cable: laid, near: make(chan func()), since: now()}
	const stay = 4
	entered := make(chan error, 2*stay) // nil when it is there, and again when it comes home
	// To enter takes longer than to connect, which a crowd does again and again while
	// the server is away: so these stay there.
	for range stay {
		go func() {
			entered <- laid.AtNear(func() {
				entered <- nil
				for do := range c.near {
					do()
				}
			})
		}()
		err = errors.Join(err, <-entered)
	}
	if err != nil {
		c.remove()
		return nil, err
	}
	return c, nil
}

// remove ends it when nobody dials any more.
func (c *cable) remove() {
	close(c.near)
	c.Remove()
}

// dialNear returns who connects to an address from the near machine itself, by which
// nothing is lost.
func (c *cable) dialNear(addr string) dialer {
	return func(within time.Duration) (conn net.Conn, err error) {
		done := make(chan struct{})
		c.near <- func() {
			conn, err = net.DialTimeout("tcp", addr, within)
			close(done)
		}
		<-done
		return conn, err
	}
}

// newServer returns a server on the near machine.
func (c *cable) newServer(program, dir string, args ...string) *process {
	addr := netlab.Near + ":9999"
	return &process{
		program: program, addr: addr, dial: c.dialNear(addr), enter: c.NearCommand, log: filepath.Join(dir, "serve.log"),
		args: append([]string{"serve", "--tcp", addr, "--admin", "127.0.0.1:0"}, args...),
	}
}

// newProxy returns a proxy on the far machine, whose clients need not be there: they
// come through a file.
func (c *cable) newProxy(program, dir string, args ...string) *process {
	socket := filepath.Join(dir, "far.sock")
	return &process{
		program: program, addr: socket, dial: dialTo("unix", socket), enter: c.FarCommand, log: filepath.Join(dir, "far-proxy.log"),
		args: append([]string{"proxy", "--unix", socket, "--admin", "127.0.0.1:0"}, args...),
	}
}

// lossy tells whether it has been bad at any time since. What is no cable is well.
func (c *cable) lossy(since time.Duration) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bad || c.since > since
}

func (c *cable) set(bad bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if bad != c.bad {
		c.bad, c.since = bad, now()
	}
}

// storm has it lose packets, now and then: mostly for so long that all who are kept
// survive it, and sometimes for longer than keep.
func (c *cable) storm(ctx context.Context, w *witness, keep time.Duration) error {
	for pause(ctx, keep/3); ctx.Err() == nil; pause(ctx, keep/3) {
		what, lose, d := "", func() error { return nil }, keep/12+rand.N(keep/4)
		switch rand.IntN(8) {
		case 0, 1, 2:
			l := netlab.Loss{In: 1 + rand.IntN(20), Out: 1 + rand.IntN(20)}
			what, lose = "packets dropped, some", func() error { return c.Lose(l) }
		case 3:
			l := netlab.Loss{In: 20 + rand.IntN(50)}
			if rand.IntN(2) == 0 {
				l.In, l.Out = 0, l.In
			}
			what, lose = "packets dropped, many in one direction", func() error { return c.Lose(l) }
		case 4, 5: // until after the server has noticed, H
			l := netlab.Loss{In: rand.IntN(3), Parts: 4, Part: rand.IntN(4)}
			what, lose, d = "packets dropped, all of some connections", func() error { return c.Lose(l) }, d+keep/6
		case 6:
			way := netlab.Ways[rand.IntN(len(netlab.Ways))]
			what, lose = "cut, "+way.String(), func() error { return c.Cut(way) }
		case 7:
			way := netlab.Ways[rand.IntN(len(netlab.Ways))]
			what, lose = "cut, "+way.String(), func() error { return c.Cut(way) }
			if rand.IntN(3) == 0 {
				what, d = "cut for longer than clients are kept", keep*5/4
			}
		}
		w.count("cable: " + what)
		c.set(true)
		if err := lose(); err != nil {
			return err
		}
		wait(ctx, d)
		if err := c.Mend(); err != nil {
			return err
		}
		c.set(false)
	}
	return nil
}
