//go:build darwin || freebsd || netbsd || openbsd

package server

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// machineMemory is how much memory the machine has. 0: nobody knows.
func machineMemory() int64 {
	name := map[string]string{"darwin": "hw.memsize", "freebsd": "hw.physmem"}[runtime.GOOS]
	if name == "" {
		name = "hw.physmem64"
	}
	n, err := unix.SysctlUint64(name)
	if err != nil {
		return 0
	}
	return int64(n)
}
