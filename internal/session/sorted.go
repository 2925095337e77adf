package session

import (
	"bytes"
	"slices"

	"github.com/nylen/lockd/internal/shard"
)

// sorted lists all holds of a kind sorted by name, a piece at a time.
//
// The table is not sorted, and sorting all of it would take as much memory as
// it has. So the names are had in rounds: each walks the table and keeps the
// smallest names above those already listed, as many as fit into a fixed
// number of bytes.
type sorted struct {
	hub  *Hub
	kind shard.Kind
	room int // bytes of names in the round

	state sortedState
	walk  *shard.Walk // of the round, or of one shared lock's holders
	piece shard.Piece

	names  []byte        // the names of found and fresh, and of some dropped ones
	found  []sortedEntry // the round's smallest names so far, sorted
	size   int           // of their names
	fresh  []sortedEntry // names that have not been merged into found
	loose  int           // the size of their names
	full   bool          // names after the last of found do not fit into the round
	last   []byte        // the last name of the round before
	any    bool          // there was a round before
	listed int           // of found
	within bool          // a holder of the shared lock came before
}

type sortedEntry struct {
	owner    *peer  // of an exclusive lock; nil: gone since
	at       uint32 // where it goes in found, while it is fresh
	from, to uint32
}

type sortedState uint8

const (
	sortBegin sortedState = iota
	sortCollect
	sortList
	sortHolders // of the shared lock found[listed]
	sortEnd
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

// sorted begins such a list, which has to be closed.
func (h *Hub) sorted(kind shard.Kind) *sorted {
	h.sortedHolds.Add(1)
	return &sorted{hub: h, kind: kind}
}

func (l *sorted) name(e sortedEntry) []byte { return l.names[e.from:e.to] }

// next calls f for each hold of the next piece, at most about until it returns
// false, and tells whether there may be more. first tells that the hold is the
// first one of its lock. The names are good during the call.
func (l *sorted) next(f func(name []byte, holder *peer, first bool) bool) (more bool) {
	switch l.state {
	case sortBegin:
		l.beginRound()
	case sortCollect:
		l.collect()
	case sortList:
		l.list(f)
	case sortHolders:
		l.holders(f)
	case sortEnd:
		return false
	}
	return true
}

func (l *sorted) beginRound() {
	l.room = min(max(roundsBytes/int(l.hub.sortedHolds.Load()), minRoundBytes), maxRoundBytes)
	if cap(l.names) > 4*l.room { // the room was larger
		l.names, l.found = nil, nil
	}
	clear(l.found) // of owners
	l.names, l.found, l.size, l.full, l.listed = l.names[:0], l.found[:0], 0, false, 0
	l.walk = l.hub.locks.Walk(l.kind)
	l.state = sortCollect
}

// collect takes a piece of the round's walk.
func (l *sorted) collect() {
	more := l.walk.Next(&l.piece)
	for i, item := range l.piece.Items {
		name := l.piece.Name(item)
		switch {
		case i > 0 && l.kind == shard.Shared && item.SameLock(l.piece.Items[i-1]):
		case l.any && bytes.Compare(name, l.last) <= 0:
		case l.full && bytes.Compare(name, l.name(l.found[len(l.found)-1])) > 0:
		default:
			from := uint32(len(l.names))
			l.names = append(l.names, name...)
			l.fresh = append(l.fresh, sortedEntry{owner: l.hub.directory.peer(item.Owner), from: from, to: uint32(len(l.names))})
			l.loose += len(name)
		}
	}
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
func (l *sorted) merge() {
	compare := func(a, b sortedEntry) int { return bytes.Compare(l.name(a), l.name(b)) }
	slices.SortFunc(l.fresh, compare)
	l.fresh = slices.CompactFunc(l.fresh, func(a, b sortedEntry) bool { return compare(a, b) == 0 })
	l.fresh = slices.DeleteFunc(l.fresh, func(e sortedEntry) bool {
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
func (l *sorted) trim() {
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
func (l *sorted) compact(capacity int) {
	names := make([]byte, 0, capacity)
	for i, e := range l.found {
		from := uint32(len(names))
		names = append(names, l.name(e)...)
		l.found[i].from, l.found[i].to = from, uint32(len(names))
	}
	l.names = names
}

// rest keeps what was found, and nothing of what it was found with.
func (l *sorted) rest() {
	if l.state == sortCollect {
		l.merge()
		l.trim()
	}
	if cap(l.names) > l.size {
		l.compact(l.size)
	}
	if cap(l.found) > len(l.found) {
		l.found = append(make([]sortedEntry, 0, len(l.found)), l.found...) // slices.Clone may have a capacity
	}
	l.fresh, l.piece = nil, shard.Piece{}
}

func (l *sorted) endRound() {
	l.walk = nil
	if len(l.found) == 0 {
		l.state = sortEnd
		return
	}
	l.any = true
	l.last = append(l.last[:0], l.name(l.found[len(l.found)-1])...)
	l.state = sortList
}

// list lists the entries of a round.
func (l *sorted) list(f func(name []byte, holder *peer, first bool) bool) {
	for on := true; on && l.listed < len(l.found); {
		e := l.found[l.listed]
		if l.kind == shard.Shared {
			l.walk = l.hub.locks.WalkHolders(l.name(e))
			l.state = sortHolders
			return
		}
		l.listed++
		if l.hub.directory.there(e.owner) {
			on = f(l.name(e), e.owner, true)
		}
	}
	if l.listed == len(l.found) {
		if l.full {
			l.beginRound()
		} else {
			l.state = sortEnd
		}
	}
}

// holders lists a piece of the holders of one shared lock. A lock that nobody
// holds any more is left out.
func (l *sorted) holders(f func(name []byte, holder *peer, first bool) bool) {
	more := l.walk.Next(&l.piece)
	for _, item := range l.piece.Items {
		if p := l.hub.directory.peer(item.Owner); p != nil {
			f(l.name(l.found[l.listed]), p, !l.within)
			l.within = true
		}
	}
	if !more {
		l.within = false
		l.walk = nil
		l.listed++
		l.state = sortList
	}
}

func (l *sorted) close() {
	l.hub.sortedHolds.Add(-1)
	if l.walk != nil {
		l.walk.Close()
	}
}
