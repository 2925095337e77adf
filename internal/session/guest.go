package session

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// A guest is a session as other nodes know it: under one number at all of them, so that
// what it holds may go from one to another. It has a remote for each at which it has
// been.
type guest struct {
	node    *node
	number  uint32
	remotes atomic.Pointer[[]*remote] // mu guards writes

	following sync.Mutex    // has who claims elsewhere what the remotes hold; comes before theirs
	followed  atomic.Uint64 // by which map that was done last

	mu    sync.Mutex // guards what follows; comes behind those of the remotes
	ended bool       // the session has: it goes nowhere any more
	freed bool       // its number is another one's

	met bool // the session knows of it; guarded by the node's mutex
}

func newGuest(n *node) *guest {
	g := &guest{node: n, number: n.numbers.take()}
	g.remotes.Store(new([]*remote))
	return g
}

// remoteAt returns what the session is at another node; nil: there is no memory for it, or
// the session has ended. Its own goroutine calls it.
func (s *Session) remoteAt(u *Upstream) *remote {
	if r := s.remote; r != nil && r.up == u {
		return r
	}
	return s.remoteElsewhere(u)
}

//go:noinline
func (s *Session) remoteElsewhere(u *Upstream) *remote {
	if s.remote != nil {
		return s.arriveAt(u, s.remote.guest)
	}
	r := s.arriveAt(u, u.node.guestOf(s))
	s.meetGuest()
	return r
}

// guestOf returns the guest of a session, which may not know of it yet. Any goroutine may call it.
func (n *node) guestOf(s *Session) *guest {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.guests[s]
	if g == nil {
		g = newGuest(n)
		n.guests[s] = g
		n.fresh.Add(1)
	}
	return g
}

// meetGuest has the session's own stream know where it has been taken.
func (s *Session) meetGuest() {
	n := s.hub.node
	if n == nil || s.remote != nil || n.fresh.Load() == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if g := n.guests[s]; g != nil {
		if all := *g.remotes.Load(); len(all) > 0 {
			s.remote = all[0]
			g.met = true
			n.fresh.Add(-1)
		}
	}
}

// endGuest has the session go nowhere any more, and gives its number back, unless it is somewhere.
func (s *Session) endGuest() {
	n := s.hub.node
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.guests[s]
	if g == nil {
		return
	}
	delete(n.guests, s)
	if !g.met {
		n.fresh.Add(-1)
	}
	g.end()
}

// arriveAt does that for a guest. Any goroutine may call it.
func (s *Session) arriveAt(u *Upstream, g *guest) *remote {
	r, fresh := g.at(u, s)
	if fresh {
		r.present()
		if of, ok := u.node.people.by(s.peer.id); ok {
			r.announce(of)
		}
		if s.registeredName() != "" {
			r.register()
		}
	}
	return r
}

func (g *guest) at(u *Upstream, s *Session) (r *remote, fresh bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := *g.remotes.Load()
	if i := slices.IndexFunc(all, func(r *remote) bool { return r.up == u }); i >= 0 {
		return all[i], false
	}
	if g.ended || !s.stream.takeMemory(remoteBytes) {
		return nil, false
	}
	r = &remote{session: s, up: u, guest: g, number: g.number, owner: &shard.Owner{ID: g.number}, many: s.stream.multiplexed}
	r.followed = u.node.routes.Load().version
	u.join(r)
	more := append(slices.Clone(all), r)
	g.remotes.Store(&more)
	return r, true
}

// present has the other node know the address of the session's client.
func (r *remote) present() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.liveLocked() { // else takeUp does it
		r.presentLocked()
	}
}

func (r *remote) presentLocked() {
	r.askLocked(lookup([]byte(wire.Peer)), numbers{}, []byte(r.session.peer.addr()), asking{silent: true})
}

// each calls f for all of the session's remotes.
func (s *Session) eachRemote(f func(*remote)) {
	s.meetGuest()
	r := s.remote
	switch {
	case r == nil:
	case r.guest == nil:
		f(r)
	default:
		for _, r := range *r.guest.remotes.Load() {
			f(r)
		}
	}
}

// gone forgets a remote that has left, and gives the number back with the last one of an
// ended session.
func (g *guest) gone(r *remote) {
	g.mu.Lock()
	defer g.mu.Unlock()
	less := slices.DeleteFunc(slices.Clone(*g.remotes.Load()), func(other *remote) bool { return other == r })
	g.remotes.Store(&less)
	g.freeLocked()
}

// freeLocked gives the number back if nobody needs it any more.
func (g *guest) freeLocked() {
	if g.ended && !g.freed && len(*g.remotes.Load()) == 0 {
		g.freed = true
		g.node.numbers.give(g.number)
	}
}

// follow has all that the session holds claimed where it is served by a map, before anything else is
// asked there. Its own stream calls it.
func (s *Session) follow(to *routes) {
	r := s.remote
	if r == nil || r.guest.followed.Load() == to.version {
		return
	}
	r.guest.following.Lock()
	defer r.guest.following.Unlock()
	r.guest.followed.Store(to.version) // before: what comes meanwhile is to be followed, too
	for _, r := range *r.guest.remotes.Load() {
		if !r.follow(to) {
			r.claimHere()
			r.follow(to)
		}
	}
	s.partFromGone()
}

// partFromGone forgets what the session is at nodes that are gone, if nothing is left of that.
func (s *Session) partFromGone() {
	g := s.remote.guest
	for _, r := range *g.remotes.Load() {
		if !r.up.gone.Load() || !r.part() {
			continue
		}
		s.stream.giveMemory(remoteBytes)
		if s.remote == r {
			s.remote = nil
			if rest := *g.remotes.Load(); len(rest) > 0 {
				s.remote = rest[0]
			}
		}
	}
	if s.remote == nil {
		s.endGuest()
	}
}

// part does that, and tells whether it has.
func (r *remote) part() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.owner.Held() > 0 || r.first < len(r.queue) || len(r.back)+len(r.out)+len(r.again) > 0 || r.pending.Load() > 0 || len(r.arriving) > 0 {
		return false
	}
	r.gone, r.leaves, r.ended = true, true, true
	r.homeLocked()
	r.session.stream.underWay.Add(-r.bytes.Swap(0))
	r.up.leave(r)
	return true
}

// end has the guest go nowhere any more.
func (g *guest) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	g.freeLocked()
}

// announce has another node know who the session is, before it hears anything else of it, and
// whenever its client has come anew.
func (r *remote) announce(of described) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.person = of
	if r.liveLocked() {
		r.announceLocked()
	}
}

func (r *remote) announceLocked() {
	if r.person.who != "" {
		r.askLocked(lookup([]byte(wire.As)), numbers{}, r.person.append(nil), asking{silent: true})
	}
}
