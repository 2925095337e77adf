package session

import (
	"cmp"
	"net/netip"
	"time"
)

// IdentityKind tells by what the client has shown who it is: "token", "certificate" or
// "uid"; "" if it has not.
func (c *Client) IdentityKind() string {
	p := c.peer
	a, s := p.accessNow(), p.session.Load()
	if a == nil || s == nil {
		return ""
	}
	switch by := s.hub.cfg.Authority; {
	case p.cert() != "" && by.Cert(p.cert()) == a:
		return "certificate"
	case p.process() != nil && by.UID(p.process().UID()) == a:
		return "uid"
	}
	return "token"
}

// ClientAt returns the client at an address, however that is written, or whose session
// is there; nil if there is none, or it has come since the census.
func (h *Hub) ClientAt(addr string, c *Census) *Client {
	p := h.findClient(addr)
	for i := range c.Clients {
		if one := &c.Clients[i]; p != nil && one.peer == p {
			return one
		}
	}
	return nil
}

// findClient returns session 0 of the client at an address, or nil.
func (h *Hub) findClient(addr string) *peer {
	var ip netip.AddrPort
	if a, err := netip.ParseAddrPort(addr); err == nil {
		ip = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	for page, more := 0, true; more; page++ {
		var p *peer
		if p, more = h.directory.find(addr, ip, page); p != nil {
			if c := p.client(); c != nil {
				return c
			}
		}
	}
	return nil
}

// Search returns the first clients in an order whose address, name or identity has a
// text in it. It is partial if it has taken too long to look at all.
func (c *Census) Search(text string, order ClientOrder) (first []*Client, partial bool) {
	var found []Client
	m := newMatcher(text, nil)
	began := time.Now()
	for i := range c.Clients {
		if partial = i%1024 == 1023 && time.Since(began) > searchTime; partial {
			break
		}
		if m.wantsClient(c.Clients[i].peer) {
			found = append(found, c.Clients[i])
		}
	}
	return firstOf(found, CensusRows, order.Compare), partial
}

// After returns the first n clients behind a place, in the order of their places, and
// the place to go on behind, which is 0 if there are no more. A client's place does not
// change, so who is there from the first page to the last is on exactly one.
func (c *Census) After(place uint64, n int) (page []*Client, next uint64) {
	var behind []Client
	for i := range c.Clients {
		if uint64(c.Clients[i].id&placeMask) > place {
			behind = append(behind, c.Clients[i])
		}
	}
	page = firstOf(behind, n+1, func(a, b *Client) int { return cmp.Compare(a.id&placeMask, b.id&placeMask) })
	if len(page) > n {
		page = page[:n]
		next = uint64(page[n-1].id & placeMask)
	}
	return page, next
}
