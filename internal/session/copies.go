package session

import (
	"strconv"
	"strings"
	"sync"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// A copy is what a former owner has sent of a partition. It lies here until the map says that the
// partition has moved here, by that copy, or some other way.
type copied struct {
	nonce, epoch uint64
	whole        bool
	ghosts       []*ghost
}

// copies are those of partitions.
type copies struct {
	mu  sync.Mutex // guards what follows
	all map[int]*copied
}

func (c *copies) init() { c.all = make(map[int]*copied) }

// take returns the copy of a partition that the map names, which is not kept any more. All others of
// that epoch, or before it, are of no use.
func (c *copies) take(p int, epoch, nonce uint64) (named, useless *copied) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.all[p]
	if one == nil || one.epoch > epoch {
		return nil, nil
	}
	delete(c.all, p)
	if nonce != 0 && one.whole && one.epoch == epoch && one.nonce == nonce {
		return one, nil
	}
	return nil, one
}

// An incoming is a copy that is on its way, over a link of its own.
type incoming struct {
	nonce   uint64
	parts   []int
	records uint64
	ghosts  map[string]*ghost
	people  map[string]map[person]*Session
	wrong   bool
}

// textCopy begins the copy of a partition: `copy NONCE PARTITION EPOCH HIGHEST`.
func (s *Session) textCopy(arg, out []byte) []byte {
	n := s.hub.node
	v, ok := numbersOf(arg, 4)
	if n == nil || s.stream.link == nil || !ok || v[1] >= shard.Partitions {
		return s.reply(out, 0, wire.InvalidArgument, []byte(wire.Copy))
	}
	p := int(v[1])
	in := s.stream.link.incoming
	if in == nil {
		in = &incoming{nonce: v[0], ghosts: make(map[string]*ghost), people: make(map[string]map[person]*Session)}
		s.stream.link.incoming = in
	}
	n.adopting.Lock()
	defer n.adopting.Unlock()
	to := n.routes.Load()
	if to.epoch[p] >= v[2] || to.to[p] == nil || in.nonce != v[0] {
		in.wrong = true
		return s.reply(out, 0, wire.Elsewhere, []byte(wire.Copy))
	}
	n.copies.mu.Lock()
	old := n.copies.all[p]
	n.copies.all[p] = &copied{nonce: v[0], epoch: v[2]}
	n.copies.mu.Unlock()
	if old != nil {
		n.discard(p, old)
	}
	if !s.hub.locks.BeginImport(p, v[3]) {
		in.wrong = true
	}
	in.parts = append(in.parts, p)
	return append(s.prefix(out), wire.OK...)
}

// numbersOf reads numbers, of which some may be larger than those that clients send.
func numbersOf(arg []byte, n int) (v [4]uint64, ok bool) {
	words := strings.Fields(string(arg))
	if len(words) != n {
		return v, false
	}
	for i, word := range words {
		var err error
		if v[i], err = strconv.ParseUint(word, 10, 64); err != nil {
			return v, false
		}
	}
	return v, true
}

// textPut puts a record into the copy. It is answered only if that is wrong: they are many, and are
// counted at the end.
func (s *Session) textPut(arg, out []byte) []byte {
	in := (*incoming)(nil)
	if s.stream.link != nil {
		in = s.stream.link.incoming
	}
	r, of, name, ok := parseRecord(arg)
	if in == nil || !ok {
		return s.reply(out, 0, wire.InvalidArgument, []byte(wire.Put))
	}
	in.records++
	h := s.hub
	var o *shard.Owner
	if r.Kind != shard.Rates {
		g := in.ghosts[of.home]
		if g == nil {
			g = h.node.newGhost(of.home)
			in.ghosts[of.home], in.people[of.home] = g, make(map[person]*Session)
		}
		o = g.standIn(of, in.people[of.home]).asks()
	}
	now := h.clock.nanoseconds()
	switch h.locks.Import(o, r, name, now) {
	case shard.Waiting:
		h.clock.expect(h.clock.milliseconds() + r.Left)
	case shard.Acquired:
	case shard.Refused:
		// Somebody has it twice: also from before it came to the former owner, and has not taken that up,
		// as it was not told what became of its wait.
		in.wrong = in.wrong || r.State != shard.Waits && (r.Kind != shard.Shared || !h.locks.Shares(o, name))
	default:
		in.wrong = true
	}
	return out
}

