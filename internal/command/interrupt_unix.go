//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package command

import (
	"os"
	"os/signal"
	"syscall"
)

// Interrupted ends the process if Ctrl-C ended the command, in the way that
// stops who waits for it: it does not come back then. It has to be the last.
//
// Ctrl-C is a SIGINT for the whole foreground group, and a script is in that
// of its steps. That is how it is told that its user does not want the rest.
// dash goes by that alone; bash also wants its step to have died of SIGINT, so
// lockd must, rather than exit with 130. A command that has the terminal to
// itself is the only one to get that SIGINT, so its end by it is what tells
// lockd, which then sends it to its own group: to whom it would have gone.
//
// When the group of lockd has the terminal, all have got the SIGINT already.
// When SIGINT came to lockd alone, or to the command, from somebody's kill, it
// is no Ctrl-C, and 130 is all that is said.
func (c *Command) Interrupted(caller *Caller) {
	late := c.interruptedLate()
	if caller.ignores(syscall.SIGINT) || os.Getpid() == 1 { // process 1 is not killed so
		return
	}
	byInterrupt := c.status.Signaled() && c.status.Signal() == syscall.SIGINT
	switch {
	case late && c.terminal.ours():
		dieOf(syscall.SIGINT, syscall.Getpid())
	case !byInterrupt:
	case c.signalled && (c.foreground || c.terminal.ours()):
		dieOf(syscall.SIGINT, syscall.Getpid())
	case !c.signalled && c.foreground:
		dieOf(syscall.SIGINT, 0)
	}
}

// interruptedLate tells whether a SIGINT came that nobody has forwarded, when
// the command had ended: the group of lockd has the terminal again then.
func (c *Command) interruptedLate() bool {
	signal.Stop(c.signals)
	for {
		select {
		case s := <-c.signals:
			if s == syscall.SIGINT {
				return true
			}
		default:
			return false
		}
	}
}
