//go:build linux

// Command survive kills a server again and again, at random moments, while clients that
// it keeps and plain ones behind a proxy hold, wait and release, over networks that
// reset connections, lose one direction or stand still, and with processes that are
// stopped. Nobody may ever see two holders of a lock, by the clock on the wall; no
// fencing token may go back; and nobody may lose a lock before its own deadline.
//
//	go run . [-kills 50] [-kept 200] [-plain 200] [-keep 6s] [-lockd PATH] [-build '-race']
//
// The server, the proxy and some of the clients are processes of their own.
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
	"path/filepath"
	"slices"
	"strconv"
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
	lockd string        // the program; "": it is built
	build string        // flags for go build
	dir   string        // for files; "": a temporary one
}

// silence is H, --dead-peer-timeout: the least that there is.
const silence = 2 * time.Second

func main() {
	if os.Getenv(childEnv) != "" {
		exit(child(os.Args[1:]))
	}
	var o options
	flag.IntVar(&o.kills, "kills", 50, "how often the server is killed")
	flag.IntVar(&o.kept, "kept", 200, "how many clients are kept")
	flag.IntVar(&o.plain, "plain", 200, "how many clients are not, behind the proxy")
	flag.DurationVar(&o.keep, "keep", 6*time.Second, "how long clients are kept")
	flag.IntVar(&o.names, "names", 0, "of how many locks of each kind (0: a third of the clients)")
	flag.StringVar(&o.lockd, "lockd", "", "the program, which else is built")
	flag.StringVar(&o.build, "build", "", "flags to build it with, such as '-race'")
	flag.StringVar(&o.dir, "dir", "", "where logs stay (a directory that is there)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "survive: what is %q? There are flags only, see -help\n", flag.Arg(0))
		os.Exit(2)
	}
	exit(survive(context.Background(), os.Stdout, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "survive:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// childEnv makes this program clients that are stopped as a process.
const childEnv = "LOCKD_SURVIVE_CHILD"

// child runs kept clients until its input ends, and writes what they saw to its output.
func child(args []string) error {
	if len(args) != 4 {
		return errors.New("a child is given an address, how many clients, names, and how long it is kept")
	}
	clients, err := strconv.Atoi(args[1])
	names, err2 := strconv.Atoi(args[2])
	keep, err3 := time.ParseDuration(args[3])
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	w := newWitness()
	w.out = newNotes(os.Stdout)
	l := newLoad(options{keep: keep, names: names})
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() { l.keepers(ctx, w, "stopped", args[0], 2) })
	}
	all.Wait()
	return nil
}

func newLoad(o options) *load {
	return &load{names: o.names, longest: o.keep / 2, wait: o.keep / 4, silence: silence, keep: o.keep, vanish: make(chan struct{})}
}

// A lab is all that runs.
type lab struct {
	options
	out    io.Writer
	w      *witness
	load   *load
	server *process
	proxy  *process // nil: none
	kids   *exec.Cmd
	began  time.Duration

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
	b := &lab{options: o, out: out, w: newWitness(), load: newLoad(o), began: now()}
	return b.run(ctx, dir)
}

// newServer returns a server with a file of its own.
func newServer(o options, dir string) (*process, error) {
	file := filepath.Join(dir, "state")
	if out, err := exec.Command(o.lockd, "state", "new", file).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("lockd state new: %w\n%s", err, out)
	}
	return newProcess(o.lockd, dir, "serve", "--state", file, "--max-keep", o.keep.String(), "--dead-peer-timeout", silence.String())
}

