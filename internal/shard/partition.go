package shard

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// Partitions. A node of a cluster serves some parts of the names, and the others are
// elsewhere: each part of a partitioned set is in a state of its own, which every request
// looks at under the shard's mutex. The methods that change a partition's state are for
// one goroutine at a time; those of others may be changed meanwhile, and requests made.
//
// Whatever has a name tells its partition without a look at that: the hash that finds it
// within its shard has the partition's number, less what the shard's own number tells, in
// bits that choose neither a segment nor a slot (see index.go). There are six of those,
// enough for 16 shards or more; with fewer shards, a segment's go for it, too.

// Partitions is how many parts the names are cut into, by the uppermost bits of the
// hash that chooses the shard: so a shard has whole partitions, if there are no more
// shards than partitions.
const Partitions = 1 << partitionBits

const partitionBits = 10

// PartitionOf returns the partition of a name.
func PartitionOf(name []byte) int { return int(xxhash.Sum64(name) >> (64 - partitionBits)) }

// A PartitionState is what a partitioned set does with a partition.
type PartitionState uint8

// The states. A set that is not partitioned serves all.
const (
	// PartitionAbsent: it is somebody else's. Nothing is there, nothing is executed, and
	// who asks is told Elsewhere.
	PartitionAbsent PartitionState = iota
	// PartitionRecovering: nobody gets anything but by a claim, see recover.go.
	PartitionRecovering
	// PartitionFrozen: it is on the move, here or away. Nobody gets anything new, nor
	// lines up, or has what another owner has or waits for; who has something may claim it and
	// let it go, who waits goes on waiting.
	PartitionFrozen
	// PartitionServing: all is as ever.
	PartitionServing
)

func (p PartitionState) String() string {
	return [...]string{"absent", "recovering", "frozen", "serving"}[p]
}

// A partition's state is written under its shard's mutex, and read by anybody.
type partition struct {
	state atomic.Uint32
	base  uint64 // a claim while it recovers is of a token below; guarded by the shard's mutex
}

// hashPartition is where in a name's hash the lower bits of its partition are.
const hashPartition = 10

// withPartition returns a hash with the partition of a name that xxhash makes a sum of.
func (t *Set) withPartition(hash uint32, sum uint64) uint32 {
	mask := uint32(1)<<t.partBits - 1
	return hash&^(mask<<hashPartition) | uint32(sum>>(64-partitionBits))&mask<<hashPartition
}

// partitionOf returns the partition of a name in a shard by its hash.
func (s *Shard) partitionOf(hash uint32) int {
	bits := s.set.partBits
	return int(s.pos)<<bits | int(hash>>hashPartition)&(1<<bits-1)
}

// partitionsOf returns the partitions of a shard: from the first one to before the end.
func (t *Set) partitionsOf(shard int) (first, end int) {
	return shard << t.partBits, (shard + 1) << t.partBits
}

// stateLocked returns the state of a name's partition. A set that recovers as a whole is
// as if it had one.
func (s *Shard) stateLocked(hash uint32) PartitionState {
	if !s.partial {
		return PartitionServing
	}
	return s.lookUpStateLocked(hash)
}

func (s *Shard) lookUpStateLocked(hash uint32) PartitionState {
	if s.set.parts == nil {
		return PartitionRecovering
	}
	return PartitionState(s.set.parts[s.partitionOf(hash)].state.Load())
}

// notServedLocked tells why nobody gets a new exclusive lock; Acquired: somebody does.
func (s *Shard) notServedLocked(state PartitionState) Outcome {
	switch {
	case state == PartitionAbsent:
		return Elsewhere
	case state == PartitionFrozen || !s.anyTokenLocked():
		return Frozen
	}
	return Acquired
}

// heldUpLocked tells whether a lock that is let go is not given to who waits for it now.
func (s *Shard) heldUpLocked(hash uint32) bool {
	if s.stateLocked(hash) != PartitionServing {
		return true
	}
	s.starved = s.starved || !s.anyTokenLocked()
	return s.starved
}

// anyTokenLocked tells whether there is one below the ceil.
func (s *Shard) anyTokenLocked() bool { return s.set.parts == nil || s.issued+1 < s.ceil }

// Partition returns the state of a partition. It takes no mutex.
func (t *Set) Partition(p int) PartitionState {
	if t.parts == nil {
		return PartitionServing
	}
	return PartitionState(t.parts[p].state.Load())
}

// lockPartition locks the shard of a partition.
func (t *Set) lockPartition(p int) (*Shard, *partition) {
	s := &t.shards[p>>t.partBits]
	s.mu.Lock()
	return s, &t.parts[p]
}

func (p *partition) is(state PartitionState) bool { return PartitionState(p.state.Load()) == state }
func (p *partition) become(state PartitionState)  { p.state.Store(uint32(state)) }

// Recover begins to serve an absent partition whose holders have to say what they hold,
// and tells whether it was absent. A claim with a token at or above base is made up, and
// refused; what is granted later has one that is not below base.
func (t *Set) Recover(p int, base uint64) bool {
	s, part := t.lockPartition(p)
	defer s.mu.Unlock()
	if !part.is(PartitionAbsent) {
		return false
	}
	part.base = base
	if base > 0 {
		s.issued = max(s.issued, base-1)
	}
	part.become(PartitionRecovering)
	return true
}

// baseLocked is where the tokens begin that nobody can have from before.
func (s *Shard) baseLocked(hash uint32) uint64 {
	if s.set.parts == nil {
		return s.set.base
	}
	return s.set.parts[s.partitionOf(hash)].base
}

