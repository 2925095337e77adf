package shard

import "sync/atomic"

// A Memory counts the bytes of all that clients can have a server keep, and
// bounds them. It is written where memory is allocated and given back, in chunks,
// never for a request that needs none. A nil one counts nothing.
type Memory struct {
	limit int64
	slack int64       // what may be taken without a look
	full  atomic.Bool // whoever needs memory has to look

	_    [64]byte // full is read by all, used is written
	used atomic.Int64
	_    [56]byte
}

// NewMemory bounds the bytes; 0 means that there is no bound.
func NewMemory(limit int64) *Memory {
	return &Memory{limit: limit, slack: min(limit/16, 256<<10)}
}

// Add counts n bytes in, or out when n is negative.
func (m *Memory) Add(n int) {
	if m == nil {
		return
	}
	used := m.used.Add(int64(n))
	if full := m.limit > 0 && used > m.limit-m.slack; full != m.full.Load() {
		m.full.Store(full)
	}
}

// Room tells whether there is room for n bytes more.
func (m *Memory) Room(n int) bool {
	return m == nil || m.limit == 0 || m.used.Load()+int64(n) <= m.limit
}

// Take counts n bytes in, if there is room for them.
func (m *Memory) Take(n int) bool {
	if !m.Room(n) {
		return false
	}
	m.Add(n)
	return true
}

// Keep counts n bytes in that are there already, and tells whether they may stay:
// what could not be refused may pass the bound by a quarter.
func (m *Memory) Keep(n int) bool {
	m.Add(n)
	return m == nil || n <= 0 || m.limit == 0 || m.used.Load() <= m.limit+m.limit/4
}

// Full tells whether the bound is near: time to keep less.
func (m *Memory) Full() bool { return m != nil && m.full.Load() }

// Used returns how many bytes there are.
func (m *Memory) Used() int64 { return m.used.Load() }

// Limit returns how many there may be; 0: as many as you like.
func (m *Memory) Limit() int64 { return m.limit }

// allocated is what Go allocates for n bytes: sizes come in classes.
func allocated(n uintptr) int { return cap(append([]byte(nil), make([]byte, n)...)) }

// fitsLocked tells whether there is memory for one more item of a slab, one of which
// may be free, and for its name. What is free needs none.
func (s *Shard) fitsLocked(free bool, size int) bool {
	return free && size <= headBytes || s.findMemoryLocked(free, size)
}

// shortName is a name so short that it is within the memory's slack.
const shortName = 4 << 10

//go:noinline
func (s *Shard) findMemoryLocked(free bool, size int) bool {
	if !s.set.memory.full.Load() && size <= shortName {
		return true
	}
	need := 0
	if !free {
		need += chunkBytes
	}
	if blocks := blocksOf(size) - s.names.blocks.free(); blocks > 0 {
		need += (blocks + chunkItems - 1) / chunkItems * chunkBytes
	}
	return need == 0 || s.set.memory.Room(need)
}

// chunkBytes is about what a chunk takes, at most.
const chunkBytes = 8<<10 + 256

// What a lock, a hold of a shared one, a wait and a rate count in bytes against
// their owner's share: about what they take, each as if nobody else had one of that
// name.
const itemCost = 96

// ItemBytes is what a lock, a hold or a wait counts with a name of a size.
func ItemBytes(size int) int { return itemCost + nameCost(size) }

// nameCost is what they count besides, for a name that does not fit into its head.
func nameCost(size int) int { return 33 * blocksOf(size) }
