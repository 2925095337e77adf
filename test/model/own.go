package main

// own is what an owner does by itself with partition p. That it decides all of a turn by one
// reading of the clock makes a turn one step: where it pauses in between, the answers are
// late, and nothing else.
func (x *stepper) own(i, p int) {
	n := &x.s.nodes[i]
	q := &n.parts[p]
	if q.phase != recovering && q.phase != serving {
		return
	}
	if q.phase == recovering {
		if q.wait == 0 {
			t := x.fork()
			t.nodes[i].parts[p].phase = serving
			x.did("{n} ends the recovery of {p}", i, p)
		} else if x.Weak&earlyEnd != 0 && n.right > 0 && x.allClaimed(i, p) {
			t := x.fork()
			t.nodes[i].parts[p].phase, t.nodes[i].parts[p].wait = serving, 0
			x.did("{n} ends the recovery of {p} early: all have claimed", i, p)
		}
	}
	if n.right == 0 && x.Weak&freeLate == 0 {
		return
	}
	for j := range q.holds {
		silent := q.holds[j].age >= x.G || x.Weak&freeSoon != 0 && q.holds[j].age >= x.G-1
		if q.holds[j].who != 0 && silent {
			t := x.fork()
			t.nodes[i].parts[p].holds[j] = hold{}
			x.did("{n} frees the lock of {c}, which is silent", i, int(q.holds[j].who-1))
		}
	}
}

// allClaimed tells whether all homes that live know this map and have nothing left to claim.
func (x *stepper) allClaimed(i, p int) bool {
	for k := range x.Clients {
		c := &x.s.clients[k]
		if x.at(k) != p || c.home == none {
			continue
		}
		h := &x.s.nodes[c.home]
		if h.known != x.s.top || c.msg.kind == claim && c.msg.at == 1 || c.record.tok != 0 && x.s.nodes[i].parts[p].holdOf(k) == nil {
			return false
		}
	}
	return true
}

// A request is what comes to an owner for a client.
type request struct {
	kind, gen, tok, home, ver uint8 // a get with a token was checked before (freelate)
}

// The results of a request.
const (
	waits   = iota // it stays where it is
	refused        // there is an answer, and it is no
	done           // there is an answer, and it is yes
)

// execute has node i execute a request of client k in t. It returns the token of what k
// holds after that.
func (x *stepper) execute(t *State, i, k int, r request) (int, uint8) {
	n := &t.nodes[i]
	p := x.at(k)
	q := &n.parts[p]
	if n.up == 0 || q.phase != recovering && q.phase != serving || n.right == 0 && x.Weak&noCheck == 0 && (r.kind != get || r.tok == 0) {
		return waits, 0
	}
	if x.Weak&perHold == 0 {
		x.heard(t, i, int(r.home))
	}
	h := q.holdOf(k)
	if h != nil && h.gen > r.gen && x.Weak&noGen == 0 {
		return refused, 0
	}
	switch r.kind {
	case get:
		// What an earlier home has claimed may be what the client has released since.
		if q.phase == recovering && (h == nil || h.gen < r.gen && x.Weak&oldRepeat == 0) {
			return refused, 0
		}
		if h == nil {
			if h = q.room(x.Limit); h == nil {
				return refused, 0
			}
			tok := x.nextToken(t, i, p)
			if tok == 0 {
				return waits, 0
			}
			*h = hold{who: uint8(k + 1), tok: tok}
		}
	case release:
		if h != nil && (h.tok == r.tok || x.Weak&noToken != 0) {
			*h = hold{}
		}
		return done, 0
	case claim:
		if t.epoch(p, r.ver) != t.epoch(p, n.known) {
			return waits, 0
		}
		if h = x.claimed(q, k, h, r.tok); h == nil {
			return refused, 0
		}
		if x.Tokens {
			q.next = max(q.next, r.tok+1)
		}
	}
	h.gen, h.home, h.age = max(h.gen, r.gen), r.home+1, 0 // none is 255, and becomes 0
	if x.Weak&noGen != 0 {
		h.gen = 0
	}
	return done, h.tok
}

// claimed gives client k the place that it claims, or nil: it has it; or it is still free,
// or has a lower token, and this is a recovery.
func (x *stepper) claimed(q *part, k int, h *hold, tok uint8) *hold {
	switch {
	case h != nil && h.tok == tok:
		return h
	case q.phase != recovering && x.Weak&claimCreates == 0:
		return nil
	case h != nil:
		if h.tok > tok {
			return nil
		}
	default:
		limit := x.Limit
		if x.Weak&oneClaim != 0 {
			limit = 1
		}
		if h = q.room(limit); h == nil {
			h = &q.holds[0]
			for j := range limit {
				if q.holds[j].tok < h.tok {
					h = &q.holds[j]
				}
			}
			if h.tok > tok || x.Weak&lowWins != 0 {
				return nil
			}
		}
	}
	*h = hold{who: uint8(k + 1), tok: tok}
	return h
}

// room returns a free place, or nil.
func (t *part) room(limit int) *hold {
	for j := range limit {
		if t.holds[j].who == 0 {
			return &t.holds[j]
		}
	}
	return nil
}

// nextToken returns a token above all others, or 0 if there is none.
func (x *stepper) nextToken(t *State, i, p int) uint8 {
	if !x.Tokens {
		return t.highest() + 1
	}
	q := &t.nodes[i].parts[p]
	if q.next > x.MaxToken || q.next >= t.nodes[i].ceil && x.Weak&noCeil == 0 {
		return 0
	}
	q.next++
	return q.next - 1
}
