package shard

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// nameIn returns the nth name of a partition that some counting finds.
func nameIn(p, nth int) string {
	for i := 0; ; i++ {
		name := "name " + strconv.Itoa(i)
		if PartitionOf([]byte(name)) != p {
			continue
		}
		if nth--; nth < 0 {
			return name
		}
	}
}

// The partitions of the model: with 4 shards two of them are in one, with one all are.
var modelPartitions = []int{3, 4, 700}

// Two names of the first one, one of each of the others.
var modelNames = func() (names []string) {
	for i, p := range []int{3, 3, 4, 700} {
		names = append(names, nameIn(p, i%2))
	}
	return names
}()

// A partModel is what one node's partitioned set does, said in slices. It is a partition
// a state, a lock a list of holders and a queue.
type partModel struct {
	set    *Set
	state  map[int]PartitionState
	base   map[int]uint64
	issued map[int]uint64 // by shard
	ceil   uint64
	locks  map[modelHold]*partLock
	rates  map[string]bool
	owners map[uint32]*partOwner
	shares [2]*Share
	told   []uint32 // by the set
	want   []uint32
}

type partLock struct {
	token   uint64
	holders []*partOwner
	queue   []*partOwner
}

type partOwner struct {
	Owner
	held int
	wait *partWait
}

type partWait struct {
	hold  modelHold
	limit int // -1: exclusive
	due   uint64
	over  bool
	out   Outcome
	token uint64
	count int
}

// A partWorld is some nodes, and what is true of all of them.
type partWorld struct {
	nodes []*partModel
	now   uint64 // milliseconds
	ids   uint32
	due   uint64
	last  map[string]uint64 // the highest token of each name, anywhere
	lost  []partLost        // what was lost, and may be claimed
}

type partLost struct {
	name  string
	token uint64
}

func newPartWorld(t *rapid.T) *partWorld {
	w := &partWorld{last: map[string]uint64{}}
	for range 2 {
		m := &partModel{state: map[int]PartitionState{}, base: map[int]uint64{}, issued: map[int]uint64{},
			locks: map[modelHold]*partLock{}, rates: map[string]bool{}, owners: map[uint32]*partOwner{}}
		cfg := Config{Partitioned: true, Locks: 1000, Start: rapid.Uint64Range(0, 5).Draw(t, "start"),
			Notify:  func(id uint32) { m.told = append(m.told, id) },
			OwnerOf: func(id uint32) *Owner { return &m.owners[id].Owner },
		}
		m.set = New(rapid.SampledFrom([]int{1, 4, 1024}).Draw(t, "shards"), cfg)
		for i := range m.set.shards {
			m.issued[i] = cfg.Start
		}
		m.shares = [...]*Share{m.set.NewShare(ShareLimits{}), m.set.NewShare(ShareLimits{Locks: 2})}
		for range 6 {
			w.newOwner(m)
		}
		w.setCeil(m, 1<<40)
		w.nodes = append(w.nodes, m)
	}
	for _, p := range modelPartitions {
		if rapid.IntRange(0, 3).Draw(t, "begins") > 0 {
			m := w.nodes[p&1]
			w.recoverAt(t, m, p, 6)
			w.serveThem(t, m, []int{p})
		}
	}
	return w
}

func (w *partWorld) newOwner(m *partModel) *partOwner {
	w.ids++
	o := &partOwner{Owner: Owner{ID: w.ids, Share: m.shares[0]}}
	m.owners[o.ID] = o
	return o
}

func (m *partModel) shardOf(name string) int { return PartitionOf([]byte(name)) >> m.set.partBits }

func (m *partModel) stateOf(name string) PartitionState { return m.state[PartitionOf([]byte(name))] }

func (m *partModel) lock(h modelHold) *partLock {
	if m.locks[h] == nil {
		m.locks[h] = &partLock{}
	}
	return m.locks[h]
}

func (m *partModel) anyToken(name string) bool { return m.issued[m.shardOf(name)]+1 < m.ceil }

// grant gives a lock to o, as new.
func (w *partWorld) grant(t *rapid.T, m *partModel, h modelHold, o *partOwner) {
	l := m.lock(h)
	l.holders = append(l.holders, o)
	if h.kind == Exclusive {
		i := m.shardOf(h.name)
		m.issued[i]++
		l.token = m.issued[i]
		if l.token <= w.last[h.name] || l.token >= m.ceil {
			t.Fatalf("%q is granted with %d after %d, the ceil is %d", h.name, l.token, w.last[h.name], m.ceil)
		}
		w.last[h.name] = l.token
	}
}

