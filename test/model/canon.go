package main

import "slices"

// Two states that differ in names only are one: which client is which, which node is which,
// what number a token, a generation, a nonce or a version has, if its order is the same. And
// what nobody will look at any more is 0. So a canonical state stands for many, and runs
// without a bound on tokens and generations have an end.

// names is a way to name nodes and clients anew: old number to new.
type names struct {
	node   [maxNodes]uint8
	client [maxClients]uint8
}

// canonical gives s the names with which its bytes are the least.
func (x *Config) canonical(s *State, buf []byte) []byte {
	x.tidy(s)
	best := buf[:0]
	first := true
	var other []byte
	for _, nn := range x.orders(s, x.Nodes, x.nodeKey) {
		for _, cn := range x.clientOrders(s) {
			t := x.rename(s, names{nn, cn})
			if first {
				best, first = x.pack(&t, best), false
				continue
			}
			if other == nil {
				other = make([]byte, 0, 256)
			}
			if other = x.pack(&t, other[:0]); slices.Compare(other, best) < 0 {
				best = append(best[:0], other...)
			}
		}
	}
	return best
}

// Most states need not be tried with all names: what nodes and clients are apart from names
// orders them.

func (x *Config) nodeKey(s *State, i int) uint64 {
	n := &s.nodes[i]
	key := uint64(0)
	for p := range x.Parts {
		own := uint64(0)
		if int(s.owner(p, s.top)) == i {
			own = 1
		}
		q := &n.parts[p]
		key = key<<12 | own<<11 | uint64(q.phase)<<8 | uint64(q.wait)<<5 | uint64(q.txn)<<4 | uint64(n.copies[p].at)
	}
	return key<<20 | uint64(n.up)<<19 | uint64(n.in)<<18 | uint64(n.reg)<<16 | uint64(n.known)<<12 | uint64(n.right)<<8 | uint64(n.quiet)<<4 | uint64(n.beat)
}

func (x *Config) clientKey(s *State, k int) uint64 {
	c := &s.clients[k]
	home := uint64(0)
	if c.home == none {
		home = 1
	}
	return uint64(maxParts-x.at(k))<<50 | home<<40 | uint64(c.left)<<36 | uint64(c.msg.at)<<32 | uint64(c.msg.kind)<<28 | uint64(c.msg.age)<<24 | uint64(c.record.tok)<<18 | uint64(c.record.left)<<14 | uint64(c.stale.kind)<<8 | uint64(c.tok)
}

// clientOrders keeps clients of different partitions apart and in order, by what their keys
// begin with.
func (x *Config) clientOrders(s *State) [][maxNodes]uint8 {
	return x.orders(s, x.Clients, x.clientKey)
}

// permutations of up to three.
var permutations = [][][maxNodes]uint8{
	{{0, 1, 2}},
	{{0, 1, 2}},
	{{0, 1, 2}, {1, 0, 2}},
	{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}},
}

// orders returns the ways to number n things so that their keys fall.
func (x *Config) orders(s *State, n int, key func(*State, int) uint64) [][maxNodes]uint8 {
	var keys [maxNodes]uint64
	for i := range n {
		keys[i] = key(s, i)
	}
	all := permutations[n]
	one := -1
	count := 0
	for j, o := range all {
		if falls(keys, o, n) {
			one = j
			count++
		}
	}
	if count == 1 {
		return all[one : one+1]
	}
	some := make([][maxNodes]uint8, 0, count)
	for _, o := range all {
		if falls(keys, o, n) {
			some = append(some, o)
		}
	}
	return some
}

func falls(keys [maxNodes]uint64, o [maxNodes]uint8, n int) bool {
	var placed [maxNodes]uint64
	for i := range n {
		placed[o[i]] = keys[i]
	}
	for i := 1; i < n; i++ {
		if placed[i] > placed[i-1] {
			return false
		}
	}
	return true
}

func (x *Config) rename(s *State, r names) State {
	t := *s
	node := func(v *uint8) {
		if *v < maxNodes {
			*v = r.node[*v]
		}
	}
	next := func(v *uint8) { // 0 is nobody
		if *v != 0 {
			*v = r.node[*v-1] + 1
		}
	}
	who := func(v *uint8) {
		if *v != 0 {
			*v = r.client[*v-1] + 1
		}
	}
	for v := range int(s.top) + 1 {
		for p := range x.Parts {
			node(&t.vers[v].of[p].owner)
		}
	}
	for i := range x.Nodes {
		n := s.nodes[i]
		for o := range x.Nodes {
			n.lease[r.node[o]], n.ping[r.node[o]] = s.nodes[i].lease[o], s.nodes[i].ping[o]
		}
		for p := range x.Parts {
			q := &n.parts[p]
			if q.nonce != 0 {
				node(&q.to)
			}
			for j := range x.Limit {
				who(&q.holds[j].who)
				next(&q.holds[j].home)
				who(&n.copies[p].holds[j].who)
				next(&n.copies[p].holds[j].home)
			}
			x.sortHolds(&q.holds)
			x.sortHolds(&n.copies[p].holds)
		}
		t.nodes[r.node[i]] = n
	}
	for k := range x.Clients {
		c := s.clients[k]
		node(&c.home)
		if c.msg.at != 0 {
			node(&c.msg.to)
		}
		next(&c.record.tied)
		if c.stale.kind != 0 {
			node(&c.stale.home)
			if c.stale.kind != record {
				node(&c.stale.to)
			}
		}
		t.clients[r.client[k]] = c
	}
	who(&t.acceptedBy)
	return t
}
