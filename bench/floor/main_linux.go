// Command floor is the bare echo, the floor that bench/compare measures lockd
// against: a server with lockd's way of moving bytes and nothing else.
//
// It has the event loop of internal/conn, an epoll instance that Go's
// netpoller watches, drained without waiting and served by raw system calls,
// and it answers each line with the bytes that lockd answers to a get or a
// release that succeeds. It finds newlines and copies; it parses nothing,
// bounds nothing, and locks nothing. It is good for no other use: it believes
// that a client reads what it asked for.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"unsafe"
)

func main() {
	addr := flag.String("listen", "127.0.0.1:0", "the address to listen on; a path for a unix socket")
	flag.Parse()
	if err := serve(*addr); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func serve(addr string) error {
	listener, err := listen(addr)
	if err != nil {
		return err
	}
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	// os.NewFile gives only non-blocking files to the netpoller.
	if err := syscall.SetNonblock(epoll, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	if err := watch(epoll, listener); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	return loop(epoll, listener)
}

// listen returns a socket that Go's netpoller does not know: it would be woken
// for each connection, too.
func listen(addr string) (fd int, err error) {
	family := syscall.AF_UNIX
	var at syscall.Sockaddr = &syscall.SockaddrUnix{Name: addr}
	if !strings.Contains(addr, "/") {
		tcp, err := net.ResolveTCPAddr("tcp4", addr)
		if err != nil {
			return -1, err
		}
		family = syscall.AF_INET
		at = &syscall.SockaddrInet4{Port: tcp.Port, Addr: [4]byte(tcp.IP.To4())}
	}
	fd, err = syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return -1, os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Bind(fd, at); err != nil {
		return -1, os.NewSyscallError("bind", err)
	}
	const backlog = 4096 // as lockd has it
	return fd, os.NewSyscallError("listen", syscall.Listen(fd, backlog))
}

func watch(epoll, fd int) error {
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	return syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &ev)
}

func loop(epoll, listener int) error {
	file := os.NewFile(uintptr(epoll), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var events [256]syscall.EpollEvent
	in := make([]byte, 16<<10)
	out := make([]byte, 0, 64<<10)
	rest := map[int][]byte{} // beginnings of lines whose end is not there
	return raw.Read(func(uintptr) bool {
		for {
			n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll),
				uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
			if errno != 0 || n == 0 {
				return false
			}
			for _, ev := range events[:n] {
				if int(ev.Fd) == listener {
					accept(epoll, listener)
					continue
				}
				out = answer(int(ev.Fd), in, out[:0], rest)
			}
		}
	})
}

// accept takes all connections there are. One that asks once and goes costs six
// system calls: accept4, epoll_ctl, read, write, a read that finds the end, and
// close.
func accept(epoll, listener int) {
	for {
		fd, _, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		if watch(epoll, fd) != nil {
			syscall.Close(fd)
		}
	}
}

func answer(fd int, in, out []byte, rest map[int][]byte) []byte {
	at := 0
	if len(rest) > 0 {
		at = copy(in, rest[fd])
		delete(rest, fd)
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&in[at])), uintptr(len(in)-at))
	if errno == syscall.EAGAIN || errno == syscall.EINTR {
		return out
	}
	if errno != 0 || n == 0 {
		syscall.Close(fd)
		return out
	}
	in = in[:at+int(n)]
	for {
		end := bytes.IndexByte(in, '\n')
		if end < 0 {
			break
		}
		if in[0] == 'g' {
			out = append(out, "1 Lock Get Success: "...)
		} else {
			out = append(out, "1 Lock Release Success: "...)
		}
		out = append(out, in[min(2, end):end+1]...)
		in = in[end+1:]
	}
	if len(in) > 0 {
		rest[fd] = append([]byte(nil), in...)
	}
	for p := out; len(p) > 0; {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		if errno == syscall.EAGAIN || errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			break // the next read tells
		}
		p = p[n:]
	}
	return out
}