// textCopied ends the copy: `copied NONCE COUNT`. It is acknowledged if all of it is here.
func (s *Session) textCopied(arg, out []byte) []byte {
	in := (*incoming)(nil)
	if s.stream.link != nil {
		in = s.stream.link.incoming
	}
	v, ok := numbersOf(arg, 2)
	if in == nil || !ok || v[0] != in.nonce {
		return s.reply(out, 0, wire.InvalidArgument, []byte(wire.Copied))
	}
	n := s.hub.node
	s.stream.link.incoming = nil
	n.adopting.Lock()
	defer n.adopting.Unlock()
	if in.wrong || v[1] != in.records {
		in.discard(n)
		return s.reply(out, 0, "Incomplete: ", []byte(wire.Copied))
	}
	for home, g := range in.ghosts {
		g.appear(in.people[home])
	}
	n.copies.mu.Lock()
	for i, p := range in.parts {
		if one := n.copies.all[p]; one != nil && one.nonce == in.nonce {
			one.whole = true
			if i == 0 {
				for _, g := range in.ghosts {
					one.ghosts = append(one.ghosts, g)
				}
			}
		}
	}
	n.copies.mu.Unlock()
	return append(s.prefix(out), wire.OK...)
}

// discard drops what has come of a copy.
func (in *incoming) discard(n *node) {
	for _, p := range in.parts {
		n.copies.mu.Lock()
		one := n.copies.all[p]
		if one != nil && one.nonce == in.nonce {
			delete(n.copies.all, p)
		}
		n.copies.mu.Unlock()
		if one != nil && one.nonce == in.nonce {
			n.discard(p, one)
		}
	}
	for _, g := range in.ghosts {
		n.hub.keeps.start(g.vanish)
	}
}

// discard drops a copy of which the map knows nothing.
func (n *node) discard(p int, one *copied) {
	if n.routes.Load().to[p] != nil && n.hub.locks.Partition(p) == shard.PartitionFrozen {
		n.hub.locks.Drop([]int{p}, nil)
	}
	for _, g := range one.ghosts {
		n.hub.keeps.start(g.vanish)
	}
}

// textAs says who the client of a link's session is: one that is kept, and may come another way.
func (s *Session) textAs(arg, out []byte) []byte {
	of, err := parsePerson(strings.TrimSpace(string(arg)))
	n := s.hub.node
	if n == nil || s.stream.link == nil || err != nil {
		return s.reply(out, 0, wire.InvalidArgument, []byte(wire.As))
	}
	n.people.come(of, presence{id: s.peer.id})
	return append(s.prefix(out), wire.OK...)
}

// takePlace has the session go on in the place in line of who it was before it came this way, if
// that waits for the same.
func (s *Session) takePlace(kind shard.Kind, name []byte, limit uint32, due uint64) (g shard.Grant, outcome shard.Outcome, taken bool) {
	n := s.hub.node
	if n == nil || due == 0 || s.wait != nil || !n.people.some.Load() {
		return g, outcome, false
	}
	of, ok := n.who(s)
	if !ok {
		return g, outcome, false
	}
	one := n.people.standsIn(of, func(one *standIn) bool { return one.session.owner.Waits() })
	if one == nil {
		return g, outcome, false
	}
	one.ghost.keeping.borrow(func() {
		g, outcome = s.hub.locks.Succeed(s.asks(), &one.session.owner, kind, name, limit, due)
		taken = outcome != shard.Refused
	})
	return g, outcome, taken
}
