//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package command

import "golang.org/x/sys/unix"

const (
	getModes = unix.TIOCGETA
	setModes = unix.TIOCSETA
)
