package conn

import (
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"

	"github.com/nylen/lockd/internal/session"
)

// localNames numbers the connections that have no address.
var localNames [Transports]atomic.Uint64

// address returns what stands for a client in replies: IP:PORT, or the
// transport's name and a number where there is no such thing.
func address(c net.Conn, t Transport) session.Address {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return ipAddress(a.AddrPort())
	}
	if w, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = w.NetConn()
	}
	var p session.Process
	local, within := false, false
	switch c := c.(type) {
	case *net.UnixConn:
		local = true
		if raw, err := c.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { p = processOf(int(fd)) })
		}
	case *pipeEnd:
		local, within = true, true
	}
	a := numberedAddress(t, p, local)
	a.Within = within
	return a
}

// ipAddress stands for the client at an address. An IPv4 address is one, also on
// a socket that takes both kinds.
func ipAddress(a netip.AddrPort) session.Address {
	ip := a.Addr().Unmap()
	return session.Address{IP: netip.AddrPortFrom(ip, a.Port()), Local: ip.IsLoopback()}
}

// numberedAddress stands for the next client of a transport without addresses,
// which is a process, if that is known.
func numberedAddress(t Transport, p session.Process, local bool) session.Address {
	if t == WebSocket {
		t = Unix
	}
	return session.Address{Name: t.String() + ":" + strconv.FormatUint(localNames[t].Add(1), 10), Process: p, Local: local}
}
