//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/netlab"
)

// A trouble is a fault while it was there, and whom it may have cost locks.
type trouble struct {
	What     string
	From, To time.Duration // To is 0 while it is there

	all     bool          // everybody
	homes   []string      // clients that are at these nodes
	plain   []string      // clients that are at these nodes and are not kept
	clients []string      // those on these machines
	killed  []string      // nodes that ended without a word
	died    time.Duration // when
}

// covers tells whether it may be why a lock was lost. What it leads to comes later: a node
// is deleted after 2.1 W at most, and what its clients cannot claim is lost within G.
func (t *trouble) covers(l *loss, after time.Duration) bool {
	if l.At < t.From || t.To != 0 && l.At > t.To+after {
		return false
	}
	at := func(nodes []string) bool {
		return slices.Contains(nodes, l.Home) || l.Home == anyNode && len(nodes) > 0
	}
	kept := strings.HasPrefix(l.Kind, "kept")
	return t.all || at(t.homes) || !kept && at(t.plain) || slices.Contains(t.clients, l.Client)
}

// A fault does something bad for a while, and takes it back. It begins with saying what it
// is going to do.
type fault struct {
	name string
	// lasts is how long: one of these.
	lasts func(b *lab) []time.Duration
	do    func(ctx context.Context, b *lab, d time.Duration) error
	needs func(b *lab) bool // nil: nothing
	heavy bool              // nothing else is done meanwhile
}

func (b *lab) begin(t *trouble, format string, args ...any) *trouble {
	t.What, t.From = fmt.Sprintf(format, args...), now()
	b.mu.Lock()
	b.troubles = append(b.troubles, t)
	b.mu.Unlock()
	b.logf("%s", t.What)
	return t
}

func (b *lab) over(t *trouble) {
	b.mu.Lock()
	t.To = now()
	b.mu.Unlock()
	b.logf("over: %s", t.What)
}

func (b *lab) anyNode() *node { return b.nodes[b.intN(len(b.nodes))] }

func (b *lab) intN(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rand.IntN(n)
}

// somebody may be cut off, or stand still, for so long without that anybody loses anything:
// a node is deleted when it was silent for 1.1 W, of which W/3 may be its own pause.
func (b *lab) unnoticed(d time.Duration) bool { return d < b.W*3/4 }

func halfTwiceG(b *lab) []time.Duration { return []time.Duration{b.W / 2, 2 * b.W, 2 * b.G} }

