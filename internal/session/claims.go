package session

import (
	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// claims tells whether the session may claim what it does not hold: it is of a client
// that an earlier process has kept, and whose time for that is not over.
func (s *Session) claims() bool {
	k := s.stream.keeping.Load()
	if k == nil {
		return false
	}
	if s.hub.node != nil { // the partition says so, and another node knows until when it may claim
		return true
	}
	_, open := k.open.left()
	return open
}

// textClaim says that the session holds an exclusive lock, with a token.
func (s *Session) textClaim(name, out []byte) []byte {
	if !s.stream.isKept() {
		return s.claimRefused(out, wire.ClaimFailure, name)
	}
	token := s.args().a
	g, outcome := s.claim(name, token, s.claims())
	if s.isElsewhere(outcome) {
		return out
	}
	if outcome != shard.Acquired {
		return s.claimRefused(out, wire.ClaimFailure, name)
	}
	s.hub.keeps.claimed.Add(1)
	return s.reply(out, g.Token, wire.ClaimSuccess, name)
}

// textClaims says that it has a part in a shared lock.
func (s *Session) textClaims(name, out []byte) []byte {
	if !s.stream.isKept() {
		return s.claimRefused(out, wire.SharedClaimFailure, name)
	}
	g, outcome := s.claimShared(name, s.claims())
	if s.isElsewhere(outcome) {
		return out
	}
	if outcome != shard.Acquired {
		return s.claimRefused(out, wire.SharedClaimFailure, name)
	}
	s.hub.keeps.claimed.Add(1)
	return s.reply(out, uint64(g.Count), wire.SharedClaimSuccess, name)
}

// claim claims an exclusive lock, open if the client may have held it elsewhere, and claimShared a part in a
// shared one.
func (s *Session) claim(name []byte, token uint64, open bool) (shard.Grant, shard.Outcome) {
	from, latest := s.earlier()
	if !latest {
		return shard.Grant{}, s.comesTooLate(name)
	}
	g, outcome, loser := s.hub.locks.Claim(s.asks(), name, token, open, from...)
	s.hub.loses(loser, name)
	return g, outcome
}

func (s *Session) claimShared(name []byte, open bool) (shard.Grant, shard.Outcome) {
	from, latest := s.earlier()
	if !latest {
		return shard.Grant{}, s.comesTooLate(name)
	}
	return s.hub.locks.ClaimShared(s.asks(), name, open, from...)
}

// comesTooLate is for a claim of somebody who has come another way since: it is refused. While the partition is
// on the move, that may not be known at its next owner, so it is to be claimed there.
func (s *Session) comesTooLate(name []byte) shard.Outcome {
	if s.hub.locks.Partition(shard.PartitionOf(name)) == shard.PartitionFrozen {
		return shard.Frozen
	}
	return shard.Refused
}

// isElsewhere notes that a request was not executed, if so, as its name is served elsewhere or
// not now.
func (s *Session) isElsewhere(outcome shard.Outcome) bool {
	if outcome != shard.Elsewhere && outcome != shard.Frozen {
		return false
	}
	s.stream.turn.elsewhere = true
	return true
}

func (s *Session) claimRefused(out []byte, text string, name []byte) []byte {
	s.hub.keeps.refused.Add(1)
	return s.reply(out, 0, text, name)
}

// loses tells the client of a session that it has lost a lock: it looks what it has left when
// it is back. Another node is told which one it is.
func (h *Hub) loses(owner uint32, name []byte) {
	p := h.directory.peer(owner)
	if p == nil {
		return
	}
	s := p.session.Load()
	if s == nil {
		return
	}
	if s.stream.link != nil {
		s.stream.tellLost(s, name)
	} else if c := s.stream.carriedBy(); c != nil {
		h.network.Detach(c)
	}
}

// textClaimed says that the client has named all that it holds and waits for: the
// rest is free. The one that ends the recovery is answered after its end.
func (s *Session) textClaimed(_, out []byte) []byte {
	if s != &s.stream.main {
		return s.reply(out, 0, wire.InvalidArgument, []byte(wire.Claimed))
	}
	return s.list(&claimedReply{session: s}, out)
}

// claimedReply releases what was not named, a bounded part at a time.
type claimedReply struct {
	session *Session
	said    bool // to the recovery
	waits   bool // for its end
	hurried bool
}

func (l *claimedReply) queued() bool { return l.waits && !l.hurried && !l.session.recovered() }
func (l *claimedReply) hurry()       { l.hurried = true }

func (s *Session) recovered() bool { return s.hub.recovery.isOver() }

func (l *claimedReply) next(out []byte) (_ []byte, more bool) {
	s := l.session
	st := s.stream
	if !l.said {
		if !st.dropSome() {
			return out, true
		}
		l.said = true
		if k := st.keeping.Load(); k != nil && s.hub.recovery != nil {
			l.waits = s.hub.recovery.claimed(k, st.wake)
		}
	}
	if l.waits && !s.recovered() {
		if l.hurried {
			st.pause(censusLook)
		}
		return out, true
	}
	return append(s.prefix(out), wire.OK...), false
}

// claimsElsewhere tells whether other nodes have not answered yet what was claimed there, for other sessions than 0.
func (st *Stream) claimsElsewhere() bool {
	st.askUpstream()
	for _, s := range st.sessions {
		if s.remote != nil && s.remote.waits.Load() == 0 && s.behind() || s.waitsInBacklog() {
			return true
		}
	}
	return false
}

func (*claimedReply) rest()      {}
func (*claimedReply) keeps() int { return 0 }
func (*claimedReply) close()     {}

// dropSome releases a bounded part of what is in doubt, ends the waits that were not
// taken up, and tells whether that was all.
func (st *Stream) dropSome() bool {
	work := closeStep
	for _, s := range st.sessions {
		if !s.dropDoubted(&work) {
			return false
		}
	}
	return st.main.dropDoubted(&work)
}

func (s *Session) dropDoubted(work *int) bool {
	if s.wait != nil && s.wait.parked {
		s.endParked()
	}
	if s.hub.node != nil {
		asked := s.asksFor()
		s.keep(asked)
		s.eachRemote(func(r *remote) { r.dropDoubted(asked) })
	}
	if s.owner.Doubted() {
		if !s.hub.locks.DropDoubted(s.asks(), *work) {
			return false
		}
		*work -= closeStep / sessionWork
	}
	return *work > 0
}

// unpark settles a parked wait before the session is asked for anything else, if it is
// decided. If it is not, and the request is about the same lock but for one that may take
// it up, it is ended: as it may be granted at any moment, what the session holds, and
// whether it waits for that, would not go together.
func (s *Session) unpark(c *command, arg []byte) {
	if _, name, ok := c.parse(arg); ok {
		s.unparkFor(c, name)
	} else {
		s.takeUp()
	}
}

func (s *Session) unparkFor(c *command, name []byte) {
	s.takeUp()
	if s.wait == nil {
		return
	}
	kind := shard.Exclusive
	switch c.verb {
	case wire.Get, wire.Release, wire.Claim:
	case wire.GetShared, wire.GetSharedLimit, wire.ReleaseShared, wire.Claims:
		kind = shard.Shared
	default:
		return
	}
	if kind == s.wait.kind && string(name) == string(s.wait.name) {
		s.endParked()
	}
}

// takeUp settles a parked wait that is decided, before the session is asked for
// anything else: what it was granted is in doubt until it is named.
func (s *Session) takeUp() {
	if outcome := s.hub.locks.SettleDoubted(s.asks()); outcome != shard.Waiting {
		s.endWaitAs(outcome)
	}
}

// endParked ends a parked wait that nobody takes up, whatever has become of it.
func (s *Session) endParked() {
	name, kind := s.wait.name, s.wait.kind
	_, outcome := s.hub.locks.Cancel(s.asks())
	s.endWaitAs(outcome)
	switch {
	case outcome != shard.Acquired:
	case kind == shard.Shared:
		s.releaseShared(name)
	default:
		s.release(name)
	}
}

// goesOn tells whether a request to wait takes up the one that the session has parked,
// with a new time; else that one is ended, as a session waits for one thing.
func (s *Session) goesOn(kind shard.Kind, name []byte, limit uint64, due uint64) bool {
	w := s.wait
	if w == nil || !w.parked {
		return false
	}
	if w.kind == kind && string(w.name) == string(name) && due != 0 && s.hub.locks.Prolong(s.asks(), uint32(limit), due) {
		w.parked = false
		s.hub.clock.expect(due)
		return true
	}
	s.takeUp()
	if s.wait != nil {
		s.endParked()
	}
	return false
}
