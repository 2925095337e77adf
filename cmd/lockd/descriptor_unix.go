//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"path/filepath"
	"strconv"
	"syscall"
)

// hideDescriptor keeps a file from the command that lockd run starts, if it was named
// by a descriptor, as a shell's <(COMMAND) is: those beyond 2 are inherited.
func hideDescriptor(path string) {
	switch filepath.Dir(path) {
	case "/dev/fd", "/proc/self/fd":
		if fd, err := strconv.Atoi(filepath.Base(path)); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}
