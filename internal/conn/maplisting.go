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
	locks *shard.Set
	kind  shard.Kind

	state mapState
	walk  *shard.Walk // of the round, or of one shared lock's holders
	piece shard.Piece

	names  []byte     // the round's names, one after another
	found  []mapEntry // sorted once the round is over
	ceil   []byte     // names from here on do not fit into the round
	last   []byte     // the last name of the round before
	any    bool       // there was a round before
	listed int        // of found
	comma  bool       // an entry came before
	open   bool       // a holder of the shared lock came before
}

type mapEntry struct {
	owner    uint32
	from, to int
}

type mapState uint8

const (
	mapBegin mapState = iota
	mapCollect
	mapList
	mapHolders // of the shared lock found[listed]
	mapEnd
)

// A round keeps about these many names and bytes: more would make fewer
// rounds, but sorting them takes the time of a piece.
const (
	roundNames = 4 << 10
	roundBytes = 256 << 10
)

func newMapListing(locks *shard.Set, kind shard.Kind) *mapListing {
	return &mapListing{locks: locks, kind: kind}
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
	l.names, l.found, l.ceil, l.listed = l.names[:0], l.found[:0], l.ceil[:0], 0
	l.walk = l.locks.Walk(l.kind)
	l.state = mapCollect
}

// collect takes a piece of the round's walk.
func (l *mapListing) collect() {
	more := l.walk.Next(&l.piece)
	for i, item := range l.piece.Items {
		name := l.piece.Name(item)
		if i > 0 && l.kind == shard.Shared && bytes.Equal(name, l.piece.Name(l.piece.Items[i-1])) {
			continue // another holder of the same lock
		}
		if l.any && bytes.Compare(name, l.last) <= 0 || len(l.ceil) > 0 && bytes.Compare(name, l.ceil) >= 0 {
			continue
		}
		from := len(l.names)
		l.names = append(l.names, name...)
		l.found = append(l.found, mapEntry{item.Owner, from, len(l.names)})
	}
	if !more {
		l.sort()
		l.endRound()
	} else if len(l.names) > 2*roundBytes || len(l.found) > 2*roundNames {
		l.sort()
		l.shrink()
	}
}

// sort puts what was found in order. A lock that was let go and taken again
// while the walk went on may have been found twice, and a shared one with many
// holders is.
func (l *mapListing) sort() {
	slices.SortFunc(l.found, func(a, b mapEntry) int { return bytes.Compare(l.name(a), l.name(b)) })
	l.found = slices.CompactFunc(l.found, func(a, b mapEntry) bool { return bytes.Equal(l.name(a), l.name(b)) })
}

// shrink drops the larger half of what was found.
func (l *mapListing) shrink() {
	if len(l.found) < 2 {
		return
	}
	half := len(l.found) / 2
	l.ceil = append(l.ceil[:0], l.name(l.found[half])...)
	names := make([]byte, 0, cap(l.names))
	for i, e := range l.found[:half] {
		from := len(names)
		names = append(names, l.name(e)...)
		l.found[i].from, l.found[i].to = from, len(names)
	}
	l.names, l.found = names, l.found[:half]
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
			l.walk = l.locks.WalkHolders(l.name(e))
			l.state = mapHolders
			return out
		}
		l.listed++
		if p := h.directory.lookupLocked(e.owner); p != nil {
			out = append(l.key(out, e), p.addr...)
		}
	}
	if l.listed == len(l.found) {
		if len(l.ceil) == 0 {
			l.state = mapEnd
		} else {
			l.beginRound()
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
	if l.walk != nil {
		l.walk.Close()
	}
}
