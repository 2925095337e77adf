package conn

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"

	"github.com/nylen/lockd/internal/session"
)

// localNames numbers the connections that have no address.
var localNames [Transports]atomic.Uint64

// address returns what stands for a client, with the name in the certificate that
// it has shown.
func address(c net.Conn, t Transport) session.Address {
	addr := bareAddress(c, t)
	if c, ok := c.(*tls.Conn); ok {
		state := c.ConnectionState()
		addr.Cert = CertName(&state)
	}
	return addr
}

// bareAddress returns what stands for a client in replies: IP:PORT, or the
// transport's name and a number where there is no such thing.
func bareAddress(c net.Conn, t Transport) session.Address {
	if p := proxiedBelow(c); p != nil {
		return p.address(t)
	}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return ipAddress(a.AddrPort())
	}
	c = socket(c)
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

// asks tells whether a client is asked who it is. Who comes through a proxy over a
// unix socket has come to the proxy from elsewhere.
func (s *Server) asks(t Transport, addr session.Address) bool {
	if t == Unix && addr.IP.IsValid() {
		return s.cfg.Asks[Unix] || s.cfg.Asks[TCP]
	}
	return s.cfg.Asks[t]
}

// numberedAddress stands for the next client of a transport without addresses,
// which is a process, if that is known.
func numberedAddress(t Transport, p session.Process, local bool) session.Address {
	if t == WebSocket {
		t = Unix
	}
	return session.Address{Name: t.String() + ":" + strconv.FormatUint(localNames[t].Add(1), 10), Process: p, Local: local}
}
