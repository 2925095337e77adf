//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package command

import (
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// A terminal is the controlling one, which programs such as ssh and sudo ask
// for a password whatever their input is.
type terminal struct {
	fd    int           // -1 if there is none
	given bool          // the command has it, as far as we know
	modes *unix.Termios // as they were when it was given
}

func openTerminal() *terminal {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return &terminal{fd: -1}
	}
	return &terminal{fd: fd}
}

// foreground returns the foreground process group, 0 if there is no terminal,
// or none any more.
func (t *terminal) foreground() int {
	group, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	if err != nil || group < 0 {
		return 0
	}
	return group
}

// ours tells whether the terminal is ours to give.
func (t *terminal) ours() bool { return t.foreground() == syscall.Getpgrp() }

func (t *terminal) save() { t.modes, _ = unix.IoctlGetTermios(t.fd, getModes) }

// give gives the terminal to a group. It has to be ours.
func (t *terminal) give(group int) {
	t.save()
	t.setForeground(group)
	t.given = true
}

// takeBack takes the terminal back if it was given. As a shell would, it resets
// the modes of one whose user did not get to do so, being stopped or killed,
// and leaves those alone that are meant to stay, such as stty's.
func (t *terminal) takeBack(reset bool) {
	if !t.given {
		return
	}
	t.given = false
	if t.foreground() == 0 {
		return
	}
	signal.Ignore(syscall.SIGTTOU) // which is for doing this from the background
	t.setForeground(syscall.Getpgrp())
	if reset && t.modes != nil {
		unix.IoctlSetTermios(t.fd, setModes, t.modes)
	}
}

func (t *terminal) setForeground(group int) {
	unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, group)
}

// isOurTerminal tells whether a file is our controlling terminal.
func isOurTerminal(fd int) bool {
	_, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err == nil
}

// orphaned tells whether nobody would continue us if we were stopped: no
// process of our session but not of our group started our group. The kernel
// stops no such group by Ctrl-Z, and neither must we.
func orphaned() bool {
	group := syscall.Getpgrp()
	session, err := unix.Getsid(0)
	if err != nil {
		return false
	}
	for pid := syscall.Getppid(); ; {
		if pid <= 0 {
			return true // not of our PID namespace
		}
		s, err := unix.Getsid(pid)
		if err != nil || s != session {
			return true
		}
		if g, err := syscall.Getpgid(pid); err != nil || g != group {
			return err != nil
		}
		parent, ok := parentOf(pid)
		if !ok {
			return false
		}
		pid = parent
	}
}
