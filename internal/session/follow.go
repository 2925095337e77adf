package session

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// When a partition gets another owner, what clients hold there is claimed at that one.
// The former owner's answers do not make these holds last longer any more, though they may
// do so for all else that is held there.

// An eviction of a link is that partitions are not served at its end any more.
type eviction struct {
	until time.Duration // when what is held there, and is not claimed, is lost
}

// evicts notes that partitions have gone from a link: what is held in them is believed for
// as long as is known now.
func (u *Upstream) evicts() { u.evicted.Store(&eviction{u.deadline()}) }

// follow claims what is to be claimed at other owners, and tells whether that goes on.
func (n *node) follow() (busy bool) {
	n.mu.Lock()
	var behind []*Upstream
	for u := range n.behind {
		behind = append(behind, u)
	}
	n.mu.Unlock()
	for _, u := range behind {
		if n.followFrom(u) {
			n.mu.Lock()
			if n.routes.Load() == u.pass.by && !u.strays.Load() {
				delete(n.behind, u)
				u.evicted.Store(nil)
			}
			n.mu.Unlock()
		}
		busy = true
	}
	n.tellOvertaken()
	n.mu.Lock()
	reclaim := takeAll(&n.reclaim)
	n.mu.Unlock()
	for r := range reclaim {
		r.claimAgain()
		busy = true
	}
	busy = n.settleClaims() || busy
	return n.tellFollowed() || busy
}

// straysLocked notes a hold that was asked for when another map was known here, by which its partition was
// served elsewhere, or is now: it is claimed as all else.
func (r *remote) straysLocked(name []byte, asked uint32) {
	n := r.up.node
	to := n.routes.Load()
	if p := shard.PartitionOf(name); to.to[p] == r.up && uint32(to.since[p]) <= asked {
		return
	}
	r.followed = min(r.followed, uint64(asked))
	r.guest.followed.Store(0)
	r.up.strays.Store(true)
	n.mu.Lock()
	n.behind[r.up] = struct{}{}
	n.mu.Unlock()
	n.look()
}