func (w *partWorld) serve(t *rapid.T, m *partModel, h modelHold) {
	for l := m.lock(h); len(l.queue) > 0 && m.stateOf(h.name) == PartitionServing; {
		o := l.queue[0]
		if h.kind == Exclusive && (len(l.holders) > 0 || !m.anyToken(h.name)) || h.kind == Shared && len(l.holders) >= o.wait.limit {
			return
		}
		l.queue = l.queue[1:]
		w.grant(t, m, h, o)
		o.wait.over, o.wait.out, o.wait.token, o.wait.count = true, Acquired, l.token, len(l.holders)
		m.want = append(m.want, o.ID)
	}
}

// serveAll serves in the order in which the set comes to it: that is told by the tokens,
// which are given out one by one, if there are two names with a queue in one shard. So it
// asks the set who has which.
func (w *partWorld) serveAll(t *rapid.T, m *partModel) {
	all := slices.SortedFunc(maps.Keys(m.locks), func(a, b modelHold) int {
		return int(m.orderOf(a)) - int(m.orderOf(b))
	})
	for _, h := range all {
		w.serve(t, m, h)
	}
}

// orderOf is where the set has a lock.
func (m *partModel) orderOf(h modelHold) uint32 {
	s, hash := m.set.lock([]byte(h.name))
	defer s.mu.Unlock()
	return s.findLocked(hash, []byte(h.name))
}

// get is all requests for locks. limit 0 means none, -1 an exclusive lock.
func (w *partWorld) wantGet(t *rapid.T, m *partModel, o *partOwner, h modelHold, limit int, due uint64) Outcome {
	state := m.stateOf(h.name)
	if state == PartitionAbsent {
		return Elsewhere
	}
	l := m.lock(h)
	if slices.Contains(l.holders, o) {
		return Acquired
	}
	if state == PartitionFrozen {
		return Frozen
	}
	blocked := h.kind == Exclusive && len(l.holders)+len(l.queue) > 0 ||
		h.kind == Shared && limit > 0 && (len(l.queue) > 0 || len(l.holders) >= limit)
	if state == PartitionRecovering {
		if due == 0 {
			return Recovering
		}
		blocked = true
	}
	if blocked && due == 0 {
		return Refused
	}
	if !blocked {
		if h.kind == Exclusive && !m.anyToken(h.name) {
			return Frozen
		}
		w.grant(t, m, h, o)
		o.held++
		return Acquired
	}
	o.wait = &partWait{hold: h, limit: limit, due: due}
	l.queue = append(l.queue, o)
	return Waiting
}

// leave takes o out of the queue it is in.
func (w *partWorld) leaveQueue(t *rapid.T, m *partModel, o *partOwner) {
	l := m.lock(o.wait.hold)
	i := slices.Index(l.queue, o)
	l.queue = slices.Delete(l.queue, i, i+1)
	if o.wait.hold.kind == Shared {
		w.serve(t, m, o.wait.hold)
	}
}

// knows tells whether o holds a lock, and has settled that if it has waited for it.
func (m *partModel) knows(o *partOwner, h modelHold) bool {
	unsettled := o.wait != nil && o.wait.over && o.wait.out == Acquired && o.wait.hold == h
	return slices.Contains(m.lock(h).holders, o) && !unsettled
}

// The steps.

func (w *partWorld) node(t *rapid.T) *partModel {
	return w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(t, "node")]
}

func (w *partWorld) owner(t *rapid.T, m *partModel, is func(*partOwner) bool) *partOwner {
	var some []*partOwner
	for _, id := range slices.Sorted(maps.Keys(m.owners)) {
		if o := m.owners[id]; is == nil || is(o) {
			some = append(some, o)
		}
	}
	if len(some) == 0 {
		t.Skip("nobody")
	}
	o := rapid.SampledFrom(some).Draw(t, "owner")
	o.Now = MomentOf(w.now)
	return o
}

func partIdle(o *partOwner) bool    { return o.wait == nil }
func partWaits(o *partOwner) bool   { return o.wait != nil }
func partDecided(o *partOwner) bool { return o.wait == nil || !o.wait.over }

func (w *partWorld) drawName(t *rapid.T) string {
	return rapid.SampledFrom(modelNames).Draw(t, "name")
}

func (w *partWorld) nextDue(t *rapid.T) uint64 {
	w.due = max(w.due, w.now) + rapid.Uint64Range(1, 100).Draw(t, "due")
	return w.due
}

