//go:build linux

// Command survive kills a server again and again, at random moments, while clients that
// it keeps and plain ones behind proxies hold, wait and release, over networks that
// reset connections, lose one direction or stand still, and with processes that are
// stopped. Proxies are killed, too, and their clients know that they have lost what they
// held. Nobody may ever see two holders of a lock, by the clock on the wall; no fencing
// token may go back; nobody may lose a lock before its own deadline; and of a rate there
// is never more than a burst for each start, and what comes back.
//
//	go run . [-kills 50] [-kept 200] [-plain 200] [-keep 6s] [-lockd PATH] [-build '-race']
//
// The server, the proxies and some of the clients are processes of their own. Where
// network namespaces can be made (as root, with ip and nft), the server is on a machine
// of its own, and some of the kept clients and of the proxies come to it over a cable
// that drops packets, is cut in one direction or both, or loses some connections whole.
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
)

type options struct {
	kills int
	kept  int           // clients
	plain int           // clients, behind the proxy
	keep  time.Duration // K
	names int           // of locks of each kind; 0: as many as fit
	cable bool          // that packets are dropped, where that can be
	lockd string        // the program; "": it is built
	build string        // flags for go build
	dir   string        // for files; "": a temporary one
}

// silence is H, --dead-peer-timeout: the least that there is.
const silence = 2 * time.Second

