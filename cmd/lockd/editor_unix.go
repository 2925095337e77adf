//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// onResize calls f whenever the terminal has got another size.
func onResize(f func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGWINCH)
	go func() {
		for range c {
			f()
		}
	}()
}

// stop stops the process group, as Ctrl-Z does, and returns when it continues.
func stop() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGCONT)
	defer signal.Stop(c)
	syscall.Kill(0, syscall.SIGTSTP)
	select {
	case <-c:
	case <-time.After(time.Second): // nobody is there who would continue it, so it did not stop
	}
}
