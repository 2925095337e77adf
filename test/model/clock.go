package main

// tick lets a tick of time pass. What has to end in time ends in it: beliefs, rights, leases.
// What may come late does so by a step of its own: frees, ends of recoveries, deletions.
func (x *stepper) tick() {
	t := x.fork()
	for i := range x.Nodes {
		n := &t.nodes[i]
		if n.reg != 0 && n.quiet < x.BW {
			n.quiet++
		}
		if n.up == 0 {
			continue
		}
		if x.sure(x.s, i) {
			n.lease[i] = x.Link // of itself: as long as it may serve
		}
		if n.right > 0 {
			n.right--
		}
		if n.beat != 0 && n.beatAge < x.W {
			n.beatAge++
		}
		for p := range x.Parts {
			x.tickPart(t, i, &n.parts[p])
		}
		for o := range x.Nodes {
			if g := &n.ping[o]; g.at != 0 && g.age < x.Link {
				g.age++
			}
			if n.lease[o] > 0 {
				if n.lease[o]--; n.lease[o] == 0 {
					x.leaseEnds(t, i, o)
				}
			}
		}
	}
	for k := range x.Clients {
		x.tickClient(&t.clients[k])
	}
	x.did("a tick passes")
}

func (x *stepper) tickPart(t *State, i int, q *part) {
	if q.wait > 0 {
		q.wait--
	}
	for j := range q.holds {
		h := &q.holds[j]
		if h.who == 0 || h.age >= x.G {
			continue
		}
		// Who is connected here is not silent for as long as its home, which is this
		// node, remembers it.
		if c := &t.clients[h.who-1]; int(h.home) == i+1 && int(c.home) == i && c.record.tok == h.tok {
			h.age = 0
			continue
		}
		h.age++
	}
}

func (x *stepper) tickClient(c *client) {
	if c.left > 0 {
		if c.left--; c.left == 0 {
			c.tok = 0
		}
	}
	if c.msg.at != 0 && c.msg.age < x.Link {
		c.msg.age++
	}
	if c.ask != 0 {
		if c.askAge++; c.askAge >= x.Link {
			c.ask = 0
		}
	}
	if r := &c.record; r.tok != 0 && r.tied == 0 && r.left > 0 {
		if r.left--; r.left == 0 && x.Weak&homeStale == 0 {
			*r = remembered{}
		}
	}
	if c.stale.left > 0 {
		c.stale.left--
	}
}

// leaseEnds: the home ends everybody who holds at that owner, before it passes on anything.
func (x *stepper) leaseEnds(t *State, home, owner int) {
	if x.Weak&noEnd != 0 {
		return
	}
	for k := range x.Clients {
		if c := &t.clients[k]; int(c.home) == home && int(c.record.tied) == owner+1 {
			c.record, c.ask = remembered{}, 0
			if x.Weak&homeStale != 0 {
				c.record.tok = x.s.clients[k].record.tok
			}
		}
	}
}
