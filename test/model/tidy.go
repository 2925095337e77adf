package main

import "math/bits"

// highest returns the highest token that anybody remembers.
func (s *State) highest() (top uint8) {
	for i := range s.nodes {
		for p := range s.nodes[i].parts {
			for _, h := range s.nodes[i].parts[p].holds {
				top = max(top, h.tok)
			}
			for _, h := range s.nodes[i].copies[p].holds {
				top = max(top, h.tok)
			}
		}
	}
	for k := range s.clients {
		c := &s.clients[k]
		top = max(top, c.tok, c.msg.tok, c.record.tok, c.stale.tok)
	}
	return top
}

// tidy takes away what does not matter.
func (x *Config) tidy(s *State) {
	for k := range x.Clients {
		x.tidyClient(&s.clients[k])
	}
	for i := range x.Nodes {
		x.tidyNode(s, i)
	}
	x.tidyMap(s)
	x.tidyCopies(s)
	x.rankNonces(s)
	if !x.Tokens {
		x.rankTokens(s)
	}
	for k := range x.Clients {
		x.rankGens(s, k)
	}
}

func (x *Config) tidyClient(c *client) {
	m := &c.msg
	if m.at == 2 && m.kind == get && m.age >= x.Link && x.Weak&receipt == 0 {
		*m = msg{} // too late: its home does nothing with it
	}
	if m.kind == release {
		m.age = 0
	}
	if m.kind != claim && m.at == 1 {
		m.ver = 0
	}
	if c.stale.kind != record && c.stale.kind != claim || c.stale.home == none {
		c.stale.left = 0
	}
	if c.stale.kind != claim {
		c.stale.ver = 0
	}
	if c.ask == 0 {
		c.askAge = 0
	}
}

func (x *Config) tidyNode(s *State, i int) {
	n := &s.nodes[i]
	st := stepper{Config: x, s: s}
	if n.reg == 0 {
		n.quiet = 0
	}
	if !x.Idle && !st.busy(s, i) {
		n.right, n.quiet = 0, 0
	}
	for o := range x.Nodes {
		if !st.tied(s, i, o) {
			n.lease[o], n.ping[o] = 0, ping{}
		}
	}
	if st.sure(s, i) {
		n.lease[i] = 0 // it is Link then
	}
	for p := range x.Parts {
		q := &n.parts[p]
		if q.phase != frozen && q.phase != sent && q.txn == 0 {
			q.to, q.nonce = 0, 0
		}
		x.sortHolds(&q.holds)
		x.sortHolds(&n.copies[p].holds)
	}
}

// sortHolds: which place is whose does not matter.
func (x *Config) sortHolds(h *[maxHolds]hold) {
	if x.Limit > 1 && h[1].who != 0 && (h[0].who == 0 || h[1].who < h[0].who) {
		h[0], h[1] = h[1], h[0]
	}
}

// tidyMap forgets the versions that nobody refers to.
func (x *Config) tidyMap(s *State) {
	low := s.top
	for i := range x.Nodes {
		if s.nodes[i].up == 1 {
			low = min(low, s.nodes[i].known)
		}
	}
	for k := range x.Clients {
		c := &s.clients[k]
		if c.msg.at != 0 && (c.msg.at != 1 || c.msg.kind == claim) {
			low = min(low, c.msg.ver)
		}
		if c.stale.kind == claim {
			low = min(low, c.stale.ver)
		}
	}
	if low > 0 {
		x.shiftMap(s, low)
	}
	for p := range x.Parts {
		s.vers[0].of[p].same = 0
	}
	for v := range s.vers {
		if v > int(s.top) {
			s.vers[v] = version{}
		}
	}
}

func (x *Config) shiftMap(s *State, low uint8) {
	copy(s.vers[:], s.vers[low:])
	s.top -= low
	for i := range x.Nodes {
		n := &s.nodes[i]
		if n.up == 1 {
			n.known -= low
		}
		if n.beat == beatDone {
			n.beatVer -= min(n.beatVer, low)
		}
		for o := range x.Nodes {
			if n.ping[o].at == 2 {
				n.ping[o].ver -= min(n.ping[o].ver, low)
			}
		}
	}
	for k := range x.Clients {
		c := &s.clients[k]
		if c.msg.at != 0 && (c.msg.at != 1 || c.msg.kind == claim) {
			c.msg.ver -= low
		}
		if c.stale.kind == claim {
			c.stale.ver -= low
		}
	}
}

