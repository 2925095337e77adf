package session

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// A recovery is the time after a start in which those whom an earlier process has kept
// say what they hold, and nobody else gets anything. Each of them has as long as it may
// be without a connection, from the start on, and not longer whatever it does.
type recovery struct {
	hub     *Hub
	began   time.Time
	missing atomic.Int64 // KEYs without a stream
	ended   atomic.Bool

	mu     sync.Mutex // guards what follows
	open   map[KeyHash]*openClaim
	order  []*openClaim // the same, and others that are not open any more, in the order of their times
	least  time.Time    // not over before
	timer  *time.Timer
	ending bool
	wakes  []func() // of those who wait for the end

	came, lost int // KEYs that have claimed, and that have not
}

// An openClaim is a KEY whose claims are to come.
type openClaim struct {
	recovery *recovery
	lasts    time.Duration
	until    time.Time
	key      KeyHash
	keeping  *keeping // nil: it has not come yet
	closed   atomic.Bool
}

// left is for how long claims are open, and whether they are.
func (o *openClaim) left() (time.Duration, bool) {
	if o == nil || o.recovery.isOver() {
		return 0, false
	}
	left := time.Until(o.until)
	return max(left, 0), left > 0 && !o.closed.Load()
}

// stays does the same for who has not claimed all, though its time may be over.
func (o *openClaim) stays() (left time.Duration, open bool) {
	if left, _ = o.left(); o == nil || o.closed.Load() {
		return 0, false
	}
	return left, true
}

// Recovery is what a server that starts again has to know.
type Recovery struct {
	Began time.Time // by then nobody else served what it serves
	Least time.Duration
	Keys  []StoredKey
	// Over is told when it is over.
	Over func(RecoveryEnd)
}

// A StoredKey is a client that an earlier process has kept.
type StoredKey struct {
	Key KeyHash
	MS  uint64 // for how long
}

// A RecoveryEnd is what has become of a recovery.
type RecoveryEnd struct {
	Took time.Duration
	Came int // clients that came back
	Lost int // and that did not
}

func (h *Hub) beginRecovery(from *Recovery) {
	r := &recovery{hub: h, began: from.Began, open: make(map[KeyHash]*openClaim), least: from.Began.Add(from.Least)}
	for _, k := range from.Keys {
		lasts := time.Duration(k.MS) * time.Millisecond
		o := &openClaim{recovery: r, key: k.Key, lasts: lasts, until: from.Began.Add(lasts)}
		r.open[k.Key] = o
		r.order = append(r.order, o)
	}
	slices.SortFunc(r.order, func(a, b *openClaim) int { return a.until.Compare(b.until) })
	r.missing.Store(int64(len(r.open)))
	h.recovery = r
	r.timer = time.AfterFunc(time.Hour, r.look)
	r.mu.Lock()
	r.timer.Reset(time.Until(r.nextLocked()))
	r.mu.Unlock()
}

// nextLocked is when to look again.
func (r *recovery) nextLocked() time.Time {
	for len(r.order) > 0 && r.order[0].closed.Load() {
		r.order = r.order[1:]
	}
	if len(r.order) == 0 {
		return r.least
	}
	return r.order[0].until
}

// isOver tells whether it is; a nil one is.
func (r *recovery) isOver() bool { return r == nil || r.ended.Load() }

// state is how many KEYs are open, and for how long it goes on at most.
func (r *recovery) state() (open int, left time.Duration, recovers bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended.Load() {
		return 0, 0, false
	}
	last := r.least
	for len(r.order) > 0 && r.order[len(r.order)-1].closed.Load() {
		r.order = r.order[:len(r.order)-1]
	}
	if n := len(r.order); n > 0 && r.order[n-1].until.After(last) {
		last = r.order[n-1].until
	}
	return len(r.open), max(0, time.Until(last)), true
}

