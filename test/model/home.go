package main

// A home keeps a lease for each owner: Link from the sending of its latest request that the
// owner has answered. What its clients hold there is tied to it. A map that gives the
// partition to another freezes it for what is held there, until the new owner has taken the
// claim.

// homeOf is what node h does as a home, for all of its clients.
func (x *stepper) homeOf(h int) {
	n := &x.s.nodes[h]
	if n.up == 0 {
		return
	}
	for o := range x.Nodes {
		g := &n.ping[o]
		if o != h && (g.at == 0 || g.age > 0) && x.tied(x.s, h, o) {
			t := x.fork()
			t.nodes[h].ping[o] = ping{at: 1}
			for k := range x.Clients {
				if c := &t.clients[k]; c.ask == 1 && int(c.home) == h && int(c.record.tied) == o+1 {
					c.ask = 2
				}
			}
			x.did("{n} pings {n}", h, o)
		}
		switch g.at {
		case 1:
			if x.sure(x.s, o) {
				t := x.fork()
				t.nodes[h].ping[o].at, t.nodes[h].ping[o].ver = 2, x.s.nodes[o].known
				x.heard(t, o, h)
				x.did("{n} answers {n}'s ping", o, h)
			}
		case 2:
			t := x.fork()
			t.nodes[h].ping[o] = ping{}
			if g.ver <= n.known || x.Weak&oldAnswers != 0 {
				x.extend(t, h, o, g.age)
			}
			x.did("{n} reads {n}'s answer to its ping", h, o)
		}
	}
}

// tied tells whether anything that clients of node h hold is tied to owner o's lease.
func (x *stepper) tied(s *State, h, o int) bool {
	for k := range x.Clients {
		if c := &s.clients[k]; int(c.home) == h && c.record.tok != 0 && int(c.record.tied) == o+1 {
			return true
		}
	}
	return false
}

// heard: owner o has executed a request of home h's link, which counts for all that is held
// by it, as its answer extends the lease of all.
func (x *stepper) heard(t *State, o, h int) {
	for p := range x.Parts {
		for j := range t.nodes[o].parts[p].holds {
			if q := &t.nodes[o].parts[p].holds[j]; int(q.home) == h+1 {
				q.age = 0
			}
		}
	}
}

// extend: owner o has answered a ping that home h sent so long ago.
func (x *stepper) extend(t *State, h, o int, age uint8) {
	if x.Weak&receipt != 0 {
		age = 0
	}
	if age >= x.Link {
		return
	}
	n := &t.nodes[h]
	n.lease[o] = max(n.lease[o], x.Link-age)
	for k := range x.Clients {
		c := &t.clients[k]
		if c.ask == 2 && int(c.home) == h && int(c.record.tied) == o+1 {
			x.confirm(c, x.Link-min(c.askAge, x.Link))
			c.ask = 0
		}
	}
}

// confirm moves the client's deadline, if it still believes.
func (x *stepper) confirm(c *client, left uint8) {
	if c.left > 0 && c.tok == c.record.tok {
		c.left = max(c.left, left)
	}
}

// leaseOf returns for how long what is tied to owner o may be confirmed by home h. What is
// held at the home itself may be for as long as it serves, as if it had just pinged itself.
func (x *stepper) leaseOf(s *State, h, o int) uint8 {
	if h == o && x.sure(s, h) {
		return x.Link
	}
	return s.nodes[h].lease[o]
}

// leaseLeft returns for how long its home may confirm client k.
func (x *stepper) leaseLeft(s *State, k int) uint8 {
	c := &s.clients[k]
	if c.record.tok == 0 || c.home == none {
		return 0
	}
	if c.record.tied != 0 {
		return x.leaseOf(s, int(c.home), int(c.record.tied-1))
	}
	return c.record.left
}

// freezeRecords: home h has a map that gives partition p to another owner.
func (x *stepper) freezeRecords(t *State, h, p int) {
	for k := range x.Clients {
		c := &t.clients[k]
		if int(c.home) != h || x.at(k) != p || c.record.tied == 0 || x.Weak&extendMoved != 0 {
			continue
		}
		left := x.leaseLeft(t, k)
		c.record.tied, c.record.left, c.ask = 0, left, 0
		if left == 0 {
			c.record = remembered{}
			if x.Weak&homeStale != 0 {
				c.record.tok = x.s.clients[k].record.tok
			}
		}
		if x.Weak&noHomeClaim != 0 {
			c.record.tied = t.vers[t.top].of[p].owner + 1
			t.nodes[h].lease[c.record.tied-1] = max(t.nodes[h].lease[c.record.tied-1], left)
		}
	}
}