// settleClaims ends those whose claims were not answered in time, and tells whether there are any
// that are not answered yet.
func (n *node) settleClaims() (busy bool) {
	n.mu.Lock()
	all := takeAll(&n.claimants)
	n.mu.Unlock()
	for r := range all {
		if r.settled() {
			delete(all, r)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.Copy(n.claimants, all)
	if len(n.claimants) == 0 {
		n.claimed.Store(math.MaxInt64)
	}
	return len(n.claimants) > 0
}

// tellFollowed tells the other nodes that all is claimed at them that is to be, by the map that this
// one has: what stands in for its clients there may go. It returns whether some are to be told yet.
func (n *node) tellFollowed() (busy bool) {
	version := n.routes.Load().version
	var told []*Upstream // nothing is sent under the mutex
	defer func() {
		for _, u := range told {
			u.cfg.Flush()
		}
	}()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.behind)+len(n.reclaim)+len(n.claimants) > 0 { // all has been answered, too: who does not have the map yet answers later
		return true
	}
	self := n.origin()
	if n.follows[self] < version && lease.Now() >= n.limbo {
		n.follows[self] = version
		n.hub.keeps.start(n.exorcise)
	}
	for _, u := range n.links {
		if u.announced.Load() >= version || !u.Live() || u.Replays() {
			continue // it is told when it is there
		}
		u.announced.Store(version)
		u.ask(wire.Followed, strconv.FormatUint(version, 10))
		told = append(told, u)
	}
	return false
}

// A pass goes over a link's sessions, in parts: they may hold very much, and what others ask at the new
// owners is not to wait for all of that.
type pass struct {
	by   *routes
	next int  // the number of the session that is next
	all  bool // those before it have followed
}

// followStep is about how many holds are claimed in a part, and followLooks how many sessions are
// looked at.
const (
	followStep  = 256
	followLooks = 16 << 10
)

// followFrom does a part of that for a link that has lost partitions, and tells whether all of its
// sessions have followed.
func (n *node) followFrom(u *Upstream) bool {
	to, p := n.routes.Load(), &u.pass
	if p.by != to || p.next == 0 {
		*p = pass{by: to, all: true}
		u.strays.Store(false)
	}
	now, moved, looks := lease.Now(), n.moved.Load(), 0
	for all := len(*u.all.Load()); p.next < all; p.next++ {
		if looks++; looks > followLooks || n.moved.Load()-moved >= followStep {
			return false
		}
		r := u.find(uint64(p.next))
		if r == nil {
			continue
		}
		r.guest.following.Lock()
		if now >= r.deadline() {
			r.expireMoved(to)
		} else if !r.follow(to) || r.mayGet() {
			p.all = false
		}
		r.guest.following.Unlock()
	}
	p.next = 0
	return p.all
}

// follow claims what the session holds in partitions that are served elsewhere by now, and
// tells whether that is all: what is served here its own stream claims.
func (r *remote) follow(to *routes) bool {
	n := r.up.node
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.followed >= to.version || r.gone || r.lost {
		return true
	}
	here := false
	if r.owner.Held() > 0 {
		releases := r.releasesLocked()
		for _, h := range r.heldLocked(func(p int) bool { return r.leftLocked(p, to) && to.to[p] != n.nobody }) {
			h.doubted = h.doubted || releases[wanted{h.kind, string(h.name)}]
			if u := to.to[shard.PartitionOf(h.name)]; u == nil {
				here = true
			} else if u == r.up { // it has been away, and is back
				r.takeInLocked(h, r.deadlineLocked())
			} else if !r.moveLocked(u, h, to.version) {
				r.loseHeldLocked(h)
			}
		}
	}
	if here {
		r.goesHomeLocked()
		r.postLocked()
		return false
	}
	r.followed = to.version
	return true
}

// mayGet tells whether an answer is on its way, or may be, by which the session gets a lock of the former
// owner's: then that is to be claimed, too.
func (r *remote) mayGet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := r.first; i < len(r.queue) && !r.gone; i++ {
		a := &r.queue[i]
		if a.silent || a.literal || a.probe || a.told && !a.parked {
			continue
		}
		if _, takes := takenBy(a.command); takes && r.hasLeft(a, r.nameLocked(a)) {
			return true
		}
	}
	return false
}

// isAskedElsewhere tells whether something is asked there that is served by another node by now: who has looked
// at an older map may ask when all others' requests have been taken back.
func (r *remote) isAskedElsewhere() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := r.first; i < len(r.queue); i++ {
		if a := &r.queue[i]; a.isOpen() && r.hasLeft(a, r.nameLocked(a)) {
			return true
		}
	}
	return false
}

// releasesLocked returns what the session is about to release: whether it holds that still, or its release
// was executed, nobody knows.
func (r *remote) releasesLocked() (all map[wanted]bool) {
	for i := r.first; i < len(r.queue); i++ {
		a := &r.queue[i]
		if a.told || a.literal || a.probe || a.command.verb != wire.Release && a.command.verb != wire.ReleaseShared {
			continue
		}
		if all == nil {
			all = make(map[wanted]bool)
		}
		all[wanted{kindOf(a.command), string(r.nameLocked(a))}] = true
	}
	return all
}

// leftLocked tells whether a partition has left the owner, for a moment at least, since what the session
// holds there has been claimed.
func (r *remote) leftLocked(p int, to *routes) bool {
	return to.to[p] != r.up || to.since[p] > r.followed
}

// A heldLock is a lock that a session holds at another node.
type heldLock struct {
	kind  shard.Kind
	name  []byte
	token uint64 // of an exclusive one
	// doubted: its client has come anew, and not said that it holds this, or is about to release it. So
	// it is told nothing of what becomes of it.
	doubted bool
}

// heldLocked returns what the session holds there in some partitions. It is a list of its own, as
// what is held changes while it is gone over.
func (r *remote) heldLocked(in func(p int) bool) (all []heldLock) {
	held := r.up.locks.HeldIn(r.owner, in)
	var p shard.Piece
	for more := true; more; {
		more = held.Next(&p)
		for _, item := range p.Items {
			all = append(all, heldLock{item.Kind, slices.Clone(p.Name(item)), item.Number, item.Doubted})
		}
	}
	return all
}

