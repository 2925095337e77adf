package shard

// A Walk lists locks in pieces, so that no shard's mutex is held for long and
// no more than a piece is in memory. It is not a snapshot: it finds every lock
// that is held from its beginning to its end, exactly once, and of the locks
// that come and go meanwhile some. Each piece is as the shard was at one
// moment.
//
// A Walk is used by one goroutine at a time, and closed at its end.
type Walk struct {
	set   *Set
	kind  Kind
	shard int
	ref   uint32 // the next lock to look at
	one   bool   // ends after this lock

	// Within a shared lock, whose holders may be more than a piece: the next
	// hold, which the shard moves on when it goes, and the last one, which it
	// moves back. Those that come later are not listed, or the end might never
	// come.
	inside bool
	hold   uint32
	last   uint32
	// List of the walks that are inside the same lock.
	next, prev *Walk
}

// Piece is what one step of a walk found. Its zero value is ready to use, and
// it may be used again and again.
type Piece struct {
	Items []Item
	names []byte
}

// Item is one hold of one lock.
type Item struct {
	Owner    uint32
	from, to int
}

// SameLock tells whether an item is another hold of the lock of the item
// before it, in the same piece.
func (i Item) SameLock(before Item) bool { return i.from == before.from && i.to == before.to }

// Name returns an item's name, which is good until the piece is filled again.
func (p *Piece) Name(i Item) []byte { return p.names[i.from:i.to] }

// A piece has at most these many items and, but for its last name, bytes.
const (
	pieceItems = 512
	pieceBytes = 16 << 10
)

func (p *Piece) full() bool { return len(p.Items) >= pieceItems || len(p.names) >= pieceBytes }

// Walk begins a walk over all locks of a kind.
func (t *Set) Walk(kind Kind) *Walk { return &Walk{set: t, kind: kind, ref: 1} }

// WalkHolders begins a walk over the holders of one shared lock, in the order
// in which they got it.
func (t *Set) WalkHolders(name []byte) *Walk {
	s, hash := t.lock(name)
	defer s.mu.Unlock()
	w := &Walk{set: t, kind: Shared, shard: s.pos, one: true}
	if w.ref = s.findSharedLocked(hash, name); w.ref != 0 {
		s.enterLocked(w)
	} else {
		w.shard = len(t.shards)
	}
	return w
}

// Next fills p with the next piece and tells whether there may be more. A
// piece can be empty and the walk not at its end.
func (w *Walk) Next(p *Piece) bool {
	p.Items, p.names = p.Items[:0], p.names[:0]
	if w.shard >= len(w.set.shards) {
		return false
	}
	s := &w.set.shards[w.shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.kind == Exclusive {
		s.walkLocked(w, p)
	} else {
		s.walkSharedLocked(w, p)
	}
	return w.shard < len(w.set.shards)
}

// Close ends a walk, wherever it is.
func (w *Walk) Close() {
	if w.shard >= len(w.set.shards) {
		return
	}
	s := &w.set.shards[w.shard]
	s.mu.Lock()
	if w.inside {
		s.exitLocked(w)
	}
	s.mu.Unlock()
	w.shard = len(w.set.shards)
}

// looks bounds how many unused items a piece passes over.
const looks = 16 * pieceItems

func (s *Shard) walkLocked(w *Walk, p *Piece) {
	end := s.exclusive.end()
	for n := 0; w.ref < end; w.ref++ {
		if n++; n > looks || p.full() {
			return
		}
		if !s.exclusive.chunkOf(w.ref) {
			w.ref += chunkItems - 1 - (w.ref-1)%chunkItems
			continue
		}
		if e := s.exclusive.at(w.ref); e.owner != 0 {
			from := len(p.names)
			p.names = s.names.append(p.names, &e.name)
			p.Items = append(p.Items, Item{e.owner, from, len(p.names)})
		}
	}
	w.shard, w.ref = w.shard+1, 1
}

func (s *Shard) walkSharedLocked(w *Walk, p *Piece) {
	end := s.shared.end()
	for n := 0; w.inside || w.ref < end; w.ref++ {
		if n++; n > looks || p.full() {
			return
		}
		if !w.inside {
			if !s.shared.chunkOf(w.ref) {
				w.ref += chunkItems - 1 - (w.ref-1)%chunkItems
				continue
			}
			if s.shared.at(w.ref).count == 0 {
				continue
			}
			s.enterLocked(w)
		}
		if w.hold != 0 {
			s.copyHoldersLocked(w, p)
			if w.hold != 0 {
				return // the piece is full
			}
		}
		s.exitLocked(w)
		if w.one {
			w.shard = len(w.set.shards)
			return
		}
	}
	w.shard, w.ref = w.shard+1, 1
}

// copyHoldersLocked copies holders of the lock that w is inside of.
func (s *Shard) copyHoldersLocked(w *Walk, p *Piece) {
	from := len(p.names)
	p.names = s.names.append(p.names, &s.shared.at(w.ref).name)
	to := len(p.names)
	for w.hold != 0 && len(p.Items) < pieceItems {
		h := s.holds.at(w.hold)
		p.Items = append(p.Items, Item{h.owner, from, to})
		w.pass(w.hold, h.next)
	}
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
