//go:build linux && !noloop

package conn

import (
	"syscall"
	"unsafe"
)

// accept4 accepts a connection without blocking, with its peer's address. On
// this architecture it is one of the calls of socketcall.
func accept4(fd int, peer *syscall.RawSockaddrAny) (int, syscall.Errno) {
	const sysAccept4 = 18
	size := uint32(syscall.SizeofSockaddrAny)
	args := struct {
		fd    uintptr
		peer  *syscall.RawSockaddrAny
		size  *uint32
		flags uintptr
	}{uintptr(fd), peer, &size, syscall.SOCK_NONBLOCK | syscall.SOCK_CLOEXEC}
	n, _, errno := syscall.RawSyscall(syscall.SYS_SOCKETCALL, sysAccept4, uintptr(unsafe.Pointer(&args)), 0)
	return int(n), errno
}
