package session

import (
	"bytes"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// The end of a link at who serves a partition: another node asks for its own clients, over
// one connection that is kept, with a session for each of them. What is not served here is
// answered with `Elsewhere`, and asked again by the other node when it knows better.
//
// Without the right to serve nothing is read from a link and nothing is said on it.

// from is who a node is for others: its ID, and the first one behind a slash if it is another one
// by now, as it had lost its registration.
func (n *node) from() string {
	to := n.routes.Load()
	if to.origin == to.self {
		return to.self
	}
	return to.self + "/" + to.origin
}

// textLink has the stream be a link: `link WORLD FROM TO` says of which cluster, from which
// node, and which one is meant. With an ADDR behind that it is about what is here alone: lists,
// and `kick`, for the client that is at that address there.
func (s *Session) textLink(arg, out []byte) []byte {
	st, n := s.stream, s.hub.node
	words := strings.Fields(string(arg))
	switch {
	case n == nil:
		return s.reply(out, 0, wire.NoCluster, []byte(wire.Link))
	case len(words) != 3 && len(words) != 4:
		return s.reply(out, 0, wire.InvalidArgument, []byte(wire.Link))
	case !st.mayLink():
		return s.reply(out, 0, wire.NotAllowed, []byte(wire.Link))
	case !st.isFresh(s):
		return s.reply(out, 0, wire.NotFirst, []byte(wire.Link))
	case words[0] != n.cfg.World:
		return s.reply(out, 0, wire.OtherCluster, []byte(n.cfg.World))
	case words[2] != n.self():
		return s.reply(out, 0, wire.OtherNode, []byte(n.self()))
	}
	st.door |= linked
	id, origin, ok := strings.Cut(words[1], "/")
	if !ok {
		origin = id
	}
	st.link = &linkEnd{from: origin}
	st.link.now.Store(&id)
	if len(words) == 4 {
		st.door |= alone
		s.peer.label.Store(&label{text: words[3]})
	}
	n.meetLink(st)
	for _, verb := range []string{wire.Hello, wire.Link} {
		st.counters.linked[lookup([]byte(verb)).number].Add(1)
	}
	st.node.Store(true)
	st.countOn(nodes)
	s.hub.network.Outlives(st.carrier) // nobody waits for it when the server drains: its clients are elsewhere
	return s.reply(out, 1, wire.Linked, []byte(n.self()))
}

// A linkEnd is what a stream has that is a link.
type linkEnd struct {
	from     string                 // the first ID of the other node's process, by which its clients are known
	now      atomic.Pointer[string] // that it has by now; nil, of a stand-in: the same
	incoming *incoming              // a copy that is on its way; nil: there is none

	mu   sync.Mutex // guards what follows
	lost []byte     // lines that are to be sent
}

// id is the ID that the other node has now.
func (l *linkEnd) id() string {
	if now := l.now.Load(); now != nil {
		return *now
	}
	return l.from
}

// tellLost tells the other node that a session has lost a lock. Any goroutine may call it.
func (st *Stream) tellLost(s *Session, name []byte) {
	l := st.link
	l.mu.Lock()
	l.lost = appendNumber(l.lost, uint64(s.number))
	l.lost = append(append(append(l.lost, wire.Notice+wire.LockLost...), name...), '\n')
	l.mu.Unlock()
	st.post(&st.main)
}

// tell appends what there is to be told.
func (l *linkEnd) tell(out []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	out = append(out, l.lost...)
	l.lost = nil
	return out
}

// mayLink tells whether who is connected may be another node.
func (st *Stream) mayLink() bool {
	if st.door&asks == 0 {
		return true
	}
	a := st.Access()
	return a != nil && a.Role&(RoleNode|RoleAdmin) != 0
}

// textGoOn says that what follows is to be executed again.
func (s *Session) textGoOn(_, out []byte) []byte {
	if s.abroad != nil {
		s.abroad.turned = false
	}
	return append(s.prefix(out), wire.OK...)
}

// textPeer says at which address the client of a session is, where it is connected: by that
// it is shown here, too.
func (s *Session) textPeer(addr, out []byte) []byte {
	if s.stream.door&linked == 0 || s == &s.stream.main || len(addr) == 0 {
		return s.reply(out, 0, wire.NoCluster, []byte(wire.Peer))
	}
	s.peer.label.Store(&label{text: string(addr)})
	return append(s.prefix(out), wire.OK...)
}

// isGuest tells whether somebody is another node's client, who is asked about there.
func (p *peer) isGuest() bool {
	s := p.session.Load()
	return s != nil && s.number != 0 && s.stream.node.Load()
}

// meetLink notes a stream that is a link, and partLink that it has ended.
func (n *node) meetLink(st *Stream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.linked[st] = struct{}{}
}

func (n *node) partLink(st *Stream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.linked, st)
}

