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

	"github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/netlab"
)

// What makes this program another one, and has what that has to know.
const (
	clientsEnv = "LOCKD_CLUSTER_CLIENTS"
	etcdEnv    = "LOCKD_CLUSTER_ETCD"
	wrongEnv   = "LOCKD_CLUSTER_WRONG"
)

// child is this program as another one, if it is.
func child() (is bool, err error) {
	switch {
	case os.Getenv(clientsEnv) != "":
		return true, clients()
	case os.Getenv(etcdEnv) != "":
		return true, etcdMember()
	case os.Getenv(wrongEnv) != "":
		return true, wrongNode()
	}
	return false, nil
}

// clients runs clients until the input ends, and writes what they saw to the output.
func clients() error {
	var l load
	if err := json.Unmarshal([]byte(os.Getenv(clientsEnv)), &l); err != nil {
		return err
	}
	if l.Rate != 0 {
		kept.Skew(l.Rate)
	}
	w := newWitness()
	w.out = json.NewEncoder(os.Stdout)
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	go stalls(ctx, w, l.Machine, l.Stall)
	l.run(ctx, w)
	return nil
}

// A crowd is clients on a machine.
type crowd struct {
	*netlab.Machine
	cmd *exec.Cmd
	in  io.WriteCloser
}

// bear starts one. Its owners have numbers from base on.
func (b *lab) bear(all *sync.WaitGroup, m *netlab.Machine, l load, base int) (*crowd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	knows, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), clientsEnv+"="+string(knows))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.Command(cmd); err != nil {
		return nil, err
	}
	c := &crowd{Machine: m, cmd: cmd}
	if c.in, err = cmd.StdinPipe(); err != nil {
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
			b.find(fmt.Errorf("notes of clients: %w", err))
		}
		if err := cmd.Wait(); err != nil {
			b.find(fmt.Errorf("clients in a process of their own: %w", err))
		}
	})
	return c, nil
}

// leave has them end.
func (c *crowd) leave() {
	c.cmd.Process.Signal(syscall.SIGCONT)
	c.in.Close()
}
