//go:build unix

package server

import (
	"runtime"
	"syscall"

	"github.com/nylen/lockd/internal/admin"
)

// reservedFiles returns how many descriptors are not for clients: two for each
// event loop; listeners, clients that are turned away, logs, the runtime's own. The
// admin address's connections have theirs, and one more that takes the place of
// another.
func reservedFiles(admins bool) int {
	n := 64 + 2*runtime.GOMAXPROCS(0)
	if admins {
		n += admin.MaxConnections + 1
	}
	return n
}

// openFiles returns how many connections the process's limit on open files
// leaves room for, with or without an admin address. The Go runtime has raised the
// limit as far as it may.
func openFiles(admins bool) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 - reservedFiles(admins)
	}
	// Unsigned on most systems, signed on some; either way huge means none.
	if cur := uint64(limit.Cur); cur < maxConnections {
		return max(1, int(cur)-reservedFiles(admins))
	}
	return maxConnections
}
