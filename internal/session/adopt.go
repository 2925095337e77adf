package session

import (
	"cmp"
	"maps"
	"slices"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// Adopt takes a newer map. What was served here and is not any more is dropped when it
// returns; what is served here from now on recovers: for as long as anybody may believe in
// a lock of the former owner, everybody who holds something says so.
func (h *Hub) Adopt(l *Layout) {
	n := h.node
	n.adopting.Lock()
	defer n.adopting.Unlock()
	old := n.routes.Load()
	n.note(l)
	links, gone := n.meet(l)
	to := &routes{version: l.Version, self: l.Self, origin: cmp.Or(old.origin, l.Self), epoch: l.Epoch}
	var lost, gained []int
	var evicted []*Upstream
	for p, owner := range l.Owner {
		switch u := links[owner]; {
		case owner == l.Self && owner != "":
		case u == nil:
			to.to[p] = n.nobody
		default:
			to.to[p] = u
		}
		if to.since[p] = old.since[p]; old.epoch[p] != l.Epoch[p] {
			to.since[p] = l.Version
		}
		was, is, same := old.to[p], to.to[p], old.epoch[p] == l.Epoch[p] && old.self == l.Self
		switch {
		case was == nil && is == nil && same:
		case was == nil && is == nil:
			lost, gained = append(lost, p), append(gained, p)
		case was == nil:
			lost = append(lost, p)
		case is == nil:
			gained = append(gained, p)
		}
		if was != nil && (was != is || !same) && !slices.Contains(evicted, was) {
			evicted = append(evicted, was)
		}
	}
	for _, u := range evicted {
		u.evicts()
	}
	gains := len(gained)
	left := n.drop(lost, to, l)
	copied := n.takeCopies(&gained, to, l)
	for _, p := range gained {
		h.locks.Recover(p, max(l.Base, h.clock.microseconds()))
	}
	n.emigrate(left, to) // before anybody asks for anything there
	n.routes.Store(to)
	n.uncertain.Store(false)
	h.locks.ServeAll(copied, max(1, shard.MomentOf(h.clock.milliseconds())))
	n.publish(l)
	// What nobody has ever had nobody holds anything of.
	first := slices.DeleteFunc(slices.Clone(gained), func(p int) bool { return l.Epoch[p] > firstEpoch })
	h.locks.ServeAll(first, max(1, shard.MomentOf(h.clock.milliseconds())))
	n.recover(slices.DeleteFunc(gained, func(p int) bool { return l.Epoch[p] <= firstEpoch }), to)
	n.mu.Lock()
	for _, u := range n.links { // not only the evicted ones: some may have waited for an owner
		n.behind[u] = struct{}{}
	}
	for _, u := range n.former {
		n.behind[u] = struct{}{}
	}
	n.mu.Unlock()
	for _, u := range gone {
		u.abandon()
	}
	if slices.Contains(evicted, n.nobody) { // nothing of it was ever sent
		n.nobody.askElsewhere()
	}
	if len(gone) > 0 {
		n.partFrom(l)
	}
	n.sweep()
	if gains > 0 || len(lost) > 0 {
		n.cfg.Log("the map has changed", "version", l.Version, "partitions", to.here(), "gained", gains, "lost", len(lost))
	}
	n.look()
}

// firstEpoch is that of a partition's first owner.
const firstEpoch = 1

// here is how many partitions are served here.
func (r *routes) here() (n int) {
	for _, u := range r.to {
		if u == nil {
			n++
		}
	}
	return n
}

func (n *node) self() string { return n.routes.Load().self }

func (n *node) origin() string { return n.routes.Load().origin }

// believes tells whether a node's sign of life counts, which has the map of that version: if
// that is a newer one than is known here, it may have lost what is held there.
func (n *node) believes(version uint64) bool { return version <= n.routes.Load().version }

// meet has links to the nodes that there are, by their IDs, and returns those to nodes that are
// gone.
func (n *node) meet(l *Layout) (links map[string]*Upstream, gone []*Upstream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	there := make(map[string]bool)
	for _, p := range l.Peers {
		there[p.ID] = true
		if n.links != nil && n.links[p.ID] == nil && p.ID != l.Self {
			n.links[p.ID] = n.cfg.Connect(p)
		}
	}
	for id, u := range n.links {
		if !there[id] {
			gone = append(gone, u)
			delete(n.links, id)
			n.former = append(n.former, u)
		}
	}
	links = make(map[string]*Upstream, len(n.links))
	for id, u := range n.links {
		links[id] = u
	}
	return links, gone
}

// sweep ends links to nodes that are gone, of which nobody has anything any more.
func (n *node) sweep() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.former = slices.DeleteFunc(n.former, func(u *Upstream) bool {
		for i := range *u.all.Load() {
			if u.find(uint64(i)) != nil {
				return false
			}
		}
		delete(n.behind, u)
		n.over.Go(u.stop)
		return true
	})
}

