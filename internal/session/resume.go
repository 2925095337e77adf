package session

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// textResume takes up the stream of a KEY: the client has come back over another
// connection. The earlier one is ended first, and nothing that is still under way on it
// is executed.
//
// In a cluster the client says how many connections it has had by then, and for how long it is
// kept, so that any node may take it up: what an earlier one does from then on is not its doing.
func (s *Session) textResume(arg, out []byte) []byte {
	if !s.stream.isFresh(s) {
		return s.reply(out, 0, wire.NotFirst, []byte(wire.Resume))
	}
	key, rest, _ := bytes.Cut(arg, []byte(" "))
	generation, rest, some := wire.Number(rest)
	ms, rest, also := wire.Number(rest)
	if bytes.IndexByte(arg, ' ') >= 0 && (!some || !also || len(rest) > 0) {
		return s.reply(out, 0, wire.InvalidArgument, []byte(wire.Resume))
	}
	hash, ok := hashOf(key, s.stream.Access())
	if !ok {
		return s.reply(out, 0, wire.UnknownKey, shortKey(key))
	}
	return s.resume(hash, key, connections{generation, ms}, out)
}

// connections is what a client of a cluster says of those that it has had; zero: nothing.
type connections struct{ generation, ms uint64 }

// shortKey bounds what is said of what is no KEY.
func shortKey(key []byte) []byte { return key[:min(len(key), wire.KeyDigits)] }

func (s *Session) resume(hash KeyHash, key []byte, had connections, out []byte) []byte {
	st, h := s.stream, s.hub
	k := h.keeps.find(hash)
	if k == nil {
		if h.node != nil && st.link == nil && had.generation > 0 {
			return s.takeOver(hash, key, had, out)
		}
		if r := h.recovery; r != nil {
			return s.claimOpen(r, hash, key, out)
		}
		return s.reply(out, 0, wire.UnknownKey, key)
	}
	k.mu.Lock()
	switch {
	case k.state == over || k.doomed || had.generation != 0 && had.generation <= k.generation:
		k.mu.Unlock()
		return s.reply(out, 0, wire.UnknownKey, key)
	case k.state != detached:
		c := k.carrier
		if !slices.Contains(k.resumes, s) {
			k.resumes = append(k.resumes, s)
		}
		k.mu.Unlock()
		if !s.postpone(resumeMost) {
			return s.reply(out, 0, wire.UnknownKey, key)
		}
		if c != nil {
			h.network.Detach(c)
		}
		return out
	case !time.Now().Before(k.due): // the process was stopped, and this comes before the timer
		k.mu.Unlock()
		k.expire()
		return s.reply(out, 0, wire.UnknownKey, key)
	}
	k.state, k.carrier = attached, st.carrier
	k.generation = max(k.generation, had.generation)
	k.timer.Stop()
	k.mu.Unlock()
	h.keeps.away(-1)
	h.keeps.resumed.Add(1)
	st.successor, st.closing = k.stream, true
	k.stream.attach(st, string(key))
	return out
}

// takeOver takes up a client of another node, which may be gone. It has nothing here but what it
// claims, and nothing that this node says makes what it holds last longer before all is claimed.
func (s *Session) takeOver(hash KeyHash, key []byte, had connections, out []byte) []byte {
	st, h := s.stream, s.hub
	k := &keeping{stream: st, key: hash, carrier: st.carrier, generation: had.generation}
	k.lasts = min(time.Duration(had.ms)*time.Millisecond, h.cfg.MaxKeep)
	if h.cfg.MaxKeep <= 0 || !h.keeps.add(k, MostSessions) {
		return s.keepRefused(out)
	}
	st.account.share.ForceSession()
	h.memory.Add(keepingBytes)
	st.account.share.KeepBytes(keepingBytes)
	h.keeps.resumed.Add(1)
	st.door &^= mustResume
	st.keeping.Store(k)
	s.appears()
	return appendClaimsOpen(s.prefix(out), time.Millisecond, key)
}

// resumeMost is for how long a resume waits for the end of the earlier connection.
const resumeMost = time.Minute

func appendClaimsOpen(out []byte, left time.Duration, key []byte) []byte {
	out = append(append(out, "0 "...), wire.ClaimsOpen...)
	out = strconv.AppendInt(out, left.Milliseconds(), 10)
	return append(append(append(out, ": "...), key...), '\n')
}

// attach has the stream go on where another one has begun, which has its connection. What
// it says first is the reply to the other one's `resume`.
func (st *Stream) attach(by *Stream, key string) {
	st.turn = by.turn
	st.local = by.local
	st.notices.Store(by.notices.Load())
	st.door = by.door &^ (mustResume | drains) // which it notices itself
	st.ahead = max(st.ahead, by.ahead)
	if by.link != nil { // the other node may have another ID by now
		st.link.now.Store(by.link.now.Load())
	}
	st.main.peer.access.Store(by.main.peer.access.Load())
	from := by.main.peer
	st.long = &resumeReply{stream: st, key: key, from: label{
		text: from.addr(), process: from.process(), cert: from.cert(),
		moved: &move{ip: from.where(), transport: by.transport, since: by.since},
	}}
	if st.hub.cfg.Store != nil {
		st.hub.network.Outlives(by.carrier)
	}
}

