package shard

import (
	"math"
	"sync"
	"sync/atomic"
)

// ShareLimits is how much one client may have of what all share; 0 means as much
// as there is.
type ShareLimits struct {
	Locks    int   // held, waited for, and rates that are not full
	Waiters  int   // of its owners that wait at a time
	Rates    int   // that are not full
	Sessions int   // beside one for each connection
	Bytes    int64 // see itemCost, and what else is kept for it
}

// A Share is what one client, with all its owners, has of the table. It bounds
// that as exactly as the table's own bound does, and like that one without a
// counter that every request writes: each shard draws from it in batches, into a
// cell that its mutex guards.
//
// When it is used up, the cells are emptied, and from then on requests take from
// it and give back to it one by one (it is tight), until there is plenty again.
// So nobody is refused while another shard has something to spare, and to be
// refused costs one look.
type Share struct {
	slot   uint32 // of the cells
	batch  int32  // locks that a cell draws, of which twice as many idle there
	chunk  int32  // bytes that it draws, of which twice as many idle there
	always bool   // tight: the share is too small for batches
	state  atomic.Int32
	limits ShareLimits
	set    *Set

	_        [64]byte     // what is above is only read where nothing is wrong
	locks    atomic.Int64 // left
	bytes    atomic.Int64 // left
	waiters  atomic.Int64 // taken, as the following
	rates    atomic.Int64
	sessions atomic.Int64
	emptying sync.Mutex // held by who empties the cells, and who ends that
	_        [64]byte
}

// The states of a share.
const (
	loose    int32 = iota
	emptying       // the cells are being emptied, and keep nothing any more
	tight          // they are empty
)

// A cell is what a shard has drawn from a share. It is found by the share's slot.
type cell struct {
	share *Share
	bytes int32 // for long names
	locks int16 // with itemCost bytes for each
	most  int16 // of them that idle here while the share is loose; 0: it is not, or was not
}

// shares is who has the slots.
type shares struct {
	mu   sync.Mutex // guards the rest
	all  []*Share   // by slot; nil: free
	free []uint32
}

// NewShare makes a share. It takes a little memory in each shard, until it is
// dropped.
func (t *Set) NewShare(limits ShareLimits) *Share {
	h := &Share{set: t, limits: limits}
	h.locks.Store(orMost(int64(limits.Locks)))
	h.bytes.Store(orMost(limits.Bytes))
	perShard := func(limit int64) int64 { return orMost(limit) / int64(len(t.shards)*32) }
	h.chunk = int32(min(32<<10, perShard(limits.Bytes)))
	h.batch = int32(min(256, perShard(int64(limits.Locks)), int64(h.chunk)/itemCost))
	if h.always = h.batch < 1; h.always {
		h.state.Store(tight)
	}
	t.memory.Add(shareBytes)
	t.shares.mu.Lock()
	defer t.shares.mu.Unlock()
	if n := len(t.shares.free); n > 0 {
		h.slot, t.shares.free = t.shares.free[n-1], t.shares.free[:n-1]
		t.shares.all[h.slot] = h
	} else {
		h.slot = uint32(len(t.shares.all))
		t.shares.all = append(t.shares.all, h)
	}
	return h
}

// shareBytes is about what a share takes, with what finds it.
const shareBytes = 512

// orMost is a limit, or none.
func orMost(limit int64) int64 {
	if limit <= 0 {
		return math.MaxInt64 / 2
	}
	return limit
}

// Drop ends a share whose owners are gone, unless there are rates of theirs, and
// tells whether it has.
func (h *Share) Drop() bool {
	if h.rates.Load() > 0 {
		return false
	}
	t := h.set
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		if int(h.slot) < len(s.cells) {
			s.cells[h.slot] = cell{}
		}
		s.mu.Unlock()
	}
	t.memory.Add(-shareBytes)
	t.shares.mu.Lock()
	t.shares.all[h.slot] = nil
	t.shares.free = append(t.shares.free, h.slot)
	t.shares.mu.Unlock()
	return true
}

// cellLocked returns a shard's cell of a share.
func (s *Shard) cellLocked(h *Share) *cell {
	if int(h.slot) < len(s.cells) {
		if c := &s.cells[h.slot]; c.share == h {
			return c
		}
	}
	return s.makeCellLocked(h)
}

//go:noinline
func (s *Shard) makeCellLocked(h *Share) *cell {
	if n := int(h.slot) + 1; n > len(s.cells) {
		cells := make([]cell, max(n, 2*len(s.cells), 4))
		s.set.memory.Add((len(cells) - len(s.cells)) * 16)
		copy(cells, s.cells)
		s.cells = cells
	}
	s.cells[h.slot] = cell{share: h}
	return &s.cells[h.slot]
}

// slotOf is how an item without pointers knows a share: its slot, +1, or 0 for none.
func slotOf(h *Share) uint32 {
	if h == nil {
		return 0
	}
	return h.slot + 1
}