// moveLocked claims a hold at another owner, by a map that may not be the newest any more. The deadline is that
// of the former owner.
func (r *remote) moveLocked(u *Upstream, h heldLock, by uint64) bool {
	other := r.session.arriveAt(u, r.guest)
	if other == nil {
		return false
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	if other.gone { // the session ends, and this one with it
		return true
	}
	if !h.doubted || !other.holdsLocked(h.kind, h.name) { // else its client has said so there
		r.up.node.moved.Add(1)
		other.takeInLocked(h, r.deadlineLocked())
		if r.isInLimboLocked(h) && other.holdsLocked(h.kind, h.name) {
			other.limboLocked(h, r.up.node.hub.cfg.MaxKeep)
		}
		other.straysLocked(h.name, uint32(by))
	}
	if r.decidedLocked(h) { // its answer comes from there
		other.keepUndecidedLocked(h)
	}
	r.forgetLocked(h)
	return true
}

// loseHeldLocked is for a hold that is not to be had at another owner.
func (r *remote) loseHeldLocked(h heldLock) {
	if h.doubted {
		r.forgetLocked(h)
	} else {
		r.loseLocked(h.kind, h.name)
	}
}

// forgetLocked notes that the session does not hold a lock there any more.
func (r *remote) forgetLocked(h heldLock) {
	r.owner.Now = r.up.moment()
	r.arrivedLocked(h.kind, h.name)
	r.outOfLimboLocked(h.kind, h.name)
	if h.kind == shard.Shared {
		r.up.locks.ReleaseShared(r.owner, h.name)
	} else {
		r.up.locks.Release(r.owner, h.name)
	}
}

// takeInLocked claims a hold from elsewhere. If that takes too long, it is lost.
func (r *remote) takeInLocked(h heldLock, until time.Duration) {
	n := r.up.node
	r.owner.Now = r.up.moment()
	if !r.noteHeldLocked(h.kind, h.name, h.token) {
		if !h.doubted {
			r.lostLocked(h.name, WhyKeepExpired)
		}
		return
	}
	if len(r.arriving) == 0 || r.until > until {
		r.until = until
	}
	n.mu.Lock()
	n.claimed.Store(min(n.claimed.Load(), int64(until)))
	n.sure.Store(min(n.sure.Load(), int64(until)))
	n.claimants[r] = struct{}{}
	n.mu.Unlock()
	r.arriveLocked(h.kind, h.name)
	if r.isInItsOwnWayLocked(h) {
		r.askLocked(lookup([]byte(wire.Cancel)), numbers{}, nil, asking{silent: true})
	}
	claim, number := wire.Claim, h.token
	if h.kind == shard.Shared {
		claim, number = wire.Claims, 1
	}
	r.askLocked(lookup([]byte(claim)), numbers{a: number}, h.name, asking{silent: true, moved: true, told: h.doubted})
	if h.doubted {
		r.up.locks.DoubtOne(r.owner, h.kind, h.name)
	}
}

// noteHeldLocked notes that the session holds a lock there, and tells whether it does: not if somebody else has
// got it since.
func (r *remote) noteHeldLocked(kind shard.Kind, name []byte, token uint64) (holds bool) {
	switch {
	case kind == shard.Shared:
		r.up.locks.NoteShared(r.owner, name)
		return true
	case r.guest == nil: // a proxy has one server, who knows
		r.up.locks.Note(r.owner, name, token)
		return true
	}
	loser, holds := r.up.locks.NoteClaim(r.owner, name, token)
	r.overtakesLocked(loser, name)
	return holds
}

// An overtaken is who had a lock at an owner, as far as was known here, when another client of the node got it.
type overtaken struct {
	r    *remote
	name string
}

// overtakesLocked notes that the session has got what another one had there, 0 is nobody: that one is told, as
// soon as its mutex may be taken, see tellOvertaken.
func (r *remote) overtakesLocked(loser uint32, name []byte) {
	n := r.up.node
	if loser == 0 || n == nil {
		return
	}
	if other := r.up.find(uint64(loser)); other != nil {
		n.mu.Lock()
		n.overtaken = append(n.overtaken, overtaken{other, string(name)})
		n.overtakes.Store(true)
		n.mu.Unlock()
		n.look()
	}
}

// releasedLocked notes that the session has released a lock there: it has lost nothing then, though another one's
// grant was heard of first.
func (r *remote) releasedLocked(name []byte) {
	if n := r.up.node; n != nil && n.overtakes.Load() {
		n.mu.Lock()
		n.overtaken = slices.DeleteFunc(n.overtaken, func(of overtaken) bool { return of.r == r && of.name == string(name) })
		n.mu.Unlock()
	}
}

// tellOvertaken tells those who have lost a lock that way.
func (n *node) tellOvertaken() {
	n.mu.Lock()
	all := n.overtaken
	n.overtaken = nil
	n.overtakes.Store(false)
	n.mu.Unlock()
	for _, of := range all {
		of.r.isOvertakenAt([]byte(of.name))
	}
}

func (r *remote) isOvertakenAt(name []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone || r.holdsLocked(shard.Exclusive, name) || r.releasesLocked()[wanted{shard.Exclusive, string(name)}] {
		return
	}
	r.arrivedLocked(shard.Exclusive, name)
	r.outOfLimboLocked(shard.Exclusive, name)
	r.lostLocked(name, WhyKeepExpired)
}

// isInItsOwnWayLocked tells whether the session waits there for what it holds, as it has asked for it once
// more, and that was on its way for longer than the partition was away: what stands in for it has the lock.
// Who waits for a lock cannot claim it, so the wait is to end first. Then it is asked for again, see
// isOvertakenLocked.
func (r *remote) isInItsOwnWayLocked(h heldLock) bool {
	since := uint32(r.up.node.routes.Load().since[shard.PartitionOf(h.name)])
	return slices.ContainsFunc(r.queue[r.first:], func(a asking) bool {
		return a.waits() && !a.told && !a.silent && a.version < since && kindOf(a.command) == h.kind && bytes.Equal(r.nameLocked(&a), h.name)
	})
}

// deadline is when what is held at a link is lost that is to be claimed elsewhere, and is not.
func (u *Upstream) deadline() time.Duration {
	if e := u.evicted.Load(); e != nil {
		return e.until
	}
	if l := u.lease.Load(); l != nil {
		return l.Deadline()
	}
	return 0
}

// deadlineLocked is when what the session holds there is lost that is to be claimed elsewhere, and is
// not. What has come from elsewhere itself, and was not claimed yet, is as it was there: the node may
// have gone before there was a link to it.
func (r *remote) deadlineLocked() time.Duration {
	switch {
	case len(r.arriving) == 0:
		return r.up.deadline()
	case r.up.lease.Load() == nil:
		return r.until
	}
	return min(r.until, r.up.deadline())
}

func (r *remote) deadline() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deadlineLocked()
}

