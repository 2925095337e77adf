package session

import (
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// The commands' face in text: what a request's words mean, and the words of the
// reply.

// reply appends the line of a reply.
func (s *Session) reply(out []byte, number uint64, text string, name []byte) []byte {
	return wire.AppendReply(s.prefix(out), number, text, name)
}

// boolean replies with 1 or 0 and the text that goes with it.
func (s *Session) boolean(out []byte, ok bool, yes, no string, name []byte) []byte {
	if ok {
		return s.reply(out, 1, yes, name)
	}
	return s.reply(out, 0, no, name)
}

// outcome appends the reply to a request for an exclusive lock: of a grant its
// number is 1, but in protocol 2 the fencing token. Of one that waits there is
// none yet.
func (s *Session) outcome(out []byte, g shard.Grant, outcome shard.Outcome, refused string, name []byte) []byte {
	if outcome != shard.Acquired {
		return s.failed(out, shard.Exclusive, outcome, refused, name)
	}
	number := uint64(1)
	if s.stream.multiplexed {
		number = g.Token
	}
	return s.reply(out, number, wire.GetSuccess, name)
}

// sharedOutcome is the same for a shared lock. The number is its count.
func (s *Session) sharedOutcome(out []byte, g shard.Grant, outcome shard.Outcome, refused string, name []byte) []byte {
	if outcome != shard.Acquired {
		return s.failed(out, shard.Shared, outcome, refused, name)
	}
	return s.reply(out, uint64(g.Count), wire.SharedGetSuccess, name)
}

func (s *Session) failed(out []byte, kind shard.Kind, outcome shard.Outcome, refused string, name []byte) []byte {
	if s.isElsewhere(outcome) {
		return out
	}
	switch outcome {
	case shard.Waiting:
		return out
	case shard.Recovering:
		return s.reply(out, 0, wire.ServerRecovering, name)
	case shard.Refused, shard.TimedOut:
		return s.reply(out, 0, refused, name)
	case shard.Canceled:
		if s.stream.turnsAway() && !s.stream.leaving {
			s.stream.turnedAway = true
			return s.reply(out, 0, wire.ShuttingDown, name)
		}
		return s.reply(out, 0, wire.GetCanceled, name)
	}
	s.noteRefusal(kind, outcome, name)
	return s.refusedAt(out, outcome, name)
}

// refusedAt replies to what is refused at a bound: at that of a client's share as
// at that of all.
func (s *Session) refusedAt(out []byte, outcome shard.Outcome, name []byte) []byte {
	text := wire.TooManyLocks
	switch outcome {
	case shard.TooManyWait, shard.ShareWaiters:
		text = wire.TooManyWaiters
	case shard.MemoryFull, shard.ShareBytes:
		text = wire.ServerFull
	}
	if outcome != shard.OwnerFull {
		s.stream.short(outcome)
	}
	return s.reply(out, 0, text, name)
}

func (s *Session) textGet(name, out []byte) []byte {
	g, outcome := s.get(name)
	return s.outcome(out, g, outcome, wire.GetFailure, name)
}

func (s *Session) textGetWait(name, out []byte) []byte {
	g, outcome := s.getWait(name, s.args().a)
	return s.outcome(out, g, outcome, wire.GetTimeout, name)
}

func (s *Session) textRelease(name, out []byte) []byte {
	return s.boolean(out, s.release(name), wire.ReleaseSuccess, wire.ReleaseFailure, name)
}

func (s *Session) textInspect(name, out []byte) []byte {
	held, known := s.inspect(name)
	if !known {
		return out
	}
	return s.boolean(out, held, wire.IsLocked, wire.NotLocked, name)
}

func (s *Session) textGetShared(name, out []byte) []byte {
	g, outcome := s.getShared(name)
	return s.sharedOutcome(out, g, outcome, "", name)
}

func (s *Session) textGetSharedLimit(name, out []byte) []byte {
	g, outcome := s.getSharedLimit(name, s.args().a)
	return s.sharedOutcome(out, g, outcome, wire.SharedLimitReached, name)
}

func (s *Session) textGetSharedWait(name, out []byte) []byte {
	n := s.args()
	g, outcome := s.getSharedWait(name, n.a, n.b)
	return s.sharedOutcome(out, g, outcome, wire.SharedGetTimeout, name)
}

func (s *Session) textReleaseShared(name, out []byte) []byte {
	return s.boolean(out, s.releaseShared(name), wire.SharedReleaseSuccess, wire.SharedReleaseFailure, name)
}

func (s *Session) textInspectShared(name, out []byte) []byte {
	switch count, known := s.inspectShared(name); {
	case !known:
		return out
	case count > 0:
		return s.reply(out, uint64(count), wire.SharedIsLocked, name)
	default:
		return s.reply(out, 0, wire.SharedNotLocked, name)
	}
}

func (s *Session) textToken(name, out []byte) []byte {
	if token, ok := s.token(name); ok {
		return s.reply(out, token, wire.LockToken, name)
	}
	return s.reply(out, 0, wire.NotHeld, name)
}

func rate(limit, ms uint64) shard.Rate {
	return shard.Rate{Limit: uint32(limit), Window: ms * uint64(time.Millisecond)}
}

func (s *Session) textTakeRate(name, out []byte) []byte {
	n := s.args()
	v := s.takeRate(name, rate(n.a, n.b), uint32(n.c))
	switch v.Outcome {
	case shard.Acquired:
		return s.reply(out, uint64(v.Open), wire.RateAllowed, name)
	case shard.Refused:
		const ms = uint64(time.Millisecond)
		return wire.AppendRateLimited(s.prefix(out), (v.Retry+ms-1)/ms, name)
	}
	if s.isElsewhere(v.Outcome) {
		return out
	}
	s.noteRefusal(shard.Rates, v.Outcome, name)
	return s.refusedAt(out, v.Outcome, name)
}

func (s *Session) textDropRate(name, out []byte) []byte {
	return s.boolean(out, s.hub.DropRate(name), wire.RateDropped, wire.NoSuchRate, name)
}

func (s *Session) textInspectRate(name, out []byte) []byte {
	n := s.args()
	return s.reply(out, uint64(s.hub.OpenRate(name, rate(n.a, n.b))), wire.RateOpen, name)
}

// settle appends the reply to the request that waits, if its time has come.
func (s *Session) settle(out []byte) []byte {
	if s.meetGuest(); s.remote != nil {
		var quit bool
		if out, quit = s.heard(out); quit {
			return s.list(quitReply{s}, out)
		}
	}
	if s.waitsInBacklog() {
		out = s.goOn(out)
	}
	if s.stream.link != nil && s == &s.stream.main {
		out = s.stream.link.tell(out)
	}
	if s.stream.tells && s == &s.stream.main {
		s.stream.tells = false
		out = append(s.notice(out), wire.Draining...)
	}
	if s == &s.stream.main {
		out = s.stream.tellMap(out)
	}
	if s.stream.door&mustResume != 0 && s.stream.overdue.Load() {
		s.stream.closing = true
		return append(s.prefix(out), wire.TooManyConnections...)
	}
	if p := s.stream.postponed; p != nil && p.session == s {
		out = s.stream.makeAgain(out, false)
		if s.peer.evicted.Load() == nil || s.stream.postponed != nil { // it is made once more
			return out
		}
	}
	if s.peer.evicted.Load() != nil && s.stream.sessions[s.number] == s {
		if s.stream.long != nil { // which its last request has begun
			s.stream.post(s)
			return out
		}
		return s.list(evictedReply{s}, out)
	}
	if s.wait != nil && s.wait.parked {
		return out // until a request takes it up
	}
	return s.over(out, s.stream.leaving || s.stream.turnsAway())
}

// cancelWait ends the wait, if any, and appends the reply to the request that
// waited.
func (s *Session) cancelWait(out []byte) []byte { return s.over(out, true) }

func (s *Session) over(out []byte, cancel bool) []byte {
	w := s.wait
	switch {
	case w == nil:
		return out
	case w.parked:
		s.endParked()
		return out
	case w.denial != nil:
		return s.denied(out)
	case s.stream.door&forwards != 0 && s.hub.node != nil && !s.stream.turn.serves(s.hub.node):
		return s.overWithoutRight(out, cancel)
	}
	g, outcome := s.waited(cancel)
	if outcome == shard.Elsewhere {
		return s.waitElsewhere(w, out)
	}
	if outcome == shard.Acquired && s.stream.guarded() {
		var refused bool
		if out, refused = s.refusesGrant(w, out); refused {
			return out
		}
	}
	if w.kind == shard.Shared {
		return s.sharedOutcome(out, g, outcome, wire.SharedGetTimeout, w.name)
	}
	return s.outcome(out, g, outcome, wire.GetTimeout, w.name)
}

// overWithoutRight is for a node that may not serve now: nobody is told of a grant, which may
// be void. Who waits on is told later; who does not is told that it has not got the lock.
func (s *Session) overWithoutRight(out []byte, cancel bool) []byte {
	w := s.wait
	if !cancel {
		s.hub.node.again(s)
		return out
	}
	if _, outcome := s.waited(true); outcome == shard.Acquired {
		if w.kind == shard.Shared {
			s.releaseShared(w.name)
		} else {
			s.release(w.name)
		}
	}
	return s.failed(out, w.kind, shard.Canceled, "", w.name)
}

func (s *Session) textCancel(_, out []byte) []byte {
	return append(s.prefix(s.cancelWait(out)), wire.OK...)
}

func (s *Session) textPing(_, out []byte) []byte {
	return append(s.prefix(out), wire.Pong...)
}

// textLimits says what a holder's own time-outs must fit.
func (s *Session) textLimits(_, out []byte) []byte {
	s.stream.rests.Store(true)
	out = wire.AppendLimits(s.prefix(out), uint64(s.hub.cfg.DeadPeer/time.Millisecond), uint64(max(0, s.hub.cfg.MaxKeep)/time.Millisecond))
	if s.hub.node != nil {
		out = wire.AppendMapLimit(out, s.hub.MapVersion())
	}
	return out
}

// textHello begins protocol 2, with the next line.
func (s *Session) textHello(with, out []byte) []byte {
	if len(with) > 0 && string(with) != wire.Notices {
		return s.reply(out, 0, wire.InvalidArgument, []byte(wire.Hello))
	}
	s.stream.notices.Store(len(with) > 0)
	out = append(s.prefix(out), wire.Hello2...)
	out = append(out, s.hub.cfg.Version...)
	s.stream.multiplexed = true
	return append(out, '\n')
}

func (s *Session) textMe(_, out []byte) []byte {
	out = append(s.prefix(out), "1 "...)
	out = append(out, s.peer.addr()...)
	out = append(out, ' ')
	return append(s.peer.appendName(out), '\n')
}

func (s *Session) textIAm(name, out []byte) []byte {
	if !s.setName(string(name)) {
		return s.reply(out, 0, wire.ServerFull, name)
	}
	if s.stream.door&forwards != 0 {
		s.registerUpstream()
	}
	return append(s.prefix(out), wire.OK...)
}

// list begins a reply that is given out in pieces.
func (s *Session) list(l longReply, out []byte) []byte {
	s.stream.long = l
	return out
}

func (s *Session) textDump(name, out []byte) []byte {
	if len(name) == 0 {
		return s.list(&dumpReply{session: s, holds: s.hub.holds(shard.Exclusive)}, out)
	}
	if p := s.hub.holder(name); p != nil {
		out = appendHold(s.item(out), name, p)
	}
	return s.end(out)
}

func (s *Session) textDumpShared(name, out []byte) []byte {
	l := &dumpReply{session: s}
	if len(name) == 0 {
		l.holds = s.hub.holds(shard.Shared)
	} else {
		l.holds = s.hub.holdsOf(name)
	}
	return s.list(l, out)
}

// textDumpMap answers `dump`. Like glockd, it takes any argument but "shared"
// for none.
func (s *Session) textDumpMap(arg, out []byte) []byte {
	kind := shard.Exclusive
	if string(arg) == "shared" {
		kind = shard.Shared
	}
	if !s.hub.memory.Room(minRoundBytes) {
		s.stream.counters.serverFull.Add(1)
		return s.refusedAt(out, shard.MemoryFull, []byte(wire.DumpMap))
	}
	out = s.prefix(out)
	if s.stream.multiplexed {
		out = append(out, "1 "...)
	}
	return s.list(&mapReply{sorted: s.hub.sorted(kind, s.stream)}, append(out, "map["...))
}

func (s *Session) textLook(name, out []byte) []byte {
	return s.list(&lookReply{session: s, holds: s.hub.look(name)}, out)
}

func (s *Session) textLookAll(prefix, out []byte) []byte {
	return s.list(&lookReply{session: s, holds: s.hub.lookAll(prefix)}, out)
}

func (s *Session) textWho(name, out []byte) []byte {
	return s.list(&whoReply{session: s, only: string(name)}, out)
}

func (s *Session) textQuery(_, out []byte) []byte {
	if s.catchUp() {
		return out
	}
	return s.list(countersReply{s}, out)
}

func (s *Session) textQuit(_, out []byte) []byte {
	if k := s.stream.keeping.Load(); k != nil && s == &s.stream.main {
		k.quit()
	}
	return s.list(quitReply{s}, s.cancelWait(out))
}