// tidyCopies forgets copies that no map and no transaction can name.
func (x *Config) tidyCopies(s *State) {
	if x.Weak&(noNonce|sameNonce) != 0 {
		return
	}
	for i := range x.Nodes {
		for p := range x.Parts {
			c := &s.nodes[i].copies[p]
			if c.at != 0 && !x.named(s, i, p, c.nonce) {
				*c = copied{}
			}
		}
	}
	for v := range s.vers {
		for p := range x.Parts {
			e := &s.vers[v].of[p]
			if v <= int(s.top) && e.nonce != 0 && s.nodes[e.owner].copies[p].at != 2 {
				e.nonce = 0 // it will have to recover
			}
			if v <= int(s.top) && e.nonce != 0 && s.nodes[e.owner].known >= uint8(v) {
				e.nonce = 0 // it has
			}
		}
	}
}

// named tells whether node i's copy with that nonce may still be served.
func (x *Config) named(s *State, i, p int, nonce uint8) bool {
	for j := range x.Nodes {
		q := &s.nodes[j].parts[p]
		if int(q.to) == i && q.nonce == nonce && (q.phase == frozen || q.phase == sent || q.txn == 1) {
			return true
		}
	}
	for v := s.nodes[i].known + 1; v <= s.top; v++ {
		if e := &s.vers[v].of[p]; int(e.owner) == i && e.nonce == nonce {
			return true
		}
	}
	return false
}

// Ranks: the values in a set, in order, become 1, 2, 3...

func rank(set uint64, v *uint8) {
	if *v != 0 {
		*v = uint8(bits.OnesCount64(set&(1<<*v-1)) + 1)
	}
}

func (x *Config) rankTokens(s *State) {
	set := uint64(0)
	x.tokens(s, func(v *uint8) { set |= 1 << *v })
	set &^= 1
	if set&(set+1<<1) != 0 || set != 0 {
		x.tokens(s, func(v *uint8) { rank(set, v) })
	}
}

func (x *Config) tokens(s *State, f func(*uint8)) {
	for i := range x.Nodes {
		for p := range x.Parts {
			for j := range x.Limit {
				f(&s.nodes[i].parts[p].holds[j].tok)
				f(&s.nodes[i].copies[p].holds[j].tok)
			}
		}
	}
	for k := range x.Clients {
		c := &s.clients[k]
		f(&c.tok)
		f(&c.msg.tok)
		f(&c.record.tok)
		f(&c.stale.tok)
	}
}

func (x *Config) rankGens(s *State, k int) {
	c := &s.clients[k]
	set := uint64(1) << c.gen
	if c.stale.kind != 0 {
		set |= 1 << c.stale.gen
	}
	x.holdsOf(s, k, func(h *hold) { set |= 1 << h.gen })
	set &^= 1
	rank(set, &c.gen)
	rank(set, &c.stale.gen)
	x.holdsOf(s, k, func(h *hold) { rank(set, &h.gen) })
}

func (x *Config) holdsOf(s *State, k int, f func(*hold)) {
	for i := range x.Nodes {
		for p := range x.Parts {
			for j := range x.Limit {
				if h := &s.nodes[i].parts[p].holds[j]; int(h.who) == k+1 {
					f(h)
				}
				if h := &s.nodes[i].copies[p].holds[j]; int(h.who) == k+1 {
					f(h)
				}
			}
		}
	}
}

func (x *Config) rankNonces(s *State) {
	for p := range x.Parts {
		set := uint64(0)
		all := func(f func(*uint8)) {
			for v := range s.vers {
				f(&s.vers[v].of[p].nonce)
			}
			for i := range x.Nodes {
				f(&s.nodes[i].parts[p].nonce)
				f(&s.nodes[i].copies[p].nonce)
			}
		}
		all(func(v *uint8) { set |= 1 << *v })
		if set &^= 1; set != 0 {
			all(func(v *uint8) { rank(set, v) })
		}
	}
}
