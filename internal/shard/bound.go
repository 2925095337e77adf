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

	// While somebody reclaims what idles in the shards, they keep nothing:
	// they draw one permit at a time, and give each back at once.
	tight      atomic.Bool
	reclaiming sync.Mutex // held by who does
}

func (b *bound) init(limit, shards int) {
	b.limit = int64(limit)
	b.left.Store(b.limit)
	// Small enough that what idles in the shards is a small part of the whole.
	b.batch = min(1024, max(1, int64(limit/(shards*32))))
}

// draw takes up to n permits and returns how many.
func (b *bound) draw(n int64) int64 { return draw(&b.left, n) }

// takePermitLocked tells whether one more lock may be held.
func (s *Shard) takePermitLocked() bool {
	if s.permits == 0 {
		n := s.set.bound.batch
		if s.set.bound.tight.Load() {
			n = 1
		}
		if s.permits = int32(s.set.bound.draw(n)); s.permits == 0 {
			return false
		}
	}
	s.permits--
	return true
}

func (s *Shard) returnPermitLocked() {
	s.permits++
	b := &s.set.bound
	if b.tight.Load() {
		b.left.Add(int64(s.permits))
		s.permits = 0
	} else if int64(s.permits) >= 2*b.batch {
		s.permits -= int32(b.batch)
		b.left.Add(b.batch)
	}
}

// reclaim collects the permits that idle in the shards, so that nobody is
// refused while another shard has one to spare, and takes one of them. It
// takes the shards' mutexes, one at a time.
func (t *Set) reclaim() bool {
	b := &t.bound
	b.reclaiming.Lock()
	defer b.reclaiming.Unlock()
	b.tight.Store(true)
	defer b.tight.Store(false)
	idle := int64(0)
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		idle += int64(s.permits)
		s.permits = 0
		s.mu.Unlock()
	}
	b.left.Add(idle)
	return b.draw(1) == 1
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
	found := s.set.reclaim()
	s.mu.Lock()
	if found {
		s.permits++
	}
	return s.permits > 0
}
