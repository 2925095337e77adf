package load

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/nylen/lockd/internal/cputime"
)

// process is another process that is watched.
type process struct{ pid int }

// maxPID is the kernel's bound. A clock is known by a number made of the pid's
// lower bits.
const maxPID = 1 << 22

// watchProcess returns nil for no process.
func watchProcess(pid int) (*process, error) {
	if pid == 0 {
		return nil, nil
	}
	p := &process{pid}
	if _, err := p.clock(); err != nil || pid < 0 || pid > maxPID {
		return nil, fmt.Errorf("cannot watch the process %d: there is none", pid)
	}
	return p, nil
}

// clock reads the process's CPU-time clock: user and system time of all of its
// threads, ended ones included, in nanoseconds. The sums in /proc/PID/stat
// are the same, but in ticks of 10 ms; those in /proc/PID/task/*/schedstat
// lose the threads that end.
func (p *process) clock() (time.Duration, error) {
	const cpuClockSched = 2
	id := int32(^p.pid<<3) | cpuClockSched
	var t syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		return 0, errno
	}
	return time.Duration(t.Nano()), nil
}

// cpu returns the CPU time that the process has used.
func (p *process) cpu() time.Duration {
	if p == nil {
		return 0
	}
	t, _ := p.clock() // 0 when it is gone
	return t
}

// rss returns the process's resident bytes.
func (p *process) rss() int64 {
	if p == nil {
		return 0
	}
	return RSS(p.pid)
}

// RSS returns a process's resident bytes, or 0 if that cannot be told.
func RSS(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kb, _ := strconv.ParseInt(strings.TrimSpace(strings.SplitN(rest, "kB", 2)[0]), 10, 64)
	return kb << 10
}

// ownCPU returns the CPU time that this process has used.
func ownCPU() time.Duration { return cputime.Used() }
