package session

import (
	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// The replies of a proxy in upstream's place, which is away, or late.

// liveLocked tells whether what is in the queue is under way over the connection that
// there is. Once it is not, it never is again, but asked anew by takeUp: who believed
// otherwise would take what is under way out of the queue, and each reply for that to
// the next request.
func (r *remote) liveLocked() bool {
	return r.epoch != 0 && r.epoch == r.up.live.Load()
}

// late answers what upstream has not answered in time. What a node's client claims waits: to be told
// no would be to have lost it, while all that is known is that its owner is away. So all that it has asked
// behind that waits, too.
func (r *remote) late(now, plain, patience, since uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return
	}
	live, kept, blocked, claims := r.liveLocked(), r.first, false, false
	for i := r.first; i < len(r.queue); i++ {
		a := &r.queue[i]
		if !a.literal && !a.silent && !a.told {
			claims = claims || r.guest != nil && !a.probe && isClaim(a.command)
			prompt, asked := !r.many && !a.waits(), min(a.tick, now) // it may be after now
			if !claims && (prompt && now-asked > plain || !prompt && !live && now-max(asked, since) > patience) {
				r.giveUpLocked(a)
			}
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
	if r.comesBackLocked() {
		r.postLocked() // nobody answers what came before that
	}
	r.fitLocked()
}

// giveUp answers all that upstream, which is away, has not answered.
func (r *remote) giveUp() {
	r.stop(false) // should it be back
	r.late(r.up.tick.Load()+1, 0, 0, 0)
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
	r.up.given.Add(1)
	if a.command.flags&mayWait != 0 {
		r.waits.Add(-1)
		r.stops.Store(false)
	}
	r.owner.Now = r.up.moment()
	kind := kindOf(a.command)
	lost := r.isInLimboLocked(heldLock{kind: kind, name: name}) // so its client was told, and it is to be let go
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
		token, held := r.up.locks.Token(r.owner, name)
		switch {
		case !held || lost:
			tell(0, r.up.away())
		case r.many:
			tell(token, wire.GetSuccess)
		default:
			tell(1, wire.GetSuccess)
		}
	case wire.GetShared, wire.GetSharedLimit, wire.GetSharedWait:
		if r.up.locks.Shares(r.owner, name) && !lost {
			// How many of other proxies' clients hold it nobody knows now.
			tell(uint64(max(1, r.up.locks.See(name, s.hub.clock.nanoseconds()).Holders[shard.Shared])), wire.SharedGetSuccess)
		} else {
			tell(0, r.up.away())
		}
	case wire.Release:
		r.outOfLimboLocked(kind, name)
		success(r.up.locks.Release(r.owner, name), wire.ReleaseSuccess, wire.ReleaseFailure)
	case wire.ReleaseShared:
		r.outOfLimboLocked(kind, name)
		success(r.up.locks.ReleaseShared(r.owner, name), wire.SharedReleaseSuccess, wire.SharedReleaseFailure)
	case wire.Inspect:
		tell(1, wire.IsLocked)
	case wire.InspectShared:
		tell(1, wire.SharedIsLocked)
	case wire.Token:
		token, ok := r.up.locks.Token(r.owner, name)
		if ok && !lost {
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
		tell(0, r.up.away())
	}
}

// away is what is said of a lock of which nobody knows whether somebody holds it, as upstream cannot
// be asked: who asks a proxy may try again, as its server may be about to be back.
func (u *Upstream) away() string {
	if u.node != nil {
		return wire.Unavailable
	}
	return wire.ServerRecovering
}
