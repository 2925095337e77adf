// Command ratelimit lets workers work at most so many at a time, with a shared
// lock and its count. docs/rate-limiting.md explains it.
//
//	go run ./examples/ratelimit
//
// Without flags it brings its own server. With -target it uses one, and the
// limit is for all who run it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

const usage = `usage: ratelimit [FLAGS]

Lets workers do jobs, at most so many at a time, by the count of a shared lock.

`

func main() {
	var f fleet
	flags := flag.NewFlagSet("ratelimit", flag.ContinueOnError)
	flags.StringVar(&f.target, "target", os.Getenv("LOCKD_SERVER"), "`ADDRESS` of a server, such as tls://HOST:PORT, for which the\nvariables of lockd's own commands count, such as\nLOCKD_TOKEN_FILE (default: LOCKD_SERVER, or one in this process)")
	flags.StringVar(&f.lock, "lock", "at most a few", "`NAME` of the shared lock")
	flags.IntVar(&f.workers, "workers", 20, "how many want to work")
	flags.IntVar(&f.limit, "limit", 5, "how many may at a time")
	flags.IntVar(&f.jobs, "jobs", 5, "jobs for each worker")
	flags.DurationVar(&f.work, "work", 100*time.Millisecond, "the `TIME` that a job takes, about")
	parse(flags, os.Args[1:], usage)
	if f.workers < 1 || f.limit < 1 || f.jobs < 1 || f.work <= 0 {
		fmt.Fprintln(os.Stderr, "ratelimit: workers, limit, jobs and work have to be above 0 (see ratelimit --help)")
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := f.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "ratelimit:", err)
		os.Exit(1)
	}
}

// parse reads the command line. Help that was asked for goes to stdout.
func parse(flags *flag.FlagSet, args []string, usage string) {
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		os.Exit(0)
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v (see %[1]s --help)\n", flags.Name(), err)
		os.Exit(2)
	}
}

// A fleet is workers that share a limit. They share nothing else: each has a
// connection of its own and might as well be on a machine of its own. The
// counters are for the table that is printed; no decision looks at them.
type fleet struct {
	target, lock         string
	workers, limit, jobs int
	work                 time.Duration

	working atomic.Int64 // now
	most    atomic.Int64 // that were at work at the same time
	done    atomic.Int64 // jobs
	refused atomic.Int64 // times that somebody was over the limit
}

// run lets all workers do their jobs. It fails if more than the limit were
// ever at work.
func (f *fleet) run(ctx context.Context, w io.Writer) error {
	var opts client.Options
	if f.target != "" {
		var err error
		if opts, err = client.FromEnv(f.target); err != nil {
			return err
		}
	} else {
		s, err := server.New(server.Options{})
		if err != nil {
			return err
		}
		defer s.Shutdown(context.Background())
		opts.Dial = func(context.Context) (net.Conn, error) { return s.Dial() }
	}
	fmt.Fprintf(w, "%d workers with %d jobs each, at most %d at a time\n\n", f.workers, f.jobs, f.limit)
	fmt.Fprintf(w, "%7s  %7s  %5s  %12s\n", "seconds", "working", "done", "backed off")

	start := time.Now()
	errs := make([]error, f.workers)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = f.worker(ctx, opts) })
	}
	finished := make(chan struct{})
	go func() {
		all.Wait()
		close(finished)
	}()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-tick.C:
		case <-finished:
			running = false
		}
		n := f.working.Load()
		fmt.Fprintf(w, "%7.1f  %7d  %5d  %12d  %s\n",
			time.Since(start).Seconds(), n, f.done.Load(), f.refused.Load(), strings.Repeat("#", int(n)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nat most %d worked at the same time, the limit is %d\n", f.most.Load(), f.limit)
	if f.most.Load() > int64(f.limit) {
		return errors.New("the limit was passed")
	}
	return nil
}

// worker does its jobs, each when there is room.
func (f *fleet) worker(ctx context.Context, opts client.Options) error {
	// The connection is what is counted, so every worker has its own.
	c, err := client.New(opts)
	if err != nil {
		return err
	}
	defer c.Close()

	// When the lock is lost, so is the right to work.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-c.Lost():
			cancel(c.Err())
		case <-ctx.Done():
		}
	}()

	for range f.jobs {
		if err := f.acquire(ctx, c); err != nil {
			return err
		}
		if err := f.job(ctx); err != nil {
			return err
		}
		if err := c.ReleaseShared(ctx, f.lock); err != nil {
			return err
		}
	}
	return nil
}

// acquire returns when c is one of the limit.
func (f *fleet) acquire(ctx context.Context, c *client.Client) error {
	for bound := f.work / 10; ; bound = min(2*bound, f.work) {
		// GetShared fails on every reply that is no count, so n >= 1.
		n, err := c.GetShared(ctx, f.lock)
		if err != nil {
			return err
		}
		if n <= f.limit {
			return nil
		}
		// One too many: out first, for whoever asks meanwhile counts us too,
		// and then wait, each for a time of his own.
		f.refused.Add(1)
		if err := c.ReleaseShared(ctx, f.lock); err != nil {
			return err
		}
		if err := sleep(ctx, rand.N(bound+1)); err != nil {
			return err
		}
	}
}

// job is the work: it takes between half and one and a half of its time.
func (f *fleet) job(ctx context.Context) error {
	n := f.working.Add(1)
	defer f.working.Add(-1)
	for {
		most := f.most.Load()
		if n <= most || f.most.CompareAndSwap(most, n) {
			break
		}
	}
	if err := sleep(ctx, f.work/2+rand.N(f.work+1)); err != nil {
		return err
	}
	f.done.Add(1)
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
