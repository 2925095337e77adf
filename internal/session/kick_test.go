package session

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// kicking is a network that notes whom it is to end.
type kicking struct {
	noNetwork
	gone   Carrier
	kicked []Carrier
}

func (n *kicking) Kick(c Carrier, _ Kick) { n.kicked = append(n.kicked, c) }

func (n *kicking) Gone(all []Carrier) int { return slices.Index(all, n.gone) }

// Two clients may have one address for a moment: one that was reset, which the
// server has not come to yet, and the next one, whose port is the same. The one that
// is there is to be ended.
func TestKickOfAnAddressThatTwoHave(t *testing.T) {
	same := Address{IP: netip.MustParseAddrPort("192.0.2.1:5000")}
	for gone := range 2 {
		net := new(kicking)
		h := NewHub(testConfig(), net)
		begin := func(addr Address) *Stream {
			st := new(Stream)
			st.Begin(h, addr, new(bell), &Turn{Looks: 32})
			return st
		}
		both := []*Stream{begin(same), begin(same)}
		asker := begin(Address{Name: "asker", Local: true})
		net.gone = both[gone].carrier
		there := both[1-gone]
		out, next := advance(asker, fmt.Sprintf("kick %v\n", same.IP))
		if out != "" || next != Waiting || len(net.kicked) != 1 || net.kicked[0] != there.carrier {
			t.Fatalf("number %d is gone: got %q, %v, %d were ended", gone, out, next, len(net.kicked))
		}
		there.Close()
		if out, _ := advance(asker, ""); out != "1 Kicked: 192.0.2.1:5000\n" {
			t.Errorf("number %d is gone: got %q", gone, out)
		}
		both[gone].Close()
		asker.Close()
		h.Close()
	}
}