func (w *partWorld) get(t *rapid.T) {
	m := w.node(t)
	o, h, limit, due := w.owner(t, m, partIdle), modelHold{Exclusive, w.drawName(t)}, -1, uint64(0)
	if rapid.Bool().Draw(t, "shared") {
		h.kind, limit = Shared, rapid.SampledFrom([]int{1, 1, 2, 3, 0}).Draw(t, "limit")
	}
	if limit != 0 && rapid.IntRange(0, 3).Draw(t, "waits") > 0 {
		due = w.nextDue(t)
	}
	var g Grant
	var out Outcome
	switch limit {
	case -1:
		g, out = m.set.GetWait(&o.Owner, []byte(h.name), due)
	case 0:
		g, out = m.set.GetShared(&o.Owner, []byte(h.name))
	default:
		g, out = m.set.GetSharedWait(&o.Owner, []byte(h.name), uint32(limit), due)
	}
	if want := w.wantGet(t, m, o, h, limit, due); out != want {
		t.Fatalf("get %v %d: %v, want %v", h, limit, out, want)
	}
	if l := m.lock(h); out == Acquired && (h.kind == Exclusive && g.Token != l.token || h.kind == Shared && g.Count != len(l.holders)) {
		t.Fatalf("get %v: %v, want %d, %d holders", h, g, l.token, len(l.holders))
	}
}

func (w *partWorld) release(t *rapid.T) {
	m := w.node(t)
	o, h := w.owner(t, m, partIdle), modelHold{Kind(rapid.IntRange(0, 1).Draw(t, "kind")), w.drawName(t)}
	ok := false
	if h.kind == Exclusive {
		ok = m.set.Release(&o.Owner, []byte(h.name))
	} else {
		ok = m.set.ReleaseShared(&o.Owner, []byte(h.name))
	}
	l := m.lock(h)
	i := slices.Index(l.holders, o)
	if ok != (i >= 0) {
		t.Fatalf("release %v: %v", h, ok)
	}
	if ok {
		l.holders = slices.Delete(l.holders, i, i+1)
		o.held--
		w.serve(t, m, h)
	}
}

// claim is of what o holds, of what another one does from whom it may take it, of what
// was lost, or made up.
func (w *partWorld) claim(t *rapid.T) {
	m := w.node(t)
	o, name, open := w.owner(t, m, partDecided), w.drawName(t), rapid.IntRange(0, 4).Draw(t, "open") > 0
	l, p := m.lock(modelHold{Exclusive, name}), PartitionOf([]byte(name))
	token := rapid.Uint64Range(0, 1+w.last[name]).Draw(t, "token")
	var from []uint32
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 0:
		token = l.token
	case 1:
		token, from = l.token, []uint32{999, w.owner(t, m, nil).ID}
	case 2:
		if len(w.lost) > 0 {
			lost := rapid.SampledFrom(w.lost).Draw(t, "lost")
			name, token = lost.name, lost.token
			l, p = m.lock(modelHold{Exclusive, name}), PartitionOf([]byte(name))
		}
	}
	g, out, loser := m.set.Claim(&o.Owner, []byte(name), token, open, from...)
	var holder *partOwner
	if len(l.holders) > 0 {
		holder = l.holders[0]
	}
	want, wantLoser := Refused, uint32(0)
	h := modelHold{Exclusive, name}
	switch state := m.state[p]; {
	case state == PartitionAbsent:
		want = Elsewhere
	case holder == o && l.token == token:
		want = Acquired
	case state == PartitionFrozen:
		want = Frozen
	case holder != nil && l.token == token && slices.Contains(from, holder.ID) && m.knows(holder, h):
		want = Acquired
		holder.held--
		l.holders = []*partOwner{o}
		o.held++
	case state == PartitionRecovering && open && token > 0 && token < m.base[p] && (holder == nil || l.token < token):
		want = Acquired
		if holder != nil {
			if holder.held--; holder != o {
				wantLoser = holder.ID
			}
		}
		l.holders, l.token = []*partOwner{o}, token
		o.held++
	}
	if out != want || loser != wantLoser || out == Acquired && g.Token != token {
		t.Fatalf("claim %q with %d, open %v, from %v: %v, %d loses, %v; want %v, %d", name, token, open, from, out, loser, g, want, wantLoser)
	}
}

func (w *partWorld) claimShared(t *rapid.T) {
	m := w.node(t)
	o, h, open := w.owner(t, m, partDecided), modelHold{Shared, w.drawName(t)}, rapid.IntRange(0, 4).Draw(t, "open") > 0
	var from []uint32
	if rapid.Bool().Draw(t, "from") {
		from = []uint32{999, w.owner(t, m, nil).ID}
	}
	g, out := m.set.ClaimShared(&o.Owner, []byte(h.name), open, from...)
	l := m.lock(h)
	i := slices.IndexFunc(l.holders, func(was *partOwner) bool { return slices.Contains(from, was.ID) && m.knows(was, h) })
	want := Refused
	switch state := m.stateOf(h.name); {
	case state == PartitionAbsent:
		want = Elsewhere
	case slices.Contains(l.holders, o):
		want = Acquired
	case slices.Contains(l.queue, o):
	case state == PartitionFrozen:
		want = Frozen
	case i >= 0:
		want = Acquired
		l.holders[i].held--
		l.holders[i] = o
		o.held++
	case state == PartitionRecovering && open:
		want = Acquired
		l.holders = append(l.holders, o)
		o.held++
	}
	if out != want || out == Acquired && g.Count != len(l.holders) {
		t.Fatalf("claim shared %v, open %v, from %v: %v, %v; want %v, %d", h, open, from, out, g, want, len(l.holders))
	}
}