var faults = []fault{
	{name: "kill", lasts: func(b *lab) []time.Duration { return []time.Duration{b.W / 10, b.W / 2, 3 * b.W} }, do: kill},
	{name: "stop", lasts: halfTwiceG, do: stop},
	{name: "etcd-member", lasts: func(b *lab) []time.Duration { return []time.Duration{b.W / 2, 3 * b.W} }, do: func(ctx context.Context, b *lab, d time.Duration) error {
		return etcdKill(ctx, b, d, b.intN(len(b.etcd.members)))
	}},
	{name: "etcd-leader", lasts: func(b *lab) []time.Duration { return []time.Duration{b.W / 2, 3 * b.W} }, do: func(ctx context.Context, b *lab, d time.Duration) error {
		return etcdKill(ctx, b, d, max(0, b.etcd.leader(ctx)))
	}},
	{name: "etcd-away", lasts: func(b *lab) []time.Duration { return []time.Duration{b.W + 2*time.Second} }, do: etcdAway, heavy: true},
	{name: "etcd-long-away", lasts: func(b *lab) []time.Duration { return []time.Duration{b.W + b.G} }, do: etcdAway, heavy: true},
	{name: "compact", lasts: func(b *lab) []time.Duration { return []time.Duration{b.W / 2} }, do: compact, heavy: true},
	{name: "pair", lasts: func(b *lab) []time.Duration { return []time.Duration{b.W / 2, 2 * b.W, b.G} }, do: pair},
	{name: "no-etcd", lasts: halfTwiceG, do: func(ctx context.Context, b *lab, d time.Duration) error {
		n, way := b.anyNode(), b.way()
		t := &trouble{}
		if !b.unnoticed(d) {
			t.homes = []string{n.Name}
		}
		return b.cut(ctx, d, t, n.Machine, way, b.etcdMachines()...)
	}},
	{name: "alone", lasts: halfTwiceG, do: func(ctx context.Context, b *lab, d time.Duration) error {
		n, way := b.anyNode(), b.way()
		t := &trouble{}
		if !b.unnoticed(d) {
			t.homes = []string{n.Name}
		}
		return b.cut(ctx, d, t, n.Machine, way)
	}},
	{name: "lossy", lasts: func(b *lab) []time.Duration { return []time.Duration{3 * b.W, b.G} }, do: lossy},
	{name: "clients-stop", lasts: func(b *lab) []time.Duration { return []time.Duration{b.W, 2 * b.G} }, do: clientsStop},
	{name: "clients-cut", lasts: func(b *lab) []time.Duration { return []time.Duration{b.W, 2 * b.G} }, do: func(ctx context.Context, b *lab, d time.Duration) error {
		return b.cut(ctx, d, &trouble{clients: []string{b.victims.Name}}, b.victims.Machine, b.way())
	}},
	{name: "drain", lasts: func(b *lab) []time.Duration { return []time.Duration{b.W, 3 * b.W} }, do: drain, needs: moves},
	{name: "mover-kill", lasts: func(b *lab) []time.Duration { return []time.Duration{b.W / 2, 3 * b.W} }, do: moverKill, needs: moves},
	{name: "leave", lasts: func(b *lab) []time.Duration { return []time.Duration{b.W / 2, 3 * b.W} }, do: leave},
	{name: "restore", lasts: func(b *lab) []time.Duration { return []time.Duration{2 * b.W} }, do: restore, heavy: true, needs: func(b *lab) bool { return b.Restore }},
}

func moves(b *lab) bool { return b.Moves }

func kill(ctx context.Context, b *lab, d time.Duration) error {
	n := b.anyNode()
	t := &trouble{plain: []string{n.Name}, killed: []string{n.Name}}
	if !b.Roam { // who comes back at the same place finds that nobody knows it
		t.homes = t.plain
	}
	b.begin(t, "kill -9 of %s, started again after %v", n.Name, d)
	defer b.over(t)
	b.died(t)
	n.kill()
	wait(ctx, d)
	return n.start()
}

// died notes when a node is killed.
func (b *lab) died(t *trouble) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t.died = now()
}

func leave(ctx context.Context, b *lab, d time.Duration) error {
	n := b.anyNode()
	t := &trouble{plain: []string{n.Name}}
	if !b.Roam { // who comes back at the same place finds that nobody knows it
		t.homes = t.plain
	}
	b.begin(t, "SIGTERM to %s, started again %v after its end", n.Name, d)
	defer b.over(t)
	n.end(syscall.SIGTERM)
	wait(ctx, d)
	return n.start()
}

func stop(ctx context.Context, b *lab, d time.Duration) error {
	n := b.anyNode()
	t := &trouble{}
	if !b.unnoticed(d) {
		t.homes = []string{n.Name}
	}
	b.begin(t, "SIGSTOP of %s for %v", n.Name, d)
	defer b.over(t)
	n.pause(ctx, d)
	return nil
}

// pause has a node stand still.
func (n *node) pause(ctx context.Context, d time.Duration) {
	n.signal(syscall.SIGSTOP)
	wait(ctx, d)
	n.signal(syscall.SIGCONT)
}

func etcdKill(ctx context.Context, b *lab, d time.Duration, i int) error {
	m := b.etcd.members[i]
	t := b.begin(&trouble{}, "kill -9 of %s, started again after %v", m.Name, d)
	defer b.over(t)
	m.kill()
	wait(ctx, d)
	return m.start()
}

