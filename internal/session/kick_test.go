package session

import (
	"fmt"
	"net/netip"
	"testing"
)

// kicking is a network that notes whom it is to end.
type kicking struct {
	noNetwork
	kicked []Carrier
}

func (n *kicking) Kick(c Carrier, _ Kick) { n.kicked = append(n.kicked, c) }

// Two clients may have one address for a moment: one that was reset, which the
// server has not come to yet, and the next one, whose port is the same. The one that
// is there is to be ended.
func TestKickOfAnAddressThatTwoHave(t *testing.T) {
	net := new(kicking)
	h := NewHub(testConfig(), net)
	begin := func(addr Address) *Stream {
		st := new(Stream)
		st.Begin(h, addr, new(bell), &Turn{Looks: 32})
		return st
	}
	same := Address{IP: netip.MustParseAddrPort("192.0.2.1:5000")}
	old, next := begin(same), begin(same)
	asker := begin(Address{Name: "asker", Local: true})
	advance(next, "g x\n")
	kicked := 0
	out, comes := advance(asker, fmt.Sprintf("kick %v\n", same.IP))
	for comes == Waiting && kicked < 5 {
		for ; kicked < len(net.kicked); kicked++ {
			for _, st := range []*Stream{old, next} {
				if st.carrier == net.kicked[kicked] {
					st.Close()
				}
			}
		}
		var more string
		more, comes = advance(asker, "")
		out += more
	}
	if out != "1 Kicked: 192.0.2.1:5000\n" || len(net.kicked) != 2 {
		t.Errorf("got %q, %d were ended", out, len(net.kicked))
	}
	if out, _ := advance(asker, "g x\n"); out != "1 Lock Get Success: x\n" {
		t.Errorf("what was held is not free: %q", out)
	}
	asker.Close()
	h.Close()
}
