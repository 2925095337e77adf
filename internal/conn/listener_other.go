//go:build !linux && !windows

package conn

import "syscall"

var passingHere []syscall.Errno
