package main

// node: a process that crashes, starts again, and hears of maps.
func (x *stepper) node(i int) {
	n := &x.s.nodes[i]
	if n.up == 0 {
		t := x.fork()
		m := &t.nodes[i]
		m.up, m.known = 1, x.s.top
		if x.Weak&sameName != 0 && m.reg == 2 {
			m.reg, m.in = 1, 1
			for p := range x.Parts {
				if int(x.s.owner(p, x.s.top)) == i {
					m.parts[p].drop()
					m.parts[p].phase = serving
				}
			}
		}
		x.did("{n} starts again", i)
		return
	}
	if x.s.crashes > 0 {
		t := x.fork()
		spend(&t.crashes)
		x.loses(t, i, true)
		x.did("{n} CRASHES", i)
	}
	// A watch, which may lag.
	for v := n.known + 1; v <= x.s.top; v++ {
		t := x.fork()
		x.adopt(t, i, v)
		x.did("{n} sees version {d} of the map", i, int(v))
	}
	if x.Weak&oldMap != 0 && n.known > 0 {
		t := x.fork()
		x.adopt(t, i, n.known-1)
		x.did("{n} accepts version {d} of the map, which is older", i, int(n.known-1))
	}
}

// loses: node i crashes, or has lost its registration and drops everything. Its links and its
// clients' connections break. What it had sent may still be executed where it went.
func (x *stepper) loses(t *State, i int, crash bool) {
	n := &t.nodes[i]
	for p := range n.parts {
		n.parts[p].drop()
	}
	*n = node{up: 1, reg: n.reg, quiet: n.quiet, known: n.known, regCeil: n.regCeil, doomed: n.doomed, parts: n.parts}
	if crash {
		n.up, n.known = 0, 0
		if n.reg == 1 {
			n.reg = 2
		}
	}
	for h := range t.nodes {
		t.nodes[h].ping[i] = ping{}
		for p := range x.Parts {
			for j := range x.Limit {
				forget(&t.nodes[h].parts[p].holds[j], i)
				forget(&t.nodes[h].copies[p].holds[j], i)
			}
		}
	}
	for k := range x.Clients {
		c := &t.clients[k]
		if c.stale.kind == record && int(c.stale.home) == i || c.stale.kind != record && int(c.stale.to) == i {
			c.stale = stale{}
		}
		if int(c.stale.home) == i && c.stale.kind != 0 {
			c.stale.home = none
		}
		if int(c.home) == i {
			if c.msg.at == 1 && int(c.msg.to) != i && c.stale.kind == 0 {
				c.stale = stale{kind: c.msg.kind, home: none, gen: c.gen, tok: c.msg.tok, to: c.msg.to, ver: c.msg.ver}
			}
			c.home, c.msg, c.record, c.ask = none, msg{}, remembered{}, 0
		} else if c.msg.at == 1 && int(c.msg.to) == i {
			c.msg = msg{}
		}
	}
}

// forget: node i's links have ended, and nothing keeps what is held by them.
func forget(h *hold, i int) {
	if int(h.home) == i+1 {
		h.home = 0
	}
}

// adopt: node i acts on version v of the map.
func (x *stepper) adopt(t *State, i int, v uint8) {
	n := &t.nodes[i]
	old := n.known
	for p := range x.Parts {
		q := &n.parts[p]
		if t.epoch(p, old) == t.epoch(p, v) {
			if q.phase == sent && v > old {
				q.phase = serving // a newer map that still names it: the transaction can't commit any more
			}
			continue
		}
		x.freezeRecords(t, i, p)
		q.drop()
		if int(t.owner(p, v)) == i && n.in == 1 {
			x.takeOver(t, i, p, v)
		}
	}
	n.known = v
}

// takeOver begins with a partition that a map has given to node i.
func (x *stepper) takeOver(t *State, i, p int, v uint8) {
	q, c := &t.nodes[i].parts[p], &t.nodes[i].copies[p]
	nonce := t.vers[v].of[p].nonce
	if c.at == 2 && (nonce != 0 && c.nonce == nonce || x.Weak&noNonce != 0) {
		q.phase, q.holds, q.next = serving, c.holds, c.next
		for j := range q.holds {
			q.holds[j].age, q.holds[j].home = 0, 0
		}
		*c = copied{}
		return
	}
	q.phase, q.wait = recovering, x.G
	if x.Weak&noAwait != 0 {
		q.phase, q.wait = serving, 0
	}
	if x.Tokens {
		q.next = max(t.vers[v].base, 1)
	}
}

// sure tells whether node i may confirm what is held at it: it has the right to serve, and no
// transaction whose outcome it does not know could have given away a partition.
func (x *stepper) sure(s *State, i int) bool {
	n := &s.nodes[i]
	if n.up == 0 || n.right == 0 {
		return false
	}
	for p := range x.Parts {
		if n.parts[p].phase == sent && x.Weak&doubt == 0 {
			return false
		}
	}
	return true
}
