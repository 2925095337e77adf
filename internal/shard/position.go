package shard

import "bytes"

// A Position is where a walk stands that can be gone on with later, by another walk:
// nothing is kept for it meanwhile. The zero one is the beginning.
//
// That works since items never move: what is there from the first walk to the last
// is found exactly once, and of what comes and goes meanwhile some. A position of
// another set, or one that somebody has made up, finds something or nothing.
type Position struct{ Shard, Part, Ref uint32 }

// A View is what a walk with positions lists, each as one item.
type View uint8

// The views. Each comes to exclusive locks first, in each shard.
const (
	EachLock View = iota // held locks; the owner of a shared one is who has held it for longest
	EachHold             // of a shared lock, each of its holders
	EachWait
	EachRate // that is not full
)

// WalkFrom begins a walk at a position over what has a name that begins with
// prefix, and is about one of the kinds: Kinds means both.
func (t *Set) WalkFrom(v View, kind Kind, prefix []byte, from Position) *Walk {
	w := &Walk{set: t, behind: len(t.shards), name: bytes.Clone(prefix)}
	w.parts = viewParts[v]
	if kind != Kinds && len(w.parts) == int(Kinds) {
		w.parts = w.parts[kind : kind+1]
	}
	if from.Shard >= uint32(len(t.shards)) || from.Part >= uint32(len(w.parts)) {
		w.shard = w.behind
		return w
	}
	w.shard, w.part, w.ref = int(from.Shard), int(from.Part), max(1, from.Ref)
	return w
}

// Position returns where a walk of WalkFrom stands.
func (w *Walk) Position() Position {
	return Position{Shard: uint32(w.shard), Part: uint32(w.part), Ref: w.ref}
}

var viewParts = [...][]part{
	EachLock: {(*Shard).walkExclusiveLocked, (*Shard).walkSharesLocked},
	EachHold: {(*Shard).walkExclusiveLocked, (*Shard).walkHoldsLocked},
	EachWait: {(*Shard).walkWaitersLocked},
	EachRate: {(*Shard).walkRatesLocked},
}

// walkSharesLocked lists shared locks, each by its first holder.
func (s *Shard) walkSharesLocked(w *Walk, p *Piece) (done bool) {
	return walkSlab(w, p, &s.shared, func(_ uint32, l *shared) bool {
		if l.count != 0 && s.names.hasPrefix(&l.name, w.name) {
			s.addHoldItemLocked(w, p, l, s.holds.at(l.first))
		}
		return false
	})
}

// walkHoldsLocked lists holds of shared locks, in no order.
func (s *Shard) walkHoldsLocked(w *Walk, p *Piece) (done bool) {
	return walkSlab(w, p, &s.holds, func(_ uint32, h *hold) bool {
		if h.lock == 0 {
			return false
		}
		if l := s.shared.at(h.lock); s.names.hasPrefix(&l.name, w.name) {
			s.addHoldItemLocked(w, p, l, h)
		}
		return false
	})
}

func (s *Shard) addHoldItemLocked(w *Walk, p *Piece, l *shared, h *hold) {
	i := Item{Owner: h.owner, Kind: Shared, Age: h.since.Age(w.Now), Number: uint64(l.count)}
	i.Queue, i.Oldest = s.lineLocked(l.queue, w.Now)
	s.addItemLocked(p, &l.name, i)
}

// A LookPart is a part of what Look lists.
type LookPart uint8

// The parts, in their order.
const (
	LookHolder      LookPart = iota // of the exclusive lock
	LookQueue                       // of those who wait for it
	LookHolders                     // of the shared one
	LookSharedQueue                 // of those who wait for that
	LookRate
)

// LookOnly begins a walk like Look over some parts only: however many one of them
// lists, the others do not wait for that.
func (t *Set) LookOnly(name []byte, first, last LookPart) *Walk {
	return t.walkOne(name, lookParts[first:last+1])
}
