//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// A family is clients in a process of their own, which may be stopped, or be on another
// machine.
type family struct {
	Kind    string
	Addr    string // whom they ask
	Clients int    // that are kept
	Lockers int    // goroutines of one
	Names   int

	Keep, Longest, Stop time.Duration // as a load has them
}

// childEnv makes this program a family, and has what it has to know.
const childEnv = "LOCKD_SURVIVE_CHILD"

// child runs clients until its input ends, and writes what they saw to its output.
func child() error {
	var f family
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &f); err != nil {
		return err
	}
	w := newWitness()
	w.out = newNotes(os.Stdout)
	l := newLoad(options{keep: f.Keep, names: f.Names})
	l.longest, l.stop = f.Longest, f.Stop
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	var all sync.WaitGroup
	for range f.Clients {
		all.Go(func() { l.keepers(ctx, w, f.Kind, f.Addr, 2) })
	}
	var err error
	if f.Lockers > 0 {
		err = l.lockers(ctx, w, "locker, "+f.Kind, f.Addr, f.Lockers)
	}
	all.Wait()
	return err
}

// family returns clients that are like the others.
func (b *lab) family(kind, addr string, clients int) family {
	return family{Kind: kind, Addr: addr, Clients: clients, Names: b.names, Keep: b.keep, Longest: b.load.longest, Stop: b.load.stop}
}

// bear starts a family, on another machine if it has to enter one. Its owners have
// numbers from base on.
func (b *lab) bear(all *sync.WaitGroup, ctx context.Context, f family, enter func(*exec.Cmd) error, base int) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	knows, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+string(knows))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if enter != nil {
		if err := enter(cmd); err != nil {
			return nil, err
		}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	notes, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	all.Go(func() {
		if err := b.w.hear(notes, base); err != nil {
			b.w.lost(loss{Kind: f.Kind, What: "its notes", Why: err.Error(), Early: true})
		}
		if err := cmd.Wait(); err != nil {
			b.fail(fmt.Errorf("clients in a process of their own: %w", err))
		}
	})
	all.Go(func() {
		<-ctx.Done()
		cmd.Process.Signal(syscall.SIGCONT)
		in.Close()
	})
	return cmd, nil
}
