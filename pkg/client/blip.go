package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// What a mux does between two connections, and at the beginning of the next one. The
// goroutine that reads does it all, so no reply is read meanwhile.

// startKeeping makes a mux that does not run yet one that outlives its connection. It
// gives that up early enough to have the time for another one.
func (m *mux) startKeeping(k *keeping) {
	m.keeping, k.at = k, m.to
	if m.timeout > 0 {
		m.timeout = min(m.timeout, k.lease.Span()/2)
		m.watch.timeout = m.timeout
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k.timer = time.AfterFunc(k.nap(), m.wakeUp)
}

// nap is how long not to look at the lease.
func (k *keeping) nap() time.Duration { return min(k.lease.Left(k.clock()), longestNap) }

// wakeUp is called by the timer.
func (m *mux) wakeUp() {
	if m.lapsed() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err() == nil {
		m.keeping.timer.Reset(m.keeping.nap())
	}
}

// lapsed tells whether the time is up for what is kept. If so, the mux ends: from now on
// others may have it.
func (m *mux) lapsed() bool {
	k := m.keeping
	if k == nil || !k.lease.Expired(k.clock()) {
		return false
	}
	m.mu.Lock()
	why := errLapsed
	if k.cause != nil {
		why = &awayError{k.cause, k.failed, k.clock() - k.since}
	}
	m.mu.Unlock()
	m.close(why)
	return true
}

// An awayError is why a mux has ended that could not come back in time.
type awayError struct {
	cause  error // why it was away
	failed error // what came of the last attempt to come back; may be nil
	away   time.Duration
}

func (e *awayError) Error() string {
	text := fmt.Sprintf("%v; not back for %v", e.cause, e.away.Round(time.Millisecond))
	if e.failed != nil {
		text += ": " + strings.TrimPrefix(e.failed.Error(), "lockd: ")
	}
	return text
}

func (e *awayError) Unwrap() []error {
	if e.failed == nil {
		return []error{e.cause}
	}
	return []error{e.cause, e.failed}
}

// Away is for those who say so in other words.
func (e *awayError) Away() time.Duration { return e.away }

// mayUse returns why a reply that was read is not to be used, if so.
func (m *mux) mayUse() error {
	if m.lapsed() {
		return errLapsed
	}
	return m.err()
}

// drop ends a connection that is not to be trusted: the mux, or that of a mux which goes
// on over the next one.
func (m *mux) drop(cause error) {
	if m.keeping == nil {
		m.close(cause)
		return
	}
	m.mu.Lock()
	if m.cause == nil {
		m.cause = cause
	}
	t := m.transport
	m.mu.Unlock()
	t.close()
}

// leave ends the mux because of cause. A server that keeps its locks is told that this
// is for good, lest it keep them.
func (m *mux) leave(cause error) {
	if m.keeping == nil || m.lapsed() {
		m.close(cause)
		return
	}
	m.mu.Lock()
	if m.down || m.err() != nil {
		m.mu.Unlock()
		m.close(cause)
		return
	}
	defer m.mu.Unlock()
	if m.cause == nil {
		m.cause = cause
	}
	m.endLocked(m.cause)
	m.leaving = true
	m.out = m.out[:0]
	m.appendLocked(m.sessions.get(0), bye, arguments{}, "")
	m.transport.expireReads(time.Now().Add(grace))
}

// hearOut reads on to the end, so that the last request is sent and answered before the
// connection is closed.
func hearOut(t transport) {
	for {
		if _, err := t.readLine(); err != nil {
			return
		}
	}
}

// suspend takes note that the connection is lost. What was given up is forgotten.
func (m *mux) suspend(t transport, cause error) {
	t.close()
	m.watch.met()
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.keeping
	m.down, m.out = true, m.out[:0]
	k.since, k.recovers, k.lost, k.forgotten = k.clock(), false, 0, nil
	m.wake.Signal()
	for s := range m.sessions.all() {
		s.claim = nil
		if s.asides.Swap(0) > 0 {
			s.unsure = true
		}
		switch s.state.Load() {
		case forsaken:
			m.forgetLocked(s)
		case calling:
			if s.verb.once && s.state.CompareAndSwap(calling, resolved) {
				s.err = lost(cause)
				s.done <- struct{}{}
			}
		}
	}
}

// forgetLocked leaves the session of a call that was given up to the next connection: by
// not naming it, that frees what it may hold. Only then is it free for others, who would
// find a lock there otherwise, with the token of another holder.
func (m *mux) forgetLocked(s *session) {
	s.err = nil
	if s.number == 0 {
		m.putLocked(s)
		return
	}
	s.state.Store(forsaken)
	m.keeping.forgotten = append(m.keeping.forgotten, s)
}

// comeBack makes the next connection, and returns it. If it returns nil, the mux has
// ended.
func (m *mux) comeBack(cause error) transport {
	k := m.keeping
	m.mu.Lock()
	k.cause, k.failed = cause, nil
	if m.err() == nil {
		m.cause = nil // it was the connection's only
	}
	m.mu.Unlock()
	k.news.add(m.to, KeepEvent{Kind: KeepBlip, Err: cause, Span: k.lease.Left(k.clock())})
	backoff := k.backoff()
	backoff.most = min(backoff.most, max(k.lease.Span()/8, 1))
	backoff.bound = min(backoff.bound, backoff.most)
	others := k.others()
	for i := 0; ; i++ {
		timer := time.NewTimer(backoff.pause())
		select {
		case <-timer.C:
		case <-m.ctx.Done():
			timer.Stop()
			return nil
		}
		if m.lapsed() {
			return nil
		}
		// Every other time where it was: only there they know for sure that they know
		// nothing.
		to, elsewhere := m.to, i%2 == 1 && len(others) > 0
		if elsewhere {
			to = others[i/2%len(others)]
		}
		t, r, err := k.resume(m.ctx, to)
		switch {
		case err == nil:
			if m.resume(t, to, r) {
				return t
			}
			t.close()
			return nil
		case !elsewhere && (errors.Is(err, ErrForgotten) || k.blipsOnly && isNobody(err) && len(others) == 0):
			m.close(fmt.Errorf("%w (%w)", cause, ErrForgotten))
		default:
			m.mu.Lock()
			k.failed = err
			m.mu.Unlock()
		}
		if m.lapsed() || m.err() != nil {
			return nil
		}
	}
}

// resume goes on over the next connection. First of all it says what it holds: then the
// server knows that nobody else may have it. Then it asks again what was not
// answered, in no order, since each session has asked for one thing. At last it says
// that this was all. It returns false if it is too late for that.
func (m *mux) resume(t transport, to target, r resumed) bool {
	k := m.keeping
	now, ok := k.clock(), false
	if r.forgotten {
		ok = k.lease.ClaimsOpen(now, r.sent, r.left)
	} else {
		ok = k.lease.Answered(now, r.sent)
	}
	if !ok {
		m.lapsed()
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err() != nil {
		return false
	}
	m.transport, m.down, m.cause, m.full = t, false, nil, false
	m.to = to
	k.recovers = r.forgotten
	m.askingLocked() // no later than now, before all that is written
	for s := range m.sessions.all() {
		if lock := s.lock; lock != nil && !lock.released.Load() && s.state.Load() == resolved {
			s.claim = lock
			v, number := claimOf(lock)
			m.appendLocked(s, v, arguments{n: [3]uint64{number}, count: 1}, lock.name)
		}
	}
	for s := range m.sessions.all() {
		if s.note != "" || s.unsure || s.number == 0 && m.name != "" {
			m.registerLocked(s, s.note)
		}
		if s.state.Load() == calling {
			if s.lines != nil {
				s.lines.clear()
			}
			m.appendLocked(s, s.verb, s.numbers, s.name)
		}
	}
	m.tellLocked(m.sessions.get(0), claimed)
	m.watch.extend(m.asked)
	if m.reads {
		m.newMap()
	}
	return true
}

// claimOf is the request that claims a lock, and the number in it.
func claimOf(lock *Lock) (*verb, uint64) {
	if lock.shared {
		return claims, 1
	}
	return claim, uint64(lock.number)
}

// claimAnswered takes the answer to a claim.
func (m *mux) claimAnswered(s *session, line []byte) error {
	lock := s.claim
	s.claim = nil
	v, n := claimOf(lock)
	r, err := parseReply(line, v, lock.name, v.most)
	if err == nil && r.err == nil && !lock.shared && uint64(r.n) != n {
		err = notReply(line, v)
	}
	if err != nil || r.err == nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keeping.lost++
	m.loseLocked(s, lock, r.err)
	return nil
}

// claimedLocked takes note that the server has let go all that was not claimed. It
// returns false if it is too late for that.
func (m *mux) claimedLocked() bool {
	k := m.keeping
	now := k.clock()
	if !k.lease.Claimed(now, k.sent) {
		return false
	}
	e := KeepEvent{Kind: KeepResumed, Span: max(now-k.since, 0), Lost: k.lost}
	switch {
	case m.to != k.at:
		// It never had anything of this client, so it cannot have forgotten it.
		e.Kind, e.From = KeepMoved, k.at.String()
	case k.recovers:
		e.Kind = KeepRecovered
	}
	k.at = m.to
	k.cause, k.failed, k.recovers, k.lost = nil, nil, false, 0
	for _, s := range k.forgotten {
		m.putLocked(s)
	}
	k.forgotten = nil
	k.news.add(m.to, e)
	return true
}

// notice takes what the server tells without having been asked. What is not known is
// for newer clients.
func (m *mux) notice(number int64, text []byte) {
	switch {
	case string(text)+"\n" == wire.Draining:
		if m.keeping != nil {
			m.keeping.news.add(m.to, KeepEvent{Kind: KeepDraining})
		}
		if m.reads {
			m.retire() // other nodes grant what this one does not any more
		}
	case hasPrefix(text, wire.NewMap):
		if m.reads {
			m.newMap()
		}
	case hasPrefix(text, wire.LockLost):
		s := m.sessions.get(number)
		if s == nil {
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if lock := s.lock; lock != nil && echoes(text[len(wire.LockLost):], lock.name) {
			m.loseLocked(s, lock, ErrRevoked)
		}
	}
}

// hold makes the lock of a session whose request was granted. That is for the goroutine
// that reads: the next line may say that it is lost.
func (m *mux) hold(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.lock = &Lock{name: s.name, number: s.n, shared: s.verb.space == shared, mux: m, session: s, lost: make(chan struct{})}
	if err := m.err(); err != nil {
		s.lock.loseLocked(err)
	}
}

// take hands the lock of a session to its caller.
func (m *mux) take(s *session) *Lock {
	m.mu.Lock()
	defer m.mu.Unlock()
	lock := s.lock
	lock.taken = true
	if lock.why != nil {
		m.putLocked(s)
	}
	return lock
}

// giveBack asks to release a lock, unless it is lost.
func (m *mux) giveBack(lock *Lock, v *verb) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := lock.session
	if lock.why != nil {
		if s.lock == lock {
			m.putLocked(s)
		}
		return lock.why
	}
	if err := m.err(); err != nil {
		return err
	}
	m.askLocked(s, v, arguments{}, lock.name)
	return nil
}

// loseLocked notes that a lock alone is lost. Its session is free then, unless somebody
// else is about to free it: who is about to get the lock, or to release it.
func (m *mux) loseLocked(s *session, lock *Lock, why error) {
	if lock.why != nil {
		return
	}
	lock.loseLocked(lost(why))
	if s.lock == lock && lock.taken && !lock.released.Load() {
		m.putLocked(s)
	}
}

// loseLocked tells that the lock is lost. The mux's mutex is held.
func (l *Lock) loseLocked(why error) {
	if l.why == nil {
		l.why = why
		close(l.lost)
	}
}

// outlivesServer tells whether the mux is there to come back to the server when that
// has ended and is started again: then there is no need to look for another one, whose
// locks are others.
func (m *mux) outlivesServer() bool { return m.keeping != nil && !m.keeping.blipsOnly }

// keepBegins is the news of a connection that was made.
func (m *mux) keepBegins() KeepEvent {
	e := KeepEvent{Kind: KeepBegun}
	if m.keeping != nil {
		e.Span = m.keeping.lease.Span()
	}
	if len(m.missing) > 0 {
		e.Kind, e.Err = KeepLimited, errors.Join(m.missing...)
	}
	return e
}

// pauseFor waits for a while before a server that grants nothing for now is asked
// again, longer if that has gone on for longer.
func (m *mux) pauseFor(ctx context.Context, why error, since time.Duration) error {
	most := min(maxPause+since/4, maxRepeat)
	timer := time.NewTimer(most/5 + rand.N(most*4/5))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.ctx.Done():
	case <-ctx.Done():
		return fmt.Errorf("%w; waiting for the end of that: %w", why, ctx.Err())
	}
	return nil
}

// maxRepeat is the longest pause between two times that one asks for something that is
// not to be had from anybody for now.
const maxRepeat = time.Second
