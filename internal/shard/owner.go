package shard

import "sync/atomic"

// An Owner is whoever holds locks: one session. Its methods are the Set's,
// which take it as an argument.
//
// An owner makes one request at a time: two goroutines must not pass the same
// Owner to a Set at the same time. Different owners need no such care. One that
// waits settles or cancels that before it makes any other request, but that it may
// put in doubt what it holds, claim it, and drop what it has not claimed, as long
// as nothing was granted to it: that is settled first.
type Owner struct {
	// ID names the owner in the table. No two owners that hold anything have
	// the same.
	ID uint32

	// Now is the time of the owner's next request: by it those who look are told
	// since when somebody, the owner or another one whom the request serves,
	// holds a lock or waits. It may be the same for a few requests in a row.
	Now Moment

	// Share bounds what the owner's client has; nil: nothing does. All owners of
	// a client have the same, and one that holds anything or waits keeps it.
	Share *Share

	// The first of what this owner holds in each shard, so that its locks can
	// be released without looking at anybody else's. Made when the first lock
	// is; element i is guarded by shard i's mutex.
	exclusive []uint32
	shared    []uint32

	// held counts the locks of both kinds, but for those in taken, which others have
	// taken away by their claims.
	held  int32
	taken atomic.Int32

	doubts *doubts // nil: nothing is in doubt

	// What the owner waits for: a waiter of a shard, 0 for none. Only the
	// owner's own requests write it.
	waiter  uint32
	waitsAt uint32 // the shard's number
}

// Waits tells whether the owner waits for a lock, or has not been told yet
// what became of it.
func (o *Owner) Waits() bool { return o.waiter != 0 }

// Doubted tells whether there may be something in doubt, see doubt.go.
func (o *Owner) Doubted() bool { return o.doubts != nil }

// newLists makes lists of what an owner holds, one for each shard. They count as
// its memory until forget.
func (t *Set) newLists(o *Owner) []uint32 {
	lists := make([]uint32, len(t.shards))
	t.memory.Add(4 * len(lists))
	o.Share.addBytes(4 * len(lists))
	return lists
}

// Forget gives back the memory of an owner that holds nothing any more.
func (t *Set) Forget(o *Owner) {
	n := o.listBytes()
	t.memory.Add(-n)
	o.Share.addBytes(-n)
	o.exclusive, o.shared, o.doubts = nil, nil, nil
}

func (o *Owner) listBytes() int {
	n := len(o.exclusive) + len(o.shared)
	if d := o.doubts; d != nil {
		n += len(d.exclusive) + len(d.shared)
	}
	return 4 * n
}

// Held returns how many locks the owner holds, of both kinds.
func (o *Owner) Held() int { return int(o.held - o.taken.Load()) }

// A Moment is a time on the clock of Expire, such as when a hold or a wait began,
// in ticks, so that it has room beside that: it comes round after 2.1 years.
type Moment uint32

// tickBits makes a tick of milliseconds.
const tickBits = 4

// MomentOf returns the moment of a time in milliseconds.
func MomentOf(ms uint64) Moment { return Moment(ms >> tickBits) }

// ahead is from where on a difference is none: somebody was ahead of the one who looks.
const ahead = 1<<32 - 1<<16

// Age returns how long ago that was, in milliseconds, at a time in nanoseconds.
func (m Moment) Age(now uint64) uint64 {
	return MomentOf(now / msNanos).Since(m)
}

// Since returns for how long something has been so since a moment, in milliseconds.
func (m Moment) Since(then Moment) uint64 {
	ticks := m - then
	if ticks >= ahead {
		return 0
	}
	return uint64(ticks) << tickBits
}
