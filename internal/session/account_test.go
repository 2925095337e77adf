package session

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/nylen/lockd/internal/shard"
)

type someProcess uint32

func (someProcess) PID() int        { return 1 }
func (p someProcess) UID() uint32   { return uint32(p) }
func (someProcess) Program() string { return "" }

// Who is one client, by address, by name and by connection.
func TestAccountKeys(t *testing.T) {
	ip := func(text string) Address { return Address{IP: netip.MustParseAddrPort(text)} }
	for _, c := range []struct {
		a, b                    Address
		nameA, nameB            string
		byAddress, byName, byIt bool // are they one?
	}{
		{a: ip("10.0.0.1:1"), b: ip("10.0.0.1:2"), byAddress: true, byName: true},
		{a: ip("10.0.0.1:1"), b: ip("10.0.0.2:1")},
		{a: ip("10.0.0.1:1"), b: ip("[::ffff:10.0.0.1]:1"), byAddress: true, byName: true},
		{a: ip("[2001:db8:1:2:3::4]:1"), b: ip("[2001:db8:1:2:ffff::1]:1"), byAddress: true, byName: true},
		{a: ip("[2001:db8:1:2::4]:1"), b: ip("[2001:db8:1:3::4]:1")},
		{a: ip("[fe80::1%eth0]:1"), b: ip("[fe80::2%eth1]:1"), byAddress: true, byName: true},
		{a: ip("10.0.0.1:1"), b: ip("10.0.0.1:1"), nameA: "x", nameB: "y", byAddress: true},
		{a: ip("10.0.0.1:1"), b: ip("10.0.0.2:1"), nameA: "x", nameB: "x", byName: true},
		{a: Address{Name: "unix:1", Process: someProcess(1)}, b: Address{Name: "unix:2", Process: someProcess(1)}, byAddress: true, byName: true},
		{a: Address{Name: "unix:1", Process: someProcess(1)}, b: Address{Name: "unix:2", Process: someProcess(2)}},
		{a: Address{Name: "memory:1", Within: true}, b: Address{Name: "memory:2", Within: true}, byAddress: true, byName: true, byIt: true},
	} {
		for by, want := range map[ShareBy]bool{ShareByAddress: c.byAddress, ShareByToken: c.byName, ShareByConnection: c.byIt} {
			a := accounts{by: by}
			if got := a.keyOf(c.a, c.nameA) == a.keyOf(c.b, c.nameB); got != want {
				t.Errorf("%v %q and %v %q by %d: one client is %v, want %v", c.a, c.nameA, c.b, c.nameB, by, got, want)
			}
		}
	}
	for addr, want := range map[string]string{"10.0.0.1:1": "10.0.0.1", "[2001:db8:1:2:3::4]:1": "2001:db8:1:2::/64"} {
		if got := (&accounts{}).keyOf(ip(addr), "").String(); got != want {
			t.Errorf("%s is %q, want %q", addr, got, want)
		}
	}
}

func shareHub(by ShareBy, limits shard.ShareLimits) *Hub {
	cfg := testConfig()
	cfg.ShareBy, cfg.Share = by, limits
	return newHub(cfg)
}

func streamFrom(h *Hub, ip string) *Stream {
	st := new(Stream)
	st.Begin(h, Address{IP: netip.MustParseAddrPort(ip)}, nil, new(Turn))
	return st
}

