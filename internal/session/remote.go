package session

import (
	"bytes"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

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
	up      *Upstream
	owner   *shard.Owner // of what it holds, in the upstream's table
	guest   *guest       // of a node's session; nil: a proxy has one server
	number  uint32

	arrives atomic.Int32 // how many are in arriving
	returns atomic.Bool  // there is something in back
	waits   atomic.Int32 // times that it has asked to wait, and that is not decided
	pending atomic.Int32 // requests that its client is to be answered, until the stream has the replies
	bytes   atomic.Int32 // that it keeps
	stops   atomic.Bool  // its wait is to end
	anew    atomic.Bool  // of a node's: its client has come anew, and not said all that it holds and waits for

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
	leaves  bool    // which is on its way
	parked  bool    // of a node's, as what follows: a wait of an earlier connection goes on there, of which nobody is told
	turned  bool    // it is told `Elsewhere` until it says that it goes on
	home    bool    // what it holds is to be claimed in the node's own partitions

	person    described              // who the client is, if it is kept
	back      []put                  // requests that were not executed there
	limbo     map[wanted]*time.Timer // what its client is told that it has lost, and is held still; nil: nothing
	undecided []heldLock             // what the client has asked for again, instead of claiming it, and is not answered
	followed  uint64                 // the map by which what it holds is where it is served
	again     []claimAgain           // claims that are to be made once more
	arriving  map[wanted]struct{}    // what it held elsewhere, whose claims here are not answered; nil: nothing
	until     time.Duration          // when those holds are lost, by the lease's clock
}