// shareLocked returns the share of an item, which has taken of it in this shard.
func (s *Shard) shareLocked(slot uint32) *Share {
	if slot == 0 {
		return nil
	}
	return s.cells[slot-1].share
}

// takeShareLocked takes what a lock costs from a share, by the size of its name. A
// nil share has no bounds.
func (s *Shard) takeShareLocked(h *Share, size int) Outcome {
	if h == nil {
		return Acquired
	}
	if int(h.slot) < len(s.cells) {
		c := &s.cells[h.slot]
		if cost := int32(nameCost(size)); c.share == h && c.locks > 0 && c.bytes >= cost {
			c.locks, c.bytes = c.locks-1, c.bytes-cost
			return Acquired
		}
	}
	return s.drawShareLocked(h, size)
}

// giveShareLocked gives it back.
func (s *Shard) giveShareLocked(h *Share, size int) {
	if h == nil {
		return
	}
	if int(h.slot) < len(s.cells) {
		c := &s.cells[h.slot]
		if bytes := c.bytes + int32(nameCost(size)); c.share == h && c.locks < c.most && bytes <= 2*h.chunk {
			c.locks, c.bytes = c.locks+1, bytes
			return
		}
	}
	s.returnShareLocked(h, size)
}

// drawShareLocked takes what a lock costs where the cell has none ready, or its
// name is long.
//
//go:noinline
func (s *Shard) drawShareLocked(h *Share, size int) Outcome {
	c := s.cellLocked(h)
	batch, chunk := int64(h.batch), int64(h.chunk)
	if h.state.Load() != loose {
		batch, chunk = 1, 0
	}
	outcome := Acquired
	if c.locks == 0 {
		c.locks, outcome = h.drawLocks(batch)
	}
	bytes, cost := int64(c.bytes), int64(nameCost(size))
	if outcome == Acquired && bytes < cost {
		if bytes += draw(&h.bytes, max(cost-bytes, chunk)); bytes < cost {
			outcome = ShareBytes
		}
	}
	if outcome == Acquired {
		c.locks, bytes = c.locks-1, bytes-cost
	}
	s.settleShareLocked(c, bytes)
	return outcome
}

// drawLocks takes up to n locks, with the bytes that each costs whatever its name.
func (h *Share) drawLocks(n int64) (int16, Outcome) {
	locks := draw(&h.locks, n)
	if locks == 0 {
		return 0, ShareFull
	}
	bytes := draw(&h.bytes, locks*itemCost)
	paid := bytes / itemCost
	h.bytes.Add(bytes - paid*itemCost)
	h.locks.Add(locks - paid)
	if paid == 0 {
		return 0, ShareBytes
	}
	return int16(paid), Acquired
}

//go:noinline
func (s *Shard) returnShareLocked(h *Share, size int) {
	c := s.cellLocked(h)
	c.locks++
	s.settleShareLocked(c, int64(c.bytes)+int64(nameCost(size)))
	if h.always || h.state.Load() != tight || h.locks.Load() < orMost(int64(h.limits.Locks))/4 || h.bytes.Load() < orMost(h.limits.Bytes)/4 {
		return
	}
	if h.emptying.TryLock() { // there is plenty again
		h.state.Store(loose)
		h.emptying.Unlock()
	}
}

// settleShareLocked leaves in a cell what may idle there, of its locks and of some
// bytes, and gives back the rest.
func (s *Shard) settleShareLocked(c *cell, bytes int64) {
	h := c.share
	locks, batch, chunk := int64(c.locks), int64(h.batch), int64(h.chunk)
	if h.state.Load() != loose {
		batch, chunk = 0, 0
	}
	if locks > 2*batch {
		h.locks.Add(locks - batch)
		h.bytes.Add((locks - batch) * itemCost)
		locks = batch
	}
	if bytes > 2*chunk {
		h.bytes.Add(bytes - chunk)
		bytes = chunk
	}
	c.locks, c.bytes, c.most = int16(locks), int32(bytes), int16(2*batch)
}

// draw takes up to n of what is left and returns how many.
func draw(from *atomic.Int64, n int64) int64 {
	for {
		left := from.Load()
		if n = min(n, left); n <= 0 {
			return 0
		}
		if from.CompareAndSwap(left, left-n) {
			return n
		}
	}
}

// fetchShareLocked tells whether a request that found its share used up is to be
// made again: a cell may have had something to spare. The mutex was let go
// meanwhile, so what the request has seen may have changed.
func (s *Shard) fetchShareLocked(h *Share, size int) bool {
	if h.state.Load() == tight {
		return h.locks.Load() >= 1 && h.bytes.Load() >= int64(itemCost+nameCost(size))
	}
	s.mu.Unlock()
	h.empty()
	s.mu.Lock()
	return true
}

