package conn

import (
	"bytes"
	"slices"

	"github.com/nylen/lockd/internal/shard"
)

// mapListing is the reply to `dump`: one line that lists all locks of a kind
// sorted by name, with their holders' addresses.
//
// The table is not sorted, and sorting all of it would take as much memory as
// it has. So the names are had in rounds: each walks the table and keeps the
// smallest names above those already listed, as many as fit into a fixed
// number of bytes.
type mapListing struct {
	hub  *Hub
	kind shard.Kind
	room int // bytes of names in the round

	state mapState
	walk  *shard.Walk // of the round, or of one shared lock's holders
	piece shard.Piece

	names  []byte     // the names of found and fresh, and of some dropped ones
	found  []mapEntry // the round's smallest names so far, sorted
	size   int        // of their names
	fresh  []mapEntry // names that have not been merged into found
	loose  int        // the size of their names
	full   bool       // names after the last of found do not fit into the round
	last   []byte     // the last name of the round before
	any    bool       // there was a round before
	listed int        // of found
	comma  bool       // an entry came before
	open   bool       // a holder of the shared lock came before
}

type mapEntry struct {
	owner    *peer  // of an exclusive lock; nil: gone since
	at       uint32 // where it goes in found, while it is fresh
	from, to uint32
}

type mapState uint8

const (
	mapBegin mapState = iota
	mapCollect
	mapList
	mapHolders // of the shared lock found[listed]
	mapEnd
)

// The rounds of all listings share roundsBytes of names, within bounds for each: a
// listing that its client does not read keeps its round, and delays others, whose
// rounds are shorter then. (As the first ones have more, all of them together take
// roundsBytes times the logarithm of their number, and minRoundBytes each.) A name
// counts as at least nameBytes. Names are merged into the round's when there are
// freshNames of them, or when they take a freshPart of its room: so it is the room
// that bounds a listing's memory, however long names are.
const (
	roundsBytes   = 4 << 20
	maxRoundBytes = 1 << 20
	minRoundBytes = 64 << 10
	nameBytes     = 32
	freshNames    = 512
	freshPart     = 4
)

func newMapListing(h *Hub, kind shard.Kind) *mapListing {
	h.mapListings.Add(1)
	return &mapListing{hub: h, kind: kind}
}

func (l *mapListing) name(e mapEntry) []byte { return l.names[e.from:e.to] }

func (l *mapListing) next(h *Hub, out []byte) ([]byte, bool) {
	switch l.state {
	case mapBegin:
		out = append(out, "map["...)
		l.beginRound()
	case mapCollect:
		l.collect()
	case mapList:
		out = l.list(h, out)
	case mapHolders:
		out = l.holders(h, out)
	case mapEnd:
		return append(out, "]\n"...), false
	}
	return out, true
}

func (l *mapListing) beginRound() {
	l.room = min(max(roundsBytes/int(l.hub.mapListings.Load()), minRoundBytes), maxRoundBytes)
	if cap(l.names) > 4*l.room { // the room was larger
		l.names, l.found = nil, nil
	}
	clear(l.found) // of owners
	l.names, l.found, l.size, l.full, l.listed = l.names[:0], l.found[:0], 0, false, 0
	l.walk = l.hub.locks.Walk(l.kind)
	l.state = mapCollect
}

// collect takes a piece of the round's walk.
func (l *mapListing) collect() {
	more := l.walk.Next(&l.piece)
	l.hub.directory.mu.RLock()
	for i, item := range l.piece.Items {
		name := l.piece.Name(item)
		switch {
		case i > 0 && l.kind == shard.Shared && item.SameLock(l.piece.Items[i-1]):
		case l.any && bytes.Compare(name, l.last) <= 0:
		case l.full && bytes.Compare(name, l.name(l.found[len(l.found)-1])) > 0:
		default:
			from := uint32(len(l.names))
			l.names = append(l.names, name...)
			l.fresh = append(l.fresh, mapEntry{owner: l.hub.directory.lookupLocked(item.Owner), from: from, to: uint32(len(l.names))})
			l.loose += len(name)
		}
	}
	l.hub.directory.mu.RUnlock()
	if len(l.fresh) >= freshNames || l.loose >= l.room/freshPart || !more {
		l.merge()
		l.trim()
	}
	if !more {
		l.endRound()
	}
}