// etcdAway stops all of etcd. For W and a bit nobody loses anything, and nobody is deleted.
func etcdAway(ctx context.Context, b *lab, d time.Duration) error {
	t := &trouble{all: d > b.W+2*time.Second || b.h()*5/10 < 3*time.Second}
	b.begin(t, "all of etcd is away for %v", d)
	defer b.over(t)
	for _, m := range b.etcd.members {
		m.signal(syscall.SIGSTOP) // all at the same time
	}
	for _, m := range b.etcd.members {
		m.kill()
	}
	wait(ctx, d)
	var err error
	for _, m := range b.etcd.members {
		err = errors.Join(err, m.start())
	}
	if ctx.Err() != nil || err != nil {
		return err
	}
	// A machine that is busy takes its time to start it, and to elect a leader, and for so long it is away.
	for back := false; !back && ctx.Err() == nil; wait(ctx, 20*time.Millisecond) {
		_, err := b.etcd.look(ctx)
		back = err == nil
	}
	if away := now() - t.From; away > b.h()*7/10 {
		b.mu.Lock()
		t.all = true
		b.mu.Unlock()
		b.logf("it was away for %v", away.Round(time.Millisecond))
	}
	// Until nodes have found it again.
	wait(ctx, 3*b.W)
	if b.alone(t) {
		if n := b.history.changed(t.From, now()); n > 0 {
			b.find(fmt.Errorf("all of etcd was away for %v, and then the map has changed %d times: nobody was to be deleted", d, n))
		}
	}
	return nil
}

// compact has etcd forget its history while a node does not listen, whose watch breaks and cannot
// go on from where it was.
func compact(ctx context.Context, b *lab, d time.Duration) error {
	n := b.anyNode()
	t := b.begin(&trouble{homes: []string{n.Name}}, "SIGSTOP of %s for %v, in which etcd is compacted and starts again", n.Name, d)
	defer b.over(t)
	n.signal(syscall.SIGSTOP)
	defer n.signal(syscall.SIGCONT)
	wait(ctx, d/2) // there are heartbeats of which it does not hear
	err := b.etcd.compact(ctx)
	for _, m := range b.etcd.members {
		m.kill()
	}
	for _, m := range b.etcd.members {
		err = errors.Join(err, m.start())
	}
	wait(ctx, d/2)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// alone tells whether a trouble is the only one, and has been for some time.
func (b *lab) alone(t *trouble) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.troubles {
		if o != t && (o.To == 0 || o.To+b.after() > t.From) {
			return false
		}
	}
	return true
}

// after is how long a trouble has consequences.
func (b *lab) after() time.Duration { return 3*b.W + b.G*13/10 + 2*time.Second }

// The ways to cut.
var ways = []string{"both ways", "it hears nothing", "it is not heard"}

func (b *lab) way() int { return b.intN(len(ways)) }

func (b *lab) etcdMachines() (all []*netlab.Machine) {
	for _, m := range b.etcd.members {
		all = append(all, m.Machine)
	}
	return all
}

// cut cuts a machine off from some, all if there are none.
func (b *lab) cut(ctx context.Context, d time.Duration, t *trouble, m *netlab.Machine, way int, from ...*netlab.Machine) error {
	drop := netlab.Drop{In: 100, Out: 100, Peers: from}
	switch way {
	case 1:
		drop.Out = 0
	case 2:
		drop.In = 0
	}
	whom := "all"
	for i, f := range from {
		if whom = f.Name; i > 0 {
			whom = "etcd"
		}
	}
	b.begin(t, "%s is cut off from %s for %v, %s", m.Name, whom, d, ways[way])
	defer b.over(t)
	return b.drop(ctx, d, m, drop)
}