// empty empties the cells. It takes the shards' mutexes, one at a time.
func (h *Share) empty() {
	h.emptying.Lock()
	defer h.emptying.Unlock()
	if h.state.Load() == tight {
		return
	}
	h.state.Store(emptying)
	h.idle(func(c *cell) {
		h.locks.Add(int64(c.locks))
		h.bytes.Add(int64(c.locks)*itemCost + int64(c.bytes))
		c.locks, c.bytes, c.most = 0, 0, 0
	})
	h.state.Store(tight)
}

// idle calls f for each shard's cell, under its mutex.
func (h *Share) idle(f func(*cell)) {
	for i := range h.set.shards {
		s := &h.set.shards[i]
		s.mu.Lock()
		if int(h.slot) < len(s.cells) && s.cells[h.slot].share == h {
			f(&s.cells[h.slot])
		}
		s.mu.Unlock()
	}
}

// take takes one of what is counted, if there are fewer than a limit.
func take(n *atomic.Int64, limit int) bool {
	for {
		have := n.Load()
		if limit > 0 && have >= int64(limit) {
			return false
		}
		if n.CompareAndSwap(have, have+1) {
			return true
		}
	}
}

// TakeSession tells whether there may be one session more, and counts it in.
func (h *Share) TakeSession() bool { return h == nil || take(&h.sessions, h.limits.Sessions) }

// ForceSession counts a session in, however many there are.
func (h *Share) ForceSession() {
	if h != nil {
		h.sessions.Add(1)
	}
}

// GiveSession counts a session out.
func (h *Share) GiveSession() {
	if h != nil {
		h.sessions.Add(-1)
	}
}

// TakeBytes counts n bytes in that are kept for the client, if they are within its
// share.
func (h *Share) TakeBytes(n int) bool {
	if h == nil {
		return true
	}
	for again := true; ; again = false {
		if got := draw(&h.bytes, int64(n)); got == int64(n) {
			return true
		} else if h.bytes.Add(got); !again || h.state.Load() == tight {
			return false
		}
		h.empty()
	}
}

// addBytes counts n bytes in that are there already, or out if n is negative. It
// takes no mutex, so it may be called under a shard's.
func (h *Share) addBytes(n int) {
	if h != nil {
		h.bytes.Add(int64(-n))
	}
}

// KeepBytes counts n bytes in that are there already, or out if n is negative, and
// tells whether they may stay: like Memory.Keep, also somewhat beyond the client's
// share.
func (h *Share) KeepBytes(n int) bool {
	if h == nil {
		return true
	}
	beyond := -h.limits.Bytes / 4
	if h.addBytes(n); n <= 0 || h.bytes.Load() >= beyond {
		return true
	}
	if h.state.Load() != tight {
		h.empty()
	}
	return h.bytes.Load() >= beyond
}

// Holdings is what a client has.
type Holdings struct {
	Locks, Waiters, Rates, Sessions int
	Bytes                           int64
}

// Holdings returns what the share's client has. It goes over the shards.
func (h *Share) Holdings() Holdings {
	locks, bytes := h.locks.Load(), h.bytes.Load()
	h.idle(func(c *cell) {
		locks += int64(c.locks)
		bytes += int64(c.locks)*itemCost + int64(c.bytes)
	})
	return Holdings{
		Locks:    int(max(0, orMost(int64(h.limits.Locks))-locks)),
		Waiters:  int(h.waiters.Load()),
		Rates:    int(h.rates.Load()),
		Sessions: int(h.sessions.Load()),
		Bytes:    max(0, orMost(h.limits.Bytes)-bytes),
	}
}

// Roughly returns the same, but for what the shards have drawn and not used, which
// counts as had. It takes no mutex.
func (h *Share) Roughly() Holdings {
	return Holdings{
		Locks:    int(orMost(int64(h.limits.Locks)) - h.locks.Load()),
		Waiters:  int(h.waiters.Load()),
		Rates:    int(h.rates.Load()),
		Sessions: int(h.sessions.Load()),
		Bytes:    orMost(h.limits.Bytes) - h.bytes.Load(),
	}
}

// Part returns how much of each of its limits a client has, from 0 to 1, roughly, and
// of what has no limit, 0.
func (h *Share) Part() (p SharePart) {
	has := h.Roughly()
	part := func(has, limit int64) float64 {
		if limit <= 0 {
			return 0
		}
		return min(1, max(0, float64(has)/float64(limit)))
	}
	p.Locks = part(int64(has.Locks), int64(h.limits.Locks))
	p.Waiters = part(int64(has.Waiters), int64(h.limits.Waiters))
	p.Rates = part(int64(has.Rates), int64(h.limits.Rates))
	p.Sessions = part(int64(has.Sessions), int64(h.limits.Sessions))
	p.Bytes = part(has.Bytes, h.limits.Bytes)
	return p
}

// A SharePart is a part of each limit of a share.
type SharePart struct{ Locks, Waiters, Rates, Sessions, Bytes float64 }
