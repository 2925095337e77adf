//go:build linux && !noloop && !386

package conn

import (
	"syscall"
	"unsafe"
)

// accept4 accepts a connection without blocking, with its peer's address.
func accept4(fd int, peer *syscall.RawSockaddrAny) (int, syscall.Errno) {
	size := uint32(syscall.SizeofSockaddrAny)
	n, _, errno := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(peer)),
		uintptr(unsafe.Pointer(&size)), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0)
	return int(n), errno
}
