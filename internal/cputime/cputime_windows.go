// Package cputime tells how much processor time this process has used.
package cputime

import (
	"syscall"
	"time"
)

// Used returns it, of all threads, in the system's part and the program's; 0 where
// the system does not tell.
func Used() time.Duration {
	self, err := syscall.GetCurrentProcess()
	if err != nil {
		return 0
	}
	var created, exited, kernel, user syscall.Filetime
	if syscall.GetProcessTimes(self, &created, &exited, &kernel, &user) != nil {
		return 0
	}
	// In units of 100 ns, and no point in time.
	span := func(f syscall.Filetime) time.Duration {
		return time.Duration(int64(f.HighDateTime)<<32|int64(f.LowDateTime)) * 100
	}
	return span(kernel) + span(user)
}
