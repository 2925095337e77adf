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
	a := c.RemoteAddr()
	if tcp, ok := a.(*net.TCPAddr); ok {
		return ipAddress(tcp.AddrPort())
	}
	numbered := numberedAddress(t)
	_, unix := a.(*net.UnixAddr)
	_, pipe := c.(*pipeEnd)
	numbered.Local = unix || pipe
	return numbered
}

// ipAddress stands for the client at an address. An IPv4 address is one, also on
// a socket that takes both kinds.
func ipAddress(a netip.AddrPort) session.Address {
	ip := a.Addr().Unmap()
	return session.Address{IP: netip.AddrPortFrom(ip, a.Port()), Local: ip.IsLoopback()}
}

// numberedAddress stands for the next client of a transport without addresses.
func numberedAddress(t Transport) session.Address {
	if t == WebSocket {
		t = Unix
	}
	return session.Address{Name: t.String() + ":" + strconv.FormatUint(localNames[t].Add(1), 10)}
}