// connections is how many connections other nodes have to this one.
func (n *node) connections() (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for st := range n.linked {
		if st.carriedBy() != nil {
			count++
		}
	}
	return count
}

// doAlone does what another node asks of this one alone.
func (s *Session) doAlone(c *command, name, out []byte) []byte {
	named := c.verb == wire.Look || len(name) > 0 && (c.verb == wire.Dump || c.verb == wire.DumpShared)
	switch {
	case c.flags&relayed == 0 && c.verb != wire.Kick && c.verb != wire.Query && c.verb != wire.Quit: // the rest of a kick is none
		return s.reply(out, 0, wire.NotAllowed, []byte(c.verb))
	case aboutLocks(c) && c.verb != wire.Quit && !s.stream.turn.serves(s.hub.node):
		return s.reply(out, 0, wire.Unavailable, []byte(c.verb))
	case named && s.hub.locks.Partition(shard.PartitionOf(name)) == shard.PartitionAbsent:
		return s.reply(out, 0, wire.Elsewhere, name)
	}
	return c.do(s, name, out)
}

// doLinked does what a command is for that has come over a link.
func (s *Session) doLinked(c *command, name, out []byte) []byte {
	s.stream.counters.linked[c.number].Add(1)
	if s.stream.door&alone != 0 {
		return s.doAlone(c, name, out)
	}
	switch {
	case c.verb == wire.Ping && s == &s.stream.main:
		return s.reply(out, s.hub.node.confirms(), pong, nil)
	case c.flags&forwarded == 0 && !isClaim(c):
		return c.do(s, name, out)
	case s.abroad != nil && s.abroad.turned && !isClaim(c):
		return s.reply(out, 0, wire.Elsewhere, name)
	case c.flags&ofName == 0:
		return c.do(s, name, out)
	}
	st, before, p := s.stream, len(out), shard.PartitionOf(name)
	if s.hub.node.standsStill(c, p) {
		return s.elsewhere(c, name, out)
	}
	st.turn.elsewhere = false
	out = c.do(s, name, out)
	if st.turn.elsewhere || s.hub.locks.Partition(p) == shard.PartitionAbsent {
		return s.elsewhere(c, name, out[:before])
	}
	return out
}

// confirms is the version of the map by which all that is held over a link is sure. While it is not
// known whether a partition has moved, nobody knows that one.
func (n *node) confirms() uint64 {
	if n.uncertain.Load() {
		return wire.MaxToken
	}
	return n.routes.Load().version
}

// pong is the text of a link's: its number is the version of the map that the node has.
var pong = string(bytes.TrimSuffix([]byte(wire.Pong[2:]), []byte("\n")))

// elsewhere says that a request was not executed, and that none will be that follows it,
// until the other node goes on.
func (s *Session) elsewhere(c *command, name, out []byte) []byte {
	if isClaim(c) {
		return s.reply(out, 0, wire.ClaimElsewhere, name)
	}
	s.goesAbroad().turned = true
	return s.reply(out, 0, wire.Elsewhere, name)
}

// waitElsewhere goes on where what the session waits for is served by now.
func (s *Session) waitElsewhere(w *wait, out []byte) []byte {
	c, n := lookup([]byte(wire.GetWait)), numbers{a: s.patienceLeft(w)}
	if w.kind == shard.Shared {
		c, n = lookup([]byte(wire.GetSharedWait)), numbers{a: uint64(w.limit), b: n.a}
	}
	if s.stream.door&linked != 0 {
		return s.elsewhere(c, w.name, out)
	}
	s.putFirst([]put{{command: c, numbers: n, name: w.name, since: s.hub.clock.milliseconds()}})
	s.stream.post(s)
	return out
}

// patienceLeft is for how long a wait would have gone on.
func (s *Session) patienceLeft(w *wait) uint64 {
	now := s.hub.clock.milliseconds()
	return max(w.due, now) - now
}

// pause notes that a client is to be listened to again.
func (n *node) pause(st *Stream) {
	n.mu.Lock()
	n.paused[st] = struct{}{}
	n.mu.Unlock()
	n.lookSoon()
}
