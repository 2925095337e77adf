package main

// Requests and claims go from a home to an owner, and answers back. On each way they are late
// or lost.

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