func (w *partWorld) settle(t *rapid.T, m *partModel, o *partOwner, cancel bool) {
	var g Grant
	var out Outcome
	if cancel {
		g, out = m.set.Cancel(&o.Owner)
	} else {
		g, out = m.set.Settle(&o.Owner)
	}
	wait, want := o.wait, Waiting
	if wait.over {
		if want, o.wait = wait.out, nil; want == Acquired {
			o.held++
		}
	} else if cancel {
		want = Canceled
		w.leaveQueue(t, m, o)
		o.wait = nil
	}
	if out != want || out == Acquired && (wait.hold.kind == Exclusive && g.Token != wait.token || wait.hold.kind == Shared && g.Count != wait.count) {
		t.Fatalf("settled: %v, %v; want %v, %d, %d", out, g, want, wait.token, wait.count)
	}
}

func (w *partWorld) prolong(t *rapid.T) {
	m := w.node(t)
	o, due, limit := w.owner(t, m, partWaits), w.nextDue(t), rapid.IntRange(1, 3).Draw(t, "limit")
	over := o.wait.over
	waits := m.set.Prolong(&o.Owner, uint32(limit), due)
	if !over {
		if o.wait.due = due; o.wait.hold.kind == Shared {
			o.wait.limit = limit
			w.serve(t, m, o.wait.hold)
		}
	}
	if waits == o.wait.over {
		t.Fatalf("prolonged: %v", waits)
	}
}

func (w *partWorld) expire(t *rapid.T) {
	w.now += rapid.Uint64Range(0, 100).Draw(t, "by")
	for _, m := range w.nodes {
		m.set.Expire(w.now)
		for {
			var first *partOwner
			for _, o := range m.owners {
				if o.wait != nil && !o.wait.over && (first == nil || o.wait.due < first.wait.due) {
					first = o
				}
			}
			if first == nil || first.wait.due > w.now {
				break
			}
			first.wait.over, first.wait.out = true, TimedOut
			m.want = append(m.want, first.ID)
			w.leaveQueue(t, m, first)
		}
	}
}

// end ends an owner, and another one comes.
func (w *partWorld) end(t *rapid.T, m *partModel, o *partOwner) {
	if o.wait != nil {
		w.settle(t, m, o, true)
	}
	m.set.ReleaseAll(&o.Owner)
	for h := range m.locks {
		if l := m.lock(h); slices.Contains(l.holders, o) {
			l.holders = slices.DeleteFunc(l.holders, func(x *partOwner) bool { return x == o })
			if o.held--; h.kind == Shared {
				w.serve(t, m, h)
			}
		}
	}
	// By shards, and in each in the order of its list: the set tells.
	w.serveAll(t, m)
	if o.Held() != 0 || o.held != 0 {
		t.Fatalf("owner %d holds %d in the end, in the model %d", o.ID, o.Held(), o.held)
	}
	m.set.Forget(&o.Owner)
	delete(m.owners, o.ID)
}

// What becomes of partitions.

func somePartitions(t *rapid.T) []int {
	n := rapid.IntRange(1, len(modelPartitions)).Draw(t, "partitions")
	return rapid.Permutation(modelPartitions).Draw(t, "which")[:n]
}

func (w *partWorld) freeze(t *rapid.T) { w.freezeAt(w.node(t), somePartitions(t)) }

func (w *partWorld) freezeAt(m *partModel, ps []int) {
	m.set.Freeze(ps)
	for _, p := range ps {
		if m.state[p] == PartitionServing {
			m.state[p] = PartitionFrozen
		}
	}
}

func (w *partWorld) serving(t *rapid.T) {
	m, ps := w.node(t), somePartitions(t)
	w.serveThem(t, m, ps)
}

func (w *partWorld) serveThem(t *rapid.T, m *partModel, ps []int) {
	order := m.orders()
	m.set.ServeAll(ps, MomentOf(w.now))
	for _, p := range ps {
		if m.state[p] != PartitionAbsent {
			m.state[p] = PartitionServing
		}
	}
	w.serveIn(t, m, order)
}