// partFrom ends the connections of links from nodes that are gone: a process that is stopped keeps
// its own open. What is held over them is free when nobody can believe in it any more.
func (n *node) partFrom(l *Layout) {
	h := n.hub
	h.keeps.mu.Lock()
	all := slices.Collect(maps.Values(h.keeps.byKey))
	h.keeps.mu.Unlock()
	for _, k := range all {
		link := k.stream.link
		if link == nil || slices.ContainsFunc(l.Peers, func(p Peer) bool { return p.ID == link.id() }) {
			continue
		}
		if c := k.stream.carriedBy(); c != nil {
			h.network.Detach(c)
		}
	}
}

// Depose drops all that is served here: the node is none of the cluster any more, until the
// next map says that it is. Whoever holds something here comes again, and claims it where
// it is served then.
func (h *Hub) Depose() {
	n := h.node
	n.adopting.Lock()
	defer n.adopting.Unlock()
	old := n.routes.Load()
	to := &routes{version: old.version, self: old.self, origin: old.origin, epoch: old.epoch, since: old.since}
	var lost []int
	for p, u := range old.to {
		if to.to[p] = u; u == nil {
			to.to[p] = n.nobody
			lost = append(lost, p)
		}
	}
	n.routes.Store(to)
	n.uncertain.Store(false)
	n.drop(lost, to, nil)
	n.cfg.Log("this node is not registered any more: what it served is dropped", "partitions", len(lost))
}

// drop has partitions not be served here any more. What the node's own clients held in those that
// have moved it returns: it is to be claimed where they are now. All others who held something
// there look what they have left.
func (n *node) drop(lost []int, to *routes, l *Layout) (left []emigrant) {
	if len(lost) == 0 {
		return nil
	}
	h := n.hub
	moved := func(p int) bool { return l != nil && l.Nonce[p] != 0 && to.to[p] != nil }
	tokens := n.tokensIn(lost, moved)
	h.locks.Drop(lost, func(owner uint32, kind shard.Kind, name []byte) {
		p := h.directory.peer(owner)
		if p == nil {
			return
		}
		s := p.session.Load()
		if s == nil {
			return
		}
		switch {
		case !moved(shard.PartitionOf(name)):
			h.loses(owner, name)
		case s.stream.link == nil:
			left = append(left, emigrant{s, kind, string(name), tokens[string(name)]})
		} // else another node knows, too, where it is to be claimed
	})
	return left
}

// An emigrant is a hold of a client of the node's own in a partition that is served elsewhere now.
type emigrant struct {
	session *Session
	kind    shard.Kind
	name    string
	token   uint64 // of an exclusive lock
}

// tokensIn returns the tokens of the exclusive locks in those partitions that have moved.
func (n *node) tokensIn(lost []int, moved func(int) bool) map[string]uint64 {
	tokens := make(map[string]uint64)
	some := slices.DeleteFunc(slices.Clone(lost), func(p int) bool { return !moved(p) })
	if len(some) == 0 {
		return nil
	}
	e := n.hub.locks.Export(some)
	var r shard.Records
	for more := true; more; {
		more = e.Next(&r)
		for _, rec := range r.All {
			if rec.State == shard.Held && rec.Kind == shard.Exclusive {
				tokens[string(r.Name(rec))] = rec.Token
			}
		}
	}
	return tokens
}

