package session

import (
	"net/netip"
	"strconv"
	"sync"

	"github.com/nylen/lockd/internal/shard"
)

// ShareBy is what makes one client of many connections, whose shares of what the
// server has are bounded together.
type ShareBy uint8

// What there is to share by.
const (
	ShareByAddress    ShareBy = iota // the IP address, of IPv6 the /64 network; over unix sockets the user
	ShareByToken                     // the name under which a client is known, or the address of one that is not
	ShareByConnection                // each connection is a client of its own
)

// An account is what one client's shares are counted on. It is there while the
// client has a connection, and longer while it has rates that are not full:
// who comes back finds them on it.
type account struct {
	key    accountKey
	share  *shard.Share
	refs   int  // streams; guarded by the accounts' mutex
	parked bool // among the idle ones; guarded, too
}

// accounts finds the accounts of a server.
type accounts struct {
	set    *shard.Set
	by     ShareBy
	limits shard.ShareLimits

	mu          sync.Mutex // guards what follows
	byKey       map[accountKey]*account
	idle        []*account // that nobody has, oldest first; some have been taken up again
	connections uint64     // that were accounts of their own
}

// An accountKey is the address or, where that is not valid, a name.
type accountKey struct {
	ip   netip.Addr
	name string
}

func (k accountKey) String() string {
	switch {
	case !k.ip.IsValid():
		return k.name
	case k.ip.Is6():
		return netip.PrefixFrom(k.ip, networkBits).String()
	}
	return k.ip.String()
}

// within is the server's own process, and nodes the other nodes of a cluster: neither has
// bounds of its own, as who stands behind it has.
var (
	within = accountKey{name: "memory"}
	nodes  = accountKey{name: "nodes"}
)

const (
	// networkBits is how much of an IPv6 address counts: what a machine, or a
	// site, is given whole, so that it has as many addresses as it likes.
	networkBits = 64
	// keptAccounts is how many accounts that nobody has are kept, as those who
	// connect for each request come back to them at once.
	keptAccounts = 64
	// idleLooks is how many of them are looked at when one more is.
	idleLooks = 4
)

func (a *accounts) init(set *shard.Set, by ShareBy, limits shard.ShareLimits) {
	a.set, a.by, a.limits = set, by, limits
	a.byKey = make(map[accountKey]*account)
}

// keyOf returns the key for a client at an address, and its name if it is known by
// one.
func (a *accounts) keyOf(addr Address, name string) accountKey {
	switch {
	case addr.Within:
		return within
	case a.by == ShareByConnection:
		a.mu.Lock()
		defer a.mu.Unlock()
		a.connections++
		return accountKey{name: "connection " + strconv.FormatUint(a.connections, 10)}
	case a.by == ShareByToken && name != "":
		return accountKey{name: "token " + name}
	case addr.IP.IsValid():
		ip := addr.IP.Addr().Unmap()
		if ip.Is6() {
			network, _ := ip.WithZone("").Prefix(networkBits)
			ip = network.Addr()
		}
		return accountKey{ip: ip}
	case addr.Process != nil:
		return accountKey{name: "unix uid=" + strconv.FormatUint(uint64(addr.Process.UID()), 10)}
	}
	return accountKey{name: "unix"} // where the system does not tell the user
}

// join returns the account of a key for one more stream.
func (a *accounts) join(key accountKey) *account {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.byKey[key]
	if one == nil {
		limits := a.limits
		if key == within || key == nodes {
			limits = shard.ShareLimits{}
		}
		one = &account{key: key, share: a.set.NewShare(limits)}
		a.byKey[key] = one
	}
	one.refs++
	return one
}

// leave counts a stream out that holds nothing any more.
func (a *accounts) leave(one *account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if one.refs--; one.refs > 0 || one.parked {
		return
	}
	one.parked = true
	a.idle = append(a.idle, one)
	for n := 0; n < idleLooks && len(a.idle) > keptAccounts; n++ {
		oldest := a.idle[0]
		a.idle = a.idle[1:]
		switch {
		case oldest.refs > 0:
			oldest.parked = false
		case oldest.share.Drop():
			delete(a.byKey, oldest.key)
		default: // it has rates
			a.idle = append(a.idle, oldest)
		}
	}
}

// each calls f for each account, without the mutex.
func (a *accounts) each(f func(*account)) {
	a.mu.Lock()
	all := make([]*account, 0, len(a.byKey))
	for _, one := range a.byKey {
		all = append(all, one)
	}
	a.mu.Unlock()
	for _, one := range all {
		f(one)
	}
}
