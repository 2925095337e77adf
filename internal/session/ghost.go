package session

import (
	"slices"
	"strconv"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// A ghost is a stream without a connection, whose sessions stand in for clients of one node: what
// they held where a partition was before it came here. It ends when that node says that all is
// claimed, or when nobody can believe in any of it any more.
type ghost struct {
	stream  *Stream
	keeping *keeping
	home    string // the node's ID
	version uint64 // of the map by which the node knows where to claim
	people  []described
}

// unclaimedFor is for how long a place in line waits for its owner to ask again, after all that
// is held is claimed.
const unclaimedFor = time.Second

func (n *node) newGhost(home string) *ghost {
	h := n.hub
	g := &ghost{home: home, stream: new(Stream)}
	st := g.stream
	k := &keeping{stream: st, key: KeyHash{}, lasts: n.cfg.standIn(), state: detached}
	st.Begin(h, Address{Name: "node " + home, Within: true}, nil, &k.turn)
	st.door |= linked
	st.node.Store(true)
	st.link = &linkEnd{from: home}
	st.multiplexed = true
	st.keeping.Store(k)
	h.memory.Add(keepingBytes)
	st.account.share.KeepBytes(keepingBytes)
	st.account.share.ForceSession()
	h.keeps.away(1)
	k.mu.Lock() // which expire looks at
	k.due = time.Now().Add(k.lasts)
	k.timer = time.AfterFunc(k.lasts, k.expire)
	k.mu.Unlock()
	g.keeping = k
	return g
}

// standIn returns the session for somebody, a new one if there is none.
func (g *ghost) standIn(of described, by map[person]*Session) *Session {
	if s := by[of.person]; s != nil {
		return s
	}
	st := g.stream
	if st.sessions == nil {
		st.sessions = make(map[uint32]*Session)
	}
	s, number := new(Session), uint32(len(st.sessions)+1)
	st.hub.memory.Add(sessionBytes)
	st.account.share.ForceSession()
	st.account.share.KeepBytes(sessionBytes)
	s.begin(st, number, Address{Name: st.Address() + "#" + strconv.FormatUint(uint64(of.number), 10), Within: true})
	st.sessions[number] = s
	by[of.person] = s
	g.people = append(g.people, of)
	return s
}

// appear has those who come find what they had.
func (g *ghost) appear(by map[person]*Session) {
	n := g.stream.hub.node
	for _, of := range g.people {
		s := by[of.person]
		n.people.come(of, presence{id: s.peer.id, standIn: &standIn{s, g}}) // perhaps it has come another way already
	}
}

// vanish ends it: what was not claimed is let go, and is no loss of anybody's. Who has come another way
// since, to another node, has not said by that what he claims: for him it stays, until its time is over.
func (g *ghost) vanish() {
	if g.each(true) && !g.isWanted() {
		g.keeping.finish(&ending{why: WhyKeepExpired})
	}
}

// isWanted tells whether it has something of somebody who has come another way.
func (g *ghost) isWanted() (wanted bool) {
	g.keeping.borrow(func() {
		for _, s := range g.stream.sessions {
			wanted = wanted || s.owner.Held() > 0 && s.isSuperseded()
		}
	})
	return wanted
}

// isSuperseded tells whether the client of a stand-in has come another way since.
func (s *Session) isSuperseded() bool { return s.hub.node.people.supersede(s.peer.id) }

// letGo lets go what was not claimed, but keeps the places in line.
func (g *ghost) letGo() { g.each(false) }

// each does that, and tells whether the ghost is still there.
func (g *ghost) each(waits bool) (there bool) {
	for done := false; !done; {
		if !g.keeping.borrow(func() { done = g.stream.letGoStandIns(waits) }) {
			return false
		}
	}
	return true
}

// letGoStandIns does a bounded part of that.
func (st *Stream) letGoStandIns(waits bool) (done bool) {
	for _, s := range st.sessions {
		if s.owner.Waits() && !waits || s.isSuperseded() {
			continue
		}
		if s.owner.Waits() {
			s.hub.locks.Cancel(s.asks())
		}
		if !s.hub.locks.LetGoSome(s.asks(), closeStep) {
			return false
		}
	}
	return true
}

// textFollowed says that all that is held by another node's clients is claimed, by the map of that
// version: nobody comes any more for what stands in for them since.
func (s *Session) textFollowed(arg, out []byte) []byte {
	version, rest, ok := wire.Number(arg)
	n := s.hub.node
	if n == nil || s.stream.link == nil || !ok || len(rest) > 0 {
		return s.reply(out, 0, wire.InvalidArgument, []byte(wire.Followed))
	}
	home := s.stream.link.from
	n.mu.Lock()
	n.follows[home] = max(n.follows[home], version)
	n.mu.Unlock()
	n.exorcise()
	return append(s.prefix(out), wire.OK...)
}

// exorcise ends those ghosts in a while that are of no use any more.
func (n *node) exorcise() {
	n.mu.Lock()
	var over []*ghost
	n.ghosts = slices.DeleteFunc(n.ghosts, func(g *ghost) bool {
		done := g.version <= n.follows[g.home]
		if done {
			over = append(over, g)
		}
		return done
	})
	n.mu.Unlock()
	for _, g := range over {
		n.hub.keeps.start(g.letGo)
		time.AfterFunc(unclaimedFor, func() { n.hub.keeps.start(g.vanish) })
	}
}