// Accounts of those who are gone are dropped, all but a few, and those that have
// rates when these are full.
func TestAccountsAreDropped(t *testing.T) {
	h := shareHub(ShareByAddress, shard.ShareLimits{Locks: 100})
	defer h.Close()
	for i := range 1000 {
		st := streamFrom(h, fmt.Sprintf("10.0.%d.%d:1", i/250, i%250))
		if i < 100 {
			script(t, st, fmt.Sprintf("rl 1 86400000 1 %d\n", i), fmt.Sprintf("1 Rate Allowed: %d\n", i))
		}
		st.Close()
	}
	if n := len(h.accounts.byKey); n < 100 || n > 100+2*keptAccounts {
		t.Errorf("%d accounts, 100 of which have rates", n)
	}
	st := streamFrom(h, "10.0.0.7:1")
	if got := st.account.share.Holdings(); got.Rates != 1 {
		t.Errorf("who comes back has %+v", got)
	}
	for i := range 100 {
		h.DropRate(fmt.Appendf(nil, "%d", i))
	}
	st.Close()
	for i := range 200 {
		streamFrom(h, fmt.Sprintf("10.1.0.%d:1", i)).Close()
	}
	if n := len(h.accounts.byKey); n > 2*keptAccounts {
		t.Errorf("%d accounts are left", n)
	}
}

// A client that says who it is counts on that account from then on, and one that
// has something already does not move it.
func TestCountAs(t *testing.T) {
	h := shareHub(ShareByToken, shard.ShareLimits{Locks: 1})
	defer h.Close()
	a, b, c := streamFrom(h, "10.0.0.1:1"), streamFrom(h, "10.0.0.1:2"), streamFrom(h, "10.0.0.1:3")
	a.countAs("deploy")
	c.countAs("deploy")
	script(t, a, "g 1\n", "1 Lock Get Success: 1\n")
	script(t, b, "g 2\n", "1 Lock Get Success: 2\n")
	script(t, c, "g 3\n", "0 Too Many Locks: 3\n")
	b.countAs("other")
	script(t, b, "g 3\nr 2\n", "0 Too Many Locks: 3\n1 Lock Release Success: 2\n")
	b.countAs("other")
	script(t, b, "g 3\n", "1 Lock Get Success: 3\n")
	for _, st := range []*Stream{a, b, c} {
		st.Close()
	}
	h.accounts.each(func(one *account) {
		if got := one.share.Holdings(); got != (shard.Holdings{}) || one.refs != 0 {
			t.Errorf("%v has %+v, %d streams", one.key, got, one.refs)
		}
	})
}

// Registered names, sessions and the names of waits count, a client's share of that
// is bounded, and all of it is counted out.
func TestSessionMemory(t *testing.T) {
	h := shareHub(ShareByAddress, shard.ShareLimits{Bytes: 20_000})
	defer h.Close()
	holder := streamFrom(h, "10.0.0.9:1")
	script(t, holder, "g held\n", "1 Lock Get Success: held\n")
	before := h.memory.Used()
	for range 3 {
		st, long := streamFrom(h, "10.0.0.1:1"), strings.Repeat("n", 4000)
		feedAll(t, st, []byte("hello 2\n"))
		allowed := 0
		for i := range 10 {
			switch reply := string(feedAll(t, st, fmt.Appendf(nil, "%d iam %s\n", i, long))); reply {
			case fmt.Sprintf("%d 1 ok\n", i):
				allowed++
			case fmt.Sprintf("%d 0 Server Full: %s\n", i, long), fmt.Sprintf("%d 0 Server Full\n", i):
			default:
				t.Fatalf("%.40q", reply)
			}
		}
		if allowed < 3 || allowed > 4 {
			t.Errorf("%d names of 4,000 bytes within 20,000", allowed)
		}
		// One is given back, and another one may have it.
		script(t, st, "1 iam\n2 iam x\n3 iam "+long+"\n", "1 1 ok\n2 1 ok\n3 1 ok\n")
		feedAll(t, st, []byte("0 gw 86400000 held\n"))
		if used := h.memory.Used(); used < before+10_000 {
			t.Errorf("%d bytes, %d before", used, before)
		}
		st.Close()
		// A chunk of waiters stays.
		if used := h.memory.Used(); used > before+2*(8<<10+256)+1024 {
			t.Errorf("%d bytes are left, %d before", used, before)
		}
	}
	holder.Close()
	h.accounts.each(func(one *account) {
		if got := one.share.Holdings(); got != (shard.Holdings{}) {
			t.Errorf("%v has %+v", one.key, got)
		}
	})
}
