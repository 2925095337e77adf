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
	"syscall"
	"unsafe"
)

func main() {
	addr := flag.String("listen", "127.0.0.1:0", "the address to listen on")
	flag.Parse()
	if err := serve(*addr); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func serve(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	// os.NewFile gives only non-blocking files to the netpoller.
	if err := syscall.SetNonblock(epoll, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	go loop(epoll)
	for {
		c, err := listener.Accept()
		if err != nil {
			return err
		}
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			return err
		}
		raw.Control(func(fd uintptr) {
			dup, err := syscall.Dup(int(fd))
			if err != nil {
				return
			}
			ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(dup)}
			syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, dup, &ev)
		})
		c.Close()
	}
}

func loop(epoll int) {
	file := os.NewFile(uintptr(epoll), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		panic(err)
	}
	var events [256]syscall.EpollEvent
	in := make([]byte, 16<<10)
	out := make([]byte, 0, 64<<10)
	rest := map[int][]byte{} // beginnings of lines whose end is not there
	err = raw.Read(func(uintptr) bool {
		for {
			n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll),
				uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
			if errno != 0 || n == 0 {
				return false
			}
			for _, ev := range events[:n] {
				out = answer(int(ev.Fd), in, out[:0], rest)
			}
		}
	})
	panic(err)
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
