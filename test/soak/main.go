//go:build unix

// Command soak puts a server under clients of all kinds, which come and go in every
// way there is, for minutes or days, and watches from the outside that it keeps its
// promises: a lock has one holder, a shared one as many as its limit, fencing tokens
// grow, rates hold; what samples of the clients saw is linearizable; and at the end
// nothing is left, and the counters add up.
//
//	go run . [-duration 30m] [-clients 39] [-seed N] [-open] [-build '-race'] [-lockd PATH]
//
// The server is the program itself, in a process of its own, with an auth file,
// which is replaced all the time, as its certificates are. Some clients are
// processes of their own, too, and are killed.
package main

import (
	"context"
	"encoding/json"
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
	"time"
)

type options struct {
	duration time.Duration
	clients  int
	seed     uint64
	every    time.Duration // between two lines of progress
	lockd    string        // the server's program; "": it is built
	build    string        // flags for go build
	open     bool          // the server asks nobody who it is
}

func main() {
	if len(os.Args) == 3 && os.Getenv("LOCKD_SOAK") != "" {
		exit(child(os.Args[1], os.Args[2]))
	}
	o := options{every: 10 * time.Second}
	flag.DurationVar(&o.duration, "duration", 20*time.Second, "how long")
	flag.IntVar(&o.clients, "clients", 39, "how many at a time, those that are killed aside")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of all that is random")
	flag.BoolVar(&o.open, "open", false, "have the server ask nobody who it is, as it does without an auth file")
	flag.StringVar(&o.lockd, "lockd", "", "the server's program, which else is built")
	flag.StringVar(&o.build, "build", "", "flags to build it with, such as '-race' or '-tags noloop'")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "soak: what is %q? There are flags only, see -help\n", flag.Arg(0))
		os.Exit(2)
	}
	exit(soak(os.Stdout, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child is what this program is when it is started by itself: clients that will be
// killed.
func child(dir, seedText string) error {
	seed, err := strconv.ParseUint(seedText, 10, 64)
	if err != nil {
		return err
	}
	var at addresses
	text, err := os.ReadFile(filepath.Join(dir, addressFile))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &at); err != nil {
		return err
	}
	var all []*actor
	for i, kind := range []string{"protocol 1", "protocol 2", "locker", "client"} {
		a, err := newActor(kind, at, dir, seed+uint64(i), newTally(), nil)
		if err != nil {
			return err
		}
		all = append(all, a)
	}
	errs := make(chan error)
	for _, a := range all {
		go func() { errs <- a.run(context.Background()) }()
	}
	return <-errs
}

// killClients starts clients that are processes of their own, and kills each when it
// has had some time.
func killClients(ctx context.Context, at addresses, seed uint64, t *tally) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for rnd := rand.New(rand.NewPCG(seed, 1)); ctx.Err() == nil; {
		cmd := exec.Command(self, at.Dir, fmt.Sprint(rnd.Uint64()))
		cmd.Env = append(os.Environ(), "LOCKD_SOAK=1")
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return err
		}
		select {
		case <-time.After(50*time.Millisecond + time.Duration(rnd.Int64N(int64(time.Second)))):
		case <-ctx.Done():
		}
		if err := os.WriteFile(at.file(dying), nil, 0o600); err != nil {
			return err
		}
		cmd.Process.Kill()
		cmd.Wait()
		if err := os.Remove(at.file(dying)); err != nil {
			return err
		}
		if cmd.ProcessState.Exited() { // by itself: it has said why
			return breach{errors.New("a client that was to be killed has ended before")}
		}
		t.add("killed", "kills")
	}
	return nil
}