// emigrate claims what the node's own clients held where it is served now.
func (n *node) emigrate(left []emigrant, to *routes) {
	until := lease.Now() + n.cfg.Longest/2
	for _, e := range left {
		u := to.to[shard.PartitionOf([]byte(e.name))]
		r := e.session.arriveAt(u, n.guestOf(e.session))
		if r == nil {
			n.hub.loses(e.session.peer.id, []byte(e.name))
			continue
		}
		n.moved.Add(1)
		r.mu.Lock()
		if !r.gone {
			r.takeInLocked(heldLock{kind: e.kind, name: []byte(e.name), token: e.token}, until)
		}
		r.mu.Unlock()
		e.session.stream.post(e.session)
	}
	if len(left) > 0 {
		n.look()
	}
}

// takeCopies takes those partitions out of the gained ones whose copies are here, and returns them.
func (n *node) takeCopies(gained *[]int, to *routes, l *Layout) (copied []int) {
	rest := (*gained)[:0:0]
	for p := range to.to {
		named, useless := n.copies.take(p, l.Epoch[p], l.Nonce[p])
		if useless != nil {
			n.discard(p, useless)
		}
		if named == nil {
			continue
		}
		if to.to[p] != nil || n.hub.locks.Partition(p) != shard.PartitionFrozen {
			n.discard(p, named)
			continue
		}
		copied = append(copied, p)
		n.mu.Lock()
		for _, g := range named.ghosts {
			g.version = l.Version
			n.ghosts = append(n.ghosts, g)
		}
		n.mu.Unlock()
	}
	n.exorcise()
	for _, p := range *gained {
		if !slices.Contains(copied, p) {
			rest = append(rest, p)
		}
	}
	*gained = rest
	return copied
}

// recover has partitions that were gained be served when all who may hold something there
// have had the time to say so.
func (n *node) recover(gained []int, to *routes) {
	if len(gained) == 0 {
		return
	}
	until := lease.Now() + n.cfg.recovery()
	var timer *time.Timer
	end := func() {
		if left := until - lease.Now(); left > 0 { // the machine's clock and Go's are not the same
			timer.Reset(left)
			return
		}
		n.adopting.Lock()
		defer n.adopting.Unlock()
		now := n.routes.Load()
		still := slices.DeleteFunc(gained, func(p int) bool {
			return now.to[p] != nil || now.epoch[p] != to.epoch[p] || now.self != to.self || n.hub.locks.Partition(p) != shard.PartitionRecovering
		})
		n.hub.locks.ServeAll(still, max(1, shard.MomentOf(n.hub.clock.milliseconds())))
		n.mu.Lock()
		delete(n.timers, timer)
		n.mu.Unlock()
		n.cfg.Log("recovered", "partitions", len(still))
		n.look()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.links == nil {
		return // it ends
	}
	timer = time.AfterFunc(time.Hour, end)
	n.timers[timer] = struct{}{}
	timer.Reset(n.cfg.recovery())
}

// recovery is for how long a partition recovers, linkLease for how long a link is believed to
// be kept at its other end, and linkKeep for how long it is.
func (c *ClusterConfig) recovery() time.Duration  { return c.Longest + c.Longest/10 }
func (c *ClusterConfig) linkLease() time.Duration { return c.Longest * 19 / 20 }
func (c *ClusterConfig) linkKeep() time.Duration  { return c.recovery() }

// standIn is for how long somebody may not say that he is there who had something in a partition
// that has moved here: a node may not know of the move for as long as it has the right to serve.
func (c *ClusterConfig) standIn() time.Duration { return c.recovery() + c.Serves }

// abandon is for a link to a node that is gone: it never answers again. What it was asked and
// has not answered is asked elsewhere.
func (u *Upstream) abandon() {
	u.gone.Store(true)
	u.mu.Lock()
	u.live.Store(0)
	u.mu.Unlock()
	u.cfg.End()
	u.askElsewhere()
}

// askElsewhere has all that was asked of a link and was not answered be asked of who serves it.
func (u *Upstream) askElsewhere() {
	for i := range *u.all.Load() {
		if r := u.find(uint64(i)); r != nil {
			r.takeBack()
		}
	}
}

// takeBack has all that was not answered be asked elsewhere.
func (r *remote) takeBack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch = 0
	for ; r.first < len(r.queue); r.first++ {
		a := r.queue[r.first]
		if a.told || a.silent {
			continue
		}
		a.again, a.held = true, true // it may have been executed
		r.returnLockedTo(&a)
	}
	r.fitLocked()
	if r.gone {
		r.ended = true
		if r.leaves {
			r.up.leave(r)
		}
		return
	}
	if len(r.back) > 0 {
		r.postLocked()
	}
}