// orders returns the locks in the order in which the set comes to them.
func (m *partModel) orders() []modelHold {
	return slices.SortedFunc(maps.Keys(m.locks), func(a, b modelHold) int { return int(m.orderOf(a)) - int(m.orderOf(b)) })
}

func (w *partWorld) serveIn(t *rapid.T, m *partModel, order []modelHold) {
	for _, h := range order {
		w.serve(t, m, h)
	}
}

func (w *partWorld) setCeil(m *partModel, ceil uint64) {
	m.set.SetCeil(ceil, MomentOf(w.now))
	m.ceil = ceil
}

func (w *partWorld) ceil(t *rapid.T) {
	m := w.node(t)
	ceil := m.set.Highest() + rapid.SampledFrom([]uint64{0, 1, 2, 3, 9, 99, 999}).Draw(t, "ceil")
	order := m.orders()
	w.setCeil(m, ceil)
	w.serveIn(t, m, order)
}

// recover has one node recover a partition that no other one serves.
func (w *partWorld) recover(t *rapid.T) {
	m, p := w.node(t), rapid.SampledFrom(modelPartitions).Draw(t, "partition")
	base := uint64(1)
	for _, n := range w.nodes {
		if n != m && n.state[p] != PartitionAbsent {
			t.Skip("it is elsewhere")
		}
		base = max(base, n.set.Highest()+1)
	}
	base += rapid.Uint64Range(0, 3).Draw(t, "base")
	w.recoverAt(t, m, p, base)
}

func (w *partWorld) recoverAt(t *rapid.T, m *partModel, p int, base uint64) {
	if ok := m.set.Recover(p, base); ok != (m.state[p] == PartitionAbsent) {
		t.Fatalf("partition %d, which is %v, recovers: %v", p, m.state[p], ok)
	} else if ok {
		m.state[p], m.base[p] = PartitionRecovering, base
		i := p >> m.set.partBits
		m.issued[i] = max(m.issued[i], base-1)
	}
}

func (w *partWorld) drop(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "now") == 0 {
		w.dropAt(t, w.node(t), somePartitions(t))
	}
}

