package session

import (
	"bytes"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// A remote is what a proxy's session is upstream: a session there, under a number of its
// own, from its first request until it ends. It has the requests that are not answered
// yet, in their order, and the replies that the stream has not taken yet.
//
// The table of locks follows what upstream says: whoever passes a reply on notes in it
// what was granted or released by that, under the remote's mutex. So what the session
// holds is known there, for claims too, whatever its client reads.
type remote struct {
	session *Session
	number  uint32

	waits   atomic.Int32 // times that it has asked to wait, and that is not decided
	pending atomic.Int32 // requests that its client is to be answered, until the stream has the replies
	bytes   atomic.Int32 // that it keeps
	stops   atomic.Bool  // its wait is to end

	mu      sync.Mutex // guards what follows, and the session's owner
	large   *largeRoom // that queue and text have; nil: they have some of their own
	epoch   uint32     // of the connection over which it has asked
	queue   []asking   // those before first are answered
	first   int
	text    []byte  // of what is in queue
	out     []byte  // replies
	full    *[]byte // a large buffer that out is in; nil: it has its own
	given   int32   // how many of those that are pending they answer
	posted  bool    // its stream is to take them
	many    bool    // its client speaks protocol 2
	stopped bool    // the server drains, which is why
	quit    bool    // the client's `bye` is answered
	ended   bool    // upstream does not know it any more, or never has
	named   bool    // it has had a name there
	naming  bool    // that is under way
	renames bool    // and it has another one since
	lost    bool    // the client is to end: nothing is passed on any more
	gone    bool    // the session has ended; only its `bye` is left
}

// An asking is a request that was sent, or is to be.
type asking struct {
	command        *command
	from, name, to uint32 // in text: all of it, and the name
	tick           uint32 // when
	again          bool   // once more, over another connection
	silent         bool   // it is not the client's
	told           bool   // the client has had an answer that was not upstream's
	literal        bool   // no request, but a reply that was made here
	probe          bool   // whatever it is, upstream is asked for a sign of life
	held           bool   // a release of what the session held
}

// What a remote takes, about, and how much of its queue is kept when it is empty.
const (
	remoteBytes = 320
	askingBytes = 48
	keptAsking  = 256
)

// A largeRoom is room for the requests of a client that sends many at a time. They are
// used again: an idle client has none.
type largeRoom struct {
	queue []asking
	text  []byte
}

var largeRooms = sync.Pool{New: func() any {
	return &largeRoom{make([]asking, 0, 128), make([]byte, 0, 4096)}
}}

// growLocked has queue and text be in a large room.
func (r *remote) growLocked() {
	if r.large == nil {
		r.large = largeRooms.Get().(*largeRoom)
		r.queue = append(r.large.queue[:0], r.queue...)
		r.text = append(r.large.text[:0], r.text...)
	}
}

// shrinkLocked gives that back when it is empty.
func (r *remote) shrinkLocked() {
	if l := r.large; l != nil {
		if cap(r.queue) <= 1024 && cap(r.text) <= 64<<10 {
			l.queue, l.text = r.queue[:0], r.text[:0] // they may have grown
			largeRooms.Put(l)
		}
		r.large, r.queue, r.text = nil, nil, nil
	}
}

// forward asks upstream for what a command is about.
func (s *Session) forward(c *command, name, out []byte) []byte {
	r := s.remote
	if r == nil {
		if r = s.join(); r == nil {
			return s.reply(out, 0, wire.ServerFull, name)
		}
	}
	if c.flags&(takes|alwaysListed) != 0 && c.flags&counted == 0 && c.verb != wire.Release && c.verb != wire.ReleaseShared {
		s.stream.counters.commands[c.number].Add(1)
	}
	n := s.args()
	if c.flags&mayWait != 0 {
		r.waits.Add(1)
		if s.stream.leaving { // it waits for nothing any more
			n = n.less(c, wire.MaxWait)
		}
	}
	s.stream.turn.asks.add(r, c, n, name)
	if s.stream.apart {
		s.stream.askUpstream()
	}
	return out
}

// join gives the session a number upstream.
func (s *Session) join() *remote {
	if !s.stream.takeMemory(remoteBytes) {
		return nil
	}
	r := &remote{session: s}
	s.hub.upstream.join(r)
	s.remote = r
	if s.registeredName() != "" {
		r.register()
	}
	return r
}

// probe asks upstream for a sign of life, in the place of a request that is answered here:
// while the session waits that has its order among the replies that come then. The
// client gets the sign, or said, if there is that.
func (r *remote) probe(said []byte) {
	r.owes(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.probeLocked(said, asking{})
}

func (r *remote) probeLocked(said []byte, a asking) {
	a.command, a.probe, a.from = lookup([]byte(wire.Ping)), true, uint32(len(r.text))
	r.text = append(r.text, said...)
	a.name, a.to = a.from, uint32(len(r.text))
	line := append(appendNumber(nil, uint64(r.number)), wire.Ping+"\n"...)
	r.queueLocked(line, a)
}

// registeredName is under which name the session is shown, if that is not its address.
func (s *Session) registeredName() string {
	if name := s.peer.name(); name != s.peer.addr() {
		return name
	}
	return ""
}

// register has upstream show the session under its client's name: one after another, so
// that one who changes that all the time, and waits for no answer, is not far ahead.
func (r *remote) register() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.named = true
	switch {
	case !r.liveLocked(): // takeUp does it
	case r.naming:
		r.renames = true
	default:
		r.registerLocked()
	}
}

func (r *remote) registerLocked() {
	r.named, r.naming, r.renames = true, true, false
	r.askLocked(lookup([]byte(wire.IAm)), numbers{}, []byte(r.session.registeredName()), asking{silent: true})
}

// askLocked puts a request into the queue, and sends it if upstream is there.
func (r *remote) askLocked(c *command, n numbers, name []byte, a asking) {
	line := len(r.text)
	r.text = r.appendAsking(r.text, &a, c, n, name)
	r.queueLocked(r.text[line:], a)
}

// appendAsking appends a request to text, as the line that it is upstream, and has a say
// where it is.
func (r *remote) appendAsking(text []byte, a *asking, c *command, n numbers, name []byte) []byte {
	text = appendNumber(text, uint64(r.number))
	a.command, a.from = c, uint32(len(text))
	text = appendRequest(text, c, n, name)
	a.to = uint32(len(text))
	a.name = a.to - uint32(len(name))
	return append(text, '\n')
}

// queueLocked puts one into the queue whose text is there, and sends its line.
func (r *remote) queueLocked(line []byte, a asking) {
	u := r.session.hub.upstream
	u.rouse()
	a.tick = u.tick.Load()
	r.makeRoomLocked(1)
	r.queue = append(r.queue, a)
	ordered := uint64(1)
	if a.waits() {
		ordered = 0
	}
	u.send(r.epoch, line, ordered)
	r.weighLocked()
}

// makeRoomLocked has the queue be where there is room for more, if they are many.
func (r *remote) makeRoomLocked(more int) {
	if len(r.queue)+more > keptAsking/askingBytes {
		r.growLocked()
	}
	if len(r.queue)+more > cap(r.queue) && r.first > 0 {
		n := copy(r.queue, r.queue[r.first:])
		r.queue, r.first = r.queue[:n], 0
	}
}

// appendRequest appends a request, as it was asked for.
func appendRequest(out []byte, c *command, n numbers, name []byte) []byte {
	out = append(out, c.verb...)
	for i := range c.args {
		out = strconv.AppendUint(append(out, ' '), [...]uint64{n.a, n.b, n.c}[i], 10)
	}
	if len(name) > 0 {
		out = append(append(out, ' '), name...)
	}
	return out
}

func (r *remote) nameLocked(a *asking) []byte { return r.text[a.name:a.to] }

func (r *remote) weighLocked() {
	if r.gone {
		return
	}
	n := 2*cap(r.text) + askingBytes*cap(r.queue) + cap(r.out)
	n = min(n, 1<<30)
	if int32(n) == r.bytes.Load() {
		return
	}
	r.session.stream.underWay.Add(int32(n) - r.bytes.Swap(int32(n)))
}

// owes notes that the client is to be answered so many requests more.
func (r *remote) owes(n int32) {
	r.pending.Add(n)
	r.session.stream.unanswered.Add(n)
}

// fitLocked gives back what is not needed when nothing is pending.
func (r *remote) fitLocked() {
	if r.first == len(r.queue) {
		r.queue, r.first, r.text = r.queue[:0], 0, r.text[:0]
		r.shrinkLocked()
		if cap(r.text) > keptAsking {
			r.text = nil
		}
		if cap(r.queue) > keptAsking/askingBytes {
			r.queue = nil
		}
	} else if len(r.text) > 4096 && int(r.queue[r.first].from) > len(r.text)/2 {
		r.packLocked()
	}
	r.weighLocked()
}

// packLocked drops what is answered.
func (r *remote) packLocked() {
	from := r.queue[r.first].from
	n := copy(r.text, r.text[from:])
	r.text = r.text[:n]
	m := copy(r.queue, r.queue[r.first:])
	r.queue, r.first = r.queue[:m], 0
	for i := range r.queue {
		a := &r.queue[i]
		a.from, a.name, a.to = a.from-from, a.name-from, a.to-from
	}
}

// beginAnswers takes the mutex, for answerLocked, unless r is nil.
func (r *remote) beginAnswers(now shard.Moment) {
	if r == nil {
		return
	}
	r.mu.Lock()
	if !r.gone {
		r.session.owner.Now = now
	}
}

// endAnswers gives it back.
func (r *remote) endAnswers() {
	if r != nil {
		r.fitLocked()
		r.mu.Unlock()
	}
}

// answerLocked takes a line that upstream has sent for the session. It tells whether it
// was an answer to one of those requests that are answered in the order of all.
func (r *remote) answerLocked(line []byte) (ordered bool) {
	if !r.liveLocked() {
		return false // it has been given up, or is asked once more
	}
	if bytes.HasPrefix(line, []byte(wire.Notice)) {
		r.noticeLocked(line[len(wire.Notice):])
		return false
	}
	i := r.first
	if i == len(r.queue) {
		return false // it is nobody's
	}
	if r.queue[i].waits() && len(r.queue) > i+1 && isBusy(line) {
		for i++; i+1 < len(r.queue) && r.queue[i].literal; i++ { // of what was asked while it waits
			r.giveLocked(&r.queue[i])
		}
	}
	a := r.queue[i]
	if i != r.first {
		copy(r.queue[r.first+1:i+1], r.queue[r.first:i])
	}
	r.first++
	if !r.gone {
		r.noteLocked(&a, line)
	}
	r.giveLiteralsLocked()
	if a.command.verb == wire.Quit && a.silent {
		r.session.hub.upstream.leave(r)
	}
	return !a.waits()
}

// waits tells whether it may be a long time until it is answered.
func (a *asking) waits() bool { return a.command != nil && a.command.flags&mayWait != 0 }

// literal has a reply that was made here come behind those to what was asked before.
func (r *remote) literal(text []byte) {
	r.owes(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.literalLocked(text)
	r.giveLiteralsLocked()
	r.fitLocked()
}

func (r *remote) literalLocked(text []byte) {
	from := uint32(len(r.text))
	r.text = append(r.text, text...)
	r.queue = append(r.queue, asking{literal: true, from: from, name: from, to: uint32(len(r.text))})
}

// giveLiteralsLocked gives the client those that nothing is in front of.
func (r *remote) giveLiteralsLocked() {
	for i := r.first; i < len(r.queue); i++ {
		a := &r.queue[i]
		if a.literal {
			r.giveLocked(a)
		} else if !a.silent && !a.told {
			break
		}
		if a.literal && i == r.first {
			r.first++
		}
	}
}

func (r *remote) giveLocked(a *asking) {
	if a.told {
		return
	}
	a.told = true
	if r.gone {
		return
	}
	r.given++
	if !r.lost {
		r.roomLocked(int(a.to - a.from))
		r.out = append(r.out, r.text[a.from:a.to]...)
		r.postLocked()
	}
}

var largeReplies = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// roomLocked has out be in a large buffer if there is more than one reply to be put into it.
func (r *remote) roomLocked(more int) {
	if r.full == nil && len(r.out) > 0 && len(r.out)+more > cap(r.out) {
		r.full = largeReplies.Get().(*[]byte)
		r.out = append((*r.full)[:0], r.out...)
	}
}

func isBusy(line []byte) bool { return bytes.HasPrefix(line, []byte("0 "+wire.SessionBusy)) }

// noteLocked has the table follow a reply, and passes it on.
func (r *remote) noteLocked(a *asking, line []byte) {
	s := r.session
	number, text, _ := wire.Number(line)
	name := r.nameLocked(a)
	if a.probe {
		switch {
		case a.told:
		case a.command.verb == wire.Ping && a.from == a.to:
			r.tellLocked(number, text)
		default:
			r.giveLocked(a)
		}
		return
	}
	if a.waits() && !a.told {
		r.waits.Add(-1)
		r.stops.Store(false)
	}
	granted := false
	switch a.command.verb {
	case wire.Claim, wire.Claims:
		// Of one that is accepted the table knows, unless the client has been told
		// since that it has released the lock, which comes behind it.
		if number == 0 {
			r.loseLocked(kindOf(a.command), name)
		}
	case wire.Get, wire.GetWait:
		granted = number > 0
		switch {
		case granted && a.told:
			if _, held := s.hub.locks.Token(&s.owner, name); !held {
				r.returnLocked(wire.Release, name)
			}
		case granted:
			s.hub.locks.Note(&s.owner, name, number)
		}
	case wire.GetShared, wire.GetSharedLimit, wire.GetSharedWait:
		granted = number > 0
		switch {
		case granted && a.told:
			if !s.hub.locks.Shares(&s.owner, name) {
				r.returnLocked(wire.ReleaseShared, name)
			}
		case granted:
			s.hub.locks.NoteShared(&s.owner, name)
		}
	case wire.Release:
		if !a.told {
			s.hub.locks.Release(&s.owner, name)
			if number == 0 && a.again && a.held {
				number, text = 1, append([]byte(wire.ReleaseSuccess), name...)
			}
		}
	case wire.ReleaseShared:
		if !a.told {
			s.hub.locks.ReleaseShared(&s.owner, name)
			if number == 0 && a.again && a.held {
				number, text = 1, append([]byte(wire.SharedReleaseSuccess), name...)
			}
		}
	case wire.IAm:
		if r.naming = false; r.renames {
			r.registerLocked()
		}
	case wire.Quit:
		if !a.silent && !a.told {
			r.quit, r.ended = true, true
			r.given++
			r.postLocked()
			return
		}
	}
	if a.silent || a.told {
		return
	}
	if granted && !r.many && (a.command.verb == wire.Get || a.command.verb == wire.GetWait) {
		number = 1 // protocol 1 has no tokens there
	}
	if r.stopped && a.command.flags&mayWait != 0 && isCanceled(text) {
		text = append([]byte(wire.ShuttingDown), name...)
	}
	r.tellLocked(number, text)
}

func isCanceled(text []byte) bool {
	return bytes.HasPrefix(text, []byte(wire.GetCanceled))
}

// tellLocked gives the client a reply.
func (r *remote) tellLocked(number uint64, text []byte) {
	r.given++
	if r.lost {
		return
	}
	r.roomLocked(len(text) + 32)
	if r.many {
		r.out = append(strconv.AppendUint(r.out, uint64(r.session.number), 10), ' ')
	}
	r.out = append(strconv.AppendUint(r.out, number, 10), ' ')
	r.out = append(append(r.out, text...), '\n')
	r.postLocked()
}

// postLocked has the stream take what there is.
func (r *remote) postLocked() {
	if !r.posted && !r.gone {
		r.posted = true
		r.session.stream.post(r.session)
	}
}

// returnLocked releases what was granted to a request whose client was told that it was
// not, unless it has asked again since: then that decides.
func (r *remote) returnLocked(release string, name []byte) {
	kept := append([]byte(nil), name...)
	for i := r.first; i < len(r.queue); i++ {
		a := &r.queue[i]
		if !a.literal && a.command.flags&takes != 0 && isShared(a.command) == (release == wire.ReleaseShared) && bytes.Equal(r.nameLocked(a), kept) {
			return
		}
	}
	r.askLocked(lookup([]byte(release)), numbers{}, kept, asking{silent: true, told: true})
}

// kindOf tells which locks a claim is for.
func kindOf(claim *command) shard.Kind {
	if claim.verb == wire.Claims {
		return shard.Shared
	}
	return shard.Exclusive
}

func isShared(c *command) bool {
	switch c.verb {
	case wire.GetShared, wire.GetSharedLimit, wire.GetSharedWait:
		return true
	}
	return false
}

// noticeLocked takes what upstream says of itself.
func (r *remote) noticeLocked(text []byte) {
	name, ok := bytes.CutPrefix(text, []byte(wire.LockLost))
	if !ok || r.gone {
		return
	}
	s := r.session
	s.owner.Now = s.hub.upstream.moment()
	s.hub.locks.Release(&s.owner, name)
	s.hub.locks.ReleaseShared(&s.owner, name)
	r.lostLocked(name, WhyKick)
}

// loseLocked is for a lock that could not be claimed: somebody else may have it.
func (r *remote) loseLocked(kind shard.Kind, name []byte) {
	s := r.session
	held := false
	if kind == shard.Shared {
		held = s.hub.locks.ReleaseShared(&s.owner, name)
	} else {
		held = s.hub.locks.Release(&s.owner, name)
	}
	if held {
		r.lostLocked(name, WhyKeepExpired)
	}
}

// lostLocked tells the client that it has lost a lock: by a notice, if it wants them,
// else by its end.
func (r *remote) lostLocked(name []byte, why Why) {
	s := r.session
	if r.many && s.stream.notices.Load() {
		r.out = append(strconv.AppendUint(r.out, uint64(s.number), 10), ' ')
		r.out = append(append(append(r.out, wire.Notice+wire.LockLost...), name...), '\n')
		r.postLocked()
		return
	}
	r.endLocked(why)
}

// endLocked ends the client: nothing is passed on to it any more.
func (r *remote) endLocked(why Why) {
	if r.lost || r.gone {
		return
	}
	r.lost = true
	r.out = nil
	st := r.session.stream
	st.EndsFor(why)
	if c := st.carriedBy(); c != nil {
		r.session.hub.network.Detach(c)
	}
}

// replies appends what upstream has answered. Before that its requests are pending: what
// is answered here comes behind it.
func (r *remote) replies(out []byte) (_ []byte, quit bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.posted = false
	r.owes(-r.given)
	r.given = 0
	if len(r.out) > 0 {
		out = append(out, r.out...)
		r.out = r.out[:0]
		if r.full != nil {
			if cap(r.out) <= 64<<10 { // it may have grown
				*r.full = r.out
				largeReplies.Put(r.full)
			}
			r.full, r.out = nil, nil
		} else if cap(r.out) > keptAsking {
			r.out = nil
		}
		r.weighLocked()
	}
	return out, r.quit
}

// stop has the session's wait end, as `cancel` would.
func (r *remote) stop(drains bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waits.Load() == 0 || r.stops.Load() {
		return
	}
	r.stops.Store(true)
	r.stopped = r.stopped || drains
	r.askLocked(lookup([]byte(wire.Cancel)), numbers{}, nil, asking{silent: true})
}

// held returns how many locks the session holds.
func (s *Session) held() int {
	if r := s.remote; r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
	}
	return s.owner.Held()
}

// leaveUpstream ends what the session is upstream: from then on nobody but its own stream
// uses its owner.
func (s *Session) leaveUpstream() {
	r := s.remote
	if r == nil {
		return
	}
	s.remote = nil
	r.mu.Lock()
	r.gone, r.out = true, nil
	if r.epoch == 0 || r.ended && r.first == len(r.queue) {
		r.ended = true // whoever is about to take it up finds it so
		s.hub.upstream.leave(r)
	} else {
		if !r.liveLocked() { // nothing else is asked any more
			r.first = len(r.queue)
			r.fitLocked()
		}
		r.ended = false
		r.askLocked(lookup([]byte(wire.Quit)), numbers{}, nil, asking{silent: true})
	}
	s.stream.unanswered.Add(-r.pending.Load())
	s.stream.underWay.Add(-r.bytes.Load())
	r.mu.Unlock()
	s.stream.giveMemory(remoteBytes)
}

// liveLocked tells whether what is in the queue is under way over the connection that
// there is. Once it is not, it never is again, but asked anew by takeUp: who believed
// otherwise would take what is under way out of the queue, and each reply for that to
// the next request.
func (r *remote) liveLocked() bool {
	return r.epoch != 0 && r.epoch == r.session.hub.upstream.live.Load()
}

// late answers what upstream has not answered in time.
func (r *remote) late(now, plain, patience, since uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return
	}
	live, kept, blocked := r.liveLocked(), r.first, false
	for i := r.first; i < len(r.queue); i++ {
		a := &r.queue[i]
		prompt := !r.many && !a.waits()
		isLate := prompt && now-a.tick > plain || !prompt && !live && now-max(a.tick, since) > patience
		if isLate && !a.literal && !a.silent && !a.told {
			r.giveUpLocked(a)
		}
		switch {
		case a.literal && !blocked: // in its place among those that are given up
			r.giveLocked(a)
		case !a.told && !a.silent:
			blocked = true
		}
		if !live && a.told {
			continue // whatever became of it, it is not claimed
		}
		r.queue[kept] = *a
		kept++
	}
	r.queue = r.queue[:kept]
	r.giveLiteralsLocked()
	r.fitLocked()
}

