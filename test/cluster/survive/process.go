//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/netlab"
)

// A process is on a machine of its own. It is killed and started again, and started again
// too when it ends by itself, as a service manager does.
type process struct {
	*netlab.Machine
	program string
	args    []string
	env     []string
	log     string // a file, of all its lives

	mu    sync.Mutex // guards what follows
	wants bool       // to run
	cmd   *exec.Cmd
	ended chan struct{}
	lives int
}

// start has it run from now on.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wants {
		return nil
	}
	p.wants = true
	return p.startLocked()
}

func (p *process) startLocked() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.program, p.args...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "LOCKD_") || strings.HasPrefix(v, "ETCD")
	}), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not outlive a test that panics
	if err := p.Command(cmd); err != nil {
		return err
	}
	fmt.Fprintf(log, "-- at %.3f: started\n", now().Seconds())
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	p.lives++
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		close(ended)
		p.mark("ended, %v", err)
		if p.wants && p.cmd == cmd {
			time.AfterFunc(300*time.Millisecond, func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				if p.wants && p.cmd == cmd {
					p.startLocked()
				}
			})
		}
	}()
	return nil
}

// mark writes into its log.
func (p *process) mark(format string, args ...any) {
	if log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
		fmt.Fprintf(log, "-- at %.3f: %s\n", now().Seconds(), fmt.Sprintf(format, args...))
		log.Close()
	}
}

// kill ends it without a word, until it is started again.
func (p *process) kill() { p.end(syscall.SIGKILL) }

func (p *process) end(s syscall.Signal) {
	p.mu.Lock()
	p.wants = false
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	p.mark("%v", s)
	cmd.Process.Signal(s)
	if s == syscall.SIGKILL {
		<-ended
		return
	}
	select {
	case <-ended:
	case <-time.After(patience):
		p.mark("does not end")
		cmd.Process.Kill()
		<-ended
	}
}

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		p.mark("%v", s)
		p.cmd.Process.Signal(s)
	}
}

// patience is for what takes no time, on a machine that has to do with others.
const patience = 40 * time.Second

// complaints are the lines of its log that no process should write.
func (p *process) complaints(but ...string) (found []error) {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return []error{err}
	}
lines:
	for line := range strings.Lines(string(text)) {
		for _, bad := range []string{"panic", "fatal error", "DATA RACE", "level=ERROR"} {
			if !strings.Contains(line, bad) {
				continue
			}
			for _, b := range but {
				if strings.Contains(line, b) {
					continue lines
				}
			}
			found = append(found, fmt.Errorf("%s has logged %s", p.Name, strings.TrimSpace(line)))
		}
	}
	return found[:min(len(found), 3)]
}
