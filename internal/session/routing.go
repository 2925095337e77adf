package session

import (
	"math"
	"slices"

	"time"

	lease "github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// What a node does with the requests of its clients: those about a name go to who serves
// its partition, which may be the node itself. A session's requests go to one owner after
// the other, and are answered in their order.

// doRouted does what a command is for.
func (s *Session) doRouted(c *command, name, out []byte) []byte {
	st := s.stream
	if st.door&linked != 0 {
		return s.doLinked(c, name, out)
	}
	again := st.postponed != nil && st.postponed.session == s
	if s.waitsInBacklog() && !again {
		if c.verb == wire.Cancel {
			return s.cancelPut(c, name, out)
		}
		s.putOff(c, name)
		return out
	}
	before := len(out)
	out, done := s.route(c, name, out)
	switch {
	case done:
	case again:
		s.putFirst([]put{{command: c, numbers: s.args(), name: slices.Clone(name), since: s.hub.clock.milliseconds()}})
		out = out[:before]
	default:
		s.putOff(c, name)
		out = out[:before]
	}
	return out
}

// route executes a request where it is to be executed, or tells that it cannot be now.
func (s *Session) route(c *command, name, out []byte) (_ []byte, done bool) {
	st, n := s.stream, s.hub.node
	switch {
	case c.verb == wire.Cancel:
		if r := s.remote; r != nil && r.waits.Load() > 0 {
			return s.forward(c, name, out), true
		}
		return c.do(s, name, out), true
	case c.flags&forwarded == 0 && !isClaim(c):
		return s.doOfSelf(c, name, out)
	}
	s.meetGuest()
	routes, p := n.routes.Load(), shard.PartitionOf(name)
	s.follow(routes)
	to := routes.to[p]
	if to == nil {
		if s.behind() {
			return s.busy(c, out)
		}
		return s.doHere(c, p, name, out)
	}
	if r := s.remote; r == nil || r.up != to {
		if s.behind() {
			return s.busy(c, out)
		}
		next := s.remoteAt(to)
		if next == nil {
			return s.reply(out, 0, wire.ServerFull, name), true
		}
		st.askUpstream()
		s.remote = next
	}
	if s.remote.isArriving(c, name) {
		n.again(s)
		return out, false
	}
	if s.remote.returns.Load() { // which comes first
		return out, false
	}
	if r := s.remote; r.anew.Load() && !isClaim(c) {
		st.askUpstream()
		switch taken, later := r.takeUpWait(c, name); {
		case taken:
			return out, true
		case later:
			return out, false
		}
	}
	return s.forward(c, name, out), true
}

// isClaim tells whether a command claims what an owner is to know.
func isClaim(c *command) bool { return c.verb == wire.Claim || c.verb == wire.Claims }

// busy says that the session waits for a lock somewhere else, if it does: else it has to
// wait for replies only.
func (s *Session) busy(c *command, out []byte) (_ []byte, done bool) {
	if s.stream.multiplexed && s.remote.waits.Load() > 0 {
		return s.reply(out, 0, wire.SessionBusy, []byte(c.verb)), true
	}
	return out, false
}

// doHere executes a request in a partition of the node's own.
func (s *Session) doHere(c *command, p int, name, out []byte) (_ []byte, done bool) {
	st, n := s.stream, s.hub.node
	if !st.turn.serves(n) {
		n.again(s)
		return out, false
	}
	if n.standsStill(c, p) {
		n.again(s)
		return out, false
	}
	before := len(out)
	st.turn.elsewhere = false
	out = c.do(s, name, out)
	if st.turn.elsewhere || s.hub.locks.Partition(p) == shard.PartitionAbsent {
		n.again(s)
		return out[:before], false
	}
	return out, true
}

// standsStill tells whether a release has to wait for a move to be over. If it were executed, the copy
// would not know of it, and somebody stand in at the new owner for who holds nothing any more.
func (n *node) standsStill(c *command, p int) bool {
	return (c.verb == wire.Release || c.verb == wire.ReleaseShared) && n.hub.locks.Partition(p) == shard.PartitionFrozen
}

// doOfSelf does what is about the client itself, or about all locks.
func (s *Session) doOfSelf(c *command, name, out []byte) (_ []byte, done bool) {
	n := s.hub.node
	switch {
	case c.verb == wire.Quit && s.quitsUpstream():
		return out, true
	case s.behind():
		if s.stream.multiplexed && s.remote.waits.Load() > 0 {
			if c.verb == wire.Ping && n.mayConfirm(s.stream) {
				return c.do(s, name, out), true
			}
			return s.reply(out, 0, wire.SessionBusy, []byte(c.verb)), true
		}
		if c.verb == wire.Claimed {
			n.again(s)
			return out, false
		}
		if c.flags&(lists|relayed) != 0 {
			return out, false
		}
	case c.verb == wire.Ping && !n.mayConfirm(s.stream), c.verb == wire.Claimed && s.stream.claimsElsewhere():
		n.again(s)
		return out, false
	}
	if c.flags&relayed != 0 || c.verb == wire.Query {
		return s.gather(c, name, out)
	}
	return c.do(s, name, out), true
}

// cancelPut has a session stop waiting that has not even begun to.
func (s *Session) cancelPut(c *command, name, out []byte) []byte {
	for i := range s.abroad.backlog {
		if p := &s.abroad.backlog[i]; p.command.flags&mayWait != 0 {
			p.numbers = p.numbers.less(p.command, wire.MaxWait)
		}
	}
	s.putOff(c, name)
	return out
}

// mayConfirm tells whether a client may be told that all is well. It counts on that for
// the time that it may be silent: for so long, all that it holds must be sure.
func (n *node) mayConfirm(st *Stream) bool {
	if !st.turn.serves(n) || n.uncertain.Load() {
		return false
	}
	now, need := lease.Now(), st.believes()
	return n.areSure(now, need) || st.isSure(now, need)
}

// believes is for how long the client may believe what it has asked for and was told. Who is kept has
// given up by the end of K, whether he has a connection or not.
func (st *Stream) believes() time.Duration {
	if k := st.keeping.Load(); k != nil {
		return k.lasts
	}
	return st.hub.cfg.DeadPeer
}

// areSure tells whether what anybody holds at other nodes stays as it is for some time, whatever
// happens. What is known of that once is true from then on.
func (n *node) areSure(now, need time.Duration) bool {
	if now+need < time.Duration(n.sure.Load()) {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	sure := now + lease.Span(n.cfg.linkLease(), stopsIn) // of a link that is made later
	for _, u := range n.links {
		sure = min(sure, u.sureUntil())
	}
	for _, u := range n.former {
		sure = min(sure, u.sureUntil())
	}
	sure = min(sure, time.Duration(n.claimed.Load()))
	n.sure.Store(int64(sure))
	return now+need < sure
}

// sureUntil is until when all that may be held at a link is believed.
func (u *Upstream) sureUntil() time.Duration {
	if u.lease.Load() == nil && u.holdsNothing() {
		return math.MaxInt64
	}
	return u.deadline()
}

func (u *Upstream) holdsNothing() bool {
	all := u.locks.Stats()
	return all.Locks[shard.Exclusive]+all.Holders == 0
}

// isSure does the same for what one client holds. That may be very much, and it is asked in each turn:
// so who was not sure the last time is looked at first, and nobody for a moment in which all is sure.
func (st *Stream) isSure(now, need time.Duration) bool {
	k := st.keeping.Load()
	if k == nil {
		return st.whoIsUnsure(now, need) == nil
	}
	if s := k.unsureOf; s != nil && !s.isSure(now, need+sureFor) {
		return false
	}
	version := st.hub.node.routes.Load().version
	if now < k.sureUntil && version == k.sureBy { // by another map it may have to be claimed elsewhere
		return true
	}
	if k.unsureOf = st.whoIsUnsure(now, need+sureFor); k.unsureOf != nil {
		return false
	}
	k.sureUntil, k.sureBy = now+sureFor, version
	return true
}

// sureFor is for how long nobody looks again what one client holds.
const sureFor = 10 * time.Millisecond

// whoIsUnsure returns a session that holds something that is not sure; nil: there is none.
func (st *Stream) whoIsUnsure(now, need time.Duration) *Session {
	if !st.main.isSure(now, need) {
		return &st.main
	}
	for _, s := range st.sessions {
		if !s.isSure(now, need) {
			return s
		}
	}
	return nil
}

func (s *Session) isSure(now, need time.Duration) bool {
	sure := true
	s.eachRemote(func(r *remote) {
		if !r.isSure(now, need) {
			sure = false
			r.up.askNow() // so that it is soon, if all is well
		}
	})
	return sure
}

// isHeldBack tells whether a client is not listened to for now: over a link, as there is no right
// to serve; and one that is kept, as any answer would confirm all that it holds, of which
// something is not sure. It loses what stays so.
func (st *Stream) isHeldBack() bool {
	n := st.hub.node
	if n == nil {
		return false
	}
	if st.door&alone != 0 {
		return false // it is told at once that there is no right
	}
	if st.door&linked == 0 && !st.isKept() {
		return false
	}
	if st.turn.held != st { // it is looked at once in a turn, as a client may hold very much
		st.turn.held, st.turn.holds = st, st.holdsBack(n)
	}
	if st.turn.holds {
		n.pause(st) // each time: it may have been woken since
	}
	return st.turn.holds
}

func (st *Stream) holdsBack(n *node) bool {
	if st.door&linked == 0 {
		k := st.keeping.Load()
		if n.mayConfirm(st) || st.turn.serves(n) && k.claimHere() && n.mayConfirm(st) {
			k.unsure = 0
			return false
		}
		switch {
		case !st.turn.serves(n):
			k.unsure = 0 // nobody is asked meanwhile, and all may be sure in a moment
		case k.isUnsure():
			st.shed()
			return false
		}
	} else if st.turn.serves(n) {
		return false
	}
	return true
}

// isUnsure tells whether something that the client holds has not been sure for too long: it is to
// hear of that before it gives up all that it holds.
func (k *keeping) isUnsure() bool {
	now := lease.Now()
	if k.unsure == 0 {
		k.unsure = now
	}
	return now-k.unsure > k.lasts*6/10
}

// shed has the client lose what is not sure, so that it may go on with the rest.
func (st *Stream) shed() {
	k, now, need := st.keeping.Load(), lease.Now(), st.believes()
	shed := func(r *remote) {
		if !r.isSure(now, need) {
			r.shed(k.lasts)
		}
	}
	st.main.eachRemote(shed)
	for _, s := range st.sessions {
		s.eachRemote(shed)
	}
}
