package main

// etcd is linearizable; requests to it and its replies are delayed or lost, and a
// transaction that its sender has given up may still commit.
//
// A heartbeat is one step, unless SlowBeats: what is later than at once only shortens the
// right that comes of it, and a map that is old when it is read is what a node has anyway
// that reads none.

const (
	beatSent = 1 + iota
	beatDone
	beatFailed
)

// etcd is what node i does with its registration.
func (x *stepper) etcd(i int) {
	n := &x.s.nodes[i]
	if n.up == 1 && n.in == 0 && n.reg == 0 {
		t := x.fork()
		t.nodes[i].reg, t.nodes[i].in, t.nodes[i].quiet, t.nodes[i].known = 1, 1, 0, x.s.top
		t.nodes[i].regCeil = 0
		x.did("{n} registers, with a new ID", i)
	}
	if n.up == 1 && n.right < x.W && x.beats(i) {
		switch {
		case !x.SlowBeats:
			t := x.fork()
			x.beatArrives(t, i)
			x.beatRead(t, i)
			x.did("{n} has a heartbeat answered", i)
		case n.beat == 0 || n.beatAge > 0:
			t := x.fork()
			t.nodes[i].beat, t.nodes[i].beatAge, t.nodes[i].beatVer = beatSent, 0, 0
			x.did("{n} sends a heartbeat", i)
		}
	}
	switch n.beat {
	case beatSent:
		t := x.fork()
		x.beatArrives(t, i)
		x.did("{n}'s heartbeat comes to etcd", i)
	case beatDone, beatFailed:
		t := x.fork()
		x.beatRead(t, i)
		x.did("{n} reads the answer to its heartbeat", i)
	}
}

// beats tells whether it matters whether node i sends heartbeats. A restarted process whose
// predecessor's registration is still there waits until that is deleted.
func (x *stepper) beats(i int) bool {
	n := &x.s.nodes[i]
	return n.in == 1 && (n.reg != 1 || x.Idle || x.busy(x.s, i))
}

// busy tells whether node i has a partition, by etcd's map or its own.
func (x *stepper) busy(s *State, i int) bool {
	n := &s.nodes[i]
	if n.right > 0 && x.SlowBeats {
		return true
	}
	for p := range x.Parts {
		if int(s.owner(p, s.top)) == i || int(s.owner(p, n.known)) == i || n.parts[p].phase != absent {
			return true
		}
	}
	return false
}

func (x *stepper) beatArrives(t *State, i int) {
	n := &t.nodes[i]
	n.beat = beatFailed
	if n.reg == 1 {
		n.beat, n.beatVer, n.quiet = beatDone, t.top, 0
		if x.Tokens {
			for p := range x.Parts {
				n.regCeil = max(n.regCeil, max(n.parts[p].next, t.vers[n.known].base)+x.Reserve)
			}
		}
	}
}

func (x *stepper) beatRead(t *State, i int) {
	n := &t.nodes[i]
	sent, age, ver := n.beat, n.beatAge, n.beatVer
	n.beat, n.beatAge, n.beatVer = 0, 0, 0
	if sent == beatFailed {
		x.loses(t, i, false)
		return
	}
	if x.Weak&rightReply != 0 {
		age = 0
	}
	n.right = max(n.right, x.W-min(age, x.W))
	n.ceil = n.regCeil
	if ver > n.known {
		x.adopt(t, i, ver)
	}
}

// change begins a new version of the map. Whatever compares the old one will fail.
func (x *stepper) change(t *State) *version {
	t.vers[t.top+1] = t.vers[t.top]
	t.top++
	v := &t.vers[t.top]
	for p := range v.of {
		v.of[p].same = 1
	}
	for i := range t.nodes {
		for p := range t.nodes[i].parts {
			t.nodes[i].parts[p].txn = 0
		}
	}
	spend(&t.changes)
	return v
}

// mayChange bounds how far anybody may lag behind, besides the changes.
func (x *stepper) mayChange() bool { return x.s.changes > 0 && x.s.top+1 < maxVers }

// balance: somebody deletes node j, of which etcd has not heard for long enough, and gives
// its partitions to another, in one transaction. It compares the registration and the map,
// so that it commits late or at once is the same.
func (x *stepper) balance(j int) {
	n := &x.s.nodes[j]
	if x.Weak&noCompare != 0 && n.doomed == 0 && n.quiet >= x.BW && n.reg != 0 {
		t := x.fork()
		t.nodes[j].doomed = 1
		x.did("somebody sends a deletion of {n}", j)
	}
	overdue := n.quiet >= x.BW || n.doomed == 1 || x.Weak&impatient != 0 && n.quiet+2 >= x.BW
	if n.reg == 0 || !overdue || !x.Idle && !x.owns(j) || !x.mayChange() {
		x.balancerMoves(j)
		return
	}
	for i := range x.Nodes {
		if i == j || x.s.nodes[i].reg == 0 {
			continue
		}
		t := x.fork()
		v := x.change(t)
		x.reassign(v, t.top, j, i)
		if x.Weak&noBase == 0 {
			v.base = max(v.base, n.regCeil)
		}
		t.nodes[j].reg, t.nodes[j].quiet, t.nodes[j].doomed = 0, 0, 0
		x.did("{n} is deleted, its partitions are {n}'s", j, i)
	}
	x.balancerMoves(j)
}

func (x *stepper) owns(j int) bool {
	for p := range x.Parts {
		if int(x.s.owner(p, x.s.top)) == j {
			return true
		}
	}
	return false
}

func (x *stepper) reassign(v *version, top uint8, from, to int) {
	for p := range x.Parts {
		if int(v.of[p].owner) == from {
			v.of[p] = entry{owner: uint8(to)}
		}
	}
}

func (x *stepper) balancerMoves(j int) {
	if x.Weak&balancerMoves == 0 || !x.owns(j) || !x.mayChange() {
		return
	}
	for i := range x.Nodes {
		if i != j && x.s.nodes[i].reg == 1 {
			t := x.fork()
			x.reassign(x.change(t), t.top, j, i)
			x.did("a balancer moves {n}'s partitions to {n} without asking", j, i)
		}
	}
}
