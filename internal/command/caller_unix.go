//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package command

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// A Caller is who started lockd, and what signals it ignored and blocked then.
//
// A process starts with what its parent ignores and blocks, and scripts rely on
// it: after `trap "" TERM` a TERM for all ends none of their steps. Go replaces
// what was ignored by handlers of its own, and what has a handler, a command
// starts without; and of what was blocked it unblocks what ends programs.
//
// So what the caller ignores is ignored by lockd as well, which is what that
// means to those who wrap a command (nohup), and the command inherits it, from
// its first moment on and at no cost. What a Go program cannot ignore, and CHLD,
// by which it hears of its command, is left to a stage between
// (stage_linux.go), which is exact too, but a second program to start. What is
// blocked is so for the thread that starts the command, and no longer.
type Caller struct {
	ignored map[syscall.Signal]bool
	blocked mask
	known   bool // blocked is
}

// A mask is a set of signals: bit 0 is signal 1.
type mask uint64

// Inherit takes over what the caller ignores. It has to come before anything
// else is done with signals.
func Inherit() *Caller {
	c := &Caller{ignored: ignored()}
	c.blocked, c.known = blocked()
	runtime.UnlockOSThread()
	for s, ignored := range c.ignored {
		if !ignored {
			continue
		}
		switch s {
		case syscall.SIGCHLD: // nothing would be told of a child
		case syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGCONT: // Go has left them alone
		default:
			signal.Ignore(s)
		}
	}
	return c
}

func (c *Caller) ignores(s os.Signal) bool { return c.ignored[s.(syscall.Signal)] }

// EndOnSignal has signals end the process as long as there is no command, after
// something that has to come before. It dies of them as without that, so that a
// script sees Ctrl-C, but where Go would answer with stack traces or, since
// process 1 is killed by no signal of its own, with an exit code that means
// something else.
func (c *Caller) EndOnSignal(before func(), exit func(code int)) (stop func()) {
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if !c.ignores(s) {
			signal.Notify(signals, s)
		}
	}
	none := make(chan struct{})
	go func() {
		got, ok := <-signals
		if !ok {
			close(none)
			return
		}
		before()
		s := got.(syscall.Signal)
		if s != syscall.SIGQUIT && os.Getpid() != 1 {
			dieOf(s, syscall.Getpid())
		}
		exit(exitSignal + int(s))
	}()
	return func() { // which does not return if there was a signal
		signal.Stop(signals)
		close(signals)
		<-none
	}
}

// dieOf sends this process a signal, or with 0 its group, that ends it.
func dieOf(s syscall.Signal, to int) {
	signal.Reset(s)
	syscall.Kill(to, s)
	time.Sleep(time.Second) // unless it is blocked, there is no return from here
}

// block has this thread block what the caller does, until that is undone.
func (c *Caller) block() (undo func()) {
	if !c.known {
		return func() {}
	}
	before, err := setMask(&c.blocked)
	return func() {
		if err == nil {
			setMask(&before)
		}
	}
}
