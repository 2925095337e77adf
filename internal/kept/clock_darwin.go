package kept

import "golang.org/x/sys/unix"

const clock = unix.CLOCK_MONOTONIC // which goes on while the machine sleeps, there
