//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// stopSelf does what Ctrl-Z does to a program that leaves it to the terminal: all of
// the process group stop, and this returns when they go on. Where nobody could
// continue them, as without a shell, the system does nothing.
func stopSelf() { syscall.Kill(0, syscall.SIGTSTP) }

// whenContinued tells when the process goes on after it was stopped.
func whenContinued() (continued <-chan os.Signal, forget func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGCONT)
	return c, func() { signal.Stop(c) }
}