// settled tells whether all claims of holds from elsewhere are answered. If they are not in
// time, the client has lost what it held.
func (r *remote) settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.arriving) == 0 || r.gone || r.lost {
		return true
	}
	if lease.Now() < r.until {
		return false
	}
	if r.owner.Held() > 0 {
		r.endLocked(WhyKeepExpired)
	}
	for i := r.first; i < len(r.queue); i++ { // what is accepted after all is let go, see gotBeforeLocked
		if a := &r.queue[i]; a.moved {
			a.silent, a.told, a.moved = false, true, false
		}
	}
	return true
}

// expireMoved ends the client if it holds something that was to be claimed elsewhere, and was
// not in time.
func (r *remote) expireMoved(to *routes) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.followed >= to.version || r.gone || r.lost {
		return
	}
	if len(r.heldLocked(func(p int) bool { return r.leftLocked(p, to) })) > 0 {
		r.endLocked(WhyKeepExpired)
	}
	r.homeLocked()
	r.followed = to.version
}

// goesHomeLocked notes that what the session holds there is to be claimed here, and homeLocked that it is
// not any more.
func (r *remote) goesHomeLocked() {
	r.home = true
	if k := r.session.stream.keeping.Load(); k != nil {
		k.homingMu.Lock()
		defer k.homingMu.Unlock()
		if k.homing == nil {
			k.homing = make(map[*remote]struct{})
		}
		k.homing[r] = struct{}{}
	}
}

