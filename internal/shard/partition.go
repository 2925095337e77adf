package shard

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

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
	// lines up; who has something may claim it and let it go, who waits goes on waiting.
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

// Partition returns the state of a partition. It takes no mutex.
func (t *Set) Partition(p int) PartitionState {
	if t.parts == nil {
		return PartitionServing
	}
	return PartitionState(t.parts[p].state.Load())
}

// Recover begins to serve an absent partition whose holders have to say what they hold,
// and tells whether it was absent. A claim with a token at or above base is made up, and
// refused; what is granted later has one that is not below base.
func (t *Set) Recover(p int, base uint64) bool { panic("not yet") }

// Serve is ServeAll for one partition.
func (t *Set) Serve(p int, now Moment) { t.ServeAll([]int{p}, now) }

// ServeAll serves those of some partitions that recover or are frozen, from now on, and
// gives what is nobody's there to those who wait for it. It holds no mutex for long. Now
// is the time of what it grants.
func (t *Set) ServeAll(ps []int, now Moment) { panic("not yet") }

// Freeze freezes those of some partitions that are served.
func (t *Set) Freeze(ps []int) { panic("not yet") }

// Drop makes partitions absent, whatever they are, and then removes all that they have,
// in steps: so who asks for something there, finds nothing, and looks at Partition then,
// is never misled. Their holders lose what they hold: lost, which may be nil, is called
// for each, without a mutex. Who waits settles with Elsewhere.
func (t *Set) Drop(ps []int, lost func(owner uint32, kind Kind, name []byte)) { panic("not yet") }

// SetCeil has no token granted at or above a ceil, in a partitioned set, where it is 0
// at first: an exclusive lock that nobody has is not got then, the outcome is Frozen, and
// who waits gets nothing. When it is raised, who waits is served; now is the time of that.
func (t *Set) SetCeil(ceil uint64, now Moment) { panic("not yet") }

// Highest returns a token that is not below any that was granted, claimed or imported.
func (t *Set) Highest() uint64 { panic("not yet") }

// HighestIn returns one for a partition, such as Import needs it.
func (t *Set) HighestIn(p int) uint64 { panic("not yet") }

// CountIn returns how many locks are held in some partitions, a shared one once for each
// of its holders, and how many wait there. It walks.
func (t *Set) CountIn(ps []int) (locks, waiters int) { panic("not yet") }
