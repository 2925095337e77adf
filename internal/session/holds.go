package session

import "github.com/nylen/lockd/internal/shard"

// holds lists who holds what, or waits for it, a piece at a time: as the table has it, in no
// order but that of a shared lock's holders.
type holds struct {
	hub    *Hub
	walk   *shard.Walk
	piece  shard.Piece
	owners []*peer // of the piece's items, when some are left for another call
	done   int     // of the piece's items
	ended  bool    // the walk is at its end
}

// holds lists all locks of a kind.
func (h *Hub) holds(kind shard.Kind) *holds { return &holds{hub: h, walk: h.locks.Walk(kind)} }

// holdsOf lists who holds a shared lock.
func (h *Hub) holdsOf(name []byte) *holds { return &holds{hub: h, walk: h.locks.WalkHolders(name)} }

// holder returns who holds an exclusive lock, or nil.
func (h *Hub) holder(name []byte) *peer { return h.directory.peer(h.locks.Holder(name)) }

// look lists all that has a name: holds, waits and the rate.
func (h *Hub) look(name []byte) *holds { return &holds{hub: h, walk: h.locks.Look(name)} }

// lookAll lists all whose names begin so.
func (h *Hub) lookAll(prefix []byte) *holds { return &holds{hub: h, walk: h.locks.LookAll(prefix)} }

// next calls f for each item of the next piece until f returns false, and tells
// whether there may be more. The names are good during the call. A rate has no
// owner.
//
// It looks an owner up when the table has told its ID, since an ID is somebody
// else's some day, and passes over those that are gone.
func (l *holds) next(f func(name []byte, item shard.Item, owner *peer) bool) (more bool) {
	if l.done == len(l.piece.Items) {
		if l.ended {
			return false
		}
		l.walk.Now = l.hub.clock.nanoseconds()
		l.ended = !l.walk.Next(&l.piece)
		l.owners, l.done = l.owners[:0], 0
	}
	d := &l.hub.directory
	for on := true; on && l.done < len(l.piece.Items); l.done++ {
		item := l.piece.Items[l.done]
		var p *peer
		if len(l.owners) == 0 {
			p = d.peer(item.Owner)
		} else if p = l.owners[l.done]; !d.there(p) {
			p = nil
		}
		if p != nil || item.Owner == 0 {
			on = f(l.piece.Name(item), item, p)
		}
	}
	if l.done < len(l.piece.Items) && len(l.owners) == 0 {
		for _, item := range l.piece.Items {
			l.owners = append(l.owners, d.peer(item.Owner))
		}
	}
	return true
}

// rest gives back the memory that it can do without for a while.
func (l *holds) rest() {
	if l.done == len(l.piece.Items) {
		l.piece, l.owners, l.done = shard.Piece{}, nil, 0
	}
}

// keeps is what the piece takes.
func (l *holds) keeps() int { return l.piece.Size() + 8*cap(l.owners) }

func (l *holds) close() { l.walk.Close() }
