//go:build linux && !noloop

package conn

import (
	"sync"
	"sync/atomic"
	"syscall"
)

// descriptors makes room in the process's table of descriptors before it is
// needed. The kernel doubles the table when it is full, and where there are
// several threads it waits for all processors meanwhile, some 10 ms: so long
// would everybody wait for the loop that accepts the connection after the 256th,
// the 512th and so on. The table never shrinks.
type descriptors struct {
	mu   sync.Mutex   // held while the table grows
	room int          // there is, guarded
	more atomic.Int64 // the descriptor with which it is to grow
}

// firstRoom is how many descriptors there is room for at first: 128 KiB of the
// kernel's memory.
const firstRoom = 1 << 14

// grow makes room for n descriptors, or for as many as the process may have, and
// has the table grow again when half of them are used.
func (d *descriptors) grow(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var limit syscall.Rlimit
	if n <= d.room || syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return
	}
	d.room = int(min(uint64(n), limit.Cur))
	d.more.Store(int64(d.room / 2))
	if uint64(d.room) == limit.Cur {
		d.more.Store(int64(limit.Cur))
	}
	some, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return
	}
	defer syscall.Close(some)
	if last, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(some), syscall.F_DUPFD_CLOEXEC, uintptr(d.room-1)); errno == 0 {
		syscall.Close(int(last))
	}
}

// use notes that a descriptor is used.
func (d *descriptors) use(fd int) {
	if more := d.more.Load(); int64(fd) >= more && d.more.CompareAndSwap(more, 1<<62) {
		go d.grow(8 * int(more))
	}
}