func main() {
	if os.Getenv(childEnv) != "" {
		exit(child())
	}
	var o options
	flag.IntVar(&o.kills, "kills", 50, "how often the server is killed")
	flag.IntVar(&o.kept, "kept", 200, "how many clients are kept")
	flag.IntVar(&o.plain, "plain", 200, "how many clients are not, behind the proxy")
	flag.DurationVar(&o.keep, "keep", 6*time.Second, "how long clients are kept")
	flag.IntVar(&o.names, "names", 0, "of how many locks of each kind (0: a third of the clients)")
	flag.BoolVar(&o.cable, "cable", true, "drop packets, in network namespaces")
	flag.StringVar(&o.lockd, "lockd", "", "the program, which else is built")
	flag.StringVar(&o.build, "build", "", "flags to build it with, such as '-race'")
	flag.StringVar(&o.dir, "dir", "", "where logs stay (a directory that is there)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "survive: what is %q? There are flags only, see -help\n", flag.Arg(0))
		os.Exit(2)
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

func newLoad(o options) *load {
	return &load{names: o.names, longest: o.keep / 2, wait: o.keep / 4, silence: silence, keep: o.keep, stop: o.keep / 40, vanish: make(chan struct{})}
}

// A lab is all that runs.
type lab struct {
	options
	out     io.Writer
	w       *witness
	load    *load
	server  *process
	proxies []*process // none without plain clients
	cable   *cable     // nil: none
	kids    *exec.Cmd
	began   time.Duration
	failed  chan error // of what runs beside

	listens, serves spans // from the kill on
	alone           spans // from the start on, when all come back at once
}

// survive does it all, and returns what was found.
func survive(ctx context.Context, out io.Writer, o options) error {
	dir := o.dir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "lockd-survive"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	if o.names == 0 {
		o.names = max(4, (o.kept+o.plain)/3)
	}
	if o.lockd == "" {
		var err error
		if o.lockd, err = build(dir, strings.Fields(o.build)); err != nil {
			return err
		}
	}
	b := newLab(o, out)
	if o.cable {
		var err error
		if b.cable, err = newCable(); err != nil {
			fmt.Fprintln(out, "no packets are dropped:", err)
		} else {
			defer b.cable.remove()
		}
	}
	return b.run(ctx, dir)
}

func newLab(o options, out io.Writer) *lab {
	return &lab{options: o, out: out, w: newWitness(), load: newLoad(o), began: now(), failed: make(chan error, 16)}
}

// newServer returns a server with a file of its own.
func newServer(o options, dir string, c *cable) (*process, error) {
	file := filepath.Join(dir, "state")
	if out, err := exec.Command(o.lockd, "state", "new", file).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("lockd state new: %w\n%s", err, out)
	}
	args := []string{"--state", file, "--max-keep", o.keep.String(), "--dead-peer-timeout", silence.String()}
	if c != nil {
		return c.newServer(o.lockd, dir, args...), nil
	}
	return newProcess(o.lockd, dir, "serve", args...)
}

func (b *lab) run(ctx context.Context, dir string) error {
	var err error
	if b.server, err = newServer(b.options, dir, b.cable); err != nil {
		return err
	}
	if err := b.start(ctx); err != nil {
		return err
	}
	defer func() { b.server.kill() }()

	toServer, err := (&relay{dial: b.server.dial, delay: 2 * time.Millisecond}).open()
	if err != nil {
		return err
	}
	defer toServer.close()
	upstream, err := (&relay{dial: b.server.dial}).open()
	if err != nil {
		return err
	}
	defer upstream.close()
	var doors []door
	var toProxy *relay
	defer func() {
		for _, p := range b.proxies {
			p.kill()
		}
	}()
	if b.plain > 0 {
		if doors, toProxy, err = b.openDoors(ctx, dir, upstream); err != nil {
			return err
		}
		defer toProxy.close()
	}

	work, stop := context.WithCancel(ctx)
	defer stop()
	var all, troubles sync.WaitGroup
	// An eighth each of the kept clients are in a process that is stopped, and are Lockers;
	// a quarter is beyond the cable.
	kids, lockers, far := b.kept/8, b.kept/8, 0
	if b.cable != nil {
		far = b.kept / 4
		f := b.family("kept, over a cable", b.server.addr, far-far/4)
		f.Lockers = far / 4
		if _, err := b.bear(&all, work, f, b.cable.FarCommand, 2_000_000); err != nil {
			return err
		}
	}
	if kids > 0 {
		if b.kids, err = b.bear(&all, work, b.family("stopped", toServer.addr(), kids), nil, 1_000_000); err != nil {
			return err
		}
	}
	for i := range b.kept - kids - lockers - far {
		all.Go(func() { b.load.keepers(work, b.w, "kept", toServer.addr(), 1+i%3) })
	}
	for range min(4, lockers) {
		all.Go(func() { b.fail(b.load.lockers(work, b.w, "locker", toServer.addr(), max(1, lockers/4))) })
	}
	for i := range b.plain {
		all.Go(func() { b.load.plains(work, b.w, doors[i%len(doors)]) })
	}
	trouble, calm := context.WithCancel(ctx)
	defer calm()
	troubles.Go(func() { toServer.trouble(trouble, b.w, "kept clients", 400*time.Millisecond, b.keep/2) })
	if b.plain > 0 {
		troubles.Go(func() { upstream.trouble(trouble, b.w, "proxy", 3*time.Second, b.keep/8) })
		troubles.Go(func() { toProxy.trouble(trouble, b.w, "plain clients", 700*time.Millisecond, b.keep/2) })
		troubles.Go(func() { b.fail(b.vex(trouble)) })
	}
	if b.cable != nil {
		troubles.Go(func() { b.fail(b.cable.storm(trouble, b.w, b.keep)) })
	}
	fmt.Fprintf(b.out, "%d kept clients and %d plain ones, %d locks of each kind, kept for %v: %d kills\n", b.kept, b.plain, b.names, b.keep, b.kills)
	last := (b.kills + 4) / 5
	err = b.torment(ctx, b.kills-last, false)
	calm()
	troubles.Wait()
	if err == nil {
		// Each proxy once more: what it held goes without a start of the server, too.
		for _, p := range b.proxies {
			err = errors.Join(err, b.killProxy(ctx, p))
		}
	}
	if err == nil {
		// The rest with networks that are well and nobody who is stopped: when all are
		// back at once, how long does it take?
		wait(ctx, b.keep+silence)
		err = b.torment(ctx, last, true)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // and nobody waits for what is still to come
	}
	stop()
	all.Wait()
	select {
	case e := <-b.failed:
		err = errors.Join(err, e)
	default:
	}
	if err == nil {
		err = b.settled(ctx)
	}
	return b.report(err)
}

// fail notes what has failed beside the rest.
func (b *lab) fail(err error) {
	if err != nil {
		b.failed <- err
	}
}

// openDoors starts proxies, and returns where plain clients can come to them, and a relay
// which is one of these ways.
func (b *lab) openDoors(ctx context.Context, dir string, upstream *relay) ([]door, *relay, error) {
	args := func(server string) []string {
		return []string{"--server", "tcp://" + server, "--dead-peer-timeout", silence.String(), "--patience", (2 * b.keep).String(), "--connect-timeout", "500ms"}
	}
	near, err := newProcess(b.lockd, dir, "proxy", args(upstream.addr())...)
	if err != nil {
		return nil, nil, err
	}
	proxies := []*process{near}
	if b.cable != nil {
		proxies = append(proxies, b.cable.newProxy(b.lockd, dir, args(b.server.addr)...))
	}
	for _, p := range proxies {
		if err := p.start(); err != nil {
			return nil, nil, err
		}
		b.proxies = append(b.proxies, p)
		if err := p.await(ctx); err != nil {
			return nil, nil, err
		}
	}
	toProxy, err := (&relay{dial: near.dial, first: 300 * time.Millisecond}).open()
	if err != nil {
		return nil, nil, err
	}
	doors := []door{
		{kind: "plain", dial: near.dial, proxy: near, own: true},
		{kind: "plain behind a relay", dial: dialTo("tcp", toProxy.addr()), proxy: near},
	}
	if b.cable != nil {
		doors = append(doors, door{kind: "plain, its proxy over a cable", dial: proxies[1].dial, proxy: proxies[1], own: true, cable: b.cable})
	}
	return doors, toProxy, nil
}

func (b *lab) start(ctx context.Context) error {
	if err := b.server.start(); err != nil {
		return err
	}
	b.w.mu.Lock()
	b.w.starts = append(b.w.starts, b.server.started)
	b.w.mu.Unlock()
	return b.server.await(ctx)
}

// torment kills the server so many times, and stops what runs in between.
func (b *lab) torment(ctx context.Context, kills int, calm bool) error {
	for i := 0; i < kills && ctx.Err() == nil; {
		pause(ctx, 1500*time.Millisecond)
		what := rand.IntN(7)
		if calm {
			what = -1
		}
		switch what {
		case 0:
			b.w.count("server: stopped and continued")
			halt(ctx, b.server.cmd, b.keep/8)
		case 1:
			if b.kids != nil {
				// Also for longer than a deadline: they have to find that out.
				b.w.count("clients: stopped and continued")
				halt(ctx, b.kids, b.keep*3/2)
			}
		}
		if !calm && rand.IntN(8) == 0 {
			// Its locks are kept, and the next recovery waits for it as long as it may.
			select {
			case b.load.vanish <- struct{}{}:
			default:
			}
		}
		stopped := !calm && rand.IntN(5) == 0
		if stopped {
			b.w.count("server: killed while it was stopped")
			b.server.signal(syscall.SIGSTOP)
			time.Sleep(rand.N(200 * time.Millisecond))
		}
		killed := b.server.kill()
		i++
		b.w.count("server: killed")
		if !calm && rand.IntN(3) == 0 && i < kills { // again, before it listens or while it recovers
			if err := b.server.start(); err != nil {
				return err
			}
			b.w.mu.Lock()
			b.w.starts = append(b.w.starts, b.server.started)
			b.w.mu.Unlock()
			time.Sleep(rand.N(300 * time.Millisecond))
			b.server.kill()
			i++
			b.w.count("server: killed twice in a row")
		}
		if err := b.start(ctx); err != nil {
			return err
		}
		b.listens = append(b.listens, now()-killed)
		got, err := newcomer(ctx, b.server.dial, fmt.Sprint("newcomer", len(b.serves)))
		if err != nil {
			return err
		}
		b.serves = append(b.serves, got-killed)
		if calm {
			b.alone = append(b.alone, got-b.server.started)
		}
		fmt.Fprintf(b.out, "%6.1fs: kill %d, a newcomer has a lock %v after it, %v after the start\n", (now() - b.began).Seconds(), i, (got - killed).Round(time.Millisecond), (got - b.server.started).Round(time.Millisecond))
	}
	pause(ctx, 2500*time.Millisecond)
	return nil
}

// halt stops a process for some time.
func halt(ctx context.Context, cmd *exec.Cmd, most time.Duration) {
	cmd.Process.Signal(syscall.SIGSTOP)
	pause(ctx, most)
	cmd.Process.Signal(syscall.SIGCONT)
}

// vex stops proxies, or kills them, now and then, whatever the server does meanwhile.
func (b *lab) vex(ctx context.Context) error {
	for pause(ctx, b.keep*2); ctx.Err() == nil; pause(ctx, b.keep*2) {
		p := b.proxies[rand.IntN(len(b.proxies))]
		if rand.IntN(4) > 0 { // each kill has the next recovery take as long as it may
			b.w.count("proxy: stopped and continued")
			halt(ctx, p.cmd, b.keep/8)
			continue
		}
		if err := b.killProxy(ctx, p); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// killProxy kills a proxy, and starts it again after a while.
func (b *lab) killProxy(ctx context.Context, p *process) error {
	b.w.count("proxy: killed")
	p.kill()
	pause(ctx, 500*time.Millisecond)
	if err := p.start(); err != nil {
		return err
	}
	return p.await(context.WithoutCancel(ctx))
}

// settled waits until nobody holds anything any more: all have gone, and those that have
// given up are not kept for longer than that.
func (b *lab) settled(ctx context.Context) error {
	var got string
	var err error
	for end := time.Now().Add(b.keep*2 + patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got, err = ask(b.server.dial, patience, "look* "); err == nil && strings.HasPrefix(got, "1 End") {
			return nil
		}
		if !strings.Contains(got, "\trate\t") {
			continue
		}
		// Rates stand in the list, too, until all their units are open.
	}
	return fmt.Errorf("when all have gone, there is %q left, %v", got, err)
}

// report says what was seen.
func (b *lab) report(err error) error {
	found := b.w.findings()
	if err != nil {
		found = append(found, err)
	}
	processes := append([]*process{b.server}, b.proxies...)
	for _, p := range processes {
		if err := p.complaints(); err != nil {
			found = append(found, err)
		}
	}
	if len(found) == 0 {
		found = append(found, b.server.stop())
	}
	for _, what := range slices.Sorted(maps.Keys(b.w.counts)) {
		fmt.Fprintf(b.out, "  %-60s %d\n", what, b.w.counts[what])
	}
	lost := map[string]int{}
	for _, l := range b.w.losses {
		why, _, _ := strings.Cut(l.Why, ":")
		if l.Early {
			why += " (EARLY)"
		}
		lost[l.Kind+": "+why]++
	}
	fmt.Fprintf(b.out, "%d locks held, %d units taken, in %v; %d locks lost\n", len(b.w.holds), len(b.w.takings), (now() - b.began).Round(time.Second), len(b.w.losses))
	for _, why := range slices.Sorted(maps.Keys(lost)) {
		fmt.Fprintf(b.out, "  %-60s %d\n", why, lost[why])
	}
	fmt.Fprintf(b.out, "from kill to listening: %v\nfrom kill to a newcomer's lock: %v\nfrom start to a newcomer's lock when networks are well: %v\n", b.listens, b.serves, b.alone)
	err = errors.Join(found...)
	if err != nil {
		for _, p := range processes {
			fmt.Fprintf(b.out, "the end of %s:\n%s", p.log, p.tail(20))
		}
	} else {
		fmt.Fprintln(b.out, "nothing is wrong")
	}
	return err
}
