//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package command

import (
	"os"
	"os/exec"
	"os/signal"
)

// A Command is a process. There are no process groups and no signals here that
// could be used as elsewhere: a command that is to end is killed at once, and
// what it started goes on.
type Command struct {
	cmd     *exec.Cmd
	changed chan os.Signal // tells when to poll
	signals chan os.Signal
	done    chan struct{}
}

// A Caller is who started lockd. Nothing about it matters here.
type Caller struct{}

// Inherit takes over nothing.
func Inherit() *Caller { return &Caller{} }

// EndOnSignal has nothing to do.
func (*Caller) EndOnSignal(func(), func(code int)) (stop func()) { return func() {} }

// Start starts the command. A console's Ctrl-C reaches it by itself, and must
// not end lockd before it.
func Start(_ *Caller, s Spec) (*Command, error) {
	c := &Command{changed: make(chan os.Signal, 1), signals: make(chan os.Signal, 64), done: make(chan struct{})}
	signal.Notify(c.signals, os.Interrupt)
	c.cmd = &exec.Cmd{Path: s.Path, Args: s.Args, Env: s.Env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		c.cmd.Wait()
		close(c.done)
		c.changed <- os.Interrupt
	}()
	return c, nil
}

// Changed tells when to Poll.
func (c *Command) Changed() <-chan os.Signal { return c.changed }

// Signals are those that came for lockd, to be given to Forward.
func (c *Command) Signals() <-chan os.Signal { return c.signals }

// Poll tells whether the command has ended.
func (c *Command) Poll() (ended bool) {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Code is the exit code of a command that has ended.
func (c *Command) Code() int { return c.cmd.ProcessState.ExitCode() }

// Left returns the command itself, as long as it runs.
func (c *Command) Left() []int {
	if c.Poll() {
		return nil
	}
	return []int{c.cmd.Process.Pid}
}

// Forward does nothing.
func (*Command) Forward(os.Signal) error { return nil }

// Terminate kills the command.
func (c *Command) Terminate() error { return c.Kill() }

// Kill kills the command.
func (c *Command) Kill() error {
	if err := c.cmd.Process.Kill(); err != nil && err != os.ErrProcessDone {
		return &SignalError{"KILL", c.cmd.Process.Pid, err}
	}
	return nil
}

// Interrupted does nothing.
func (*Command) Interrupted(*Caller) {}