// resumeReply is the reply to `resume`, when the sessions have been looked through, which
// may be many. Nothing is executed before.
type resumeReply struct {
	stream   *Stream
	key      string
	from     label      // of who has the connection
	others   *move      // of all but session 0, whose addresses are none
	sessions []*Session // that are left
	begun    bool
}

// resumeStep is how many sessions are looked at in a piece.
const resumeStep = 256

func (l *resumeReply) next(out []byte) (_ []byte, more bool) {
	st := l.stream
	if !l.begun {
		l.begun = true
		l.others = &move{transport: l.from.moved.transport, since: l.from.moved.since}
		l.sessions = slices.Collect(maps.Values(st.sessions))
		st.main.comeBack(&l.from)
	}
	n := min(resumeStep, len(l.sessions))
	for _, s := range l.sessions[:n] {
		at := l.from
		at.text, at.moved = at.text+"#"+strconv.FormatUint(uint64(s.number), 10), l.others
		s.comeBack(&at)
	}
	if l.sessions = l.sessions[n:]; len(l.sessions) > 0 {
		return out, true
	}
	if left, open := st.keeping.Load().open.stays(); open {
		return appendClaimsOpen(st.main.prefix(out), left, []byte(l.key)), false
	}
	return st.main.reply(out, uint64(1+len(st.sessions)), wire.Resumed, []byte(l.key)), false
}

func (*resumeReply) rest()        {}
func (l *resumeReply) keeps() int { return 8 * cap(l.sessions) }
func (*resumeReply) close()       {}

// comeBack has a session go on at another address. All that it holds is in doubt from now on,
// as it may have asked for anything on the earlier connection. Whom nobody tells any more
// that its wait is over keeps its place in line, and its time.
func (s *Session) comeBack(at *label) {
	s.peer.label.Store(at)
	if s.wait != nil {
		s.wait.parked = true
	}
	s.hub.locks.Doubt(s.asks())
	if s.hub.node != nil {
		s.dropBacklog()
		s.eachRemote((*remote).doubt)
		s.appears()
	}
}

// doubt puts all in doubt that the session holds at another node, as far as is known here. What was
// asked over the earlier connection, and not answered, is answered to nobody.
func (r *remote) doubt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owner.Now = r.up.moment()
	r.up.locks.Doubt(r.owner)
	st := r.session.stream
	st.unanswered.Add(-r.pending.Swap(0))
	r.given, r.back, r.out, r.quit, r.undecided = 0, nil, r.out[:0], false, nil
	r.returns.Store(false)
	r.anew.Store(true)
	for i := r.first; i < len(r.queue); i++ {
		a := &r.queue[i]
		if a.waits() && !a.told {
			a.parked, r.parked = true, true
			r.waits.Add(-1)
		}
		a.told = true
	}
	for i := range r.again {
		r.again[i].told = true
	}
	r.stops.Store(false)
	r.giveLiteralsLocked()
	r.fitLocked()
}

// takeUpWait has a wait of an earlier connection go on for a request to wait for the same, and
// tells whether there is one. Else that one is ended, as a session waits for one thing.
//
// While claims that were made since are not answered, nothing is decided: the answer to the wait would
// overtake theirs.
func (r *remote) takeUpWait(c *command, name []byte) (taken, later bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.parked && r.pending.Load() > 0 {
		return false, true
	}
	if !r.parked {
		return false, false
	}
	r.parked = false
	for i := r.first; i < len(r.queue); i++ {
		a := &r.queue[i]
		if !a.parked {
			continue
		}
		a.parked = false
		if a.command == c && bytes.Equal(r.nameLocked(a), name) && r.liveLocked() {
			a.told, a.tick = false, r.up.tick.Load()
			r.owes(1)
			r.waits.Add(1)
			return true, false
		}
		r.askLocked(lookup([]byte(wire.Cancel)), numbers{}, nil, asking{silent: true})
	}
	return false, false
}

// letGoLocked releases there what the session holds.
func (r *remote) letGoLocked(h heldLock) {
	r.forgetLocked(h)
	r.askReleaseLocked(h)
}

// askReleaseLocked asks for that, and tells nobody.
func (r *remote) askReleaseLocked(h heldLock) {
	release := wire.Release
	if h.kind == shard.Shared {
		release = wire.ReleaseShared
	}
	r.askLocked(lookup([]byte(release)), numbers{}, h.name, asking{silent: true, told: true})
}

