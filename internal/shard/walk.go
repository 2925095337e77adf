package shard

import (
	"bytes"
	"slices"
	"unsafe"
)

// A Walk lists locks, who waits for them and rates, in pieces, so that no
// shard's mutex is held for long and no more than a piece is in memory. It is
// not a snapshot: it finds everything that is there from its beginning to its
// end, exactly once, and of what comes and goes meanwhile some. Each piece is
// as the shard was at one moment.
//
// A Walk is used by one goroutine at a time, and closed at its end.
type Walk struct {
	// Now is what ages are counted to, in nanoseconds on the clock of Take. Who
	// wants to know them sets it before each piece.
	Now uint64

	set    *Set
	parts  []part // what it lists of each shard, one after another
	name   []byte // of the one lock that it is about, or what names begin with
	hash   uint32 // of that one
	shard  int
	behind int    // the shard that it does not come to any more
	part   int    // of parts
	ref    uint32 // the next item to look at; within a shared lock, that one

	// Within a shared lock, whose holders may be more than a piece: the next
	// hold, which the shard moves on when it goes, and the last one, which it
	// moves back. Those that come later are not listed, or the end might never
	// come.
	inside bool
	hold   uint32
	last   uint32
	// List of the walks that are inside the same lock.
	next, prev *Walk

	line place
}

// A part of a walk fills p with a piece of something that a shard has, and
// tells whether that was the last one.
type part func(s *Shard, w *Walk, p *Piece) (done bool)

// Piece is what one step of a walk found. Its zero value is ready to use, and
// it may be used again and again.
type Piece struct {
	Items []Item
	Most  int // items, if not 0: fewer than else
	names []byte
}

// Item is one hold of one lock, one wait for it, or a rate.
type Item struct {
	Owner    uint32 // 0: of a rate, which has none
	Kind     Kind   // of the lock
	State    State
	Age      uint64 // milliseconds; of a rate, until all units are open
	Number   uint64 // a fencing token; a shared lock's count, or the limit of who waits for it; of a rate, units that are open
	Oldest   uint64 // of a hold: for how many milliseconds the first in the lock's queue has waited
	Queue    uint32 // and how many wait in it
	from, to uint32

	Doubted bool // what HeldIn has found is
}

// A State says what an Item is.
type State uint8

// The states that there are.
const (
	Held    State = iota
	Waits         // in the lock's queue
	Limited       // a rate of which no unit is open
	Open          // a rate of which some are
)

// SameLock tells whether an item is another hold of the lock of the item
// before it, in the same piece.
func (i Item) SameLock(before Item) bool { return i.from == before.from && i.to == before.to }

// Size returns how many bytes a piece takes.
func (p *Piece) Size() int { return cap(p.Items)*int(unsafe.Sizeof(Item{})) + cap(p.names) }

// Name returns an item's name, which is good until the piece is filled again.
func (p *Piece) Name(i Item) []byte { return p.names[i.from:i.to] }

// A piece has at most these many items and, but for its last name, bytes.
const (
	pieceItems = 512
	pieceBytes = 16 << 10
)

func (p *Piece) full() bool {
	return len(p.Items) >= pieceItems || len(p.names) >= pieceBytes || p.Most > 0 && len(p.Items) >= p.Most
}

// add adds an item with a name.
func (s *Shard) addItemLocked(p *Piece, n *name, i Item) {
	i.from = uint32(len(p.names))
	p.names = s.names.append(p.names, n)
	i.to = uint32(len(p.names))
	p.Items = append(p.Items, i)
}

// Walk begins a walk over all holds of a kind.
func (t *Set) Walk(kind Kind) *Walk {
	return &Walk{set: t, ref: 1, behind: len(t.shards), parts: walkParts[kind]}
}

// WalkHolders begins a walk over the holders of one shared lock, in the order
// in which they got it.
func (t *Set) WalkHolders(name []byte) *Walk { return t.walkOne(name, holderParts) }

// Look begins a walk over all that has a name: who holds the exclusive lock, who
// waits for it, in the order of their turns, the same for the shared one, and
// the rate. What fits into a piece is as it was at one moment.
func (t *Set) Look(name []byte) *Walk { return t.walkOne(name, lookParts) }

