package session

import (
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// What is in limbo its client was told that it has lost, while it may not have heard of that yet, and the
// lock is held at its owner still: it is let go when the client cannot believe in it any more. Until then it
// is claimed like all else. A client that claims it, or asks for it, has it again.

// shed has the session lose all that it holds there. Who wants no notices has to come again, and finds out
// what he has left.
func (r *remote) shed(lasts time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owner.Now = r.up.moment()
	tells, all := r.tellsLocked(), true
	for _, h := range r.heldLocked(func(int) bool { return true }) {
		if r.isInLimboLocked(h) {
			continue
		}
		r.limboLocked(h, lasts)
		if all = false; tells {
			r.lostLocked(h.name, WhyKeepExpired)
		}
	}
	if !all && !tells {
		r.detach()
	}
}

// limboLocked has a lock be let go after a time, if nothing happens to it before.
func (r *remote) limboLocked(h heldLock, after time.Duration) {
	if r.limbo == nil {
		r.limbo = make(map[wanted]*time.Timer)
	}
	of := wanted{h.kind, string(h.name)}
	var timer *time.Timer
	timer = time.AfterFunc(after, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.limbo[of] == timer && !r.gone {
			r.letGoLocked(h)
		}
	})
	r.limbo[of] = timer
}

func (r *remote) isInLimboLocked(h heldLock) bool {
	return len(r.limbo) > 0 && r.limbo[wanted{h.kind, string(h.name)}] != nil
}

// outOfLimboLocked is for one that its client has again, or that is not held there any more.
func (r *remote) outOfLimboLocked(kind shard.Kind, name []byte) {
	if len(r.limbo) == 0 {
		return
	}
	of := wanted{kind, string(name)}
	if t := r.limbo[of]; t != nil {
		t.Stop()
		delete(r.limbo, of)
	}
}
