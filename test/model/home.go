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

// forward is what goes on between client k's home and owners.
func (x *stepper) forward(k int) {
	c := &x.s.clients[k]
	p := x.at(k)
	if c.home != none && c.msg.at == 0 {
		h := &x.s.nodes[c.home]
		o := int(x.s.owner(p, h.known))
		frozen := c.record.tok != 0 && c.record.tied == 0
		if frozen && x.listens(o, p) {
			t := x.fork()
			t.clients[k].msg = msg{at: 1, kind: claim, to: uint8(o), tok: c.record.tok, ver: h.known}
			x.did("{n} claims for {c} at {n}", int(c.home), k, o)
		}
		if c.record.tok != 0 && c.left == 0 {
			t := x.fork()
			d := &t.clients[k]
			d.msg = msg{at: 1, kind: release, to: uint8(o), tok: c.record.tok, ver: h.known}
			d.record, d.ask = remembered{}, 0
			x.did("{n} says bye for {c}, which is silent, to {n}", int(c.home), k, o)
		}
	}
	switch c.msg.at {
	case 1:
		t := x.fork()
		t.clients[k].msg = msg{}
		x.did("the link breaks that {c}'s request was in", k)
		if x.Weak&ghost != 0 && c.stale.kind == 0 {
			t := x.fork()
			t.clients[k].stale = stale{kind: c.msg.kind, home: c.home, gen: c.gen, tok: c.msg.tok, to: c.msg.to, ver: c.msg.ver}
			t.clients[k].msg = msg{}
			x.did("the link breaks that {c}'s request was in, but it stays in a buffer", k)
		}
		x.executes(k)
	case 2, 3:
		x.answered(k)
	}
}

// listens tells whether a claim of partition p at node o could do anything.
func (x *stepper) listens(o, p int) bool {
	n := &x.s.nodes[o]
	return n.up == 1 && n.parts[p].phase != absent
}

// executes has the owner execute client k's request.
func (x *stepper) executes(k int) {
	m := x.s.clients[k].msg
	c := &x.s.clients[k]
	if x.Weak&freeLate != 0 && m.kind == get && m.tok == 0 && x.s.nodes[m.to].right > 0 {
		t := x.fork()
		t.clients[k].msg.tok = 1
		x.did("{n} checks its right for {c}'s request, and pauses", int(m.to), k)
	}
	t := x.fork()
	result, tok := x.execute(t, int(m.to), k, request{kind: m.kind, gen: c.gen, tok: m.tok, home: c.home, ver: m.ver})
	if result == waits {
		return
	}
	d := &t.clients[k].msg
	d.ver = x.s.nodes[m.to].known
	if result == done && m.to == c.home && m.kind != release {
		// The home is the owner: it answers in the same turn.
		m.ver, m.tok = d.ver, tok
		x.broke(x.success(t, k, m), "{n}, which is the home of {c}, gives it the lock, token {d}", int(m.to), k, int(tok))
		return
	}
	switch {
	case m.kind == release:
		*d = msg{}
		x.did("{n} executes the release of {c}", int(m.to), k)
	case result == done && m.kind == get:
		d.at, d.tok = 2, tok
		x.did("{n} grants the lock to {c}, token {d}", int(m.to), k, int(tok))
	case m.kind == get:
		*d = msg{}
		x.did("{n} refuses the lock to {c}", int(m.to), k)
	case result == done:
		d.at = 2
		x.did("{n} takes the claim of {c}, token {d}", int(m.to), k, int(tok))
	default:
		d.at = 3
		x.did("{n} refuses the claim of {c}", int(m.to), k)
	}
}

// answered: client k's home reads an owner's answer, and passes it on.
func (x *stepper) answered(k int) {
	c := &x.s.clients[k]
	m := c.msg
	if m.ver > x.s.nodes[c.home].known && x.Weak&oldAnswers == 0 {
		return // it asks for the map first
	}
	t := x.fork()
	d := &t.clients[k]
	d.msg = msg{}
	if m.at == 3 {
		if c.record.tok != m.tok && c.tok != m.tok {
			x.did("{n} reads that the claim of {c} was refused, which is gone", int(c.home), k)
			return
		}
		wrong := ""
		if c.left > 0 && c.tok == m.tok {
			wrong = "P3: who has confirmed in time is refused"
		}
		d.record, d.left, d.tok, d.ask = remembered{}, 0, 0, 0
		x.broke(wrong, "{n} reads that the claim of {c} was refused", int(c.home), k)
		return
	}
	if m.kind == claim && c.record.tok != m.tok && c.tok != m.tok || m.age >= x.Link && c.record.tok == 0 && x.Weak&receipt == 0 {
		x.did("{n} reads an answer for {c} that is too late", int(c.home), k)
		return
	}
	x.broke(x.success(t, k, m), "{n} reads that {c} has the lock, token {d}", int(c.home), k, int(m.tok))
}

// success: client k's home has the answer that k has the lock. It returns what is wrong with that.
func (x *stepper) success(t *State, k int, m msg) string {
	t.clients[k].msg = msg{}
	age := m.age
	if x.Weak&receipt != 0 || m.to == t.clients[k].home {
		age = 0
	}
	x.tie(t, k, m, age)
	if m.kind == get {
		return x.accept(t, k, m, age)
	}
	return ""
}

// tie notes what client k holds, by an answer of its owner: with that owner's lease, or
// frozen, if the partition has gone on since.
func (x *stepper) tie(t *State, k int, m msg, age uint8) {
	d := &t.clients[k]
	p := x.at(k)
	left := x.Link - min(age, x.Link)
	h := &t.nodes[d.home]
	before := d.record.left
	d.record.tok = m.tok
	if t.epoch(p, h.known) == t.epoch(p, m.ver) {
		d.record.tied, d.record.left = m.to+1, 0
		h.lease[m.to] = max(h.lease[m.to], left)
		if x.leaseLeft(t, k) == 0 {
			d.record = remembered{tok: m.tok, left: before} // too late to count
		}
	} else {
		d.record.tied, d.record.left = 0, max(before, left)
	}
	if d.record.tied == 0 && d.record.left == 0 && x.Weak&homeStale == 0 {
		d.record = remembered{}
	}
}

// accept: client k is told that it has the lock. It has pinged while it waited.
func (x *stepper) accept(t *State, k int, m msg, age uint8) string {
	d := &t.clients[k]
	switch {
	case d.record.tok == 0:
		return ""
	case x.EndToEnd:
		d.left = x.Link - min(age, x.Link)
	case x.leaseLeft(t, k) >= x.Client || x.Weak&short != 0:
		d.left = x.Client
	}
	if d.left == 0 {
		return ""
	}
	d.tok = m.tok
	if !x.Tokens {
		return ""
	}
	if m.tok < t.accepted || m.tok == t.accepted && int(t.acceptedBy) != k+1 {
		return "P2: a token is accepted that is not above the one before"
	}
	t.accepted, t.acceptedBy = m.tok, uint8(k+1)
	return ""
}