func (b *lab) run(ctx context.Context, dir string) error {
	var err error
	if b.server, err = newServer(b.options, dir); err != nil {
		return err
	}
	if err := b.start(ctx); err != nil {
		return err
	}
	defer func() { b.server.kill() }()

	toServer, err := newRelay(b.server.addr)
	if err != nil {
		return err
	}
	defer toServer.close()
	toServer.delay = 2 * time.Millisecond
	upstream, err := newRelay(b.server.addr)
	if err != nil {
		return err
	}
	defer upstream.close()
	var toProxy *relay
	if b.plain > 0 {
		b.proxy, err = newProcess(b.lockd, dir, "proxy", "--server", "tcp://"+upstream.addr(), "--dead-peer-timeout", silence.String(), "--patience", (2 * b.keep).String(), "--connect-timeout", "500ms")
		if err != nil {
			return err
		}
		if err := b.proxy.start(); err != nil {
			return err
		}
		defer func() { b.proxy.kill() }()
		if err := b.proxy.await(ctx); err != nil {
			return err
		}
		if toProxy, err = newRelay(b.proxy.addr); err != nil {
			return err
		}
		defer toProxy.close()
		toProxy.first = 300 * time.Millisecond
	}

	work, stop := context.WithCancel(ctx)
	defer stop()
	var all, troubles sync.WaitGroup
	const inProcess = 8 // of the kept ones, those in a child are
	kids := b.kept / inProcess
	if err := b.bear(&all, work, toServer.addr(), kids); err != nil {
		return err
	}
	failed := make(chan error, 4)
	lockers := b.kept / 8
	for i := range b.kept - kids - lockers {
		all.Go(func() { b.load.keepers(work, b.w, "kept", toServer.addr(), 1+i%3) })
	}
	for range min(4, lockers) {
		all.Go(func() {
			if err := b.load.lockers(work, b.w, toServer.addr(), max(1, lockers/4)); err != nil {
				failed <- err
			}
		})
	}
	for i := range b.plain {
		all.Go(func() {
			if i%2 == 0 {
				b.load.plains(work, b.w, "plain", b.proxy.addr, true)
			} else {
				b.load.plains(work, b.w, "plain behind a relay", toProxy.addr(), false)
			}
		})
	}
	trouble, calm := context.WithCancel(ctx)
	defer calm()
	troubles.Go(func() { toServer.trouble(trouble, b.w, "kept clients", 400*time.Millisecond, b.keep/2) })
	if b.plain > 0 {
		troubles.Go(func() { upstream.trouble(trouble, b.w, "proxy", 3*time.Second, b.keep/8) })
		troubles.Go(func() { toProxy.trouble(trouble, b.w, "plain clients", 700*time.Millisecond, b.keep/2) })
	}
	fmt.Fprintf(b.out, "%d kept clients and %d plain ones, %d locks of each kind, kept for %v: %d kills\n", b.kept, b.plain, b.names, b.keep, b.kills)
	last := (b.kills + 4) / 5
	err = b.torment(ctx, b.kills-last, false)
	calm()
	troubles.Wait()
	if err == nil {
		// The rest with networks that are well and nobody who is stopped: when all are
		// back at once, how long does it take?
		time.Sleep(b.keep + silence)
		err = b.torment(ctx, last, true)
	}
	stop()
	all.Wait()
	select {
	case e := <-failed:
		err = errors.Join(err, e)
	default:
	}
	if err == nil {
		err = b.settled(ctx)
	}
	return b.report(err)
}

// bear starts clients in a process of their own.
func (b *lab) bear(all *sync.WaitGroup, ctx context.Context, addr string, clients int) error {
	if clients == 0 {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.kids = exec.Command(self, addr, strconv.Itoa(clients), strconv.Itoa(b.names), b.keep.String())
	b.kids.Env = append(os.Environ(), childEnv+"=1")
	b.kids.Stderr = os.Stderr
	b.kids.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := b.kids.StdinPipe()
	if err != nil {
		return err
	}
	notes, err := b.kids.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.kids.Start(); err != nil {
		return err
	}
	all.Go(func() {
		if err := b.w.hear(notes, 1_000_000); err != nil {
			b.w.lost(loss{Kind: "stopped", What: "its notes", Why: err.Error(), Early: true})
		}
		b.kids.Wait()
	})
	all.Go(func() {
		<-ctx.Done()
		b.kids.Process.Signal(syscall.SIGCONT)
		in.Close()
	})
	return nil
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
	for i := 0; i < kills; {
		pause(ctx, 2500*time.Millisecond)
		what := rand.IntN(6)
		if calm {
			what = -1
		}
		switch what {
		case 0:
			b.w.count("server: stopped and continued")
			b.halt(b.server.cmd, b.keep/8)
		case 1:
			if b.proxy != nil {
				b.w.count("proxy: stopped and continued")
				b.halt(b.proxy.cmd, b.keep/8)
			}
		case 2:
			if b.kids != nil {
				// Also for longer than a deadline: they have to find that out.
				b.w.count("clients: stopped and continued")
				b.halt(b.kids, b.keep*3/2)
			}
		}
		if !calm && rand.IntN(6) == 0 {
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
		got, err := newcomer(ctx, b.server.addr, fmt.Sprint("newcomer", len(b.serves)))
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
func (b *lab) halt(cmd *exec.Cmd, most time.Duration) {
	cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(rand.N(most))
	cmd.Process.Signal(syscall.SIGCONT)
}

// settled waits until nobody holds anything any more: all have gone, and those that have
// given up are not kept for longer than that.
func (b *lab) settled(ctx context.Context) error {
	var got string
	var err error
	for end := time.Now().Add(b.keep*2 + patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got, err = ask(b.server.addr, patience, "look* "); err == nil && strings.HasPrefix(got, "1 End") {
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
	for _, p := range []*process{b.server, b.proxy} {
		if p != nil {
			if err := p.complaints(); err != nil {
				found = append(found, err)
			}
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
		fmt.Fprintf(b.out, "the end of the server's log:\n%s", b.server.tail(20))
		if b.proxy != nil {
			fmt.Fprintf(b.out, "the end of the proxy's log:\n%s", b.proxy.tail(20))
		}
	} else {
		fmt.Fprintln(b.out, "nothing is wrong")
	}
	return err
}
