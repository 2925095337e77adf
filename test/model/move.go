package main

// move is a planned move: node i, whose partition p is, freezes it, sends a copy with a fresh
// nonce, and, when that is acknowledged, a transaction that names the new owner and the nonce.
func (x *stepper) move(i, p int) {
	n := &x.s.nodes[i]
	q := &n.parts[p]
	switch q.phase {
	case serving:
		if n.right > 0 && n.known == x.s.top && q.txn == 0 && x.s.moves > 0 && x.mayChange() {
			x.freeze(i, p)
		}
	case frozen:
		t := x.fork()
		t.nodes[i].parts[p].phase = serving
		x.did("{n} unfreezes {p}: no transaction was sent", i, p)
		if c := &x.s.nodes[q.to].copies[p]; c.at == 2 && c.nonce == q.nonce {
			t := x.fork()
			m := &t.nodes[i]
			if x.sure(t, i) {
				m.lease[i] = x.Link
			}
			m.parts[p].phase = sent
			if n.known == x.s.top { // what it compares; else it fails
				m.parts[p].txn = 1
			}
			x.did("{n} knows that {n} has the copy, and sends its transaction for {p}", i, int(q.to), p)
		}
	case sent:
		if n.known == x.s.top && x.mayChange() {
			// The same map once more: the transaction compares the one before.
			t := x.fork()
			x.change(t)
			x.adopt(t, i, t.top)
			x.did("{n} writes the map back, {p} is its own", i, p)
		}
		if x.Weak&unfreezes != 0 && n.known == x.s.top {
			t := x.fork()
			t.nodes[i].parts[p].phase = serving
			x.did("{n} reads an unchanged map and unfreezes {p}", i, p)
		}
	}
	if q.txn == 1 && x.s.nodes[q.to].reg != 0 && x.mayChange() {
		t := x.fork()
		x.change(t).of[p] = entry{owner: q.to, nonce: q.nonce}
		x.did("{n}'s transaction commits: {p} is {n}'s", i, p, int(q.to))
	}
	if c := &n.copies[p]; c.at == 1 && n.up == 1 {
		t := x.fork()
		t.nodes[i].copies[p].at = 2
		x.did("the copy of {p} comes to {n}", p, i)
	}
}

func (x *stepper) freeze(i, p int) {
	q := &x.s.nodes[i].parts[p]
	for j := range x.Nodes {
		if j == i || x.s.nodes[j].reg != 1 || x.s.nodes[j].up == 0 {
			continue
		}
		t := x.fork()
		spend(&t.moves)
		m := &t.nodes[i].parts[p]
		m.phase, m.to, m.nonce = frozen, uint8(j), x.fresh(p)
		c := &t.nodes[j].copies[p]
		if x.Weak&sameNonce != 0 && c.at == 2 {
			m.nonce = c.nonce // and the copy that is there is taken for this one
			x.did("{n} freezes {p} and sends {n} a copy with the nonce of the one before", i, p, j)
			continue
		}
		*c = copied{at: 1, nonce: m.nonce, next: q.next, holds: q.holds}
		x.did("{n} freezes {p} and sends a copy to {n}", i, p, j)
	}
}

// fresh returns a nonce that nobody has.
func (x *stepper) fresh(p int) uint8 {
	used := uint8(0)
	for v := range x.s.vers {
		used = max(used, x.s.vers[v].of[p].nonce)
	}
	for i := range x.Nodes {
		used = max(used, x.s.nodes[i].parts[p].nonce, x.s.nodes[i].copies[p].nonce)
	}
	return used + 1
}
