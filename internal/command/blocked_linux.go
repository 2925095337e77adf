//go:build !(mips || mipsle || mips64 || mips64le)

package command

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// The main goroutine stays on the main thread, since that is the one of which
// the runtime keeps with what signals blocked it began.
func init() { runtime.LockOSThread() }

// blocked returns what the caller has blocked.
//
// Of that, Go's threads unblock the signals that end or crash a program, TERM
// and INT among them, and those that the runtime lives by, such as CHLD. What
// the main thread began with is kept by the runtime where a fork keeps the mask
// of the thread that it is made on (m.sigmask in runtime/runtime2.go). So it is
// found by a fork with a mask that serves as a mark: what was before where the
// mark is now is the answer. The fork is one that the kernel refuses.
func blocked() (found mask, ok bool) {
	mark := mask(0xa93c_75d2_4e0b_b2e7) // without KILL and STOP, which nobody can block
	now, err := setMask(nil)
	if err != nil || syscall.Gettid() != os.Getpid() {
		return 0, false
	}
	memory, err := variables()
	if err != nil {
		return 0, false
	}
	before, err := memory.read()
	if err != nil {
		return 0, false
	}
	if _, err := setMask(&mark); err != nil {
		return 0, false
	}
	_, err = syscall.ForkExec("/", []string{"/"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_THREAD, // not without CLONE_SIGHAND
	}})
	setMask(&now)
	if err != syscall.EINVAL {
		return 0, false
	}
	after, err := memory.read()
	if err != nil {
		return 0, false
	}
	at, ok := locate(after, bytesOf(mark))
	if !ok {
		return 0, false
	}
	for _, p := range before {
		if p.from <= at && at < p.from+uintptr(len(p.data)) {
			found = maskOf(p.data[at-p.from:])
			return found, found&now == now // or it was something else
		}
	}
	return 0, false
}

// locate returns the address of the one place where some bytes are.
func locate(pieces []piece, what []byte) (at uintptr, ok bool) {
	for _, p := range pieces {
		i := bytes.Index(p.data, what)
		if i < 0 {
			continue
		}
		if ok || bytes.Contains(p.data[i+1:], what) {
			return 0, false
		}
		at, ok = p.from+uintptr(i), true
	}
	return at, ok
}

// setMask blocks and unblocks signals for this thread, if told to, and returns
// what was blocked before.
func setMask(to *mask) (before mask, err error) {
	const setmask = 2
	var old [8]byte
	var set *byte
	if to != nil {
		set = &bytesOf(*to)[0]
	}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setmask,
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(&old[0])), uintptr(len(old)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return maskOf(old[:]), nil
}

// bytesOf returns a mask as the kernel has it, and the runtime too.
func bytesOf(m mask) []byte { return binary.NativeEndian.AppendUint64(nil, uint64(m)) }

func maskOf(b []byte) mask { return mask(binary.NativeEndian.Uint64(b)) }
