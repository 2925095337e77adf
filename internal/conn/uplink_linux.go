//go:build linux && !noloop

package conn

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// uplinkSocket is an uplink's connection on an event loop. The uplink's mu guards it.
type uplinkSocket struct {
	fd      int // -1: there is none
	loop    *loop
	serial  int32
	blocked bool // upstream does not read
	why     error
	ended   chan struct{}
	in      []byte
}

func (u *uplink) socketInit() { u.fd = -1 }

// onLoop serves a connection on an event loop, to its end, if there is one that takes
// it.
func (u *uplink) onLoop(conn net.Conn) (ok bool, err error) {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return false, nil
	}
	loops := u.server.startedLoops()
	if len(loops) == 0 {
		return false, nil
	}
	fd, err := duplicate(conn.(syscall.Conn))
	if err != nil {
		return false, nil
	}
	conn.Close()
	ended := make(chan struct{})
	u.mu.Lock()
	u.ended, u.why = ended, nil
	u.mu.Unlock()
	if !loops[0].post(task{what: takeUplink, fd: fd, uplink: u}) {
		syscall.Close(fd)
		return true, net.ErrClosed
	}
	select {
	case <-ended:
	case <-loops[0].ended:
		return true, net.ErrClosed
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return true, endOf(u.why)
}

// take begins to serve it on a loop.
func (u *uplink) take(l *loop, fd int) {
	u.mu.Lock()
	u.fd, u.loop, u.blocked, u.rest = fd, l, false, nil
	u.serial = u.server.uplinks.serials.Add(1)
	if u.in == nil {
		u.in = make([]byte, 64<<10)
	}
	err := u.watchLocked(syscall.EPOLL_CTL_ADD, syscall.EPOLLIN)
	u.mu.Unlock()
	if err != nil || u.ctx.Err() != nil {
		u.close(err)
		return
	}
	u.flush()
}

func (u *uplink) watchLocked(op int, events uint32) error {
	ev := syscall.EpollEvent{Events: events, Fd: uplinkPlace + int32(u.place), Pad: u.serial}
	if errno := epollControl(u.loop.epoll, op, u.fd, &ev); errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

// event handles what epoll reports, on the loop.
func (u *uplink) event(ev syscall.EpollEvent) {
	if u.fd < 0 || ev.Pad != u.serial {
		return
	}
	if ev.Events&syscall.EPOLLOUT != 0 {
		u.mu.Lock()
		u.blocked = false
		_ = u.watchLocked(syscall.EPOLL_CTL_MOD, syscall.EPOLLIN)
		u.mu.Unlock()
		u.resume()
	}
	n, errno := read(u.fd, u.in)
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
	case errno != 0:
		u.close(os.NewSyscallError("read", errno))
	case n == 0:
		u.close(errors.New("it has closed the connection"))
	default:
		if err := u.receive(u.in[:n]); err != nil {
			u.close(err)
		}
	}
}

// resume goes on sending.
func (u *uplink) resume() {
	u.mu.Lock()
	u.writeLocked()
	u.mu.Unlock()
	u.goOn()
}

// writeLocked sends what upstream takes.
func (u *uplink) writeLocked() {
	for u.fd >= 0 && !u.blocked {
		if len(u.rest) == 0 {
			if !u.up.Pending() {
				return
			}
			u.buffer = u.up.Take(u.buffer)
			u.rest = u.buffer
		}
		n, errno := write(u.fd, u.rest)
		switch errno {
		case 0:
			u.rest = u.rest[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			u.blocked = true
			_ = u.watchLocked(syscall.EPOLL_CTL_MOD, syscall.EPOLLIN|syscall.EPOLLOUT)
		default:
			u.shutLocked()
			return
		}
	}
}

// shutLocked has the loop find the connection ended.
func (u *uplink) shutLocked() {
	if u.fd >= 0 {
		syscall.Shutdown(u.fd, syscall.SHUT_RDWR)
	}
}

// close ends it, on the loop.
func (u *uplink) close(why error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fd < 0 {
		return
	}
	closeSocket(u.fd)
	u.fd, u.why, u.rest = -1, why, nil
	close(u.ended)
}
