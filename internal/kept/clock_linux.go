package kept

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Now is a clock that never goes back and goes on while the machine sleeps, which Go's
// own does not on Linux: a server elsewhere does not sleep along.
//
// It does not tell the scheduler of the call, which is over at once: nodes of a cluster
// look at it all the time, and each call would wake the thread that watches over calls
// that last, which costs more than the requests do.
func Now() time.Duration {
	var t unix.Timespec
	if _, _, err := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&t)), 0); err != 0 {
		panic("kept: no clock: " + err.Error()) // all systems that Go runs on have it
	}
	return skewed(time.Duration(t.Nano()))
}
