//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/netlab"
)

// lockd is the program that all tests use.
var lockd string

func TestMain(m *testing.M) {
	if is, err := child(); is {
		exit(err)
	}
	dir, err := os.MkdirTemp("", "lockd-cluster")
	if err == nil {
		lockd, err = build(dir, nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// Clusters mostly wait, and so more of them fit beside each other than there are processors.
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p.Value.String() == p.DefValue {
		flag.Set("test.parallel", "3")
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// small is what fits a busy machine with two processors.
func small(t *testing.T) options {
	return options{Nodes: 3, Clients: 40, W: time.Second, G: 8 * time.Second, Lockd: lockd}
}

// whole skips what takes minutes, with -short.
func whole(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes minutes")
	}
}

// Each fault once, alone: what may be lost by it is, and nothing else.
func TestSurvives(t *testing.T) {
	whole(t)
	for _, faults := range []string{
		"kill,leave",
		"stop,no-etcd",
		"etcd-member,etcd-leader,etcd-away,compact",
		"pair,lossy",
		"alone,clients-stop,clients-cut",
		"drain,mover-kill",
	} {
		t.Run(faults, func(t *testing.T) {
			t.Parallel()
			o := small(t)
			o.Faults, o.once, o.Roam = faults, true, true
			o.Moves = strings.Contains(faults, "drain")
			try(t, o)
		})
	}
}

// And all of them mixed, for a moment.
func TestSurvivesThemAll(t *testing.T) {
	whole(t)
	t.Parallel()
	o := small(t)
	o.For, o.Roam, o.Moves = 40*time.Second, true, true
	try(t, o)
}

// Clocks that go at other rates, as far as G allows for.
func TestSurvivesClocks(t *testing.T) {
	whole(t)
	t.Parallel()
	o := small(t)
	o.Faults, o.once, o.Roam, o.Clocks = "kill,no-etcd,pair", true, true, true
	try(t, o)
}

func try(t *testing.T, o options) {
	t.Helper()
	err := survive(t.Context(), t.Output(), o)
	if errors.Is(err, netlab.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Error(err)
	}
}

// What is wrong is seen, when something befalls the node that does it.
func TestWrongNodesAreCaught(t *testing.T) {
	whole(t)
	for _, c := range []struct {
		wrong, what string
		befalls     func(ctx context.Context, b *lab) error
	}{
		{past, "it serves past its right", func(ctx context.Context, b *lab) error {
			return b.cut(ctx, 3*b.W+2*b.G, &trouble{all: true}, b.nodes[0].Machine, 0, b.etcdMachines()...)
		}},
		{hasty, "it grants while it recovers", func(ctx context.Context, b *lab) error {
			// Clients of n3 believe for a while in what a dead node held for them, and cannot
			// claim it at n1.
			b.begin(&trouble{all: true}, "kill -9 of n2, for good, while n1 and n3 do not reach each other")
			mend, err := b.nodes[0].Machine.Drop(netlab.Drop{In: 100, Out: 100, Peers: []*netlab.Machine{b.nodes[2].Machine}})
			if err != nil {
				return err
			}
			b.nodes[1].kill()
			wait(ctx, 2*b.W+b.G)
			return mend()
		}},
		{slow, "its clock is too slow", func(ctx context.Context, b *lab) error {
			defer wait(ctx, b.G)
			return b.cut(ctx, 3*b.G, &trouble{all: true}, b.nodes[0].Machine, 0, b.nodes[1].Machine, b.nodes[2].Machine)
		}},
		{older, "it adopts an older map", func(ctx context.Context, b *lab) error {
			b.begin(&trouble{all: true}, "SIGSTOP of n1 for 4 W")
			b.nodes[0].pause(ctx, 4*b.W)
			wait(ctx, 3*b.W+3*b.G)
			return nil
		}},
	} {
		t.Run(c.wrong, func(t *testing.T) {
			if c.wrong == slow && os.Getenv("LOCKD_FAULTS") == "" {
				t.Skip("it is seen by chance, within minutes: LOCKD_FAULTS=1 asks for it")
			}
			t.Parallel()
			o := small(t)
			o.Wrong, o.Clients, o.Names, o.long = c.wrong, 60, 8, c.wrong == hasty
			b, err := newLab(t.Context(), t.Output(), o)
			if errors.Is(err, netlab.ErrUnavailable) {
				t.Skip(err)
			} else if err != nil {
				t.Fatal(err)
			}
			defer b.close()
			b.unwell = true
			err = b.run(t.Context(), func(ctx context.Context) error {
				ctx, stop := context.WithTimeout(ctx, 90*time.Second)
				defer stop()
				go func() { // until it is caught
					for ctx.Err() == nil && !b.caught() {
						wait(ctx, time.Second)
					}
					stop()
				}()
				wait(ctx, b.G/2) // until there is something to lose
				for ctx.Err() == nil {
					if err := c.befalls(ctx, b); err != nil {
						return err
					}
					if c.wrong == hasty {
						b.nodes[1].start()
						wait(ctx, 2*b.W+2*b.G)
					}
				}
				return nil
			})
			if !b.caught() {
				t.Errorf("%s, and nobody has seen that: %v", c.what, err)
			}
		})
	}
}

// caught tells whether it was seen that somebody had what another one had.
func (b *lab) caught() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, err := range b.found {
		if strings.Contains(err.Error(), "holders at once") || strings.Contains(err.Error(), "porcupine") {
			return true
		}
	}
	return false
}

// The judges by themselves.
func TestJudges(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	one := func(owner int, asked, from, to, left time.Duration, token uint64) hold {
		return hold{Name: "g x", Owner: owner, Asked: asked * ms, From: from * ms, To: to * ms, Left: left * ms, Token: token, Limit: 1}
	}
	many := func(owner int, from, to time.Duration) hold {
		return hold{Name: "s x", Owner: owner, Asked: (from - 1) * ms, From: from * ms, To: to * ms, Left: (to + 1) * ms, Limit: 2}
	}
	for _, c := range []struct {
		what      string
		holds     []hold
		overlaps  int
		porcupine bool
	}{
		{"one after another", []hold{one(1, 1, 2, 10, 11, 5), one(2, 3, 12, 20, 21, 6)}, 0, true},
		{"two at once", []hold{one(1, 1, 2, 10, 11, 5), one(2, 3, 9, 20, 21, 6)}, 1, false},
		{"a token that goes back", []hold{one(1, 1, 2, 10, 11, 6), one(2, 3, 12, 20, 21, 5)}, 1, false},
		{"who is freed by its deadline", []hold{one(1, 1, 2, 10, 0, 5), one(2, 3, 12, 20, 21, 6)}, 0, true},
		{"somebody has it still, who was told that it has not", []hold{one(1, 1, 2, 10, 0, 5), one(1, 12, 13, 20, 21, 5), one(2, 3, 22, 30, 31, 6)}, 0, true},
		{"somebody else has the same token", []hold{one(1, 1, 2, 10, 0, 5), one(2, 12, 13, 20, 21, 5)}, 1, false},
		{"a limit", []hold{many(1, 10, 30), many(2, 15, 40), many(3, 31, 50)}, 0, true},
		{"beyond a limit", []hold{many(1, 10, 30), many(2, 15, 40), many(3, 20, 50)}, 1, false},
	} {
		if got := overlaps("g x", c.holds); len(got) != c.overlaps {
			t.Errorf("%s: %v", c.what, got)
		}
		if got := linearizable("g x", c.holds); (got == nil) != c.porcupine {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

// A loss has a reason if a fault that may be one was there, or was over a while ago.
func TestReasons(t *testing.T) {
	t.Parallel()
	const s = time.Second
	kill := trouble{From: 10 * s, To: 11 * s, plain: []string{"n1"}}
	for _, c := range []struct {
		t    trouble
		l    loss
		want bool
	}{
		{kill, loss{Home: "n1", At: 12 * s}, true},
		{kill, loss{Home: "n1", Kind: "kept", At: 12 * s}, false},
		{kill, loss{Home: "n2", At: 12 * s}, false},
		{kill, loss{Home: "n1", At: 9 * s}, false},
		{kill, loss{Home: "n1", At: 22 * s}, false},
		{trouble{From: 10 * s, clients: []string{"victims"}}, loss{Client: "victims", At: 99 * s}, true},
		{trouble{From: 10 * s, all: true}, loss{Home: "n1", At: 99 * s}, true},
	} {
		if got := c.t.covers(&c.l, 10*s); got != c.want {
			t.Errorf("%+v, %+v: %v", c.t, c.l, got)
		}
	}
}

// The store accepts what is not older than what it has.
func TestFence(t *testing.T) {
	t.Parallel()
	f, err := newFence(t.TempDir() + "/store")
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	c := &fenced{path: f.l.Addr().String()}
	for _, w := range []struct{ token, against uint64 }{{5, 0}, {5, 0}, {7, 0}, {6, 7}, {8, 0}} {
		if got, err := c.write("g x", w.token); err != nil || got != w.against {
			t.Errorf("token %d: against %d, %v", w.token, got, err)
		}
	}
	if f.accepted != 4 || f.refused != 1 {
		t.Errorf("%d accepted, %d refused", f.accepted, f.refused)
	}
}
