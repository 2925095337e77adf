package shard

import (
	"sync"
	"sync/atomic"
)

// A bound limits how many locks all shards hold together without a counter
// that every request writes: shards draw permits from it in batches and give
// them back in batches.
type bound struct {
	left  atomic.Int64
	limit int64
	batch int64

	// While somebody reclaims what idles in the shards, and while more is taken
	// than the limit (see Claim), they keep nothing: they draw one permit at a
	// time, and give each back at once: most, of which they give some back, is 1.
	most       atomic.Int32
	reclaiming sync.Mutex // held by who does, and by who ends that
}

func (b *bound) init(limit, shards int) {
	b.limit = int64(limit)
	b.left.Store(b.limit)
	// Small enough that what idles in the shards is a small part of the whole.
	b.batch = min(1024, max(1, int64(limit/(shards*32))))
	b.loosen()
}

func (b *bound) loosen()     { b.most.Store(int32(2 * b.batch)) }
func (b *bound) tight() bool { return b.most.Load() == 1 }

// draw takes up to n permits and returns how many.
func (b *bound) draw(n int64) int64 { return draw(&b.left, n) }

// takePermitLocked tells whether one more lock may be held.
func (s *Shard) takePermitLocked() bool {
	if s.permits <= 0 {
		n := s.set.bound.batch
		if s.set.bound.tight() {
			n = 1
		}
		if s.permits += int32(s.set.bound.draw(n - int64(s.permits))); s.permits <= 0 {
			return false
		}
	}
	s.permits--
	return true
}

func (s *Shard) returnPermitLocked() {
	if s.permits++; s.permits >= s.set.bound.most.Load() {
		s.returnPermitsLocked()
	}
}

// returnPermitsLocked gives back what may not idle in a shard.
func (s *Shard) returnPermitsLocked() {
	b := &s.set.bound
	if !b.tight() {
		if int64(s.permits) >= 2*b.batch { // else it was tight just before
			s.permits -= int32(b.batch)
			b.left.Add(b.batch)
		}
		return
	}
	left := b.left.Add(int64(s.permits))
	s.permits = 0
	if left > 0 && b.reclaiming.TryLock() { // there are some again
		b.loosen()
		b.reclaiming.Unlock()
	}
}

// reclaim collects the permits that idle in the shards, so that nobody is
// refused while another shard has one to spare, and takes n of them, if
// there are any. It takes the shards' mutexes, one at a time.
func (t *Set) reclaim(n int64) bool {
	b := &t.bound
	b.reclaiming.Lock()
	defer b.reclaiming.Unlock()
	b.most.Store(1)
	idle := int64(0)
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		idle += int64(s.permits)
		s.permits = 0
		s.mu.Unlock()
	}
	left := b.left.Add(idle)
	got := b.draw(n)
	if left >= 0 {
		b.loosen()
	}
	return got > 0
}

// fetchLocked tells whether a request is to be made again that has found a bound
// reached: something was to spare elsewhere, and there is some here now.
func (s *Shard) fetchLocked(h *Share, out Outcome, size int) bool {
	switch out {
	case Full:
		return s.fetchPermitLocked()
	case ShareFull, ShareBytes:
		return s.fetchShareLocked(h, size)
	}
	return false
}

// fetchPermitLocked tells whether a request that found the table full is to be
// made again: another shard had a permit to spare, and there is one here now.
// The mutex was let go meanwhile, so what the request has seen may have changed.
func (s *Shard) fetchPermitLocked() bool {
	s.mu.Unlock()
	found := s.set.reclaim(1)
	s.mu.Lock()
	if found {
		s.permits++
	}
	return s.permits > 0
}
