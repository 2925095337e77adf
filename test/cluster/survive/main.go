//go:build linux

// Command survive runs a cluster of lockds over an etcd of three members, each on a machine
// of its own (a network namespace), has clients of all kinds hold, wait and release at any
// of them, and meanwhile kills, stops and cuts off nodes, members of etcd and clients, in
// all ways that it knows. Nobody may ever see more holders of a lock than there may be, by
// the clock on the wall; no fencing token may go back; a store that is written under these
// tokens refuses nobody who still believes in its lock; and nobody loses a lock unless a
// fault has taken it.
//
//	go run . [-for 2m] [-nodes 3] [-w 1s] [-g 8s] [-seed N] [-faults kill,stop] [-dir DIR]
//
// It has to be root, with ip and nft.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/netlab"
	"github.com/nylen/lockd/internal/shard"
)

type options struct {
	For     time.Duration // how long; 0: each fault once, alone
	Nodes   int
	Clients int // about
	W, G    time.Duration
	K       time.Duration // 0: as much as there may be
	Names   int
	Seed    uint64
	Faults  string // by names; "": all
	Moves   bool   // partitions move: nodes that join are given some
	Roam    bool   // kept clients come back at any node
	Restore bool
	Clocks  bool   // those of the first two nodes, and of Lockers, run at other rates
	Wrong   string // what the first node does wrong
	Lockd   string // the program; "": it is built
	Build   string // flags for go build
	Dir     string // for files; "": a temporary one

	serve  []string // more flags of nodes
	once   bool     // each fault in one of its lengths only
	long   bool     // locks are held for long
	unwell bool     // nobody waits in the end until all is well
}

func main() {
	if is, err := child(); is {
		exit(err)
	}
	var o options
	var list bool
	flag.DurationVar(&o.For, "for", 2*time.Minute, "how long faults are mixed at random; 0: each of them once, one after another")
	flag.IntVar(&o.Nodes, "nodes", 3, "how many nodes")
	flag.IntVar(&o.Clients, "clients", 100, "how many clients, about")
	flag.DurationVar(&o.W, "w", time.Second, "W, how long a node may serve after its last heartbeat")
	flag.DurationVar(&o.G, "g", 8*time.Second, "G, the longest that anybody may believe in a lock without hearing of it")
	flag.DurationVar(&o.K, "keep", 0, "K, how long clients are kept (0: what G allows)")
	flag.IntVar(&o.Names, "names", 0, "of how many locks of each kind at a time (0: a third of the clients)")
	flag.Uint64Var(&o.Seed, "seed", 0, "has the same faults be made once more, if nothing else is different (0: another one)")
	flag.StringVar(&o.Faults, "faults", "", "which, by names with commas between (all)")
	flag.BoolVar(&o.Moves, "moves", true, "partitions are moved, too: drains, and all even in the end")
	flag.BoolVar(&o.Roam, "roam", true, "kept clients come back at any node")
	flag.BoolVar(&o.Restore, "restore", false, "etcd is restored from a snapshot, too")
	flag.BoolVar(&o.Clocks, "clocks", false, fmt.Sprintf("clocks go at other rates: %v and %v times the machine's at two nodes, %v at Lockers", slowClock, fastClock, slowLocker))
	flag.StringVar(&o.Wrong, "wrong", "", "what the first node does wrong: "+strings.Join(wrongs, ", "))
	flag.StringVar(&o.Lockd, "lockd", "", "the program, which else is built")
	flag.StringVar(&o.Build, "build", "", "flags to build it with, such as '-race'")
	flag.StringVar(&o.Dir, "dir", "", "where logs stay (a directory that is there)")
	flag.BoolVar(&list, "list", false, "show the faults' names")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "survive: what is %q? There are flags only, see -help\n", flag.Arg(0))
		os.Exit(2)
	}
	if list {
		for _, f := range faults {
			fmt.Println(f.name)
		}
		return
	}
	// Whoever interrupts it has all taken away that it has made; and again, nothing.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	exit(survive(ctx, os.Stdout, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "survive:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A lab is all that runs.