// Freeze freezes those of some partitions that are served.
func (t *Set) Freeze(ps []int) {
	for _, p := range ps {
		s, part := t.lockPartition(p)
		if part.is(PartitionServing) {
			part.become(PartitionFrozen)
		}
		s.mu.Unlock()
	}
}

// Serve is ServeAll for one partition.
func (t *Set) Serve(p int, now Moment) { t.ServeAll([]int{p}, now) }

// ServeAll serves those of some partitions that recover or are frozen, from now on, and
// gives what is nobody's there to those who wait for it. It holds no mutex for long. Now
// is the time of what it grants.
func (t *Set) ServeAll(ps []int, now Moment) {
	in := t.shardsOf(ps)
	for i := range t.shards {
		if len(in[i]) > 0 && t.beginServing(i, in[i]) {
			t.serveUnclaimed(&t.shards[i], now)
		}
	}
}

// endRecoveries serves all partitions that recover.
func (t *Set) endRecoveries(now Moment) {
	var ps []int
	for p := range t.parts {
		if t.Partition(p) == PartitionRecovering {
			ps = append(ps, p)
		}
	}
	t.ServeAll(ps, now)
}

// shardsOf sorts partitions by their shards.
func (t *Set) shardsOf(ps []int) [][]int {
	in := make([][]int, len(t.shards))
	for _, p := range ps {
		in[p>>t.partBits] = append(in[p>>t.partBits], p)
	}
	return in
}

// beginServing has partitions of a shard served, and tells whether anybody may have
// waited for that.
func (t *Set) beginServing(shard int, ps []int) bool {
	s := &t.shards[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range ps {
		if part := &t.parts[p]; !part.is(PartitionAbsent) {
			part.become(PartitionServing)
		}
	}
	return s.waiters.live > 0
}

// serveUnclaimed gives what is nobody's in a shard, and may be had, to those who wait.
func (t *Set) serveUnclaimed(s *Shard, now Moment) {
	for kind := Exclusive; kind < Kinds; kind++ {
		for ref := uint32(1); ref != 0; {
			var v served
			s.mu.Lock()
			ref = s.serveUnclaimedLocked(kind, ref, now, &v)
			s.mu.Unlock()
			t.tell(s, now, &v)
		}
	}
}

// SetCeil has no token granted at or above a ceil, in a partitioned set, where it is 0
// at first: an exclusive lock that nobody has is not got then, the outcome is Frozen, and
// who waits gets nothing. When it is raised, who waits is served; now is the time of that.
func (t *Set) SetCeil(ceil uint64, now Moment) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		s.ceil = ceil
		starved := s.starved && s.anyTokenLocked()
		if starved {
			s.starved = false
		}
		s.mu.Unlock()
		if starved {
			t.serveUnclaimed(s, now)
		}
	}
}

// Highest returns a token that is not below any that was granted, claimed or imported.
func (t *Set) Highest() (highest uint64) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		highest = max(highest, s.issued)
		s.mu.Unlock()
	}
	return highest
}

// HighestIn returns one for a partition, such as BeginImport needs it.
func (t *Set) HighestIn(p int) uint64 {
	s, _ := t.lockPartition(p)
	defer s.mu.Unlock()
	return s.issued
}

// CountIn returns how many locks are held in some partitions, a shared one once for each
// of its holders, and how many wait there. It walks.
func (t *Set) CountIn(ps []int) (locks, waiters int) {
	in := t.shardsOf(ps)
	for i := range t.shards {
		if len(in[i]) == 0 {
			continue
		}
		s, among := &t.shards[i], amongOf(in[i])
		stepSlab(s, &s.exclusive, func(_ uint32, e *exclusive) int {
			if e.owner != 0 && among.has(s.partitionOf(e.hash)) {
				locks++
			}
			return 0
		})
		stepSlab(s, &s.holds, func(_ uint32, h *hold) int {
			if h.lock != 0 && among.has(s.partitionOf(s.shared.at(h.lock).hash)) {
				locks++
			}
			return 0
		})
		stepSlab(s, &s.waiters, func(_ uint32, w *waiter) int {
			if w.came != 0 && w.state == queued && among.has(s.partitionOf(s.wantedLocked(w).hash)) {
				waiters++
			}
			return 0
		})
	}
	return locks, waiters
}

// among is a set of partitions.
type among [Partitions / 64]uint64

func amongOf(ps []int) *among {
	a := new(among)
	for _, p := range ps {
		a[p/64] |= 1 << (p % 64)
	}
	return a
}

func (a *among) has(p int) bool { return a[p/64]>>(p%64)&1 != 0 }

// slabStep is how many items are looked at while a shard's mutex is held.
const slabStep = 1024

// stepSlab calls f for each item of a slab that is there throughout, and some others,
// also free ones, in steps, and then, without the mutex, after each step what is to be
// done. f tells how much more work it was than a look, in looks.
func stepSlab[T any](s *Shard, items *slab[T], f func(ref uint32, item *T) (work int), after ...func()) {
	for ref := uint32(1); ref != 0; {
		s.mu.Lock()
		ref = stepLocked(items, ref, f)
		s.mu.Unlock()
		for _, f := range after {
			f()
		}
	}
}

// stepLocked does one step from ref on, and returns where to go on, 0 at the end.
func stepLocked[T any](items *slab[T], ref uint32, f func(ref uint32, item *T) (work int)) (next uint32) {
	if items.live == 0 {
		return 0
	}
	for work := 0; ref < items.end(); ref++ {
		if work >= slabStep {
			return ref
		}
		work++
		if !items.chunkOf(ref) {
			ref += chunkItems - 1 - (ref-1)%chunkItems
			continue
		}
		work += f(ref, items.at(ref))
	}
	return 0
}