// returnLockedTo has the session's stream ask something elsewhere that was not executed, or
// may not have been.
func (r *remote) returnLockedTo(a *asking) {
	h := r.session.hub
	p := put{command: a.command, since: h.clock.milliseconds()}
	waited := uint64(r.up.tick.Load()-a.tick) * uint64(tickEvery.Milliseconds())
	p.since -= min(waited, p.since)
	switch text := r.text[a.from:a.to]; {
	case a.literal || a.probe && len(text) > 0:
		p.command, p.name = nil, slices.Clone(text)
	case a.probe:
		p.command = lookup([]byte(wire.Ping))
	default:
		n, name, _ := a.command.parse(text[len(a.command.verb)+min(1, len(text)-len(a.command.verb)):])
		if a.waits() {
			n = n.less(a.command, waited)
			r.waits.Add(-1)
			if r.stops.Swap(false) {
				n = n.less(a.command, wire.MaxWait)
			}
		}
		p.numbers, p.name = n, slices.Clone(name)
		p.held = a.again && a.held && (a.command.verb == wire.Release || a.command.verb == wire.ReleaseShared)
		if p.held { // what becomes of its claim elsewhere is nobody's loss, as of those that releasesLocked returns
			r.up.locks.DoubtOne(r.owner, kindOf(a.command), p.name)
		}
	}
	r.sendBackLocked(p)
}

// sendBackLocked has the session's stream take a request, or a reply, back. What it asks from then on comes
// behind that.
func (r *remote) sendBackLocked(p put) {
	r.back = append(r.back, p)
	r.returns.Store(true)
}

// HighestToken is not below any token that was granted or claimed here.
func (h *Hub) HighestToken() uint64 { return h.locks.Highest() }

// Serves tells whether a name is served here.
func (h *Hub) Serves(name []byte) bool {
	p := shard.PartitionOf(name)
	return h.node == nil || h.node.routes.Load().to[p] == nil && h.locks.Partition(p) == shard.PartitionServing
}

// Partitions is how many partitions a node has, by what it does with them.
type Partitions struct{ Serving, Recovering, Frozen int }

// Partitions counts them.
func (h *Hub) Partitions() (p Partitions) {
	for i := range shard.Partitions {
		switch h.locks.Partition(i) {
		case shard.PartitionServing:
			p.Serving++
		case shard.PartitionRecovering:
			p.Recovering++
		case shard.PartitionFrozen:
			p.Frozen++
		}
	}
	return p
}

// Freeze has partitions that are served here stand still, as they are about to move.
func (h *Hub) Freeze(parts []int) { h.locks.Freeze(parts) }

// Thaw has them be served again, if they are here still.
func (h *Hub) Thaw(parts []int) {
	n := h.node
	n.adopting.Lock()
	defer n.adopting.Unlock()
	n.uncertain.Store(false)
	to := n.routes.Load()
	still := slices.DeleteFunc(slices.Clone(parts), func(p int) bool {
		return to.to[p] != nil || h.locks.Partition(p) != shard.PartitionFrozen
	})
	h.locks.ServeAll(still, max(1, shard.MomentOf(h.clock.milliseconds())))
	n.look()
}

// Uncertain says that a move may happen any time from now on, or have happened: until it is known
// whether it has, nobody is told that what he has here is sure.
func (h *Hub) Uncertain() { h.node.uncertain.Store(true) }