func (r *remote) homeLocked() {
	if !r.home {
		return
	}
	r.home = false
	if k := r.session.stream.keeping.Load(); k != nil {
		k.homingMu.Lock()
		defer k.homingMu.Unlock()
		if delete(k.homing, r); len(k.homing) == 0 {
			k.homing = nil
		}
	}
}

// claimStep is how much of what is to be claimed here is claimed at a time for a client that is held
// back.
const claimStep = 100

// claimHere claims for a client that is held back some of what is to be claimed here, as that may be
// why it is: its sessions settle when it is not any more. It tells whether there was anything.
func (k *keeping) claimHere() bool {
	var some []*remote
	k.homingMu.Lock()
	for r := range k.homing {
		if len(some) == claimStep {
			break
		}
		some = append(some, r)
	}
	k.homingMu.Unlock()
	for _, r := range some {
		r.claimHere()
	}
	return len(some) > 0
}

// claimHere claims in the node's own partitions what the session held elsewhere. Its own
// stream calls it.
func (r *remote) claimHere() {
	s := r.session
	n := s.hub.node
	to := n.routes.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.home || r.gone || lease.Now() >= r.deadlineLocked() { // what comes later is not claimed, but lost
		return
	}
	r.homeLocked()
	releases := r.releasesLocked()
	for _, h := range r.heldLocked(func(p int) bool { return to.to[p] == nil }) {
		h.doubted = h.doubted || releases[wanted{h.kind, string(h.name)}]
		switch {
		case r.isInLimboLocked(h): // its client is told that it has it not, and nobody else gets it before it knows
			n.mu.Lock()
			n.limbo = max(n.limbo, lease.Now()+n.hub.cfg.MaxKeep)
			n.mu.Unlock()
			fallthrough
		case h.doubted && s.holdsHere(h): // its client has said so
			r.forgetLocked(h)
			continue
		}
		n.moved.Add(1)
		var outcome shard.Outcome
		if h.kind == shard.Shared {
			_, outcome = s.claimShared(h.name, true)
		} else {
			_, outcome = s.claim(h.name, h.token, true)
		}
		switch outcome {
		case shard.Acquired:
			r.forgetLocked(h)
			if h.doubted {
				s.hub.locks.DoubtOne(s.asks(), h.kind, h.name)
			}
		case shard.Elsewhere, shard.Frozen: // not now
			r.goesHomeLocked()
		default:
			n.refused.Add(1)
			n.cfg.Log("what a client held elsewhere was not accepted here", "lock", string(h.name), "client", s.peer.addr(), "guest", r.number)
			r.loseHeldLocked(h)
		}
	}
	n.lookSoon()
}

// holdsHere tells whether the session holds a lock in the node's own partitions.
func (s *Session) holdsHere(h heldLock) bool { return holdsIn(s.hub.locks, s.asks(), h.kind, h.name) }

// isSure tells whether what is held there is held for some time whatever happens.
func (r *remote) isSure(now, need time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.owner.Held() <= len(r.limbo) {
		return true
	}
	l := r.up.lease.Load()
	if l == nil || l.Left(now) <= need {
		return false
	}
	if len(r.arriving) > 0 && r.until-now <= need {
		return false
	}
	e := r.up.evicted.Load()
	return e == nil || r.followed >= r.up.node.routes.Load().version || e.until-now > need
}

// claimedLocked notes that a claim of a hold from elsewhere is answered.
//
// One that is refused may have been on its way for longer than the partition was there: it is made once
// more, where that is by now.
func (r *remote) claimedLocked(a *asking, number uint64, lost bool) {
	if a.moved {
		r.arrivedLocked(kindOf(a.command), r.nameLocked(a))
		if number == 0 && lost {
			r.up.node.refused.Add(1)
			r.up.node.cfg.Log("what a client held elsewhere was not accepted by its owner of now", "owner", r.up.peer.Name, "lock", string(r.nameLocked(a)),
				"client", r.session.peer.addr(), "guest", r.number)
		}
	}
}