// LookAll begins a walk over all that has a name which begins with prefix, in no
// order.
func (t *Set) LookAll(prefix []byte) *Walk {
	return &Walk{set: t, ref: 1, behind: len(t.shards), parts: lookAllParts, name: bytes.Clone(prefix)}
}

// WalkAll begins a walk over all holds and all who wait.
func (t *Set) WalkAll() *Walk {
	return &Walk{set: t, ref: 1, behind: len(t.shards), parts: allParts}
}

func (t *Set) walkOne(name []byte, parts []part) *Walk {
	s, hash := t.lock(name)
	s.mu.Unlock()
	return &Walk{set: t, shard: int(s.pos), behind: int(s.pos) + 1, parts: parts, name: bytes.Clone(name), hash: hash}
}

var (
	walkParts    = [Kinds][]part{{(*Shard).walkExclusiveLocked}, {(*Shard).walkSharedLocked}}
	holderParts  = []part{(*Shard).walkHoldersLocked}
	allParts     = []part{(*Shard).walkExclusiveLocked, (*Shard).walkSharedLocked, (*Shard).walkWaitersLocked}
	lookAllParts = append(slices.Clip(allParts), (*Shard).walkRatesLocked)
	lookParts    = []part{
		(*Shard).walkHolderLocked, (*Shard).walkQueueLocked,
		(*Shard).walkHoldersLocked, (*Shard).walkSharedQueueLocked,
		(*Shard).walkRateLocked,
	}
)