// soak does it all, and returns what was found.
func soak(out io.Writer, o options) error {
	dir, err := os.MkdirTemp("", "lockd-soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := newRotator(dir, rand.New(rand.NewPCG(o.seed, 2)))
	if err != nil {
		return err
	}
	program := o.lockd
	if program == "" {
		if program, err = build(dir, strings.Fields(o.build)); err != nil {
			return err
		}
	}
	s, err := startServer(program, dir, o.open)
	if err != nil {
		return err
	}
	defer s.cmd.Process.Kill()
	if err := warmUp(s); err != nil {
		return err
	}
	before, err := s.report()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "seed %d: %d clients and those that are killed, for %v\n", o.seed, o.clients, o.duration)
	t, begun := newTally(), time.Now()
	found := crowd(out, s, r, o, t)

	after, err := settled(s, before)
	if err != nil {
		return err
	}
	for _, what := range left(before, after) {
		found = append(found, fmt.Errorf("at the end: %s", what))
	}
	took := time.Since(begun)
	t.print(out)
	fmt.Fprintf(out, "%d requests and %d grants in %v, %.0f requests a second\n", t.sum("requests"), t.sum("grants"), took.Round(time.Millisecond), float64(t.sum("requests"))/took.Seconds())
	fmt.Fprintf(out, "the server before and after: %d and %d goroutines, %d and %d descriptors, %.0f and %.0f MiB of memory\n",
		before.goroutines(), after.goroutines(), before.descriptors(), after.descriptors(), before.memory(), after.memory())
	if err := s.stop(); err != nil {
		found = append(found, fmt.Errorf("the server ends with %w", err))
	}
	if len(found) == 0 {
		fmt.Fprintln(out, "nothing is wrong")
	} else {
		fmt.Fprintf(out, "the end of the server's log:\n%s", s.log())
	}
	return errors.Join(found...)
}

// crowd has all the actors act until their time is over, or something is wrong.
func crowd(out io.Writer, s *process, rotator *rotator, o options, t *tally) (found []error) {
	ctx, stop := context.WithTimeout(context.Background(), o.duration)
	defer stop()
	r := &rates{begun: time.Now()}
	var mu sync.Mutex // guards found
	var wg sync.WaitGroup
	run := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				mu.Lock()
				found = append(found, err)
				mu.Unlock()
				stop()
			}
		})
	}
	kinds := slices.Sorted(maps.Keys(deeds))
	if s.Open {
		kinds = slices.DeleteFunc(kinds, func(kind string) bool { return kind == "prier" })
	}
	for i := range o.clients {
		a, err := newActor(kinds[i%len(kinds)], s.addresses, s.Dir, o.seed+uint64(i), t, r)
		if err != nil {
			return []error{err}
		}
		defer a.close()
		run(func() error { return a.run(ctx) })
	}
	run(func() error { return rotator.run(ctx, s, t) })
	run(func() error { return guard(ctx, s.addresses, rand.New(rand.NewPCG(o.seed, 3))) })
	run(func() error {
		select {
		case <-s.ended:
			return breach{fmt.Errorf("the server has ended: %w", s.exit)}
		case <-ctx.Done():
			return nil
		}
	})
	run(func() error { return killClients(ctx, s.addresses, o.seed, t) })
	run(func() error {
		for i := uint64(0); ctx.Err() == nil; i++ {
			if err := recordHistory(ctx, s.addresses, o.seed+i, t); err != nil {
				return err
			}
		}
		return nil
	})
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for begun := time.Now(); ctx.Err() == nil; {
		select {
		case <-tick.C:
			now, err := s.report()
			if err != nil {
				run(func() error { return err })
			}
			fmt.Fprintf(out, "%v: %d requests, %d grants, %d resets, %d kills, %d histories; %d goroutines, %d descriptors, %.0f MiB\n", time.Since(begun).Round(time.Second),
				t.sum("requests"), t.sum("grants"), t.sum("resets"), t.sum("kills"), t.sum("histories"), now.goroutines(), now.descriptors(), now.memory())
		case <-ctx.Done():
		}
	}
	wg.Wait()
	return found
}

// warmUp has the server start what it starts with its first client and keeps.
func warmUp(s *process) error {
	for _, t := range transports {
		l, err := connect(s.addresses, caller{identity: s.identities()[0], transport: t}, false)
		if err != nil {
			return err
		}
		for _, request := range []string{"gw 1 " + prefix, "rl 1000 1 1 " + prefix, "me"} {
			if n, text, err := l.ask(0, request); n == 0 {
				return fmt.Errorf("%s is answered %q, %v", request, text, err)
			}
		}
		l.Close()
	}
	_, err := settled(s, nil)
	return err
}

// settled waits until all that is about to end has ended, and reports.
// Without a report from before, that is all it waits for.
func settled(s *process, before report) (r report, err error) {
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		r, err = s.report()
		if err != nil || time.Now().After(end) {
			return r, err
		}
		if r["lockd_sessions"] == 0 && (before == nil || len(left(before, r)) == 0) {
			return r, nil
		}
	}
}