type lab struct {
	options
	out     io.Writer
	dir     string
	w       *witness
	network *netlab.Switch
	desk    *netlab.Machine // that nothing befalls
	etcd    *ensemble
	nodes   []*node
	fence   *fence
	crowd   *crowd // clients that nothing befalls
	victims *crowd // and clients that are stopped, and cut off
	history history
	began   time.Duration

	mu       sync.Mutex // guards what follows
	rand     *rand.Rand
	troubles []*trouble
	lost     map[string]int // by why
	found    []error
	first    spans // from a kill to the first new grant in the dead node's partitions
	longest  spans // the longest pause in others' partitions, at each kill
	measured int   // of the troubles
	stalled  spans // for how long the lab was not able to do anything
}

// h is H, as much as G allows.
func (b *lab) h() time.Duration { return (b.G * 85 / 100).Truncate(time.Millisecond) }

func (b *lab) k() time.Duration {
	if b.K != 0 {
		return b.K
	}
	return b.h()
}

func (b *lab) logf(format string, args ...any) {
	fmt.Fprintf(b.out, "%10.3f: %s\n", now().Seconds(), fmt.Sprintf(format, args...))
}

// find notes what is wrong, and says so at once.
func (b *lab) find(found ...error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, err := range found {
		b.found = append(b.found, err)
		if len(b.found) <= 50 {
			b.logf("FOUND: %v", err)
		}
		b.record("found", "%v", err)
	}
}

