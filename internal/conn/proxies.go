package conn

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Proxies are those who begin each connection with a PROXY header: the networks
// that they are in. Zero is none. (By the specification a server must not guess:
// who could send a header or not could pass for anybody.)
type Proxies struct {
	networks []netip.Prefix
	unix     bool // and whoever comes over a unix socket
}

// ParseProxies reads networks such as 192.0.2.0/24, addresses, and `unix`.
func ParseProxies(networks []string) (p Proxies, err error) {
	for _, text := range networks {
		if text == "unix" {
			p.unix = true
			continue
		}
		network, err := netip.ParsePrefix(text)
		if addr, failed := netip.ParseAddr(text); failed == nil && addr.Zone() == "" {
			network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return Proxies{}, fmt.Errorf("%q: want a network such as 192.0.2.0/24, an address, or unix", text)
		}
		if addr := network.Addr(); addr.Is4In6() { // it is compared with IPv4 addresses
			if network.Bits() < 96 {
				return Proxies{}, fmt.Errorf("%q: write it as a network of IPv4", text)
			}
			network = netip.PrefixFrom(addr.Unmap(), network.Bits()-96)
		}
		p.networks = append(p.networks, network.Masked())
	}
	return p, nil
}

// any tells whether there are such.
func (p *Proxies) any() bool { return p.networks != nil || p.unix }

// has tells whether an address is one of theirs.
func (p *Proxies) has(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(p.networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// sends tells whether a connection begins with a header.
func (p *Proxies) sends(c net.Conn) bool {
	switch a := c.RemoteAddr().(type) {
	case *net.TCPAddr:
		return p.has(a.AddrPort().Addr())
	case *net.UnixAddr:
		return p.unix
	}
	return false
}
