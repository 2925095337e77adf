package conn

import (
	"time"

	"github.com/nylen/lockd/internal/session"
	"golang.org/x/sys/unix"
)

// processOf returns who is at the other end of a unix socket, or nil.
func processOf(fd int) session.Process {
	c, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return nil
	}
	pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
	if err != nil {
		pid = 0
	}
	return newProcess(int32(pid), c.Uid)
}

// program returns the name of the program of a process, and for how long that
// has been there.
func program(pid int) (name string, age time.Duration, ok bool) {
	k, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return "", 0, false
	}
	return unix.ByteSliceToString(k.Proc.P_comm[:]), time.Since(time.Unix(k.Proc.P_starttime.Unix())), true
}