// forward asks upstream for what a command is about.
func (s *Session) forward(c *command, name, out []byte) []byte {
	r := s.remote
	if r == nil { // of a proxy's
		if r = s.join(); r == nil {
			return s.reply(out, 0, wire.ServerFull, name)
		}
	}
	if c.flags&(takes|alwaysListed) != 0 && c.flags&counted == 0 && (r.guest != nil || c.verb != wire.Release && c.verb != wire.ReleaseShared) {
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
	r := &remote{session: s, up: s.hub.upstream, owner: &s.owner}
	r.up.join(r)
	s.remote = r
	if s.registeredName() != "" {
		r.register()
	}
	return r
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
	r.naming, r.renames = true, false
	r.askLocked(lookup([]byte(wire.IAm)), numbers{}, []byte(r.session.registeredName()), asking{silent: true})
}

// noticeLocked takes what upstream says of itself.
func (r *remote) noticeLocked(text []byte) {
	name, ok := bytes.CutPrefix(text, []byte(wire.LockLost))
	if !ok || r.gone {
		return
	}
	r.owner.Now = r.up.moment()
	tells := r.guest == nil || r.countsOnLocked(name)
	r.outOfLimboLocked(shard.Exclusive, name)
	r.outOfLimboLocked(shard.Shared, name)
	r.up.locks.Release(r.owner, name)
	r.up.locks.ReleaseShared(r.owner, name)
	if tells {
		r.lostLocked(name, WhyKick)
	}
}

// countsOnLocked tells whether the client counts on a lock there: it does not on one that it is about to
// release, or has not named since it has come again.
func (r *remote) countsOnLocked(name []byte) bool {
	of := shard.PartitionOf(name)
	return slices.ContainsFunc(r.heldLocked(func(p int) bool { return p == of }), func(h heldLock) bool {
		return !h.doubted && bytes.Equal(h.name, name)
	})
}

// loseLocked is for a lock that could not be claimed: somebody else may have it.
func (r *remote) loseLocked(kind shard.Kind, name []byte) {
	held := false
	r.arrivedLocked(kind, name)
	r.outOfLimboLocked(kind, name)
	if kind == shard.Shared {
		held = r.up.locks.ReleaseShared(r.owner, name)
	} else {
		held = r.up.locks.Release(r.owner, name)
	}
	if held {
		r.lostLocked(name, WhyKeepExpired)
	}
}

// lostLocked tells the client that it has lost a lock: by a notice, if it wants them,
// else by its end.
func (r *remote) lostLocked(name []byte, why Why) {
	s := r.session
	if r.tellsLocked() {
		r.out = append(strconv.AppendUint(r.out, uint64(s.number), 10), ' ')
		r.out = append(append(append(r.out, wire.Notice+wire.LockLost...), name...), '\n')
		r.postLocked()
		return
	}
	r.endLocked(why)
}

// tellsLocked tells whether the client wants notices.
func (r *remote) tellsLocked() bool { return r.many && r.session.stream.notices.Load() }

// detach ends the client's connection, if it has one.
func (r *remote) detach() {
	if c := r.session.stream.carriedBy(); c != nil {
		r.session.hub.network.Detach(c)
	}
}

// endLocked ends the client: nothing is passed on to it any more.
//
// One that is kept is not: its other locks are no node's to free before the client itself gives them
// up. It has to come again, and finds out what it has left.
func (r *remote) endLocked(why Why) {
	if r.lost || r.gone {
		return
	}
	if r.guest != nil && r.session.stream.isKept() {
		for _, h := range r.heldLocked(func(int) bool { return true }) {
			r.forgetLocked(h)
		}
		r.detach()
		return
	}
	r.lost = true
	r.out = nil
	r.session.stream.EndsFor(why)
	r.detach()
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
func (s *Session) held() (n int) {
	s.meetGuest()
	switch r := s.remote; {
	case r == nil:
	case r.guest == nil: // its owner is the session's
		r.mu.Lock()
		defer r.mu.Unlock()
	default:
		s.eachRemote(func(r *remote) {
			r.mu.Lock()
			n += r.owner.Held()
			r.mu.Unlock()
		})
	}
	return n + s.owner.Held()
}

// leaveUpstream ends a bounded part of what the session is upstream, and tells whether
// that was all: from then on nobody but its own stream uses its owner.
func (s *Session) leaveUpstream() bool {
	s.meetGuest()
	r := s.remote
	if r == nil {
		return true
	}
	if r.guest == nil {
		r.leave()
		s.remote = nil
		return true
	}
	s.endGuest()
	for _, r := range *r.guest.remotes.Load() {
		if r.leaves {
			continue // it has, in an earlier part
		}
		if !r.forgetSome() {
			return false
		}
		r.leave()
	}
	s.remote = nil
	return true
}

// forgetSome releases a bounded part of what a remote of a node holds, as far as that is known
// here, and tells whether that was all.
func (r *remote) forgetSome() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	r.homeLocked()
	r.owner.Now = r.up.moment()
	if r.owner.Held() > 0 && !r.session.orphan(r.up.locks, r.owner) {
		return false
	}
	r.up.locks.Forget(r.owner)
	return true
}

// isCutOff tells whether the stream ends though its client may believe in what it holds: a node that ends
// has no time to wait until it knows better.
func (st *Stream) isCutOff() bool {
	e := st.ends.Load()
	return st.hub.node != nil && e != nil && e.why == WhyShutdown
}

// leave ends what it is there. What somebody held who is cut off is free when nobody can believe in it
// any more, as it is when a node is killed.
func (r *remote) leave() {
	r.mu.Lock()
	r.gone, r.leaves, r.out = true, true, nil
	if r.session.stream.isCutOff() {
		r.epoch = 0
	}
	if r.epoch == 0 || r.ended && r.first == len(r.queue) {
		r.ended = true // whoever is about to take it up finds it so
		r.up.leave(r)
	} else {
		if !r.liveLocked() { // nothing else is asked any more
			r.first = len(r.queue)
			r.fitLocked()
		}
		r.ended = false
		r.askLocked(lookup([]byte(wire.Quit)), numbers{}, nil, asking{silent: true})
	}
	st := r.session.stream
	st.unanswered.Add(-r.pending.Load())
	st.underWay.Add(-r.bytes.Load())
	r.mu.Unlock()
	st.giveMemory(remoteBytes)
}
