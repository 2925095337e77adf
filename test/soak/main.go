//go:build unix

// Command soak puts a server under clients of all kinds, which come and go in every
// way there is, for minutes or days, and watches from the outside that it keeps its
// promises: a lock has one holder, a shared one as many as its limit, fencing tokens
// grow, rates hold; what samples of the clients saw is linearizable; and at the end
// nothing is left, and the counters add up.
//
//	go run . [-duration 30m] [-clients 24] [-seed N]
//
// The server is a process of its own. Some clients are, too, and are killed.
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
	"slices"
	"strconv"
	"sync"
	"time"
)

type options struct {
	duration time.Duration
	clients  int
	seed     uint64
	every    time.Duration // between two lines of progress
}

func main() {
	if len(os.Args) > 2 && os.Getenv("LOCKD_SOAK") != "" {
		exit(child(os.Args[1], os.Args[2:]))
	}
	o := options{every: 10 * time.Second}
	flag.DurationVar(&o.duration, "duration", 20*time.Second, "how long")
	flag.IntVar(&o.clients, "clients", 24, "how many at a time, those that are killed aside")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of all that is random")
	flag.Parse()
	exit(soak(os.Stdout, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child is what this program is when it is started by itself.
func child(what string, args []string) error {
	if what == "serve" {
		return serve(args[0])
	}
	seed, err := strconv.ParseUint(args[4], 10, 64)
	if err != nil {
		return err
	}
	at := addresses{TCP: args[0], Unix: args[1], WebSocket: args[2]}
	// The witnesses of all actors come before the first connection, see witness.
	var all []*actor
	for i, kind := range []string{"protocol 1", "protocol 2", "locker"} {
		a, err := newActor(kind, at, args[3], seed+uint64(i), newTally(), nil)
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
func killClients(ctx context.Context, at addresses, dir string, seed uint64, t *tally) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for rnd := rand.New(rand.NewPCG(seed, 1)); ctx.Err() == nil; {
		cmd := exec.Command(self, "client", at.TCP, at.Unix, at.WebSocket, dir, fmt.Sprint(rnd.Uint64()))
		cmd.Env = append(os.Environ(), "LOCKD_SOAK=1")
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return err
		}
		select {
		case <-time.After(50*time.Millisecond + time.Duration(rnd.Int64N(int64(time.Second)))):
		case <-ctx.Done():
		}
		cmd.Process.Kill()
		cmd.Wait()
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
	s, err := startServer(dir)
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
	found := crowd(out, s, dir, o, t)

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
	fmt.Fprintf(out, "the server before and after: %d and %d goroutines, %d and %d descriptors, %d and %d KiB of heap\n",
		before.Goroutines, after.Goroutines, before.Descriptors, after.Descriptors, before.Memory>>10, after.Memory>>10)
	if err := s.stop(); err != nil {
		found = append(found, fmt.Errorf("the server ends with %w", err))
	}
	if len(found) == 0 {
		fmt.Fprintln(out, "nothing is wrong")
	}
	return errors.Join(found...)
}

// crowd has all the actors act until their time is over, or something is wrong.
func crowd(out io.Writer, s *process, dir string, o options, t *tally) (found []error) {
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
	for i := range o.clients {
		a, err := newActor(kinds[i%len(kinds)], s.addresses, dir, o.seed+uint64(i), t, r)
		if err != nil {
			return []error{err}
		}
		defer a.close()
		run(func() error { return a.run(ctx) })
	}
	run(func() error { return killClients(ctx, s.addresses, dir, o.seed, t) })
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
			fmt.Fprintf(out, "%v: %d requests, %d grants, %d resets, %d kills, %d histories\n", time.Since(begun).Round(time.Second),
				t.sum("requests"), t.sum("grants"), t.sum("resets"), t.sum("kills"), t.sum("histories"))
		case <-ctx.Done():
		}
	}
	wg.Wait()
	return found
}

// warmUp has the server start what it starts with its first client and keeps.
func warmUp(s *process) error {
	for _, t := range transports {
		l, err := connect(s.addresses, t, false)
		if err != nil {
			return err
		}
		for _, request := range []string{"gw 1 x", "rl 1 1 1 x", "me"} {
			if _, err := l.say(request); err != nil {
				return err
			}
		}
		l.Close()
	}
	_, err := settled(s, report{Goroutines: 1 << 30, Descriptors: 1 << 30})
	return err
}

// settled waits until all that is about to end has ended, and reports.
func settled(s *process, before report) (r report, err error) {
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		r, err = s.report()
		if err != nil || time.Now().After(end) {
			return r, err
		}
		if r.Metrics["lockd_sessions"] == 0 && r.Metrics["lockd_waiters"] == 0 && r.Goroutines <= before.Goroutines && r.Descriptors <= before.Descriptors {
			return r, nil
		}
	}
}
