package session

import (
	"net/netip"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// A Kick says who ends whom: addresses, and the names under which they have
// registered, or the addresses once more; and who each has shown to be, if any.
type Kick struct {
	Client, Name, By, ByName string
	Access, ByAccess         *Access
}

// kickReply is the reply to `kick`. It looks for the client a piece of the
// directory at a time, has the network end it, and comes when all that it held
// is free.
type kickReply struct {
	session *Session
	addr    string
	ip      netip.AddrPort // the address, if it is one
	page    int            // to look at next
	away    *peer          // has the address, and no connection: another client may have got it since
	own     bool           // the client ends itself
}

func (s *Session) textKick(addr, out []byte) []byte {
	// Who is known has the role to; another node has asked its client for it.
	if !s.stream.local && s.stream.Access() == nil && s.stream.door&alone == 0 {
		s.stream.counters.notAllowed.Add(1)
		return s.reply(out, 0, wire.NotAllowed, []byte(wire.Kick))
	}
	k := &kickReply{session: s, addr: string(addr)}
	if ip, err := netip.ParseAddrPort(k.addr); err == nil {
		k.ip = netip.AddrPortFrom(ip.Addr().Unmap(), ip.Port())
	}
	return s.list(k, out)
}

func (k *kickReply) next(out []byte) (_ []byte, more bool) {
	s := k.session
	if k.own {
		if kept := s.stream.keeping.Load(); kept != nil {
			kept.quit()
		}
		if !s.stream.letGoSome() {
			return out, true
		}
		s.stream.closing = true
		return k.kicked(out), false
	}
	d := &s.hub.directory
	p, more := d.find(k.addr, k.ip, k.page)
	k.page++
	switch {
	case p != nil && more && p.isAway():
		k.away, p = p, nil
	case p == nil && !more:
		p = k.away
	}
	var other *Session
	if p != nil {
		other = p.session.Load()
	}
	switch {
	case other == nil && more:
		return out, true
	case other == nil && s.stream.door&forwards != 0 && s.hub.node != nil && s.stream.door&linked == 0:
		s.stream.long = s.newGather(lookup([]byte(wire.Kick)), []byte(k.addr), nil)
		return out, true
	case other == nil && s.stream.door&forwards != 0 && s.hub.node == nil: // it may be somebody else's client
		s.stream.long = s.newRelay(lookup([]byte(wire.Kick)), []byte(k.addr))
		return out, true
	case other == nil:
		return s.reply(out, 0, wire.NoSuchClient, []byte(k.addr)), false
	case other.stream == s.stream:
		k.own = true
		return out, true
	}
	ends := s.hub.kick(other, p, Kick{By: s.peer.addr(), ByName: s.peer.name(), ByAccess: s.stream.Access()})
	if d.watch(ends.id, s) == nil {
		return k.kicked(out), false
	}
	s.postpone(awaitMost)
	s.stream.postponed.watch(ends)
	s.stream.postponed.request(&awaitKick, []byte(k.addr), numbers{})
	return out, false
}

// kick has a session's client end, which is known by the address of p, and returns
// whose end is that: all sessions of a connection end with it, number 0 last. But a
// session alone ends where the client can be told so.
//
// Who is kept is forgotten first, or would be back after a crash of the server.
func (h *Hub) kick(s *Session, p *peer, who Kick) *peer {
	st := s.stream
	main := s.client(p)
	who.Client, who.Name, who.Access = p.addr(), p.name(), main.accessNow()
	if p != main && st.notices.Load() {
		h.network.Kick(nil, who)
		s.evict(WhyKick, who.by())
		return p
	}
	k := st.keeping.Load()
	if k == nil {
		st.endsFor(WhyKick, who.by())
		h.network.Kick(st.carrier, who)
		return main
	}
	k.condemn(&ending{why: WhyKick, by: who.by(), kick: &who})
	return main
}

func (*kickReply) rest()      {}
func (*kickReply) keeps() int { return 0 }
func (*kickReply) close()     {}

func (k *kickReply) kicked(out []byte) []byte {
	return k.session.reply(out, 1, wire.Kicked, []byte(k.addr))
}

// awaitKick is the rest of `kick`, made again when the client has ended.
var awaitKick = command{verb: wire.Kick, do: (*Session).textAwaitKick}

// awaitMost is for how long a kick is waited for at most. The end of a client
// depends on nobody else, but one that holds millions of locks takes its time.
const awaitMost = time.Hour

func (s *Session) textAwaitKick(addr, out []byte) []byte {
	if s.hub.directory.there(s.stream.postponed.watched) && s.postpone(awaitMost) {
		return out
	}
	return s.reply(out, 1, wire.Kicked, addr)
}

// letGoSome releases a bounded part of what all sessions hold, and tells whether
// that is all.
func (st *Stream) letGoSome() bool {
	work := 0
	for _, s := range st.sessions {
		work += sessionWork + s.held()
		s.forgetWait()
		if !s.letGoSome() || work >= closeStep {
			return false
		}
	}
	st.main.forgetWait()
	return st.main.letGoSome()
}