// record writes a line into a file beside the logs.
func (b *lab) record(name, format string, args ...any) {
	if f, err := os.OpenFile(filepath.Join(b.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
		fmt.Fprintf(f, format+"\n", args...)
		f.Close()
	}
}

// build makes lockd.
func build(dir string, flags []string) (string, error) {
	path := filepath.Join(dir, "lockd")
	cmd := exec.Command("go", append(append([]string{"build", "-pgo=off"}, flags...), "-o", path, "./cmd/lockd")...)
	cmd.Dir = filepath.Join("..", "..", "..") // the module around this one
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// survive does it all, and returns what was found.
func survive(ctx context.Context, out io.Writer, o options) error {
	b, err := newLab(ctx, out, o)
	if err != nil {
		return err
	}
	defer b.close()
	if o.For == 0 {
		return b.run(ctx, b.each)
	}
	return b.run(ctx, func(ctx context.Context) error {
		ctx, stop := context.WithTimeout(ctx, o.For)
		defer stop()
		return b.storm(ctx, b.chosen())
	})
}

func (b *lab) chosen() []string {
	if b.Faults == "" {
		return nil
	}
	return strings.Split(b.Faults, ",")
}

// newLab makes the machines, and starts etcd and the nodes.
func newLab(ctx context.Context, out io.Writer, o options) (b *lab, err error) {
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Names == 0 {
		o.Names = max(4, o.Clients/3)
	}
	b = &lab{options: o, out: &lines{to: out}, w: newWitness(), began: now(), rand: rand.New(rand.NewPCG(o.Seed, 0)), lost: map[string]int{}}
	fmt.Fprintf(b.out, "seed %d: %d nodes, about %d clients, %d locks of each kind, W %v, G %v, H %v, K %v\n", o.Seed, o.Nodes, o.Clients, o.Names, o.W, o.G, b.h(), b.k())
	if b.dir = o.Dir; b.dir == "" {
		parent := ""
		if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
			parent = "/dev/shm"
		}
		if b.dir, err = os.MkdirTemp(parent, "lockd-cluster"); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.network, err = netlab.NewSwitch(); err != nil {
		return b, err
	}
	if b.Lockd == "" {
		if b.Lockd, err = build(b.dir, strings.Fields(b.Build)); err != nil {
			return b, err
		}
	}
	if b.desk, err = b.network.Machine("desk"); err != nil {
		return b, err
	}
	if b.etcd, err = b.newEnsemble(3); err != nil {
		return b, err
	}
	if b.fence, err = newFence(filepath.Join(b.dir, "store")); err != nil {
		return b, err
	}
	for end := time.Now().Add(patience); ; wait(ctx, 100*time.Millisecond) {
		var said string
		said, err = b.cluster(ctx, "init", "--node-timeout", b.W.String(), "--holder-timeout", b.G.String())
		if err == nil {
			break
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return b, fmt.Errorf("%w%s", err, said)
		}
	}
	if !b.Moves {
		if _, err = b.cluster(ctx, "rebalance", "off"); err != nil {
			return b, err
		}
	}
	for i := range b.Nodes {
		n, err := b.newNode(fmt.Sprint("n", i+1))
		if err != nil {
			return b, err
		}
		if err := n.differ(b, i); err != nil {
			return b, err
		}
		if err := n.start(); err != nil {
			return b, err
		}
		b.nodes = append(b.nodes, n)
	}
	return b, b.served(ctx)
}

// close ends all of it.
func (b *lab) close() {
	for _, n := range b.nodes {
		n.signal(syscall.SIGCONT)
		n.kill()
	}
	if b.etcd != nil {
		for _, m := range b.etcd.members {
			m.kill()
		}
	}
	if b.fence != nil {
		b.fence.close()
	}
	if b.network != nil {
		b.network.Remove()
	}
	if b.Dir == "" {
		os.RemoveAll(b.dir)
	}
}

// epoch is how long the same locks are wanted.
func (b *lab) epoch() time.Duration { return max(time.Minute, 6*b.G) }

// load is what clients on a machine want, of a number of them.
func (b *lab) load(machine string, clients int) load {
	l := load{
		Machine: machine, Fence: filepath.Join(b.dir, "store"), Names: b.Names, Epoch: b.epoch(), H: b.h(), K: b.k(),
		Longest: b.k() / 2, Wait: b.k() / 4, Stop: b.k() / 40, Roam: b.Roam, Stall: tooLong(b.W),
		Plain: clients / 2, Kept: clients / 4, // which are two each
	}
	if b.Wrong == slow {
		l.Longest = 3 * b.G // what is believed in for too long has to be held for so long
	} else if b.long {
		l.Longest *= 4
	}
	for _, n := range b.nodes {
		l.Nodes = append(l.Nodes, place{n.Name, n.Addr + ":9999"})
	}
	return l
}

// run has clients work while something is done, and tells what was found.
func (b *lab) run(ctx context.Context, do func(context.Context) error) error {
	var all, beside sync.WaitGroup
	watch, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	defer unwatch()
	beside.Go(func() { b.follow(watch) })
	for b.history.last() == nil && ctx.Err() == nil {
		wait(ctx, 10*time.Millisecond)
	}
	var crowds []*crowd
	for i, name := range []string{"clients", "victims"} {
		m, err := b.network.Machine(name)
		if err != nil {
			return err
		}
		clients := b.Clients * 4 / 5
		if i == 1 {
			clients = b.Clients / 5
		}
		l := b.load(name, clients)
		if i == 0 {
			l.Probes, l.Lockers, l.KeptLockers = true, b.Clients/8, b.Clients/8
		}
		if b.Clocks {
			l.Rate = slowLocker
		}
		c, err := b.bear(&all, m, l, (i+1)*1_000_000_000)
		if err != nil {
			return err
		}
		crowds = append(crowds, c)
	}
	b.crowd, b.victims = crowds[0], crowds[1]
	beside.Go(func() { b.watch(watch) })
	beside.Go(func() { stalls(watch, b.w, "", tooLong(b.W)) })
	wait(ctx, 2*b.W)
	err := do(ctx)
	if ctx.Err() == nil && err == nil && !b.unwell {
		err = b.recover(ctx)
	}
	for _, c := range crowds {
		c.leave()
		// Who does not end within any deadline is to say where it is.
		quit := time.AfterFunc(patience+4*b.k()+b.G, func() { c.cmd.Process.Signal(syscall.SIGQUIT) })
		defer quit.Stop()
	}
	if ctx.Err() != nil { // nobody waits for what is still to come
		for _, c := range crowds {
			c.cmd.Process.Kill()
		}
	}
	all.Wait()
	unwatch()
	beside.Wait()
	return b.report(err)
}

// recover waits until all is well again.
func (b *lab) recover(ctx context.Context) error {
	err := b.served(ctx)
	wait(ctx, 2*b.W)
	return err
}

// watch judges all the time, and says how it goes.
func (b *lab) watch(ctx context.Context) {
	seen := map[string]bool{}
	last, held := now(), 0
	for n := 0; ctx.Err() == nil; n++ {
		wait(ctx, 5*time.Second)
		b.w.mu.Lock()
		grants, lost := b.w.held, b.w.lost
		b.w.mu.Unlock()
		b.logf("%d grants a second, %d in all, %d lost", int(float64(grants-held)/(now()-last).Seconds()), grants, lost)
		last, held = now(), grants
		for name, holds := range b.w.sorted(func(name string) bool { return !seen[name] }) {
			if found := overlaps(name, holds); len(found) > 0 {
				seen[name] = true
				b.find(b.explain(name, found)...)
			}
		}
		// What was lost in the last seconds may have a reason that is noted in a moment.
		b.find(b.unexplained(now() - time.Second)...)
		b.measure()
		if n%6 == 5 { // names that nobody wants any more
			this := int64((now() - 2*b.k() - b.after()) / b.epoch())
			old := func(name string) bool { return epochOf(name) < this }
			b.settle(old)
			b.judgeRates(false)
		}
	}
}

func epochOf(name string) (n int64) {
	_, e, _ := strings.Cut(name, ".")
	fmt.Sscan(e, &n)
	return n
}

// settle judges locks for the last time.
func (b *lab) settle(wanted func(name string) bool) {
	for name, holds := range b.w.sorted(wanted) {
		b.find(b.explain(name, overlaps(name, holds))...)
		if err := linearizable(name, holds); err != nil {
			b.find(b.explain(name, []error{err})...)
		}
	}
	b.w.drop(wanted)
}

// explain adds what else is known of a lock.
func (b *lab) explain(name string, found []error) (all []error) {
	for _, err := range found {
		all = append(all, fmt.Errorf("%w; partition %d, its owners: %v", err, shard.PartitionOf([]byte(name[2:])), b.history.owners(name[2:], 0, now())))
	}
	return all
}

// each makes each fault once in each of its lengths, one after another.
func (b *lab) each(ctx context.Context) error {
	chosen := b.chosen()
	for _, f := range faults {
		if len(chosen) > 0 && !slices.Contains(chosen, f.name) || f.needs != nil && !f.needs(b) {
			continue
		}
		durations := f.lasts(b)
		if b.once { // the second is what is too long to go unnoticed
			durations = durations[min(1, len(durations)-1):][:1]
		}
		for _, d := range durations {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b.w.count("fault: " + f.name)
			if err := f.do(ctx, b, d); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			if err := b.recover(ctx); err != nil {
				return fmt.Errorf("after %s: %w", f.name, err)
			}
		}
	}
	return nil
}

// report says what was seen.
func (b *lab) report(err error) error {
	b.settle(func(string) bool { return true })
	b.judgeRates(true)
	b.find(b.unexplained(1 << 62)...)
	b.measured = min(b.measured, len(b.troubles))
	b.measure()
	if err != nil {
		b.find(err)
	}
	for _, n := range b.nodes {
		b.find(n.complaints("restored from an earlier state")...)
	}
	fmt.Fprintln(b.out)
	for _, what := range slices.Sorted(maps.Keys(b.w.counts)) {
		fmt.Fprintf(b.out, "  %-60s %d\n", what, b.w.counts[what])
	}
	last := b.history.last()
	fmt.Fprintf(b.out, "%-40s %d\n%-40s %d\n%-40s %d\n", "grants", b.w.held, "releases", b.w.freed, "locks lost", b.w.lost)
	for _, why := range slices.Sorted(maps.Keys(b.lost)) {
		fmt.Fprintf(b.out, "  %-60s %d\n", why, b.lost[why])
	}
	fmt.Fprintf(b.out, "%-40s %d accepted, %d refused\n", "writes under tokens", b.fence.accepted, b.fence.refused)
	if last != nil {
		fmt.Fprintf(b.out, "%-40s %d\n", "maps", last.m.Version)
	}
	fmt.Fprintf(b.out, "%-40s %v\n", "kill -9 to a new grant in its partitions", b.first)
	fmt.Fprintf(b.out, "%-40s %v\n", "the longest pause in others' meanwhile", b.longest)
	fmt.Fprintf(b.out, "%-40s %v\n", "the machine stood still", b.stalled)
	fmt.Fprintf(b.out, "seed %d\n", b.Seed)
	if len(b.found) > 20 {
		b.found = append(b.found[:20], fmt.Errorf("and %d more", len(b.found)-20))
	}
	return errors.Join(b.found...)
}

// lines has whole lines be written by many.
type lines struct {
	mu sync.Mutex
	to io.Writer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(b)
}
