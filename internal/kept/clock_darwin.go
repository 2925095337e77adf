package kept

import (
	"time"

	"golang.org/x/sys/unix"
)

// Now is a clock that never goes back and goes on while the machine sleeps.
func Now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic("kept: no clock: " + err.Error()) // all systems that Go runs on have it
	}
	return skewed(time.Duration(t.Nano()))
}
