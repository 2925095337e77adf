//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package command

import "syscall"

// dieWithParent does nothing here: a command goes on when lockd is killed
// with -9.
func dieWithParent(*syscall.SysProcAttr) {}
