package conn

import (
	"bytes"
	"os"
	"strconv"
	"time"
	"unsafe"

	"github.com/nylen/lockd/internal/session"
	"golang.org/x/sys/unix"
)

// processOf returns who is at the other end of a unix socket, or nil.
func processOf(fd int) session.Process {
	var c unix.Ucred
	size := uint32(unsafe.Sizeof(c))
	if _, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERCRED,
		uintptr(unsafe.Pointer(&c)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		return nil
	}
	return newProcess(c.Pid, c.Uid)
}

const (
	ticksSecond  = 100 // USER_HZ, which is the same wherever Go runs
	startedField = 22  // of /proc/PID/stat, see proc_pid_stat(5)
)

// program returns the name of the program of a process, and for how long that
// has been there.
func program(pid int) (name string, age time.Duration, ok bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", 0, false
	}
	// The name is in parentheses, and may have some of its own.
	from, to := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if from < 0 || to < from {
		return "", 0, false
	}
	fields := bytes.Fields(stat[to+1:]) // from the third one on
	if len(fields) <= startedField-3 {
		return "", 0, false
	}
	ticks, err := strconv.ParseUint(string(fields[startedField-3]), 10, 64)
	if err != nil {
		return "", 0, false
	}
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return "", 0, false
	}
	started := time.Duration(ticks) * (time.Second / ticksSecond)
	return string(stat[from+1 : to]), time.Duration(now.Nano()) - started, true
}