// claimOpen answers a resume whose KEY no stream has: it may be one of an earlier
// process.
func (s *Session) claimOpen(r *recovery, hash KeyHash, key, out []byte) []byte {
	st := s.stream
	r.mu.Lock()
	o := r.open[hash]
	if o == nil || o.keeping != nil || !time.Now().Before(o.until) {
		r.mu.Unlock()
		return s.reply(out, 0, wire.UnknownKey, key)
	}
	k := &keeping{stream: st, key: hash, lasts: o.lasts, carrier: st.carrier, open: o}
	o.keeping = k
	r.mu.Unlock()
	r.missing.Add(-1)
	st.account.share.ForceSession()
	st.hub.memory.Add(keepingBytes)
	st.account.share.KeepBytes(keepingBytes)
	s.hub.keeps.add(k, MostSessions)
	s.hub.keeps.resumed.Add(1)
	s.hub.network.Outlives(st.carrier)
	st.door &^= mustResume
	st.keeping.Store(k)
	return appendClaimsOpen(s.prefix(out), max(0, time.Until(o.until)), key)
}

// claimed notes that a client has claimed all. It tells whether the recovery is about to
// end by that: then wake is called when it has.
func (r *recovery) claimed(k *keeping, wake func()) (wait bool) {
	if r.isOver() || k.open == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[k.key] != k.open {
		return false
	}
	k.open.closed.Store(true)
	delete(r.open, k.key)
	r.came++
	if r.endLocked() {
		r.wakes = append(r.wakes, wake)
		return true
	}
	return false
}

// gone notes that a client has ended before it has claimed all.
func (r *recovery) gone(k *keeping) {
	if r.isOver() || k.open == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[k.key] == k.open {
		k.open.closed.Store(true)
		delete(r.open, k.key)
		r.lost++
		r.endLocked()
	}
}

// look ends those whose time is over, with what they have claimed.
func (r *recovery) look() {
	now := time.Now()
	var late []*keeping
	r.mu.Lock()
	if r.ending {
		r.mu.Unlock()
		return
	}
	for !now.Before(r.nextLocked()) && len(r.order) > 0 {
		o := r.order[0]
		o.closed.Store(true)
		delete(r.open, o.key)
		r.lost++
		if o.keeping != nil {
			late = append(late, o.keeping)
			continue
		}
		r.missing.Add(-1)
		if s := r.hub.cfg.Store; s != nil {
			s.Forget(o.key, nil) // there is nothing that would be freed before
		}
	}
	r.mu.Unlock()
	for _, k := range late { // it has given up, or will have to
		r.hub.keeps.expired.Add(1)
		k.condemn(&ending{why: WhyKeepExpired})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.endLocked() {
		r.timer.Reset(time.Until(r.nextLocked()))
	}
}

// endLocked ends the recovery if nothing is open and its time is over, and tells
// whether it does. If only the time is missing, it is looked at again then.
func (r *recovery) endLocked() bool {
	if r.ending || len(r.open) > 0 {
		return r.ending
	}
	if left := time.Until(r.least); left > 0 {
		r.timer.Reset(left)
		return false
	}
	r.ending = true
	r.timer.Stop()
	end := func(error) { r.hub.keeps.start(r.end) } // an error is logged: the next start recovers once more
	if s := r.hub.cfg.Store; s != nil {
		s.Recovered(end)
	} else {
		end(nil)
	}
	return true
}

func (r *recovery) end() {
	h := r.hub
	h.locks.EndRecovery(max(1, shard.MomentOf(h.clock.milliseconds())))
	r.mu.Lock()
	r.ended.Store(true)
	wakes := r.wakes
	r.wakes = nil
	end := RecoveryEnd{Took: time.Since(r.began), Came: r.came, Lost: r.lost}
	r.mu.Unlock()
	for _, wake := range wakes {
		wake()
	}
	if over := h.cfg.Recovery.Over; over != nil {
		over(end)
	}
}

// stop has no more time pass.
func (r *recovery) stop() {
	if r != nil {
		r.mu.Lock()
		r.ending = true
		r.timer.Stop()
		r.mu.Unlock()
	}
}
