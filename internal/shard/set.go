// Package shard is the table of locks: who holds what, how many hold it, and
// what becomes of it when a holder goes. Exclusive and shared locks are two
// name spaces that know nothing of each other.
//
// The invariant: an exclusive lock has exactly one owner, a shared lock's
// count is the number of different owners that hold it, and what an owner
// holds is on that owner's own lists, so that releasing all of it costs
// nothing for anybody else's locks.
//
// The package is pure state. It has no socket, no clock and no log, formats
// nothing and imports nothing of ours: requests come in as calls and outcomes
// go out as values, so every rule can be tested, and checked against a model,
// without a server.
//
// A name's hash chooses one of the shards, an array of values that share
// nothing but a bound on their sizes; a second hash, seeded at random, finds
// the lock within the shard. No request holds the mutexes of two shards at a
// time.
package shard

import (
	"cmp"
	"hash/maphash"
	"math/bits"
	"runtime"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// Set is all the locks of a server. Its methods may be called by any number
// of goroutines; see Owner for the one exception.
type Set struct {
	shards      []Shard
	shift       uint8 // a name's hash shifted right by it is a shard's number
	seed        maphash.Seed
	base        uint64                 // where the tokens of this start begin: a claim with one that is not below is made up
	parts       *[Partitions]partition // nil: the set is not partitioned
	partBits    uint8                  // of a partition's number that a name's hash has, see partition.go
	ownerOf     func(id uint32) *Owner
	recovering  atomic.Bool
	mirror      bool
	maxPerOwner int
	bound       bound

	shares shares
	memory *Memory

	notify     func(owner uint32)
	maxWaiters int
	waiting    atomic.Int64
	limiters   atomic.Int64
	expired    served // Expire's

	sweeping int // the shard that Sweep is in
	unswept  int // how much of it is left
}

// DefaultMaxLocks is how many locks a Set holds when its limits say nothing.
const DefaultMaxLocks = 16 << 20

// DefaultMaxWaiters is how many owners may wait when the limits say nothing.
const DefaultMaxWaiters = 1 << 20

// Config bounds a Set and connects it to what is around it. The zero value
// works where nobody waits.
type Config struct {
	// Locks is how many are held in all; 0 means DefaultMaxLocks. A shared lock
	// counts once for each of its holders and those who wait for it, and a rate
	// that is not full counts as a lock.
	Locks int
	// LocksPerOwner is how many one owner holds; 0 means no bound of its own.
	LocksPerOwner int
	// Waiters is how many owners wait at a time; 0 means DefaultMaxWaiters.
	Waiters int
	// Memory counts what the set takes and bounds it; nil: nothing does.
	Memory *Memory
	// Start is the time in microseconds, from which fencing tokens count.
	Start uint64
	// Recovering has nobody get anything but by a claim, until EndRecovery.
	Recovering bool
	// Partitioned cuts the names into partitions, all of which begin absent, see
	// partition.go. The shards are at most as many. Recovering has no meaning then.
	Partitioned bool
	// Mirror is for a set that only follows another one, see Note.
	Mirror bool
	// OwnerOf returns the owner with an ID, which holds something: a claim, or Note,
	// takes it away. It is called under a shard's mutex. Nil will do where nothing
	// is claimed.
	OwnerOf func(id uint32) *Owner
	// Notify is told, by its ID, that an owner that waited can settle now. It is
	// called by the goroutine whose request let that happen, or by one of the
	// set's own where that was very many, without any mutex.
	Notify func(owner uint32)
}

// DefaultShards returns the number of shards for this machine: the next power
// of two over four times GOMAXPROCS, so that two requests at the same time
// seldom want the same mutex.
func DefaultShards() int { return 1 << bits.Len(uint(4*runtime.GOMAXPROCS(0))) }

// MaxShards bounds the number of shards: each owner that holds anything keeps
// a few bytes for each.
const MaxShards = 1 << 16

// New makes a set of n shards. n is a power of two, 0 for DefaultShards.
func New(n int, cfg Config) *Set {
	if n == 0 {
		n = DefaultShards()
		if cfg.Partitioned || cfg.Mirror {
			n = min(n, Partitions)
		}
	}
	if n < 1 || n > MaxShards || n&(n-1) != 0 {
		panic("shard: the number of shards must be a power of two")
	}
	if cfg.Partitioned && n > Partitions {
		panic("shard: more shards than partitions")
	}
	t := &Set{
		shards:      make([]Shard, n),
		shift:       uint8(64 - bits.TrailingZeros(uint(n))),
		seed:        maphash.MakeSeed(),
		maxPerOwner: cfg.LocksPerOwner,
		maxWaiters:  cmp.Or(cfg.Waiters, DefaultMaxWaiters),
		memory:      cfg.Memory,
		notify:      cfg.Notify,
		base:        cfg.Start,
		ownerOf:     cfg.OwnerOf,
		mirror:      cfg.Mirror,
	}
	if cfg.Partitioned {
		t.parts, cfg.Recovering = new([Partitions]partition), false
	}
	if cfg.Partitioned || cfg.Mirror {
		t.partBits = uint8(max(0, partitionBits-bits.TrailingZeros(uint(n))))
	}
	t.recovering.Store(cfg.Recovering)
	if t.memory == nil {
		t.memory = NewMemory(0)
	}
	t.bound.init(cmp.Or(cfg.Locks, DefaultMaxLocks), n)
	for i := range t.shards {
		s := &t.shards[i]
		s.set, s.pos, s.issued = t, uint16(i), cfg.Start
		s.unsampled, s.sampling.random = 1, uint32(i)*2654435761|1
		s.exclusive.memory, s.shared.memory, s.holds.memory = t.memory, t.memory, t.memory
		s.waiters.memory, s.limiters.memory, s.names.blocks.memory = t.memory, t.memory, t.memory
		s.partial = cfg.Recovering || cfg.Partitioned
		s.byName.memory, s.bySharing.memory, s.byHolder.memory, s.byLimit.memory = t.memory, t.memory, t.memory, t.memory
	}
	return t
}

// lock locks the shard of a name, and returns the hash that finds the name in
// it. Anybody can make up names with one xxhash, and crowd a shard; that they
// meet in its index, too, where a search would be as long as they are many,
// needs the seed.
func (t *Set) lock(name []byte) (*Shard, uint32) {
	sum := xxhash.Sum64(name)
	s, hash := &t.shards[sum>>t.shift], uint32(maphash.Bytes(t.seed, name))
	if t.partBits != 0 {
		hash = t.withPartition(hash, sum)
	}
	s.mu.Lock()
	return s, hash
}

// Get acquires the exclusive lock name for o. It succeeds when nobody holds
// the lock or o itself does.
func (t *Set) Get(o *Owner, name []byte) (Grant, Outcome) {
	return t.get(o, name, 0, true)
}

// GetWait is like Get, but when somebody else holds the lock, o waits for it
// in its queue until due, in milliseconds on the clock of Expire; 0 means that
// it does not wait.
func (t *Set) GetWait(o *Owner, name []byte, due uint64) (Grant, Outcome) {
	return t.get(o, name, due, false)
}

func (t *Set) get(o *Owner, name []byte, due uint64, plain bool) (Grant, Outcome) {
	s, hash := t.lock(name)
	grant, out := s.getLocked(o, hash, name, due)
	for out != Acquired && s.fetchLocked(o.Share, out, len(name)) {
		grant, out = s.getLocked(o, hash, name, due)
	}
	if out.executed() {
		s.recordRequestLocked(Exclusive, out, plain)
		s.sampleLocked(Exclusive, hash, name)
	}
	s.mu.Unlock()
	return grant, out
}

// Release releases the exclusive lock name and tells whether o held it.
func (t *Set) Release(o *Owner, name []byte) bool {
	var v served
	s, hash := t.lock(name)
	ok := s.releaseLocked(o, hash, name, &v)
	s.mu.Unlock()
	t.tell(s, o.Now, &v)
	return ok
}

// Inspect tells whether anybody holds the exclusive lock name: while the set recovers
// somebody may.
func (t *Set) Inspect(name []byte) bool {
	s, hash := t.lock(name)
	defer s.mu.Unlock()
	state := s.stateLocked(hash)
	if state != PartitionAbsent {
		s.recordLocked(Exclusive, inspected)
	}
	return state == PartitionRecovering || s.findLocked(hash, name) != 0
}

// Holder returns the owner's ID of the exclusive lock name, or 0 when nobody
// holds it. It counts as nothing.
func (t *Set) Holder(name []byte) uint32 {
	s, hash := t.lock(name)
	defer s.mu.Unlock()
	if ref := s.findLocked(hash, name); ref != 0 {
		return s.exclusive.at(ref).owner
	}
	return 0
}

// GetShared acquires the shared lock name for o. It succeeds always, past
// those who wait; to get it again changes nothing.
func (t *Set) GetShared(o *Owner, name []byte) (Grant, Outcome) {
	return t.getShared(o, name, noLimit, 0)
}

// GetSharedLimit is like GetShared, but succeeds only while fewer than limit
// hold the lock and nobody waits for it, or o holds it already. limit is at
// least 1.
func (t *Set) GetSharedLimit(o *Owner, name []byte, limit uint32) (Grant, Outcome) {
	return t.getShared(o, name, min(limit, noLimit-1), 0)
}

// GetSharedWait is like GetSharedLimit, but waits in the queue until due; 0
// means that it does not wait.
func (t *Set) GetSharedWait(o *Owner, name []byte, limit uint32, due uint64) (Grant, Outcome) {
	return t.getShared(o, name, min(limit, noLimit-1), due)
}

func (t *Set) getShared(o *Owner, name []byte, limit uint32, due uint64) (Grant, Outcome) {
	s, hash := t.lock(name)
	grant, out := s.getSharedLocked(o, hash, name, limit, due)
	for out != Acquired && s.fetchLocked(o.Share, out, len(name)) {
		grant, out = s.getSharedLocked(o, hash, name, limit, due)
	}
	if out.executed() {
		s.recordRequestLocked(Shared, out, limit == noLimit)
		s.sampleLocked(Shared, hash, name)
	}
	s.mu.Unlock()
	return grant, out
}

// Token returns the fencing token of the exclusive lock name, if o holds it.
func (t *Set) Token(o *Owner, name []byte) (uint64, bool) {
	s, hash := t.lock(name)
	defer s.mu.Unlock()
	if ref := s.findLocked(hash, name); ref != 0 && s.exclusive.at(ref).owner == o.ID {
		return s.exclusive.at(ref).token(), true
	}
	return 0, false
}

// Shares tells whether o has a part in the shared lock name. It counts as nothing.
func (t *Set) Shares(o *Owner, name []byte) bool {
	s, hash := t.lock(name)
	defer s.mu.Unlock()
	return s.findHoldLocked(s.findSharedLocked(hash, name), o.ID) != 0
}

// ReleaseShared ends o's part in the shared lock name and tells whether it
// had one.
func (t *Set) ReleaseShared(o *Owner, name []byte) bool {
	var v served
	s, hash := t.lock(name)
	ok := s.releaseSharedLocked(o, hash, name, &v)
	s.mu.Unlock()
	t.tell(s, o.Now, &v)
	return ok
}

// Ahead appends the IDs of those who may keep others from the shared lock name, as
// far as into has room: its holders, in the order in which they got it, and the
// first of those who wait for it. It counts as nothing.
func (t *Set) Ahead(name []byte, into []uint32) []uint32 {
	s, hash := t.lock(name)
	defer s.mu.Unlock()
	if lock := s.findSharedLocked(hash, name); lock != 0 {
		for ref := s.shared.at(lock).first; ref != 0 && len(into) < cap(into); ref = s.holds.at(ref).next {
			into = append(into, s.holds.at(ref).owner)
		}
		if ref := s.shared.at(lock).queue; ref != 0 && len(into) < cap(into) {
			into = append(into, s.waiters.at(ref).owner)
		}
	}
	return into
}

// InspectShared returns how many hold the shared lock name, which is one at least while
// the set recovers.
func (t *Set) InspectShared(name []byte) int {
	s, hash := t.lock(name)
	defer s.mu.Unlock()
	state := s.stateLocked(hash)
	if state != PartitionAbsent {
		s.recordLocked(Shared, inspected)
	}
	count := s.countLocked(s.findSharedLocked(hash, name))
	if state == PartitionRecovering {
		count = max(count, 1)
	}
	return count
}

// orphanBatch is how many locks are released under one hold of a shard's
// mutex, or fewer with long names: some ten microseconds' worth, so that the
// end of an owner that held a million delays nobody.
const orphanBatch = 128

// ReleaseSome releases up to about n locks of an owner that is gone, counts
// them as orphans and tells whether it holds none any more. If lost is not nil,
// they are noted there.
func (t *Set) ReleaseSome(o *Owner, n int, lost *Lost) bool {
	return t.releaseSome(o, n, orphaned, lost)
}

// LetGoSome does the same for an owner that asks for it: they are no orphans.
func (t *Set) LetGoSome(o *Owner, n int) bool { return t.releaseSome(o, n, letGo, nil) }

func (t *Set) releaseSome(o *Owner, n int, why event, lost *Lost) bool {
	var v served
	if o.Held() == 0 {
		return true
	}
	for i := range t.shards {
		s := &t.shards[i]
		for n > 0 && t.anyIn(o, i) {
			s.mu.Lock()
			s.releaseBatchLocked(o, why, &v, lost)
			s.mu.Unlock()
			t.tell(s, o.Now, &v)
			n -= orphanBatch
		}
	}
	return o.Held() == 0
}

// ReleaseAll releases everything that an owner that is gone holds.
func (t *Set) ReleaseAll(o *Owner) {
	for !t.ReleaseSome(o, 1<<20, nil) {
	}
}

// contested tells whether others may take away what an owner holds: then it looks at
// its lists with the shard's mutex only.
func (t *Set) contested() bool { return t.parts != nil || t.mirror || t.recovering.Load() }

// anyIn tells whether the owner holds anything in a shard, even if others may take it
// away.
func (t *Set) anyIn(o *Owner, i int) bool {
	if t.contested() {
		s := &t.shards[i]
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	return o.holdsIn(i) || o.doubtedIn(i)
}

// holdsIn tells whether the owner holds anything in a shard. It reads what
// only the owner's own requests write.
func (o *Owner) holdsIn(i int) bool {
	return o.exclusive != nil && o.exclusive[i] != 0 || o.shared != nil && o.shared[i] != 0
}

// Limiters returns how many rates the table has.
func (t *Set) Limiters() int { return int(t.limiters.Load()) }

// Stats sums the shards' counters. Each shard's are consistent, and no
// request is counted twice or lost, but requests go on between one shard and
// the next.
func (t *Set) Stats() Stats {
	var sum Stats
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		sum.addLocked(s)
		s.mu.Unlock()
	}
	sum.Waiters, sum.Limiters = int(t.waiting.Load()), t.Limiters()
	return sum
}