// arriveLocked notes that a hold from elsewhere is being claimed, and arrivedLocked that it is not any
// more.
func (r *remote) arriveLocked(kind shard.Kind, name []byte) {
	if r.arriving == nil {
		r.arriving = make(map[wanted]struct{})
	}
	r.arriving[wanted{kind, string(name)}] = struct{}{}
	r.arrives.Store(int32(len(r.arriving)))
}

func (r *remote) arrivedLocked(kind shard.Kind, name []byte) {
	if len(r.arriving) == 0 {
		return
	}
	delete(r.arriving, wanted{kind, string(name)})
	r.arrives.Store(int32(len(r.arriving)))
	if len(r.arriving) == 0 {
		r.arriving = nil
	}
}

// isArriving tells whether a request is about a lock that is being claimed there: a request that came
// before the claim, which may have to be made more than once, would find that the session has it not.
func (r *remote) isArriving(c *command, name []byte) bool {
	if r.arrives.Load() == 0 {
		return false
	}
	kind, ok := lockOf(c)
	if !ok {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, arrives := r.arriving[wanted{kind, string(name)}]
	return arrives
}

// isOvertakenLocked tells whether a request that was refused may have been so as it was on its way for
// longer than a partition was away: what the session held there its owner had still to be told, or
// another one has been told since.
func (r *remote) isOvertakenLocked(a *asking, name []byte) (overtaken bool) {
	kind, ok := lockOf(a.command)
	if !ok || isClaim(a.command) && !a.silent {
		return false
	}
	to, p := r.up.node.routes.Load(), shard.PartitionOf(name)
	if uint32(to.since[p]) <= a.version {
		return false
	}
	return !isClaim(a.command) || r.holdsLocked(kind, name)
}

// holdsLocked tells whether the session holds a lock there, as far as is known here.
func (r *remote) holdsLocked(kind shard.Kind, name []byte) bool {
	return holdsIn(r.up.locks, r.owner, kind, name)
}

func holdsIn(locks *shard.Set, o *shard.Owner, kind shard.Kind, name []byte) (held bool) {
	if kind == shard.Shared {
		return locks.Shares(o, name)
	}
	_, held = locks.Token(o, name)
	return held
}

// elsewhereLocked has a request that was not executed there be made again.
func (r *remote) elsewhereLocked(a *asking) {
	switch {
	case isClaim(a.command) && a.silent: // the other node does not know yet that it is the owner
		r.reclaimLocked(a)
	case a.silent:
	default:
		r.turned = r.turned || !isClaim(a.command)
		r.returnLockedTo(a)
	}
	r.postLocked()
}

// reclaimLocked claims a hold once more, in a moment.
func (r *remote) reclaimLocked(a *asking) {
	n := r.up.node
	r.again = append(r.again, claimAgain{a.command, slices.Clone(r.nameLocked(a)), a.moved, a.told})
	n.mu.Lock()
	n.reclaim[r] = struct{}{}
	n.mu.Unlock()
	n.lookSoon()
}

// A claimAgain is a claim that is to be made once more.
type claimAgain struct {
	command *command
	name    []byte
	moved   bool
	told    bool // it is in doubt
}

// claimAgain makes such claims, if what they are about is held still.
func (r *remote) claimAgain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	again := r.again
	r.again = nil
	for _, c := range again {
		n, held := numbers{a: 1}, false
		if c.command.verb == wire.Claims {
			held = r.up.locks.Shares(r.owner, c.name)
		} else {
			n.a, held = r.up.locks.Token(r.owner, c.name)
		}
		switch {
		case held && !r.gone && r.liveLocked():
			r.askLocked(c.command, n, c.name, asking{silent: true, moved: c.moved, told: c.told})
		case held && !r.gone: // takeUp does it, and until then it is not answered
		case c.moved:
			r.arrivedLocked(kindOf(c.command), c.name)
		}
	}
}
