//go:build unix

package server

import (
	"runtime"
	"syscall"
)

// reservedFiles returns how many descriptors are not for clients: two for each
// event loop; listeners, clients that are turned away, the admin server's
// connections, logs, the runtime's own.
func reservedFiles() int { return 64 + 2*runtime.GOMAXPROCS(0) }

// openFiles returns how many connections the process's limit on open files
// leaves room for. The Go runtime has raised the limit as far as it may.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 - reservedFiles()
	}
	// Unsigned on most systems, signed on some; either way huge means none.
	if cur := uint64(limit.Cur); cur < maxConnections {
		return max(1, int(cur)-reservedFiles())
	}
	return maxConnections
}
