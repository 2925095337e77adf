//go:build linux && !noloop

package load

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// A loop serves its connections from one thread, with epoll: it reads replies and
// writes the next requests with raw, non-blocking system calls.
type loop struct {
	job
	epoll       int
	connections []*connection
	dialer      dialer        // of short connections
	again       []*connection // short ones that the server had no room for
	in          []byte
	out         []byte
}

// A connection is a pipeline with its socket.
type connection struct {
	*pipeline
	fd int
}

const (
	readSize  = 64 << 10
	maxEvents = 512
	// patience is how long a worker waits at most before it looks at the clock
	// and for orders.
	patience = 10_000_000
	// spin is how long before a request is due a worker stops sleeping: a
	// sleep connections tens of microseconds late, which would count as latency.
	spin = 20_000
	// timerSlack is how late a sleep may end, in nanoseconds, for the kernel's
	// convenience.
	timerSlack = 1000
)

func newLoop(r *run, number, of, all int) (worker, error) {
	w := &loop{in: make([]byte, readSize)}
	if err := w.begin(r, number, of, all); err != nil {
		return nil, err
	}
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	w.epoll = epoll
	if r.opts.Short {
		w.dialer, err = newDialer(r.peer)
	}
	return w, err
}

func (w *loop) adopt(conn net.Conn) error {
	c := &connection{pipeline: newPipeline(w.run.opts.Pipeline, len(w.connections)), fd: -1}
	w.connections = append(w.connections, c)
	if conn == nil {
		return nil
	}
	defer conn.Close()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var dup uintptr
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		dup, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
	})
	if err == nil && errno != 0 {
		err = reason(errno)
	}
	if err != nil {
		return err
	}
	c.fd = int(dup)
	return w.watch(syscall.EPOLL_CTL_ADD, c, syscall.EPOLLIN)
}

func (w *loop) watch(op int, c *connection, events uint32) error {
	ev := syscall.EpollEvent{Events: events, Fd: int32(c.index)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(w.epoll, op, c.fd, &ev))
}

func (w *loop) close() {
	for _, c := range w.connections {
		syscall.Close(c.fd)
	}
	syscall.Close(w.epoll)
}

// work is the body of the worker's goroutine.
func (w *loop) work() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Sleeps may end 50 microseconds late by default. If this fails they do.
	syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_TIMERSLACK, timerSlack, 0)
	err := w.turns()
	now := w.run.now()
	if w.endedAt == 0 {
		w.endedAt = min(now, w.run.end)
	}
	for _, c := range w.connections {
		w.generator.lost(c.pipeline, now)
	}
	w.replies.Store(w.generator.got)
	return err
}

func (w *loop) turns() error {
	g := w.generator
	now := w.run.now()
	if g.plan == nil {
		for _, c := range w.connections {
			if err := w.send(c, now); err != nil {
				return err
			}
		}
	}
	var events [maxEvents]syscall.EpollEvent
	over := false
	deadline := int64(0)
	for {
		now = w.run.now()
		if !over && (now >= w.run.end || g.left == 0 || w.run.stop.Load()) {
			over = true
			deadline = now + int64(drainTime)
			if g.left > 0 {
				w.endedAt = min(now, w.run.end)
			}
			if err := w.finish(now); err != nil {
				return err
			}
		}
		if over && g.open == 0 {
			return nil
		}
		wait := int64(patience)
		if g.plan != nil && !over {
			for {
				i, ok := g.plan.take(now)
				if !ok {
					break
				}
				w.connections[i].owed++
				if err := w.send(w.connections[i], now); err != nil {
					return err
				}
			}
			wait = min(wait, g.plan.due(g.plan.next)-w.run.now())
		}
		if err := w.retry(); err != nil {
			return err
		}
		n := w.wait(events[:], wait)
		if n == 0 && over && now > deadline {
			return nil
		}
		for _, ev := range events[:n] {
			if err := w.event(w.connections[ev.Fd], ev.Events, over); err != nil {
				return err
			}
		}
		w.replies.Store(g.got)
		if w.want.Load() {
			g.tally = w.hand(g.tally)
		}
	}
}

