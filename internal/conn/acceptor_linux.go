//go:build linux && !noloop

package conn

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/wire"
)

// An acceptor is a listening socket that an event loop accepts from. A connection
// that comes in so costs what it must: none of the calls that the netpoller
// needs, no goroutine, and its options are those of the listening socket.
//
// Each acceptor is one loop's, which gives connections away to loops that have
// fewer. Sockets that share an address (SO_REUSEPORT) would spread them in the
// kernel, but would let another server of the same user share it too, and the
// clients would be split between two tables of locks.
//
// Go's own handle of the socket is closed: were it open, each connection would
// wake the netpoller in vain. So only a Listener of which nobody else has the
// handle, and whose end it learns of, gets an acceptor, see NewOwnListener.
type acceptor struct {
	loop      *loop
	listener  *Listener
	transport Transport

	// The loop's goroutine's own.
	place int           // in the loop's acceptors; -1: none
	quota int           // how many are accepted in the next turn at most
	pause time.Duration // the last one; 0: what was tried last went well
	// Those who have connected before the socket had the options have not inherited
	// them: clients who wait for a server to come back, or for whom a service manager
	// has listened. There is none left when there was nobody to accept.
	early bool

	mu    sync.Mutex // guards fd, whose number is somebody else's once it is closed
	fd    int        // -1: closed
	ended chan error // why
}

// acceptsTurn is how many connections an acceptor accepts in one turn, lest clients
// that are there wait for thousands that come. It begins with one and tries more
// while there are more: to find out that there are none takes a system call.
const acceptsTurn = 16

// Open has a loop accept the connections of a listener from now on, if there is
// one that can. Serve serves it, too, but nobody knows when it gets to that.
func (s *Server) Open(l *Listener) {
	if !l.own {
		return
	}
	handle := l.Listener
	if w, ok := handle.(interface{ Socket() net.Listener }); ok {
		handle = w.Socket()
	}
	var socket syscall.Conn
	t := TCP
	switch h := handle.(type) {
	case *net.TCPListener:
		socket = h
	case *net.UnixListener:
		socket, t = h, Unix
	default:
		return
	}
	all := s.startedLoops()
	if len(all) == 0 {
		return
	}
	fd, err := duplicate(socket)
	if err != nil {
		return // as Accept will say
	}
	if t == TCP {
		s.inherit(fd)
	}
	s.mu.Lock()
	a := &acceptor{loop: all[s.loops.acceptors%uint32(len(all))], listener: l, transport: t, place: -1, quota: 1, early: t == TCP, fd: fd, ended: make(chan error, 1)}
	s.loops.acceptors++
	s.mu.Unlock()
	if !l.give(a) {
		syscall.Close(fd)
		return
	}
	// Closing a unix socket's handle may remove its file.
	if t == TCP || handle != l.Listener || strings.HasPrefix(handle.Addr().String(), "@") {
		handle.Close()
	}
}

// open has the loop begin, unless it has ended.
func (a *acceptor) open() bool { return a.loop.post(task{what: openAcceptor, acceptor: a}) }

// wait returns why it has ended. It is called once.
func (a *acceptor) wait() error { return <-a.ended }

// inherit sets the options that a listening socket's connections inherit, or those of a
// connection that was earlier.
func (s *Server) inherit(fd int) {
	for _, o := range [...]struct{ level, option, value int }{
		{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, int(s.keepAlive.Idle / time.Second)},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, int(s.keepAlive.Interval / time.Second)},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, s.keepAlive.Count},
		{syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1}, // as package net does
	} {
		// They cannot fail on a TCP socket that is not of Multipath TCP.
		_ = syscall.SetsockoptInt(fd, o.level, o.option, o.value)
	}
	boundRetries(fd, s.deadPeer)
}

// Close ends an acceptor: nobody can connect any more. Those that have not been
// accepted are reset. Any goroutine may call it.
func (a *acceptor) Close() {
	a.end(net.ErrClosed)
	a.loop.post(task{what: forgetAcceptor, acceptor: a})
}

func (a *acceptor) end(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fd >= 0 {
		// Closing it is not enough where another process has the socket, too.
		epollControl(a.loop.epoll, syscall.EPOLL_CTL_DEL, a.fd, nil)
		syscall.Close(a.fd)
		a.fd = -1
		a.ended <- why
	}
}

// next accepts a connection, whose address the loop's peer is then.
func (a *acceptor) next() (int, syscall.Errno) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fd < 0 {
		return -1, errGone
	}
	return a.loop.accept(a.fd, &a.loop.peer)
}

// errGone is what accepting from an acceptor that is closed fails with: no error of
// the kernel's.
const errGone = ^syscall.Errno(0)

// work is a turn: it accepts some of the connections that are there.
func (a *acceptor) work() {
	for n := range a.quota {
		fd, errno := a.next()
		switch errno {
		case 0:
			a.pause = 0
			if a.early {
				a.loop.server.inherit(fd)
			}
			a.loop.server.loops.descriptors.use(fd)
			a.loop.letIn(fd, a.transport)
		case syscall.EAGAIN:
			a.early = false
			a.quota = max(1, n)
			return
		case syscall.EINTR, syscall.ECONNABORTED:
		case errGone:
			return
		default:
			a.fail("accept4", errno)
			return
		}
	}
	a.quota = min(2*a.quota, acceptsTurn)
}

