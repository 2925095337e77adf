package session

import (
	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// takeUp has the session go on over another connection: it claims what it holds, but for
// what it was about to release, and asks once more for what was not answered.
func (r *remote) takeUp(connection uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch == connection || r.ended {
		return // it has begun since; or its number may be another one's by now
	}
	r.epoch = connection
	if r.gone && !r.leaves {
		return // what it holds is about to be forgotten first
	}
	old, text := r.queue[r.first:], r.text
	r.queue, r.first, r.text = nil, 0, nil
	if r.gone {
		r.askLocked(lookup([]byte(wire.Quit)), numbers{}, nil, asking{silent: true})
		return
	}
	if r.guest != nil {
		r.presentLocked()
	}
	r.announceLocked()
	if r.naming = false; r.named {
		r.registerLocked()
	}
	releases := make(map[string]bool) // by verb and name, as it stands in text
	for i := range old {
		a := &old[i]
		if a.literal {
			continue
		}
		if v := a.command.verb; v == wire.Release || v == wire.ReleaseShared {
			releases[string(text[a.from:a.to])] = true
		}
	}
	held := r.claimLocked(releases)
	now := r.up.tick.Load()
	back := false
	for i := range old {
		a := old[i]
		if a.told || a.silent {
			continue
		}
		request := text[a.from:a.to]
		if back = back || r.guest != nil && !a.probe && !a.literal && r.hasLeft(&a, text[a.name:a.to]); back {
			r.text, text = text, r.text // which it is in
			a.again, a.held = true, true
			r.returnLockedTo(&a)
			r.text, text = text, r.text
			continue
		}
		if a.probe {
			r.probeLocked(request, a)
			continue
		}
		if a.literal {
			r.literalLocked(request)
			continue
		}
		n, name, _ := a.command.parse(text[a.name:a.to])
		if len(a.command.args) > 0 {
			if n, name, _ = a.command.parse(request[len(a.command.verb)+1:]); a.command.flags&mayWait != 0 {
				n = n.less(a.command, uint64(now-a.tick)*uint64(tickEvery.Milliseconds()))
			}
		}
		at := a.tick
		r.askLocked(a.command, n, name, asking{again: true, held: held[string(request)]})
		r.queue[len(r.queue)-1].tick = at
	}
	if back {
		r.postLocked()
	}
	if r.stops.Load() { // the wait has been asked for anew, and its client still wants none
		r.askLocked(lookup([]byte(wire.Cancel)), numbers{}, nil, asking{silent: true})
	}
}

// hasLeft tells whether the partition of what is asked has another owner since, for a moment at least: it is
// asked there, behind the claim of what the session held.
func (r *remote) hasLeft(a *asking, name []byte) bool {
	if a.command.flags&ofName == 0 {
		return false
	}
	to, p := r.up.node.routes.Load(), shard.PartitionOf(name)
	return to.to[p] != r.up || uint32(to.since[p]) > a.version
}

// less returns the numbers of a request to wait for so many milliseconds less.
func (n numbers) less(c *command, ms uint64) numbers {
	wait := &n.a
	if c.verb == wire.GetSharedWait {
		wait = &n.b
	}
	*wait -= min(*wait, ms)
	return n
}

// claimLocked claims what the session holds, but for some, and returns which of those it
// holds.
func (r *remote) claimLocked(except map[string]bool) (held map[string]bool) {
	held = make(map[string]bool)
	r.again = nil // which are among these
	var next func(*shard.Piece) (more bool)
	if r.guest != nil { // its client may have come anew, and not said what it holds: that stays in doubt
		next = r.up.locks.HeldIn(r.owner, func(int) bool { return true }).Next
	} else {
		r.up.locks.Doubt(r.owner)
		next = func(p *shard.Piece) bool { return r.up.locks.Recall(r.owner, p) }
	}
	arriving := r.arriving // from elsewhere
	r.arriving = nil
	r.arrives.Store(0)
	var p shard.Piece
	for more := true; more; {
		more = next(&p)
		for _, item := range p.Items {
			name := p.Name(item)
			claim, release, n := wire.Claim, wire.Release, numbers{a: item.Number}
			if item.Kind == shard.Shared {
				claim, release, n.a = wire.Claims, wire.ReleaseShared, 1
			}
			request := release
			if len(name) > 0 {
				request += " " + string(name)
			}
			released := except[request]
			if released {
				if held[request] = true; r.guest == nil {
					continue
				}
			}
			// A node claims this, too, as its release may have to be asked elsewhere: what comes of that
			// claim is nobody's loss.
			_, arrives := arriving[wanted{item.Kind, string(name)}]
			if arrives {
				r.arriveLocked(item.Kind, name)
			}
			r.askLocked(lookup([]byte(claim)), n, name, asking{silent: true, moved: arrives, told: item.Doubted || released})
		}
	}
	return held
}

// expire ends the client if it holds something, or waits, and tells whether it has.
func (r *remote) expire() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch = 0
	if r.gone || r.owner.Held() == 0 && (r.up.node != nil || r.waits.Load() == 0) {
		return false
	}
	r.endLocked(WhyKeepExpired)
	return true
}