func (b *lab) drop(ctx context.Context, d time.Duration, m *netlab.Machine, drop netlab.Drop) error {
	mend, err := m.Drop(drop)
	if err != nil {
		return err
	}
	wait(ctx, d)
	return mend()
}

// pair cuts two nodes off from each other. Each one's clients lose what they hold at the
// other, if that lasts.
func pair(ctx context.Context, b *lab, d time.Duration) error {
	i := b.intN(len(b.nodes))
	j := (i + 1 + b.intN(len(b.nodes)-1)) % len(b.nodes)
	x, y := b.nodes[i], b.nodes[j]
	t := &trouble{}
	if d > b.h()/3 {
		t.homes = []string{x.Name, y.Name}
	}
	return b.cut(ctx, d, t, x.Machine, b.way(), y.Machine)
}

func lossy(ctx context.Context, b *lab, d time.Duration) error {
	machines := b.etcdMachines()
	for _, n := range b.nodes {
		machines = append(machines, n.Machine)
	}
	machines = append(machines, b.victims.Machine)
	m := machines[b.intN(len(machines))]
	drop := netlab.Drop{In: 2 + b.intN(18), Out: 2 + b.intN(18)}
	t := b.begin(&trouble{homes: []string{m.Name}, clients: []string{m.Name}}, "%s loses %d %% of what comes in and %d %% of what goes out, for %v", m.Name, drop.In, drop.Out, d)
	defer b.over(t)
	return b.drop(ctx, d, m, drop)
}

func clientsStop(ctx context.Context, b *lab, d time.Duration) error {
	t := b.begin(&trouble{clients: []string{b.victims.Name}}, "SIGSTOP of the clients on %s for %v", b.victims.Name, d)
	defer b.over(t)
	b.victims.cmd.Process.Signal(syscall.SIGSTOP)
	wait(ctx, d)
	b.victims.cmd.Process.Signal(syscall.SIGCONT)
	return nil
}

// drain has a node be rid of its partitions for a while: nobody loses anything by that.
func drain(ctx context.Context, b *lab, d time.Duration) error {
	n := b.anyNode()
	t := b.begin(&trouble{}, "%s is drained, for %v", n.Name, d)
	defer b.over(t)
	_, err := b.cluster(ctx, "drain", n.Name)
	if err != nil {
		b.logf("drain: %v", err)
	}
	wait(ctx, d)
	_, err = b.cluster(context.WithoutCancel(ctx), "drain", n.Name, "--undo")
	if err != nil {
		b.logf("drain --undo: %v", err)
	}
	return nil
}

// moverKill kills a node in the middle of its moves.
func moverKill(ctx context.Context, b *lab, d time.Duration) error {
	n := b.anyNode()
	t := &trouble{plain: []string{n.Name}, killed: []string{n.Name}}
	if !b.Roam {
		t.homes = t.plain
	}
	b.begin(t, "%s is drained, killed with -9 meanwhile, and started again after %v", n.Name, d)
	defer b.over(t)
	if _, err := b.cluster(ctx, "drain", n.Name); err != nil {
		b.logf("drain: %v", err)
	}
	wait(ctx, time.Duration(b.intN(int(b.W))))
	b.died(t)
	n.kill()
	wait(ctx, d)
	if _, err := b.cluster(context.WithoutCancel(ctx), "drain", n.Name, "--undo"); err != nil {
		b.logf("drain --undo: %v", err)
	}
	return n.start()
}

