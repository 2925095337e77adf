//go:build linux && !noloop

package conn

import (
	"net"
	"os"
	"syscall"
	"unsafe"
)

// The system calls of an event loop. None of them blocks, so they go without
// telling Go's scheduler, which costs as much as a small read.

func read(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

func write(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

// closeSocket closes a descriptor. That of a socket without SO_LINGER does not
// wait for anybody, either.
func closeSocket(fd int) {
	syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0)
}

func epollControl(epoll, op, fd int, ev *syscall.EpollEvent) syscall.Errno {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(epoll), uintptr(op), uintptr(fd),
		uintptr(unsafe.Pointer(ev)), 0, 0)
	return errno
}

// epollWait returns how many events there are, without waiting for any.
func epollWait(epoll int, events []syscall.EpollEvent) int {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0 // never: it is interrupted only while it waits
	}
	return int(n)
}

// pollFD is struct pollfd.
type pollFD struct {
	fd      int32
	events  int16
	revents int16
}

const (
	pollRDHUP = 0x2000
	pollMost  = 64 // descriptors that need no memory
)

// poll looks at descriptors without waiting.
func poll(fds []pollFD) {
	if len(fds) == 0 {
		return
	}
	var now syscall.Timespec
	// It fails only if it is interrupted while it waits.
	syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)),
		uintptr(unsafe.Pointer(&now)), 0, 0, 0)
}

// settleSocket has the kernel take in what has come for a TCP socket. While another
// thread is within a call about it, such as the write of a reply that the client
// has already, packets are put aside until that call returns, also the one that
// ends the connection, and poll does not tell of it. Asking how much input there is
// waits for that, which is short, unless the other thread has lost its processor.
func settleSocket(fd int32) {
	var input int32
	syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TIOCINQ, uintptr(unsafe.Pointer(&input)))
}

// descriptor is that of a connection's socket, below TLS, or -1 if it has none.
func descriptor(c net.Conn) int32 {
	fd := int32(-1)
	if c, ok := socket(c).(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			raw.Control(func(n uintptr) { fd = int32(n) })
		}
	}
	return fd
}

func eventfd() (int, error) {
	fd, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		return 0, os.NewSyscallError("eventfd2", errno)
	}
	return int(fd), nil
}

// signal makes an eventfd readable, clearSignal makes it wait again.
func signal(fd int) {
	one := [8]byte{0: 1}
	write(fd, one[:])
}

func clearSignal(fd int) {
	var count [8]byte
	read(fd, count[:])
}