// merge moves the fresh names into found. A lock that was let go and taken
// again while the walk went on may have been found twice, and a shared one
// with many holders is.
func (l *mapListing) merge() {
	compare := func(a, b mapEntry) int { return bytes.Compare(l.name(a), l.name(b)) }
	slices.SortFunc(l.fresh, compare)
	l.fresh = slices.CompactFunc(l.fresh, func(a, b mapEntry) bool { return compare(a, b) == 0 })
	l.fresh = slices.DeleteFunc(l.fresh, func(e mapEntry) bool {
		_, known := slices.BinarySearchFunc(l.found, e, compare)
		return known
	})
	for i, e := range l.fresh {
		at, _ := slices.BinarySearchFunc(l.found, e, compare)
		l.fresh[i].at = uint32(at)
		l.size += int(e.to - e.from)
	}
	// From the back, so that each entry moves once.
	end := len(l.found)
	l.found = slices.Grow(l.found, len(l.fresh))[:end+len(l.fresh)]
	for i := len(l.fresh) - 1; i >= 0; i-- {
		at := int(l.fresh[i].at)
		copy(l.found[at+i+1:], l.found[at:end])
		l.found[at+i] = l.fresh[i]
		end = at
	}
	l.fresh, l.loose = l.fresh[:0], 0
}

// trim drops the largest names when they are more than a round keeps.
func (l *mapListing) trim() {
	n := len(l.found)
	for ; n > 1 && (n > l.room/nameBytes || l.size > l.room); n-- {
		l.size -= len(l.name(l.found[n-1]))
		l.full = true
	}
	clear(l.found[n:]) // of owners
	l.found = l.found[:n]
	if len(l.names) >= 2*l.room && len(l.names) >= 2*l.size {
		l.compact(cap(l.names))
	}
}

// compact forgets the bytes of names that were dropped.
func (l *mapListing) compact(capacity int) {
	names := make([]byte, 0, capacity)
	for i, e := range l.found {
		from := uint32(len(names))
		names = append(names, l.name(e)...)
		l.found[i].from, l.found[i].to = from, uint32(len(names))
	}
	l.names = names
}

// rest keeps what was found, and nothing of what it was found with.
func (l *mapListing) rest() {
	if l.state == mapCollect {
		l.merge()
		l.trim()
	}
	if cap(l.names) > l.size {
		l.compact(l.size)
	}
	if cap(l.found) > len(l.found) {
		l.found = append(make([]mapEntry, 0, len(l.found)), l.found...) // slices.Clone may have a capacity
	}
	l.fresh, l.piece = nil, shard.Piece{}
}

func (l *mapListing) endRound() {
	l.walk = nil
	if len(l.found) == 0 {
		l.state = mapEnd
		return
	}
	l.any = true
	l.last = append(l.last[:0], l.name(l.found[len(l.found)-1])...)
	l.state = mapList
}

// list appends the entries of a round.
func (l *mapListing) list(h *Hub, out []byte) []byte {
	limit := len(out) + listingPiece
	h.directory.mu.RLock()
	defer h.directory.mu.RUnlock()
	for l.listed < len(l.found) && len(out) < limit {
		e := l.found[l.listed]
		if l.kind == shard.Shared {
			l.walk = l.hub.locks.WalkHolders(l.name(e))
			l.state = mapHolders
			return out
		}
		l.listed++
		if h.directory.thereLocked(e.owner) {
			out = append(l.key(out, e), e.owner.addr...)
		}
	}
	if l.listed == len(l.found) {
		if l.full {
			l.beginRound()
		} else {
			l.state = mapEnd
		}
	}
	return out
}

// key appends what stands before an entry's addresses.
func (l *mapListing) key(out []byte, e mapEntry) []byte {
	if l.comma {
		out = append(out, ' ')
	}
	l.comma = true
	return append(append(out, l.name(e)...), ':')
}

// holders appends addresses of the holders of one shared lock. A lock that
// nobody holds any more is left out.
func (l *mapListing) holders(h *Hub, out []byte) []byte {
	more := l.walk.Next(&l.piece)
	h.directory.mu.RLock()
	defer h.directory.mu.RUnlock()
	for _, item := range l.piece.Items {
		p := h.directory.lookupLocked(item.Owner)
		if p == nil {
			continue
		}
		if l.open {
			out = append(out, ' ')
		} else {
			out = append(l.key(out, l.found[l.listed]), '[')
			l.open = true
		}
		out = append(out, p.addr...)
	}
	if !more {
		if l.open {
			out = append(out, ']')
		}
		l.open = false
		l.walk = nil
		l.listed++
		l.state = mapList
	}
	return out
}

func (l *mapListing) close() {
	l.hub.mapListings.Add(-1)
	if l.walk != nil {
		l.walk.Close()
	}
}