// giveUp answers all that upstream, which is away, has not answered.
func (r *remote) giveUp() {
	r.stop(false) // should it be back
	r.late(r.session.hub.upstream.tick.Load()+1, 0, 0, 0)
}

// giveUpLocked answers in upstream's place.
func (r *remote) giveUpLocked(a *asking) {
	s := r.session
	name := append([]byte(nil), r.nameLocked(a)...)
	if a.probe && a.from < a.to {
		r.giveLocked(a)
		return
	}
	a.told = true
	s.hub.upstream.given.Add(1)
	if a.command.flags&mayWait != 0 {
		r.waits.Add(-1)
		r.stops.Store(false)
	}
	s.owner.Now = s.hub.upstream.moment()
	tell := func(number uint64, text string) { r.tellLocked(number, append([]byte(text), name...)) }
	success := func(ok bool, yes, no string) {
		if ok {
			tell(1, yes)
		} else {
			tell(0, no)
		}
	}
	switch a.command.verb {
	case wire.Get, wire.GetWait: // who holds it may always ask again
		token, held := s.hub.locks.Token(&s.owner, name)
		switch {
		case !held:
			tell(0, wire.ServerRecovering)
		case r.many:
			tell(token, wire.GetSuccess)
		default:
			tell(1, wire.GetSuccess)
		}
	case wire.GetShared, wire.GetSharedLimit, wire.GetSharedWait:
		if s.hub.locks.Shares(&s.owner, name) {
			// How many of other proxies' clients hold it nobody knows now.
			tell(uint64(max(1, s.hub.See(name).Holders[shard.Shared])), wire.SharedGetSuccess)
		} else {
			tell(0, wire.ServerRecovering)
		}
	case wire.Release:
		success(s.hub.locks.Release(&s.owner, name), wire.ReleaseSuccess, wire.ReleaseFailure)
	case wire.ReleaseShared:
		success(s.hub.locks.ReleaseShared(&s.owner, name), wire.SharedReleaseSuccess, wire.SharedReleaseFailure)
	case wire.Inspect:
		tell(1, wire.IsLocked)
	case wire.InspectShared:
		tell(1, wire.SharedIsLocked)
	case wire.Token:
		token, ok := s.hub.locks.Token(&s.owner, name)
		if ok {
			tell(token, wire.LockToken)
		} else {
			tell(0, wire.NotHeld)
		}
	case wire.Cancel:
		r.tellLocked(1, []byte(wire.OK[2:len(wire.OK)-1]))
	case wire.Quit:
		r.quit = true
		r.given++
		r.postLocked()
	case wire.Ping:
		r.tellLocked(0, []byte(wire.Unavailable+wire.Ping))
	default:
		tell(0, wire.ServerRecovering)
	}
}
