package shard

import "sync/atomic"

// A bound limits how many locks all shards hold together without a counter
// that every request writes: shards draw permits from it in batches and give
// them back in batches.
type bound struct {
	left  atomic.Int64
	batch int64
}

func (b *bound) init(limit, shards int) {
	b.left.Store(int64(limit))
	// Small enough that what idles in the shards is a small part of the whole.
	b.batch = min(1024, max(1, int64(limit/(shards*32))))
}

// draw takes up to a batch of permits.
func (b *bound) draw() int64 {
	for {
		left := b.left.Load()
		n := min(b.batch, left)
		if n <= 0 {
			return 0
		}
		if b.left.CompareAndSwap(left, left-n) {
			return n
		}
	}
}

// takePermit tells whether one more lock may be held.
func (s *Shard) takePermitLocked() bool {
	if s.permits == 0 {
		s.permits = s.set.bound.draw()
	}
	if s.permits == 0 {
		return false
	}
	s.permits--
	return true
}

func (s *Shard) returnPermitLocked() {
	s.permits++
	if b := &s.set.bound; s.permits >= 2*b.batch {
		s.permits -= b.batch
		b.left.Add(b.batch)
	}
}

// reclaim collects the permits that idle in the shards, so that none is
// refused while another shard has one to spare. It tells whether there were
// any.
func (t *Set) reclaim() bool {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n := s.permits
		s.permits = 0
		s.mu.Unlock()
		if n > 0 {
			t.bound.left.Add(n)
		}
	}
	return t.bound.left.Load() > 0
}