// restore has etcd forget what was written since a while ago: it is kept down for longer
// than W, and then all partitions recover.
func restore(ctx context.Context, b *lab, d time.Duration) error {
	t := b.begin(&trouble{all: true}, "etcd is restored from a snapshot, %v old", d)
	defer b.over(t)
	down := func() {
		for _, m := range b.etcd.members {
			m.signal(syscall.SIGSTOP)
		}
		for _, m := range b.etcd.members {
			m.kill()
		}
	}
	up := func() (err error) {
		for _, m := range b.etcd.members {
			err = errors.Join(err, m.start())
		}
		return err
	}
	down()
	var err error
	for _, dir := range b.etcd.dirs {
		err = errors.Join(err, os.RemoveAll(dir+".old"), os.CopyFS(dir+".old", os.DirFS(dir)))
	}
	if err = errors.Join(err, up()); err != nil {
		return err
	}
	wait(ctx, d)
	down()
	for _, dir := range b.etcd.dirs {
		err = errors.Join(err, os.RemoveAll(dir), os.Rename(dir+".old", dir))
	}
	wait(ctx, b.W*3/2)
	return errors.Join(err, up())
}

// storm makes faults at random, two at a time now and then, until the context ends. What
// one of them needs is looked at as it begins.
func (b *lab) storm(ctx context.Context, names []string) error {
	var all sync.WaitGroup
	defer all.Wait()
	var slots sync.RWMutex // a heavy one has all of it
	failed := make(chan error, 16)
	two := make(chan struct{}, 2)
	for ctx.Err() == nil {
		var can []fault
		for _, f := range faults {
			if (len(names) == 0 || slices.Contains(names, f.name)) && (f.needs == nil || f.needs(b)) {
				can = append(can, f)
			}
		}
		if len(can) == 0 {
			<-ctx.Done()
			break
		}
		f := can[b.intN(len(can))]
		durations := f.lasts(b)
		d := durations[min(b.intN(len(durations)), b.intN(len(durations)))] // the shorter ones more often
		select {
		case two <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		all.Go(func() {
			defer func() { <-two }()
			if f.heavy {
				slots.Lock()
				defer slots.Unlock()
			} else {
				slots.RLock()
				defer slots.RUnlock()
			}
			b.w.count("fault: " + f.name)
			if err := f.do(ctx, b, d); err != nil && ctx.Err() == nil {
				failed <- fmt.Errorf("%s: %w", f.name, err)
			}
		})
		select {
		case err := <-failed:
			return err
		default:
		}
		pause := b.W
		if b.intN(3) > 0 { // or nothing of two faults alone would ever be seen
			pause = b.W*3 + b.G
		}
		wait(ctx, time.Duration(b.intN(int(pause))))
	}
	return nil
}

// unexplained are the losses for which there is no reason, among those that are old enough.
func (b *lab) unexplained(before time.Duration) (found []error) {
	b.w.mu.Lock()
	var losses, later []loss
	for _, l := range b.w.losses {
		if l.At < before || l.Never {
			losses = append(losses, l)
		} else {
			later = append(later, l)
		}
	}
	b.w.losses = later
	b.w.mu.Unlock()
	b.noteStalls()
	slices.SortFunc(losses, func(x, y loss) int { return cmp.Compare(x.At, y.At) })
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range losses {
		why, _, _ := strings.Cut(l.Why, ":")
		b.record("losses", "%v", l)
		var reason *trouble
		if !l.Never {
			for _, t := range b.troubles {
				if t.covers(&l, b.after()) {
					reason = t
				}
			}
		}
		if reason == nil {
			b.lost[l.Kind+": "+why+" (FOR NO REASON)"]++
			name := l.Name
			if len(name) > 2 {
				name = name[2:]
			}
			found = append(found, fmt.Errorf("for no reason: %v; its owners of late: %v; faults then: %s", l, b.history.owners(name, l.At-b.after(), l.At), b.around(l.At)))
			continue
		}
		b.lost[l.Kind+": "+why]++
	}
	return found
}

// around are the faults of about a time. The caller holds b.mu.
func (b *lab) around(at time.Duration) string {
	var all []string
	for _, t := range b.troubles {
		if t.From <= at && (t.To == 0 || t.To+b.after() > at) {
			all = append(all, fmt.Sprintf("%.3f to %.3f %s", t.From.Seconds(), t.To.Seconds(), t.What))
		}
	}
	return strings.Join(all, "; ")
}