// fail closes the acceptor, for a while if the error is one that passes: its socket
// stays readable, and the loop would do nothing else.
func (a *acceptor) fail(call string, errno syscall.Errno) {
	addr := a.listener.Addr()
	err := &net.OpError{Op: "accept", Net: addr.Network(), Addr: addr, Err: os.NewSyscallError(call, errno)}
	if !passes(errno) {
		a.end(lasting{err})
		a.forget()
		return
	}
	a.pause = min(max(2*a.pause, firstPause), lastPause)
	a.listener.tell(err, a.pause)
	a.watch(syscall.EPOLL_CTL_DEL) // it fails if it was not watched
	time.AfterFunc(a.pause, func() { a.open() })
}

// begin begins to accept, or goes on.
func (a *acceptor) begin() {
	l := a.loop
	if a.place < 0 {
		if a.place = slices.Index(l.acceptors, nil); a.place < 0 {
			a.place = len(l.acceptors)
			l.acceptors = append(l.acceptors, nil)
		}
		l.acceptors[a.place] = a
	}
	if errno := a.watch(syscall.EPOLL_CTL_ADD); errno == errGone {
		a.forget()
	} else if errno != 0 {
		a.fail("epoll_ctl", errno)
	}
}

func (a *acceptor) watch(op int) syscall.Errno {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fd < 0 {
		return errGone
	}
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: acceptorPlace - int32(a.place)}
	return epollControl(a.loop.epoll, op, a.fd, &ev)
}

// forget gives up the place of an acceptor that is closed.
func (a *acceptor) forget() {
	if a.place >= 0 {
		a.loop.acceptors[a.place] = nil
		a.place = -1
	}
}

// letIn admits a connection that was accepted and begins to serve it, here or
// on a loop that has fewer.
func (l *loop) letIn(fd int, t Transport) {
	s := l.server
	if !s.admit(t) {
		l.turnAway(fd, t)
		return
	}
	if p := &s.cfg.Proxies; p.any() && (t == Unix && p.unix || t == TCP && p.has(l.peerIP().Addr())) {
		go s.takeProxied(fd, t)
		return
	}
	to, late := s.enlist(l, false)
	if to == nil { // the server is shutting down
		s.leave(t)
		closeSocket(fd)
		return
	}
	m := task{fd: fd, transport: t, addr: l.peerAddress(fd, t), late: late}
	if to == l {
		l.take(m)
	} else {
		to.post(m)
	}
}

var tooMany = []byte(wire.TooManyConnections)

// turnAway tells a client that there are too many and ends its connection.
func (l *loop) turnAway(fd int, t Transport) {
	write(fd, tooMany)
	s := l.server
	if !s.mayPart() {
		closeSocket(fd)
		return
	}
	by, late := s.enlist(l, true)
	if by == nil {
		s.parted()
		closeSocket(fd)
		return
	}
	c := l.seat(fd, t)
	c.late = late
	c.ended = true
	c.beginParting()
}

// peerAddress returns what stands for the client that was accepted last, by its
// descriptor.
func (l *loop) peerAddress(fd int, t Transport) session.Address {
	if ip := l.peerIP(); ip.IsValid() {
		return ipAddress(ip)
	}
	return numberedAddress(t, processOf(fd), true)
}

// peerIP returns the address of the client that was accepted last, if it has one.
func (l *loop) peerIP() (ip netip.AddrPort) {
	port := func(p *uint16) uint16 {
		b := (*[2]byte)(unsafe.Pointer(p))
		return uint16(b[0])<<8 | uint16(b[1])
	}
	switch l.peer.Addr.Family {
	case syscall.AF_INET:
		a := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&l.peer))
		ip = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), port(&a.Port))
	case syscall.AF_INET6:
		a := (*syscall.RawSockaddrInet6)(unsafe.Pointer(&l.peer))
		addr := netip.AddrFrom16(a.Addr)
		if a.Scope_id != 0 {
			addr = addr.WithZone(l.zone(a.Scope_id))
		}
		ip = netip.AddrPortFrom(addr, port(&a.Port))
	}
	return ip
}

// takeProxied serves a connection that was admitted and begins with a PROXY header.
func (s *Server) takeProxied(fd int, t Transport) {
	f := os.NewFile(uintptr(fd), "client")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil { // as when there are no more descriptors
		s.leave(t)
		return
	}
	s.keep(c)
	s.serveProxied(s.proxied(c), t)
}

// zones are the names of interfaces, which link-local addresses are of. To look
// one up takes longer than all else about a connection.
type zones struct {
	names map[uint32]string
	until time.Time
}

// zonesFor is for how long names of interfaces are known. It is as package net
// has it.
const zonesFor = time.Minute

func (l *loop) zone(scope uint32) string {
	z := &l.zones
	if now := time.Now(); z.names == nil || now.After(z.until) {
		*z = zones{make(map[uint32]string), now.Add(zonesFor)}
	}
	name, ok := z.names[scope]
	if !ok {
		if i, err := net.InterfaceByIndex(int(scope)); err == nil {
			name = i.Name
		} else {
			name = strconv.FormatUint(uint64(scope), 10)
		}
		z.names[scope] = name
	}
	return name
}
