package main

// client is what client k does. It is kept: when its home is gone, or it can't reach it, it
// resumes at another, with a higher generation.
//
// Between a client and its home nothing is delayed: a delay only brings a deadline forward
// that counts from the sending.
func (x *stepper) client(k int) {
	c := &x.s.clients[k]
	x.resume(k)
	if c.home == none || x.s.nodes[c.home].up == 0 {
		return
	}
	h := &x.s.nodes[c.home]
	p := x.at(k)
	o := x.s.owner(p, h.known)
	if c.left > 0 && c.record.tok == c.tok {
		x.confirms(k)
	}
	if c.msg.at != 0 {
		return
	}
	request := msg{at: 1, to: o, ver: h.known}
	switch {
	case c.left > 0:
		t := x.fork()
		d := &t.clients[k]
		request.kind, request.tok = release, c.tok
		d.msg, d.record, d.left, d.tok, d.ask = request, remembered{}, 0, 0, 0
		x.did("{c} believes no more and releases, {n} forwards it to {n}", k, int(c.home), int(o))
		if c.record.tok == 0 && x.listens(int(o), p) {
			t := x.fork()
			request.kind = claim
			t.clients[k].msg = request
			x.did("{c} claims what it held before it resumed, {n} forwards it to {n}", k, int(c.home), int(o))
		}
	case c.record.tok == 0:
		t := x.fork()
		request.kind = get
		t.clients[k].msg = request
		x.did("{c} asks for the lock, {n} forwards it to {n}", k, int(c.home), int(o))
	}
}

// confirms: the client pings, and its home confirms.
func (x *stepper) confirms(k int) {
	c := &x.s.clients[k]
	h := int(c.home)
	if !x.EndToEnd {
		lease := x.leaseLeft(x.s, k)
		if lease >= x.Client || x.Weak&short != 0 && lease > 0 {
			if c.left < x.Client {
				t := x.fork()
				t.clients[k].left = x.Client
				x.did("{n} confirms {c} by its lease", h, k)
			}
		} else if x.Weak&noEnd != 0 && c.left < x.Client && lease > 0 {
			t := x.fork()
			t.clients[k].left = x.Client
			x.did("{n} confirms {c} by its lease", h, k)
		}
		return
	}
	if x.Weak&homeAnswers != 0 && c.left < x.Link {
		t := x.fork()
		t.clients[k].left = x.Link
		x.did("{n} confirms {c} without asking", h, k)
	}
	if c.record.tied == 0 {
		return
	}
	switch {
	case int(c.record.tied) == h+1:
		if x.sure(x.s, h) && c.left < x.Link {
			t := x.fork()
			t.clients[k].left = x.Link
			x.did("{n}, which is the owner, confirms {c}", h, k)
		}
	case c.ask == 0 || c.askAge > 0:
		if c.left < x.Link {
			t := x.fork()
			t.clients[k].ask, t.clients[k].askAge = 1, 0
			x.did("{c}'s ping comes to {n}", k, h)
		}
	}
}

// resume goes to another home, or again to the one that has dropped everything.
func (x *stepper) resume(k int) {
	c := &x.s.clients[k]
	lost := c.home == none
	if !lost && x.s.resumes == 0 {
		return
	}
	for h := range x.Nodes {
		if h == int(c.home) || x.s.nodes[h].up == 0 {
			continue
		}
		left := x.remains(k)
		if c.stale.kind != 0 && left.kind != 0 {
			x.resumeAt(k, h, c.stale, "{c} resumes at {n}; what is left of it at {n} is gone")
		}
		if left.kind == 0 {
			left = c.stale
		}
		x.resumeAt(k, h, left, "{c} resumes at {n}, its home was {n}")
	}
}

// remains is what there is at client k's home that it leaves.
func (x *stepper) remains(k int) stale {
	c := &x.s.clients[k]
	left := stale{home: c.home, gen: c.gen, left: x.Link}
	switch {
	case c.home == none:
		return stale{}
	case c.msg.at == 1:
		left.kind, left.tok, left.to, left.ver = c.msg.kind, c.msg.tok, c.msg.to, c.msg.ver
	case c.msg.at == 2 && c.msg.kind == get:
		left.kind, left.tok, left.to = record, c.msg.tok, c.msg.to
	case c.record.tok != 0:
		left.kind, left.tok = record, c.record.tok
	default:
		return stale{}
	}
	return left
}

func (x *stepper) resumeAt(k, h int, left stale, text string) {
	t := x.fork()
	c := &t.clients[k]
	old := c.home
	if old != none {
		spend(&t.resumes)
	}
	c.home, c.msg, c.record, c.ask, c.stale = uint8(h), msg{}, remembered{}, 0, left
	c.gen++
	x.did(text, k, h, int(old))
}

// elsewhere is what becomes of what client k has left at an earlier home: a request that is
// on its way, or the memory of a hold, which is claimed, and given back when the client has
// not come again for long enough.
func (x *stepper) elsewhere(k int) {
	c := &x.s.clients[k]
	st := c.stale
	if st.kind == 0 {
		return
	}
	t := x.fork()
	t.clients[k].stale = stale{}
	x.did("nothing comes of what {c} has left at an earlier home", k)
	if st.kind == record {
		x.remembers(k)
		return
	}
	t = x.fork()
	d := &t.clients[k].stale
	result, tok := x.execute(t, int(st.to), k, request{kind: st.kind, gen: st.gen, tok: st.tok, home: st.home, ver: st.ver})
	if result == waits {
		return
	}
	home := st.home != none
	switch {
	case result == done && st.kind == get && home:
		d.kind, d.tok = release, tok // nobody is there who wants it
	case result == done && st.kind == claim && home:
		d.kind, d.to, d.ver = record, 0, 0
	default:
		*d = stale{}
	}
	x.did("{n} executes what {c} has left in an earlier home's link ({d}: 1 get, 2 release, 3 claim)", int(st.to), k, int(st.kind))
}

// remembers is what an earlier home does with what it remembers.
func (x *stepper) remembers(k int) {
	st := x.s.clients[k].stale
	p := x.at(k)
	h := &x.s.nodes[st.home]
	o := x.s.owner(p, h.known)
	if st.left > 0 && x.listens(int(o), p) {
		t := x.fork()
		d := &t.clients[k].stale
		d.kind, d.to, d.ver = claim, o, h.known
		x.did("{n}, an earlier home, claims for {c} at {n}", int(st.home), k, int(o))
	}
	if st.left <= x.Link-x.Client || x.Weak&byeSoon != 0 {
		t := x.fork()
		d := &t.clients[k].stale
		d.kind, d.to, d.ver = release, o, 0
		x.did("{n}, an earlier home, says bye for {c} to {n}", int(st.home), k, int(o))
	}
}