// Next fills p with the next piece and tells whether there may be more. A
// piece can be empty and the walk not at its end.
func (w *Walk) Next(p *Piece) bool {
	p.Items, p.names = p.Items[:0], p.names[:0]
	if w.shard >= w.behind {
		return false
	}
	s := &w.set.shards[w.shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	for !p.full() && w.parts[w.part](s, w, p) {
		w.ref = 1
		if w.part++; w.part == len(w.parts) {
			w.shard, w.part = w.shard+1, 0
			break
		}
	}
	return w.shard < w.behind
}

// Close ends a walk, wherever it is.
func (w *Walk) Close() {
	if w.shard >= w.behind {
		return
	}
	s := &w.set.shards[w.shard]
	s.mu.Lock()
	if w.inside {
		s.exitLocked(w)
	}
	s.mu.Unlock()
	w.shard = w.behind
}

// looks bounds how many items that are not listed a piece passes over.
const looks = 16 * pieceItems

// walkSlab calls f for each item of a slab from w.ref on until it has the walk
// stop there, the piece is full or there were too many, and tells whether the
// slab is at its end.
func walkSlab[T any](w *Walk, p *Piece, items *slab[T], f func(ref uint32, item *T) (stop bool)) (done bool) {
	end := items.end()
	for n := 0; w.ref < end; w.ref++ {
		if n++; n > looks || p.full() {
			return false
		}
		if !items.chunkOf(w.ref) {
			w.ref += chunkItems - 1 - (w.ref-1)%chunkItems
			continue
		}
		if f(w.ref, items.at(w.ref)) {
			return false
		}
	}
	return true
}

func (s *Shard) walkExclusiveLocked(w *Walk, p *Piece) (done bool) {
	return walkSlab(w, p, &s.exclusive, func(_ uint32, e *exclusive) bool {
		if e.owner != 0 && s.names.hasPrefix(&e.name, w.name) {
			s.addItemLocked(p, &e.name, s.itemLocked(w, e))
		}
		return false
	})
}

func (s *Shard) itemLocked(w *Walk, e *exclusive) Item {
	queue, oldest := s.lineLocked(e.queue, w.Now)
	return Item{Owner: e.owner, Kind: Exclusive, Age: e.since.Age(w.Now), Number: e.token(), Queue: queue, Oldest: oldest}
}

// lineLocked tells how long the queue is that begins with head, and for how long
// that one has waited at a time in nanoseconds.
func (s *Shard) lineLocked(head uint32, now uint64) (n uint32, oldest uint64) {
	if head == 0 {
		return 0, 0
	}
	first := s.waiters.at(head)
	return first.line(), first.since.Age(now)
}

// walkHolderLocked lists who holds one exclusive lock.
func (s *Shard) walkHolderLocked(w *Walk, p *Piece) (done bool) {
	if ref := s.findLocked(w.hash, w.name); ref != 0 {
		if e := s.exclusive.at(ref); e.owner != 0 {
			s.addItemLocked(p, &e.name, s.itemLocked(w, e))
		}
	}
	return true
}

func (s *Shard) walkSharedLocked(w *Walk, p *Piece) (done bool) {
	if w.inside { // the lock may be gone since, but not if the walk stands at a hold
		if !s.copyHoldersLocked(w, p) {
			return false
		}
		w.ref++
	}
	return walkSlab(w, p, &s.shared, func(_ uint32, l *shared) (stop bool) {
		if l.count == 0 || !s.names.hasPrefix(&l.name, w.name) {
			return false
		}
		s.enterLocked(w)
		return !s.copyHoldersLocked(w, p)
	})
}

// walkHoldersLocked lists who holds one shared lock.
func (s *Shard) walkHoldersLocked(w *Walk, p *Piece) (done bool) {
	if !w.inside {
		if w.ref = s.findSharedLocked(w.hash, w.name); w.ref == 0 {
			return true
		}
		s.enterLocked(w)
	}
	return s.copyHoldersLocked(w, p)
}

// copyHoldersLocked copies holders of the lock that w is inside of, and tells
// whether those were the last ones: then it is outside.
func (s *Shard) copyHoldersLocked(w *Walk, p *Piece) (done bool) {
	if w.hold != 0 {
		l := s.shared.at(w.ref)
		from := uint32(len(p.names))
		p.names = s.names.append(p.names, &l.name)
		to := uint32(len(p.names))
		queue, oldest := s.lineLocked(l.queue, w.Now)
		for w.hold != 0 {
			if len(p.Items) >= pieceItems {
				return false
			}
			h := s.holds.at(w.hold)
			p.Items = append(p.Items, Item{h.owner, Shared, Held, h.since.Age(w.Now), uint64(l.count), oldest, queue, from, to, false})
			w.pass(w.hold, h.next)
		}
	}
	s.exitLocked(w)
	return true
}

// walkWaitersLocked lists who waits for locks.
func (s *Shard) walkWaitersLocked(w *Walk, p *Piece) (done bool) {
	return walkSlab(w, p, &s.waiters, func(_ uint32, wt *waiter) bool {
		if wt.came != 0 && wt.state == queued {
			if n := s.wantedLocked(wt); s.names.hasPrefix(n, w.name) {
				s.addItemLocked(p, n, wt.item(w))
			}
		}
		return false
	})
}

// wantedLocked returns the name of the lock that somebody waits for.
func (s *Shard) wantedLocked(wt *waiter) *name {
	if wt.kind == Shared {
		return &s.shared.at(wt.lock).name
	}
	return &s.exclusive.at(wt.lock).name
}

func (wt *waiter) item(w *Walk) Item {
	return Item{Owner: wt.owner, Kind: wt.kind, State: Waits, Age: wt.since.Age(w.Now), Number: uint64(wt.limit)}
}

// A place is where a walk stands in a queue. Nobody keeps it right when the
// queue changes: who came earlier than after has been listed, so if the one who
// was to be next has left meanwhile, the walk goes there from the head again.
type place struct {
	at    uint32 // the waiter who is next
	came  uint64 // its number
	after uint64 // the number from which on waiters have not been listed
	until uint64 // the number of the last one who came before the walk; 0: it is in no queue
}

// walkQueueLocked lists who waits for one exclusive lock.
func (s *Shard) walkQueueLocked(w *Walk, p *Piece) (done bool) {
	if ref := s.findLocked(w.hash, w.name); ref != 0 {
		return s.walkLineLocked(w, p, s.exclusive.at(ref).queue)
	}
	return s.leaveLineLocked(w)
}

// walkSharedQueueLocked lists who waits for one shared lock.
func (s *Shard) walkSharedQueueLocked(w *Walk, p *Piece) (done bool) {
	if ref := s.findSharedLocked(w.hash, w.name); ref != 0 {
		return s.walkLineLocked(w, p, s.shared.at(ref).queue)
	}
	return s.leaveLineLocked(w)
}

func (s *Shard) leaveLineLocked(w *Walk) (done bool) {
	w.line = place{}
	return true
}

// walkLineLocked lists who waits in the queue that begins at head.
func (s *Shard) walkLineLocked(w *Walk, p *Piece, head uint32) (done bool) {
	if head == 0 {
		return s.leaveLineLocked(w)
	}
	l := &w.line
	if l.until == 0 {
		l.until = s.arrivals
	}
	ref := head
	if l.at != 0 && s.waiters.chunkOf(l.at) {
		if wt := s.waiters.at(l.at); wt.came == l.came && wt.state == queued {
			ref = l.at
		}
	}
	for n := 0; ; n++ {
		wt := s.waiters.at(ref)
		if wt.came > l.until {
			return s.leaveLineLocked(w)
		}
		if n >= looks || p.full() {
			l.at, l.came = ref, wt.came
			return false
		}
		if wt.came >= l.after {
			s.addItemLocked(p, s.wantedLocked(wt), wt.item(w))
			l.after = wt.came + 1
		}
		if ref = wt.next; ref == head {
			return s.leaveLineLocked(w)
		}
	}
}

// walkRatesLocked lists rates that are not full. A full one is no different from
// one that does not exist.
func (s *Shard) walkRatesLocked(w *Walk, p *Piece) (done bool) {
	return walkSlab(w, p, &s.limiters, func(ref uint32, l *limiter) bool {
		if l.limit != 0 && s.names.hasPrefix(&l.name, w.name) {
			s.addRateLocked(w, p, ref)
		}
		return false
	})
}

// walkRateLocked lists one rate.
func (s *Shard) walkRateLocked(w *Walk, p *Piece) (done bool) {
	if ref := s.findLimiterLocked(w.hash, w.name); ref != 0 {
		s.addRateLocked(w, p, ref)
	}
	return true
}

func (s *Shard) addRateLocked(w *Walk, p *Piece, ref uint32) {
	l := s.limiters.at(ref)
	r := l.rate()
	owed := s.debtLocked(ref, r, max(w.Now, s.latest))
	if owed == (debt{}) {
		return
	}
	i := Item{State: Open, Age: (owed.nanos() + msNanos - 1) / msNanos, Number: uint64(r.open(owed))}
	if i.Number == 0 {
		i.State = Limited
	}
	s.addItemLocked(p, &l.name, i)
}

func (s *Shard) enterLocked(w *Walk) {
	l := s.shared.at(w.ref)
	w.inside, w.hold, w.last = true, l.first, l.last
	w.prev, w.next = nil, s.walks[w.ref]
	if w.next != nil {
		w.next.prev = w
	}
	if s.walks == nil {
		s.walks = map[uint32]*Walk{}
	}
	s.walks[w.ref] = w
}

func (s *Shard) exitLocked(w *Walk) {
	switch {
	case w.prev != nil:
		w.prev.next = w.next
	case w.next != nil:
		s.walks[w.ref] = w.next
	default:
		delete(s.walks, w.ref)
	}
	if w.next != nil {
		w.next.prev = w.prev
	}
	w.inside, w.prev, w.next = false, nil, nil
}

// pass moves on from the hold that w stands at.
func (w *Walk) pass(hold, next uint32) {
	if w.hold = next; hold == w.last {
		w.hold = 0
	}
}

// stepPastLocked moves the walks that stand at a hold which goes, or end with
// it, to its neighbours.
func (s *Shard) stepPastLocked(lock, hold, prev, next uint32) {
	for w := s.walks[lock]; w != nil; w = w.next {
		switch {
		case w.hold == hold:
			w.pass(hold, next)
		case w.hold != 0 && w.last == hold:
			w.last = prev
		}
	}
}
