package main

// pack appends the state's bytes, as many as the configuration needs, and unpack reads them.
func (x *Config) pack(s *State, b []byte) []byte {
	b = append(b, s.top, s.crashes, s.changes, s.moves, s.resumes)
	if x.Tokens {
		b = append(b, s.accepted, s.acceptedBy)
	}
	for v := range int(s.top) + 1 {
		for p := range x.Parts {
			e := &s.vers[v].of[p]
			b = append(b, e.owner|e.same<<2|e.nonce<<3)
		}
		if x.Tokens {
			b = append(b, s.vers[v].base)
		}
	}
	for i := range x.Nodes {
		b = x.packNode(&s.nodes[i], b)
	}
	for k := range x.Clients {
		c := &s.clients[k]
		b = append(b, c.home, c.gen|c.left<<4, c.tok|c.ask<<6, c.askAge)
		b = append(b, c.msg.at|c.msg.kind<<2|c.msg.age<<4, c.msg.to|c.msg.ver<<3, c.msg.tok)
		b = append(b, c.record.tok, c.record.tied|c.record.left<<4)
		b = append(b, c.stale.kind|c.stale.gen<<3)
		if c.stale.kind != 0 {
			b = append(b, c.stale.home&15|c.stale.to<<4, c.stale.tok, c.stale.ver|c.stale.left<<4)
		}
	}
	return b
}

func (x *Config) packNode(n *node, b []byte) []byte {
	b = append(b, n.up|n.reg<<1|n.in<<3|n.quiet<<4|n.doomed<<7, n.right|n.known<<4)
	if x.SlowBeats {
		b = append(b, n.beat|n.beatAge<<2|n.beatVer<<5)
	}
	if x.Tokens {
		b = append(b, n.ceil, n.regCeil)
	}
	for p := range x.Parts {
		q := &n.parts[p]
		b = append(b, q.phase|q.wait<<3|q.txn<<7, q.to|q.nonce<<4)
		if q.phase != absent {
			b = x.packHolds(&q.holds, q.next, b)
		}
		c := &n.copies[p]
		b = append(b, c.at|c.nonce<<2)
		if c.at != 0 {
			b = x.packHolds(&c.holds, c.next, b)
		}
	}
	for o := range x.Nodes {
		b = append(b, n.lease[o]|n.ping[o].at<<4, n.ping[o].age|n.ping[o].ver<<4)
	}
	return b
}

func (x *Config) packHolds(h *[maxHolds]hold, next uint8, b []byte) []byte {
	if x.Tokens {
		b = append(b, next)
	}
	for j := range x.Limit {
		b = append(b, h[j].who|h[j].home<<4, h[j].gen|h[j].age<<4, h[j].tok)
	}
	return b
}

// A reader takes bytes off.
type reader []byte

func (r *reader) next() uint8 {
	v := (*r)[0]
	*r = (*r)[1:]
	return v
}

// unpack reads a state, and returns what comes behind it.
func (x *Config) unpack(b []byte, s *State) []byte {
	*s = State{}
	r := reader(b)
	s.top, s.crashes, s.changes, s.moves, s.resumes = r.next(), r.next(), r.next(), r.next(), r.next()
	if x.Tokens {
		s.accepted, s.acceptedBy = r.next(), r.next()
	}
	for v := range int(s.top) + 1 {
		for p := range x.Parts {
			e := r.next()
			s.vers[v].of[p] = entry{e & 3, e >> 3, e >> 2 & 1}
		}
		if x.Tokens {
			s.vers[v].base = r.next()
		}
	}
	for i := range x.Nodes {
		x.unpackNode(&r, &s.nodes[i])
	}
	for k := range x.Clients {
		x.unpackClient(&r, &s.clients[k])
	}
	return r
}

func (x *Config) unpackNode(r *reader, n *node) {
	v := r.next()
	n.up, n.reg, n.in, n.quiet, n.doomed = v&1, v>>1&3, v>>3&1, v>>4&7, v>>7
	v = r.next()
	n.right, n.known = v&15, v>>4
	if x.SlowBeats {
		v = r.next()
		n.beat, n.beatAge, n.beatVer = v&3, v>>2&7, v>>5
	}
	if x.Tokens {
		n.ceil, n.regCeil = r.next(), r.next()
	}
	for p := range x.Parts {
		q := &n.parts[p]
		v = r.next()
		q.phase, q.wait, q.txn = v&7, v>>3&15, v>>7
		v = r.next()
		q.to, q.nonce = v&15, v>>4
		if q.phase != absent {
			q.next = x.unpackHolds(r, &q.holds)
		}
		c := &n.copies[p]
		v = r.next()
		c.at, c.nonce = v&3, v>>2
		if c.at != 0 {
			c.next = x.unpackHolds(r, &c.holds)
		}
	}
	for o := range x.Nodes {
		v = r.next()
		n.lease[o], n.ping[o].at = v&15, v>>4
		v = r.next()
		n.ping[o].age, n.ping[o].ver = v&15, v>>4
	}
}

func (x *Config) unpackHolds(r *reader, h *[maxHolds]hold) (next uint8) {
	if x.Tokens {
		next = r.next()
	}
	for j := range x.Limit {
		v, w := r.next(), r.next()
		h[j] = hold{who: v & 15, home: v >> 4, gen: w & 15, age: w >> 4, tok: r.next()}
	}
	return next
}

func (x *Config) unpackClient(r *reader, c *client) {
	c.home = r.next()
	v := r.next()
	c.gen, c.left = v&15, v>>4
	v = r.next()
	c.tok, c.ask = v&63, v>>6
	c.askAge = r.next()
	v = r.next()
	c.msg.at, c.msg.kind, c.msg.age = v&3, v>>2&3, v>>4
	v = r.next()
	c.msg.to, c.msg.ver = v&7, v>>3
	c.msg.tok = r.next()
	c.record.tok = r.next()
	v = r.next()
	c.record.tied, c.record.left = v&15, v>>4
	v = r.next()
	if c.stale.kind, c.stale.gen = v&7, v>>3; c.stale.kind != 0 {
		v = r.next()
		if c.stale.home, c.stale.to = v&15, v>>4; c.stale.home == 15 {
			c.stale.home = none
		}
		c.stale.tok = r.next()
		v = r.next()
		c.stale.ver, c.stale.left = v&15, v>>4
	}
}

// fingerprint is a hash of 64 bits, never 0. Of n states two have the same with a probability
// of about n*n / 2^65: one in 3,700 for 100 million.
func fingerprint(b []byte) uint64 {
	h := uint64(len(b))*0x9e3779b97f4a7c15 + 0x2545f4914f6cdd1d
	for len(b) >= 8 {
		v := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 | uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		h = mix(h ^ v)
		b = b[8:]
	}
	v := uint64(0)
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	return max(mix(mix(h^v)), 1)
}

func mix(h uint64) uint64 {
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 29
	h *= 0xff51afd7ed558ccd
	return h ^ h>>32
}