// dropDoubted releases what is in doubt there, and has neither been claimed nor asked for, and ends the
// wait that was not taken up.
func (r *remote) dropDoubted(asked map[wanted]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owner.Now = r.up.moment()
	r.anew.Store(false)
	if r.parked {
		r.parked = false
		r.askLocked(lookup([]byte(wire.Cancel)), numbers{}, nil, asking{silent: true})
	}
	if !r.owner.Doubted() {
		return
	}
	var p shard.Piece
	for more := true; more; {
		more = r.up.locks.Recall(r.owner, &p)
		for _, item := range p.Items {
			h := heldLock{kind: item.Kind, name: p.Name(item)}
			if asked[wanted{h.kind, string(h.name)}] {
				r.keepUndecidedLocked(h)
			} else {
				r.letGoLocked(h)
			}
		}
	}
}

// wanted is a lock that is asked for.
type wanted struct {
	kind shard.Kind
	name string
}

// asksFor returns what the session has asked other nodes for, or claimed there, and was not answered yet:
// by any of them, as what it holds may be at another one by now. It has no backlog then, see claimsElsewhere.
// Its own stream calls it.
func (s *Session) asksFor() (all map[wanted]bool) {
	s.stream.askUpstream()
	s.eachRemote(func(r *remote) { all = r.asksFor(all) })
	return all
}

func (r *remote) asksFor(all map[wanted]bool) map[wanted]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	note := func(c *command, name []byte) {
		kind, ok := takenBy(c)
		if !ok {
			return
		}
		if all == nil {
			all = make(map[wanted]bool)
		}
		all[wanted{kind, string(name)}] = true
	}
	for i := r.first; i < len(r.queue); i++ {
		if a := &r.queue[i]; a.isOpen() {
			note(a.command, r.nameLocked(a))
		}
	}
	for i := range r.back {
		if p := &r.back[i]; p.command != nil {
			note(p.command, p.name)
		}
	}
	return all
}

// keep has what the session has in the node's own partitions, and has asked another node for before they came
// here, not be in doubt any more: if that node refuses it, it is asked for here, see isOvertakenLocked.
func (s *Session) keep(asked map[wanted]bool) {
	for of := range asked {
		if of.kind == shard.Shared {
			s.hub.locks.ClaimShared(s.asks(), []byte(of.name), false) // which is refused if it has no part
		} else if token, held := s.token([]byte(of.name)); held {
			s.hub.locks.Claim(s.asks(), []byte(of.name), token, false)
		}
	}
}

// lockOf tells of which kind a lock is that somebody has, or has not, after a command, and takenBy of one
// that he has then if it succeeds.
func lockOf(c *command) (_ shard.Kind, ok bool) {
	switch c.verb {
	case wire.Release, wire.Token:
		return shard.Exclusive, true
	case wire.ReleaseShared:
		return shard.Shared, true
	}
	return takenBy(c)
}

// kindOf is for a command of which it is known that it is about a lock.
func kindOf(c *command) shard.Kind {
	kind, _ := lockOf(c)
	return kind
}

func takenBy(c *command) (_ shard.Kind, ok bool) {
	switch c.verb {
	case wire.Get, wire.GetWait, wire.Claim:
		return shard.Exclusive, true
	case wire.GetShared, wire.GetSharedLimit, wire.GetSharedWait, wire.Claims:
		return shard.Shared, true
	}
	return 0, false
}

// keepUndecidedLocked notes a lock that the client has not claimed, but asked for again: whether it has
// it the answer says. Were it released meanwhile, the release would come behind what the answer
// promises.
func (r *remote) keepUndecidedLocked(h heldLock) {
	h.name = slices.Clone(h.name)
	r.undecided = append(r.undecided, h)
}

// decideLocked lets such a lock go if the answer is that the client has not got it, and it does not ask
// for it once more.
func (r *remote) decideLocked(c *command, name []byte, has bool) {
	kind, ok := takenBy(c)
	if !ok || !has && r.asksForLocked(kind, name) {
		return
	}
	if h := (heldLock{kind: kind, name: name}); r.decidedLocked(h) && !has {
		h.name = bytes.Clone(name)
		r.letGoLocked(h)
	}
}

// decidedLocked notes that such a lock is none any more, and tells whether it was.
func (r *remote) decidedLocked(h heldLock) bool {
	i := slices.IndexFunc(r.undecided, func(one heldLock) bool { return one.kind == h.kind && bytes.Equal(one.name, h.name) })
	if i < 0 {
		return false
	}
	r.undecided = slices.Delete(r.undecided, i, i+1)
	return true
}

// where returns the address, if it is one.
func (p *peer) where() netip.AddrPort {
	if l := p.label.Load(); l != nil && l.moved != nil {
		return l.moved.ip
	}
	return p.ip
}

// connection returns by which transport the client has come, and when, for whose session 0
// p is.
func (st *Stream) connection(p *peer) (transport string, since shard.Moment) {
	if l := p.label.Load(); l != nil && l.moved != nil {
		return l.moved.transport, l.moved.since
	}
	return st.transport, st.since
}

// Successor returns the stream with which a carrier goes on after Moved. The one that it
// had has ended.
func (st *Stream) Successor() *Stream {
	to := st.successor
	st.Close()
	return to
}
