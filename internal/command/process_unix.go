//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package command

import (
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// forwarded are the signals that the command gets in place of lockd.
var forwarded = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGWINCH,
}

// A Command is the leader of a process group of its own.
//
// A group that is not the terminal's foreground group is stopped as soon as it
// reads the terminal. So, as a shell would, lockd gives the command's group
// the terminal, at once when lockd is in the foreground and both its input and
// output are the terminal, and else when the command first asks for it by being
// stopped: in `lockd run a -- ls | less` the terminal must stay with less.
// (timeout --foreground leaves the command in its own group instead, and can
// then signal no group.) When the command has the terminal and is stopped, by
// Ctrl-Z, lockd takes the terminal back and stops itself, which is what the
// shell waits for, and hands both on when it is continued.
type Command struct {
	pid        int
	terminal   *terminal
	eager      bool           // give the terminal whenever we have it
	changed    chan os.Signal // tells when to poll
	signals    chan os.Signal // came for lockd
	suspend    bool           // lockd stops, or will in a moment: until SIGCONT the command must not go on
	status     syscall.WaitStatus
	ended      bool
	signalled  bool // by SIGINT, lockd was
	foreground bool // the command ended with the terminal
	warn       func(string)
}

// Start starts the command. The calling goroutine stays on its thread for good:
// the kernel kills the command when the thread ends that started it.
func Start(caller *Caller, s Spec) (*Command, error) {
	runtime.LockOSThread()
	c := &Command{
		changed:  make(chan os.Signal, 1),
		signals:  make(chan os.Signal, 64),
		terminal: openTerminal(),
		warn:     s.Warn,
	}
	signal.Notify(c.changed, syscall.SIGCHLD)
	for _, sig := range forwarded {
		if !caller.ignores(sig) {
			signal.Notify(c.signals, sig)
		}
	}
	c.eager = isOurTerminal(0) && isOurTerminal(1) && c.terminal.ours()
	attr := &syscall.SysProcAttr{Setpgid: true}
	if c.eager {
		c.terminal.save()
		attr.Foreground, attr.Ctty = true, c.terminal.fd
	}
	dieWithParent(attr)
	stage := between(caller, &s)
	undo := caller.block()
	proc, err := os.StartProcess(s.Path, s.Args, &os.ProcAttr{
		Env:   s.Env,
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   attr,
	})
	undo()
	if e := stage.result(); err == nil {
		err = e
	}
	c.terminal.given = c.eager // also to one that could not be executed
	if err != nil {
		c.terminal.takeBack(false)
		return nil, err
	}
	c.pid = proc.Pid
	proc.Release()
	// Ignored or not, from now on lockd has to know.
	signal.Notify(c.signals, syscall.SIGCONT)
	return c, nil
}

// Changed tells when to Poll.
func (c *Command) Changed() <-chan os.Signal { return c.changed }

// Signals are those that came for lockd, to be given to Forward.
func (c *Command) Signals() <-chan os.Signal { return c.signals }

// Poll looks what became of the command, and whether it has ended. It is asked
// by the goroutine that also forwards signals: the kernel tells of a stop only
// as long as it lasts, so that none is acted upon after it was undone.
//
// It reaps every child. Besides the command that is whatever loses its parent
// where lockd is process 1, and what a shell had started before it became
// lockd by exec.
func (c *Command) Poll() (ended bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WUNTRACED|syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case pid == c.pid && status.Stopped():
			c.stopped(status.StopSignal())
		case pid == c.pid:
			c.end(status)
		case err != nil && !c.ended: // nobody else waits for it, so this cannot be
			c.end(exitUnknown << 8)
		case err != nil || pid == 0:
			return c.ended
		}
	}
}

func (c *Command) end(status syscall.WaitStatus) {
	c.status, c.ended = status, true
	c.foreground = c.terminal.given && c.terminal.foreground() == c.pid
	c.terminal.takeBack(status.Signaled())
}

// Code is the exit code, as shells have it, of a command that has ended.
func (c *Command) Code() int {
	if c.status.Signaled() {
		return exitSignal + int(c.status.Signal())
	}
	return c.status.ExitStatus()
}

func (c *Command) stopped(s syscall.Signal) {
	group := c.terminal.foreground()
	if group == 0 || c.suspend {
		return // without a terminal, whoever stopped it knows why
	}
	switch s {
	case syscall.SIGTTIN, syscall.SIGTTOU:
		if group == syscall.Getpgrp() {
			c.eager = true
			c.terminal.give(c.pid)
			group = c.pid
		}
		if group == c.pid {
			c.signal(syscall.SIGCONT)
			return
		}
		if orphaned() {
			c.warn("the command is stopped: it asks for the terminal, from the background, where nobody can bring it to the foreground")
			return
		}
	default:
		if group != c.pid {
			return // it came through us, see Forward, or is none of ours
		}
		if orphaned() {
			c.signal(syscall.SIGCONT)
			return
		}
		c.terminal.takeBack(true)
	}
	c.suspend = true
	syscall.Kill(0, syscall.SIGSTOP)
}

// resume continues the command after lockd was, which SIGCONT tells. What
// stands behind a kill that stops lockd may run before it stops.
func (c *Command) resume() error {
	c.suspend = false
	if c.eager && c.terminal.ours() {
		c.terminal.give(c.pid)
	} else {
		c.terminal.given = c.terminal.foreground() == c.pid
	}
	return c.signal(syscall.SIGCONT)
}

// Forward passes a signal on.
func (c *Command) Forward(s os.Signal) error {
	if c.ended {
		return nil
	}
	switch s {
	case syscall.SIGCONT:
		return c.resume()
	case syscall.SIGTSTP:
		if c.terminal.ours() && orphaned() {
			return nil
		}
		c.suspend = true
		err := c.signal(syscall.SIGTSTP)
		syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
		return err
	case syscall.SIGINT:
		c.signalled = true
		return c.wake(syscall.SIGINT)
	case syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
		return c.wake(s.(syscall.Signal))
	}
	return c.signal(s.(syscall.Signal))
}

// Terminate asks the group to end.
func (c *Command) Terminate() error { return c.wake(syscall.SIGTERM) }

// Kill ends the group.
func (c *Command) Kill() error { return c.signal(syscall.SIGKILL) }

// wake sends a signal that a stopped process shall see, too.
func (c *Command) wake(s syscall.Signal) error {
	err := c.signal(s)
	if !c.suspend {
		c.signal(syscall.SIGCONT)
	}
	return err
}

// signal signals the group. It fails if not one of it could be signalled:
// whether all could, the kernel does not tell.
func (c *Command) signal(s syscall.Signal) error {
	err := syscall.Kill(-c.pid, s)
	if err == nil || err == syscall.ESRCH {
		return nil
	}
	return &SignalError{strings.TrimPrefix(unix.SignalName(s), "SIG"), c.pid, err}
}