func (w *partWorld) dropAt(t *rapid.T, m *partModel, ps []int) {
	t.Helper()
	var got, want []string
	m.set.Drop(ps, func(owner uint32, kind Kind, name []byte) {
		got = append(got, fmt.Sprint(owner, kind, string(name)))
		if m.set.Partition(PartitionOf(name)) != PartitionAbsent {
			t.Fatalf("%q is lost, and its partition is %v", name, m.set.Partition(PartitionOf(name)))
		}
	})
	for h, l := range m.locks {
		if !slices.Contains(ps, PartitionOf([]byte(h.name))) {
			continue
		}
		for _, o := range l.holders {
			if h.kind == Exclusive {
				w.lost = append(w.lost, partLost{h.name, l.token})
			}
			if !m.knows(o, h) {
				o.wait.out = Elsewhere
				m.want = append(m.want, o.ID)
				continue
			}
			o.held--
			want = append(want, fmt.Sprint(o.ID, h.kind, h.name))
		}
		for _, o := range l.queue {
			o.wait.over, o.wait.out = true, Elsewhere
			m.want = append(m.want, o.ID)
		}
		delete(m.locks, h)
	}
	for _, p := range ps {
		m.state[p] = PartitionAbsent
	}
	for name := range m.rates {
		if slices.Contains(ps, PartitionOf([]byte(name))) {
			delete(m.rates, name)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("lost are %q, want %q", got, want)
	}
}

// move has a node export some of its partitions, in small pieces, while holders let go
// and others stop waiting, and the other one import them.
func (w *partWorld) move(t *rapid.T) {
	a := rapid.IntRange(0, 1).Draw(t, "from")
	from, to := w.nodes[a], w.nodes[1-a]
	var ps []int
	some := somePartitions(t)
	w.freezeAt(from, some)
	for _, p := range some {
		if from.state[p] == PartitionFrozen && to.state[p] == PartitionAbsent {
			ps = append(ps, p)
		}
	}
	if len(ps) == 0 {
		return
	}
	type moved struct {
		Record
		name string
	}
	var all []moved
	e := from.set.Export(ps)
	r := Records{Most: rapid.IntRange(1, 4).Draw(t, "most")}
	for more := true; more; {
		e.Now = w.now * msNanos
		more = e.Next(&r)
		for _, i := range r.All {
			all = append(all, moved{i, string(r.Name(i))})
		}
		switch rapid.IntRange(0, 6).Draw(t, "meanwhile") {
		case 0:
			w.release(t)
		case 1:
			if o := slices.IndexFunc(ownersOf(from), partWaits); o >= 0 {
				w.settle(t, from, ownersOf(from)[o], true)
			}
		case 2:
			w.get(t)
		}
	}
	// All that is there has been told, in the order of the queues.
	for h, l := range from.locks {
		if !slices.Contains(ps, PartitionOf([]byte(h.name))) {
			continue
		}
		for _, o := range l.holders {
			if !slices.ContainsFunc(all, func(r moved) bool {
				return r.State == Held && r.Kind == h.kind && r.name == h.name && r.Owner == o.ID && (h.kind == Shared || r.Token == l.token)
			}) {
				t.Fatalf("%d holds %v, and the export has not said so", o.ID, h)
			}
		}
		var queue []uint32
		for _, r := range all {
			if r.State == Waits && r.Kind == h.kind && r.name == h.name {
				if o := from.owners[r.Owner]; slices.Contains(l.queue, o) {
					queue = append(queue, r.Owner)
					if r.Left != o.wait.due-w.now || h.kind == Shared && int(r.Limit) != o.wait.limit {
						t.Fatalf("a wait until %d, up to %d, has %+v at %d", o.wait.due, o.wait.limit, r, w.now)
					}
				}
			}
		}
		if want := idsOf(l.queue); !slices.Equal(queue, want) {
			t.Fatalf("for %v wait %v, exported are %v", h, want, queue)
		}
	}
	for _, p := range ps {
		highest := from.set.HighestIn(p)
		if !to.set.BeginImport(p, highest) {
			t.Fatal("the partition is not absent")
		}
		i := p >> to.set.partBits
		to.state[p], to.issued[i] = PartitionFrozen, max(to.issued[i], highest)
	}
	placeholders := map[uint32]*partOwner{}
	for _, r := range all {
		if r.Kind == Rates {
			if out := to.set.Import(nil, r.Record, []byte(r.name), w.now*msNanos); out != Acquired {
				t.Fatalf("import rate %q: %v", r.name, out)
			}
			to.rates[r.name] = true
			rate := Rate{1000, 1e12}
			got := to.set.Take(nil, []byte(r.name), rate, 0, w.now*msNanos)
			if want := from.set.Take(nil, []byte(r.name), rate, 0, w.now*msNanos); got.Outcome != Frozen || want.Outcome != Frozen {
				t.Fatalf("a frozen rate is taken from: %+v, %+v", got, want)
			}
			if got, want := to.set.Open([]byte(r.name), rate, w.now*msNanos), from.set.Open([]byte(r.name), rate, w.now*msNanos); got != want {
				t.Fatalf("of %q %d are open, were %d", r.name, got, want)
			}
			continue
		}
		o := placeholders[r.Owner]
		if o == nil {
			o = w.newOwner(to)
			placeholders[r.Owner] = o
		}
		h := modelHold{r.Kind, r.name}
		l, want := to.lock(h), Acquired
		switch {
		case r.State == Held:
			// One that another one has taken over meanwhile would be told twice; here
			// nobody claims meanwhile.
			l.holders = append(l.holders, o)
			if o.held++; r.Kind == Exclusive {
				l.token = r.Token
			}
		case o.wait != nil:
			want = Refused
		default:
			want = Waiting
			limit := int(r.Limit)
			if r.Kind == Exclusive {
				limit = -1
			}
			due := w.now + r.Left
			for slices.ContainsFunc(ownersOf(to), func(o *partOwner) bool { return o.wait != nil && o.wait.due == due }) {
				due++ // the model has no order for two that end at once
			}
			r.Left = due - w.now
			w.due = max(w.due, due)
			o.wait = &partWait{hold: h, limit: limit, due: due}
			l.queue = append(l.queue, o)
		}
		if out := to.set.Import(&o.Owner, r.Record, []byte(r.name), w.now*msNanos); out != want {
			t.Fatalf("import %+v of %q: %v, want %v", r.Record, r.name, out, want)
		}
		if out := to.set.Import(&o.Owner, r.Record, []byte(r.name), w.now*msNanos); out != Refused {
			t.Fatalf("import %+v of %q twice: %v", r.Record, r.name, out)
		}
	}
	w.agree(t)
	if rapid.Bool().Draw(t, "commit") {
		w.dropAt(t, from, ps)
		w.serveThem(t, to, ps)
	} else {
		w.dropAt(t, to, ps)
		w.serveThem(t, from, ps)
	}
}

func ownersOf(m *partModel) (all []*partOwner) {
	for _, id := range slices.Sorted(maps.Keys(m.owners)) {
		all = append(all, m.owners[id])
	}
	return all
}

func idsOf(all []*partOwner) (ids []uint32) {
	for _, o := range all {
		ids = append(ids, o.ID)
	}
	return ids
}

// take takes units of a rate that does not fill up within the test.
func (w *partWorld) take(t *rapid.T) {
	m, name := w.node(t), w.drawName(t)
	v := m.set.Take(m.shares[0], []byte(name), Rate{1000, 1e12}, uint32(rapid.IntRange(1, 3).Draw(t, "units")), w.now*msNanos)
	want := Acquired
	switch m.stateOf(name) {
	case PartitionAbsent:
		want = Elsewhere
	case PartitionFrozen:
		want = Frozen
	default:
		m.rates[name] = true
	}
	if v.Outcome != want {
		t.Fatalf("take: %v, want %v", v.Outcome, want)
	}
}

// heldIn compares what an owner holds in some partitions.
func (w *partWorld) heldIn(t *rapid.T) {
	m := w.node(t)
	o, ps := w.owner(t, m, partDecided), somePartitions(t)
	if rapid.Bool().Draw(t, "doubt") {
		m.set.Doubt(&o.Owner)
	}
	var got, want []string
	p := Piece{Most: 1}
	for h, more := m.set.HeldIn(&o.Owner, func(p int) bool { return slices.Contains(ps, p) }), true; more; {
		more = h.Next(&p)
		for _, i := range p.Items {
			got = append(got, fmt.Sprint(i.Kind, string(p.Name(i)), i.Number))
		}
	}
	for h, l := range m.locks {
		if slices.Contains(l.holders, o) && slices.Contains(ps, PartitionOf([]byte(h.name))) {
			number := l.token
			if h.kind == Shared {
				number = uint64(len(l.holders))
			}
			want = append(want, fmt.Sprint(h.kind, h.name, number))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("%d holds %q, want %q", o.ID, got, want)
	}
}

// agree compares all that can be seen.
func (w *partWorld) agree(t *rapid.T) {
	t.Helper()
	for _, p := range modelPartitions {
		if a, b := w.nodes[0].state[p], w.nodes[1].state[p]; a > PartitionFrozen && b > PartitionFrozen {
			t.Fatalf("partition %d is served twice", p)
		}
	}
	for _, m := range w.nodes {
		m.agree(t, w.now)
	}
}

func (m *partModel) agree(t *rapid.T, now uint64) {
	t.Helper()
	slices.Sort(m.told)
	slices.Sort(m.want)
	if !slices.Equal(m.told, m.want) {
		t.Fatalf("told %v, want %v", m.told, m.want)
	}
	m.told, m.want = nil, nil
	permits, holds, waits := 0, [Kinds]int{}, 0
	var unclaimed [Kinds]int32
	counted := map[int][2]int{}
	for h, l := range m.locks {
		p := PartitionOf([]byte(h.name))
		counted[p] = [2]int{counted[p][0] + len(l.holders), counted[p][1] + len(l.queue)}
		holds[h.kind] += len(l.holders)
		waits += len(l.queue)
		if h.kind == Exclusive {
			permits += max(len(l.holders), min(1, len(l.queue)))
		} else {
			permits += len(l.holders) + len(l.queue)
		}
		if len(l.holders) == 0 && len(l.queue) > 0 {
			unclaimed[h.kind]++
		}
		v := m.set.See([]byte(h.name), now*msNanos)
		if v.Holders[h.kind] != len(l.holders) || v.Waiters[h.kind] != len(l.queue) {
			t.Fatalf("%v is %+v, want %d holders, %d who wait", h, v, len(l.holders), len(l.queue))
		}
		if h.kind == Exclusive && len(l.holders) > 0 {
			if o := l.holders[0]; m.set.Holder([]byte(h.name)) != o.ID {
				t.Fatalf("%v is %d's, want %d", h, m.set.Holder([]byte(h.name)), o.ID)
			} else if token, ok := m.set.Token(&o.Owner, []byte(h.name)); !ok || token != l.token {
				t.Fatalf("%v has token %d %v, want %d", h, token, ok, l.token)
			}
		}
		for _, o := range l.holders {
			if h.kind == Shared && !m.set.Shares(&o.Owner, []byte(h.name)) {
				t.Fatalf("%d has no part in %v", o.ID, h)
			}
		}
		first := LookQueue
		if h.kind == Shared {
			first = LookSharedQueue
		}
		var p2 Piece
		var queue []uint32
		for look, more := m.set.LookOnly([]byte(h.name), first, first), true; more; {
			more = look.Next(&p2)
			for _, i := range p2.Items {
				queue = append(queue, i.Owner)
			}
		}
		if !slices.Equal(queue, idsOf(l.queue)) {
			t.Fatalf("for %v wait %v, want %v", h, queue, idsOf(l.queue))
		}
	}
	if taken, _ := m.set.Permits(); taken != permits+len(m.rates) {
		t.Fatalf("%d permits are taken, want %d and %d", taken, permits, len(m.rates))
	}
	st := m.set.Stats()
	if st.Locks[Exclusive] != holds[Exclusive] || st.Holders != holds[Shared] || st.Waiters != waits || st.Limiters != len(m.rates) {
		t.Fatalf("stats are %+v, want %v held, %d wait, %d rates", st, holds, waits, len(m.rates))
	}
	checkSum(t, st)
	var got [Kinds]int32
	for i := range m.set.shards {
		s := &m.set.shards[i]
		for k, n := range s.unclaimed {
			got[k] += n
		}
		if s.issued != m.issued[i] {
			t.Fatalf("shard %d has issued %d, want %d", i, s.issued, m.issued[i])
		}
	}
	if got != unclaimed {
		t.Fatalf("%v are nobody's, want %v", got, unclaimed)
	}
	recovering := false
	for _, p := range modelPartitions {
		if got := m.set.Partition(p); got != m.state[p] {
			t.Fatalf("partition %d is %v, want %v", p, got, m.state[p])
		}
		recovering = recovering || m.state[p] == PartitionRecovering
		if locks, waiters := m.set.CountIn([]int{p}); [2]int{locks, waiters} != counted[p] {
			t.Fatalf("partition %d has %d, %d, want %v", p, locks, waiters, counted[p])
		}
	}
	if m.set.Recovering() != recovering {
		t.Fatalf("recovering: %v", m.set.Recovering())
	}
	held := 0
	for _, o := range m.owners {
		if o.Held() != o.held || o.Waits() != (o.wait != nil) {
			t.Fatalf("owner %d holds %d, want %d; waits %v", o.ID, o.Held(), o.held, o.Waits())
		}
		held += o.held
		if o.wait != nil && o.wait.over && o.wait.out == Acquired {
			held++
		}
	}
	if has := m.shares[0].Holdings(); has.Locks < held+waits || has.Locks > held+waits+len(m.rates) || has.Waiters != waits || has.Rates > len(m.rates) {
		t.Fatalf("the share has %+v, want %d held, %d wait, up to %d rates", has, held, waits, len(m.rates))
	}
}

// TestModelOfPartitions compares two nodes, between which partitions move and are taken
// over, with the model.
func TestModelOfPartitions(t *testing.T) { rapid.Check(t, partitionsAsTheModel) }

func FuzzModelOfPartitions(f *testing.F) { f.Fuzz(rapid.MakeFuzz(partitionsAsTheModel)) }

func partitionsAsTheModel(t *rapid.T) {
	w := newPartWorld(t)
	t.Repeat(map[string]func(*rapid.T){
		"get": w.get, "get2": w.get, "get3": w.get, "get4": w.get, "get5": w.get, "get6": w.get,
		"release": w.release, "claim": w.claim, "claim2": w.claim, "claim shared": w.claimShared,
		"settle":  func(t *rapid.T) { m := w.node(t); w.settle(t, m, w.owner(t, m, partWaits), false) },
		"cancel":  func(t *rapid.T) { m := w.node(t); w.settle(t, m, w.owner(t, m, partWaits), true) },
		"prolong": w.prolong, "expire": w.expire, "take": w.take, "held in": w.heldIn,
		"freeze": w.freeze, "serve": w.serving, "serve2": w.serving, "ceil": w.ceil,
		"recover": w.recover, "recover2": w.recover, "drop": w.drop, "move": w.move, "move2": w.move,
		"end": func(t *rapid.T) {
			m := w.node(t)
			o := w.owner(t, m, nil)
			// Of what one owner lets go the set serves one after another, by lists: the
			// tokens of two that are served would be in an order of its own.
			served := 0
			for h, l := range m.locks {
				if h.kind == Exclusive && slices.Contains(l.holders, o) && len(l.queue) > 0 {
					served++
				}
			}
			if served > 1 {
				t.Skip("two are served")
			}
			w.end(t, m, o)
			if len(m.owners) < 6 {
				w.newOwner(m)
			}
		},
		"": w.agree,
	})
	for _, m := range w.nodes {
		w.dropAt(t, m, modelPartitions)
		for _, o := range ownersOf(m) {
			w.end(t, m, o)
		}
		m.told, m.want = nil, nil
		m.agree(t, w.now)
		checkUnused(t, m.set, Config{Locks: 1000})
		if has := m.shares[0].Holdings(); has != (Holdings{}) {
			t.Fatalf("in the end the share has %+v", has)
		}
	}
}