// finish connections the sending. Nobody shall find the locks still taken.
func (w *loop) finish(now int64) error {
	for _, c := range w.connections {
		if w.generator.plan != nil {
			w.generator.unsent(c.pipeline, now)
		}
		w.out = w.generator.finish(w.out[:0], c.pipeline)
		if err := w.write(c); err != nil {
			return err
		}
	}
	return nil
}

func (w *loop) event(c *connection, events uint32, over bool) error {
	if events&^syscall.EPOLLOUT != 0 {
		n, errno := sysRead(c.fd, w.in)
		switch {
		case errno == syscall.EAGAIN || errno == syscall.EINTR:
		case w.run.opts.Short && n <= 0 && errno != syscall.ECONNREFUSED:
			w.generator.cut(c.pipeline)
			return w.renew(c, over)
		case errno != 0:
			return fmt.Errorf("lost a connection: %w", errno)
		case n == 0:
			return errEnded
		default:
			now := w.run.now()
			if err := w.generator.take(c.pipeline, w.in[:n], now); err != nil {
				return err
			}
			if w.run.opts.Short && c.outstanding() == 0 {
				return w.renew(c, over)
			}
			if over || w.run.opts.Short {
				break
			}
			if err := w.send(c, now); err != nil {
				return err
			}
		}
	}
	if events&syscall.EPOLLOUT != 0 && len(c.out) > 0 {
		w.out = append(w.out[:0], c.out...)
		c.out = c.out[:0]
		if err := w.write(c); err != nil {
			return err
		}
		if len(c.out) == 0 {
			return w.watch(syscall.EPOLL_CTL_MOD, c, syscall.EPOLLIN)
		}
	}
	return nil
}

// send sends what a connection has to send now.
func (w *loop) send(c *connection, now int64) error {
	w.out = w.generator.ask(w.out[:0], c.pipeline, now)
	if w.run.opts.Short && len(w.out) > 0 {
		return w.connect(c)
	}
	return w.write(c)
}

// write writes w.out, or keeps what the socket does not take.
func (w *loop) write(c *connection) error {
	if len(w.out) == 0 {
		return nil
	}
	sent := 0
	if len(c.out) == 0 {
		n, errno := sysWrite(c.fd, w.out)
		switch errno {
		case 0:
			sent = n
		case syscall.EAGAIN, syscall.EINTR:
		default:
			if w.run.opts.Short && errno != syscall.ECONNREFUSED {
				return nil // reading tells: there may be a reply to one connection too many
			}
			return fmt.Errorf("lost a connection: %w", errno)
		}
		if sent == len(w.out) {
			return nil
		}
		if err := w.watch(syscall.EPOLL_CTL_MOD, c, syscall.EPOLLIN|syscall.EPOLLOUT); err != nil {
			return err
		}
	}
	c.out = append(c.out, w.out[sent:]...)
	return nil
}

// wait waits for events, for at most so many nanoseconds. In a closed loop it
// always waits patience, in milliseconds as epoll_wait knows them; in an open
// loop it has to wake in time.
func (w *loop) wait(events []syscall.EpollEvent, timeout int64) int {
	if timeout == patience {
		n, _, errno := syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(w.epoll),
			uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), patience/1_000_000, 0, 0)
		if errno != 0 {
			return 0
		}
		return int(n)
	}
	if timeout > spin {
		pollIn(w.epoll, timeout-spin)
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(w.epoll),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// pollIn waits until fd can be read from, or for so many nanoseconds.
func pollIn(fd int, timeout int64) {
	p := struct {
		fd      int32
		events  int16
		revents int16
	}{fd: int32(fd), events: 1} // POLLIN
	t := syscall.NsecToTimespec(timeout)
	syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
}

func sysRead(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

func sysWrite(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}
