package session

import (
	"cmp"
	"slices"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/wire"
)

// The look-out is a goroutine that sees to the times of an Upstream: what was asked and
// is not answered, whether the connection lives, and until when what clients hold is
// believed.

const (
	tickEvery = 15 * time.Millisecond
	restEvery = 10 * tickEvery // while nothing is pending
	// plainTicks is after how many ticks a request is late that is answered at once
	// whatever upstream does: its client takes a line that comes after 100 ms for the
	// next reply.
	plainTicks = 3
	pingMost   = time.Second
	deadLeast  = 2 * time.Second
	deadMost   = 10 * time.Second
	// mostBacklog is how many bytes may wait to be sent while upstream does not answer.
	mostBacklog = 16 << 20
)

// rouse has it look often, since something is pending. It is called before a request is put
// into a queue, for the time that it notes, and after that: the look-out may just have gone
// to rest.
func (u *Upstream) rouse() {
	if u.rests.Load() && u.rests.CompareAndSwap(true, false) {
		u.tick.Store(u.ticks())
		select {
		case u.kick <- struct{}{}:
		default:
		}
	}
}

func (u *Upstream) ticks() uint32 { return uint32(time.Since(u.hub.clock.start)/tickEvery) + 1 }

func (u *Upstream) lookOut() {
	timer := time.NewTimer(tickEvery)
	defer timer.Stop()
	var asked [plainTicks + 1]uint64               // how many had been, some ticks ago
	quiet, epoch, since := 0, uint32(0), uint32(0) // since when there has been that connection, or none
	for {
		select {
		case <-u.done:
			return
		case <-u.kick:
		case <-timer.C:
		}
		u.tick.Store(u.ticks())
		u.giveUp() // before anybody is answered in upstream's place, as after a pause all are overdue
		live := u.live.Load()
		u.mu.Lock()
		now := u.asked
		u.mu.Unlock()
		if live != epoch {
			epoch, since = live, u.tick.Load()
			clear(asked[:])
		}
		behind := u.answered.Load() < asked[0]
		copy(asked[:], asked[1:])
		asked[plainTicks] = now
		pending := false
		if live == 0 || behind || u.replays.Load() {
			pending = u.late(since)
		}
		u.see(live)
		if quiet++; pending || u.answered.Load() < now || live == 0 && u.lease.Load() != nil { // which ends, see stopsIn
			quiet = 0
		}
		every := tickEvery
		if quiet >= restAfter {
			u.rests.Store(true)
			if every = restEvery; u.pends(now) {
				u.rests.Store(false)
				quiet, every = 0, tickEvery
			}
		}
		timer.Reset(every)
	}
}

// restAfter is after how many ticks in which nothing was late it looks less often.
const restAfter = 10

// late answers who has waited for too long. Of patience it is the time since upstream is
// away that counts: who may wait may have waited long before, in line. It returns whether
// anybody waits.
func (u *Upstream) late(since uint32) (pending bool) {
	now, patience := u.tick.Load(), uint32(u.cfg.Patience/tickEvery)
	for i := range *u.all.Load() {
		if r := u.find(uint64(i)); r != nil && r.pending.Load() > 0 {
			if u.neverAnswers() && r.isAskedElsewhere() {
				r.takeBack()
			}
			r.late(now, max(plainTicks, uint32(u.cfg.Prompt/tickEvery)), patience, since)
			pending = true
		}
	}
	return pending
}

// neverAnswers tells whether there is nobody at the other end of a node's link, for ever.
func (u *Upstream) neverAnswers() bool {
	return u.node != nil && (u == u.node.nobody || u.gone.Load())
}

// pends tells whether something has been asked since so many requests had been, or is while
// there is no connection, or not for all yet.
func (u *Upstream) pends(asked uint64) bool {
	if u.live.Load() == 0 || u.replays.Load() {
		for i := range *u.all.Load() {
			if r := u.find(uint64(i)); r != nil && r.pending.Load() > 0 {
				return true
			}
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked != asked
}

// see looks whether upstream is there.
func (u *Upstream) see(live uint32) {
	if u.gone.Load() {
		return
	}
	l, now := u.lease.Load(), lease.Now()
	u.mu.Lock()
	oldest := cmp.Or(u.began, now)
	pings := false
	for _, m := range u.mine {
		if m.verb == wire.Ping { // `claimed` may be a long time coming
			pings = true
			oldest = min(oldest, m.sent)
		}
	}
	ask := live != 0 && l != nil && !pings && now-u.pinged >= min(pingMost, l.Span()/20)
	if ask {
		u.pinged = now
		u.askLocked(wire.Ping, "")
	}
	silent, backlog := now-oldest, len(u.out)
	u.mu.Unlock()
	if ask {
		u.cfg.Flush()
	}
	if silent > silentMost(l) || silent > pingMost && backlog > mostBacklog {
		u.cfg.Log("it does not answer: connecting again")
		u.cfg.Cut()
	}
}

// askNow has upstream asked for a sign of life at once, unless it owes one.
func (u *Upstream) askNow() {
	if !u.Live() {
		return
	}
	u.mu.Lock()
	owes := slices.ContainsFunc(u.mine, func(m own) bool { return m.verb == wire.Ping })
	if !owes {
		u.pinged = lease.Now()
		u.askLocked(wire.Ping, "")
	}
	u.mu.Unlock()
	if !owes {
		u.cfg.Flush()
	}
}

// silentMost is for how long upstream may owe an answer until it is tried over another
// connection. It costs next to nothing to do that, but not to do it may cost all that is
// held, as a server that a connection has led to for an hour may be somewhere else now.
func silentMost(l *lease.Lease) time.Duration {
	if l == nil {
		return deadMost
	}
	return min(max(deadLeast, l.Span()/4), deadMost)
}
