//go:build linux && !noloop

package load

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// A dialer makes short connections.
type dialer struct {
	family  int
	peer    syscall.Sockaddr
	sources []syscall.Sockaddr // in turn; none: as the kernel likes
	next    int
}

// The end that closes a TCP connection first, which is this one, cannot use its
// port for a minute (TIME_WAIT), and there are about 28,000 ports for each
// source address: they are used up after 500 connections a second for a minute,
// or in one second at 30,000. A reset instead of a FIN would leave nothing
// behind, but that is not what clients send. So connections over loopback come
// from many addresses: together these have more ports than a minute takes, and
// more than the kernel keeps in TIME_WAIT (net.ipv4.tcp_max_tw_buckets). Over
// a network the run ends with an error when no port is left. (A Redis in
// protected mode lets only 127.0.0.1 in.)
const sourceCount = 64

// ipBindAddressNoPort has connect choose the port, which knows that the same
// port can go to two addresses; bind, which does not know where to, would look
// for one that nobody has.
const ipBindAddressNoPort = 24

func newDialer(peer net.Addr) (d dialer, err error) {
	switch a := peer.(type) {
	case *net.UnixAddr:
		d.family, d.peer = syscall.AF_UNIX, &syscall.SockaddrUnix{Name: a.Name}
	case *net.TCPAddr:
		if ip := a.IP.To4(); ip != nil {
			d.family, d.peer = syscall.AF_INET, &syscall.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}
			for i := byte(0); ip.IsLoopback() && i < sourceCount; i++ {
				d.sources = append(d.sources, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 1, 1 + i}})
			}
		} else {
			d.family, d.peer = syscall.AF_INET6, &syscall.SockaddrInet6{Port: a.Port, Addr: [16]byte(a.IP.To16())}
		}
	default:
		err = fmt.Errorf("short connections to %s are not supported", peer)
	}
	return d, err
}

// dial begins a connection; it returns before that is there.
func (d *dialer) dial() (fd int, err error) {
	fd, err = syscall.Socket(d.family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if len(d.sources) > 0 {
		if err = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipBindAddressNoPort, 1); err == nil {
			err = syscall.Bind(fd, d.sources[d.next])
		}
		d.next = (d.next + 1) % len(d.sources)
	}
	if err == nil {
		err = syscall.Connect(fd, d.peer)
	}
	if err != nil && err != syscall.EINPROGRESS {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// connect makes a short connection and sends w.out over it. A connection over
// loopback is there by then; else what is to be sent waits for it.
func (w *loop) connect(c *connection) (err error) {
	c.fd, err = w.dialer.dial()
	switch err {
	case nil:
	case syscall.EAGAIN:
		// A unix socket's line of those who want to connect is full. Who may
		// block waits there.
		c.out = append(c.out[:0], w.out...)
		w.again = append(w.again, c)
		return nil
	case syscall.EADDRNOTAVAIL:
		return errors.New("no port is free: closed connections keep theirs for a minute (TIME_WAIT)")
	default:
		return fmt.Errorf("cannot reach %s: %w", w.run.target, reason(err))
	}
	if err := w.watch(syscall.EPOLL_CTL_ADD, c, syscall.EPOLLIN); err != nil {
		return err
	}
	return w.write(c)
}

// retry has those connect that could not.
func (w *loop) retry() error {
	waiting := w.again
	w.again = w.again[:0] // no more are put there than were taken
	for _, c := range waiting {
		w.out = append(w.out[:0], c.out...)
		c.out = c.out[:0]
		if err := w.connect(c); err != nil {
			return err
		}
	}
	return nil
}

// renew ends a short connection and begins the next one.
func (w *loop) renew(c *connection, over bool) error {
	syscall.Close(c.fd)
	c.fd = -1
	c.in, c.out = c.in[:0], c.out[:0]
	if over {
		return nil
	}
	return w.send(c, w.run.now())
}
