//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

import (
	"os"
	"os/exec"
	"time"
)

// forwarded: a console's Ctrl-C reaches the command by itself, and must not
// end lockd before it.
var forwarded = []os.Signal{os.Interrupt}

// A process is the command. There are no process groups and no signals here
// that could be used as elsewhere: a command whose lock is lost is killed at
// once, and what it started goes on.
type process struct {
	cmd     *exec.Cmd
	changed chan os.Signal // tells when to poll
}

func start(path string, args, env []string) (*process, error) {
	p := &process{changed: make(chan os.Signal, 1)}
	p.cmd = &exec.Cmd{Path: path, Args: args, Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		p.changed <- os.Interrupt
	}()
	return p, nil
}

func (p *process) poll() (int, bool)         { return p.cmd.ProcessState.ExitCode(), true }
func (p *process) forward(os.Signal)         {}
func (p *process) terminate()                { p.kill() }
func (p *process) kill()                     { p.cmd.Process.Kill() }
func (p *process) endGroup(<-chan time.Time) {}
func (p *process) restore()                  {}
