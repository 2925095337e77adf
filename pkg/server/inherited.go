package server

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
)

// InheritedPrefix begins an address that stands for a listener which the server has
// not opened itself, see Options.Inherited.
const InheritedPrefix = "systemd:"

// inherited is a listener that somebody else has opened, and has a handle of: it
// outlives the server.
type inherited struct{ net.Listener }

// Socket returns the listener that it wraps, see conn.NewOwnListener. The other
// handle is in no process that accepts, or both would have some of the clients.
func (l inherited) Socket() net.Listener { return l.Listener }

// inherit gives each listener that was inherited an address of its own, in the place
// of the one that names it.
func (o *Options) inherit() error {
	o.inherited = make(map[string]net.Listener)
	taken := make(map[net.Listener]bool)
	take := func(option, network string, addrs []string) (all []string, err error) {
		for _, addr := range addrs {
			name, ok := strings.CutPrefix(addr, InheritedPrefix)
			if !ok {
				all = append(all, addr)
				continue
			}
			before := len(all)
			for i, l := range o.Inherited[name] {
				if l.Addr().Network() == network && !taken[l] {
					taken[l] = true
					each := fmt.Sprint(addr, "/", i)
					o.inherited[each] = l
					all = append(all, each)
				}
			}
			if len(all) == before {
				return nil, optionError(option, "%s: %s", addr, o.lacking(name, network, taken))
			}
		}
		return all, nil
	}
	var admin []string
	if o.Admin != "" {
		admin = []string{o.Admin}
	}
	for _, n := range []struct {
		option, network string
		addrs           *[]string
	}{
		{"tcp", "tcp", &o.TCP},
		{"unix", "unix", &o.Unix},
		{"websocket", "tcp", &o.WebSocket},
		{"tls", "tcp", &o.TLS},
		{"wss", "tcp", &o.WSS},
		{"http", "tcp", &o.HTTP},
		{"admin", "tcp", &admin},
	} {
		var err error
		if *n.addrs, err = take(n.option, n.network, *n.addrs); err != nil {
			return err
		}
	}
	if len(admin) > 1 {
		return optionError("admin", "%s: there are %d sockets with that name, and one is wanted", o.Admin, len(admin))
	} else if len(admin) == 1 {
		o.Admin = admin[0]
	}
	for _, name := range slices.Sorted(maps.Keys(o.Inherited)) {
		for _, l := range o.Inherited[name] {
			if !taken[l] { // clients that connect would hear nothing
				return optionError(l.Addr().Network(), "the socket %s (%s), which was passed to this process, is served by nobody: "+
					"serve it by %s%s, or do not pass it", name, l.Addr(), InheritedPrefix, name)
			}
		}
	}
	return nil
}

// lacking says why no listener is inherited by a name.
func (o *Options) lacking(name, network string, taken map[net.Listener]bool) string {
	var there []string
	for _, other := range slices.Sorted(maps.Keys(o.Inherited)) {
		for _, l := range o.Inherited[other] {
			use := ""
			if taken[l] {
				use = ", in use"
			}
			there = append(there, fmt.Sprintf("%s (%s %s%s)", other, l.Addr().Network(), l.Addr(), use))
		}
	}
	if len(there) == 0 {
		return "no sockets were passed to this process: it has to be started by the .socket unit's service"
	}
	return fmt.Sprintf("no %s socket with that name was passed to this process, but %s", network, strings.Join(there, ", "))
}
