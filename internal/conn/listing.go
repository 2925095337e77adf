package conn

import (
	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// A listing is a reply that may be larger than a connection's buffers, given
// out in pieces. Each piece ends where a line or an entry of it ends.
type listing interface {
	// next appends a piece and tells whether there is more. A piece may be
	// empty. It takes no longer than about a millisecond.
	next(h *Hub, out []byte) (_ []byte, more bool)
	// rest gives back the memory that it can do without while the client does
	// not read.
	rest()
	close()
}

// listingPiece is the size of a piece, but for its last line.
const listingPiece = 32 << 10

// dumpListing is the reply to `d` and `sd`: a line `NAME: HOLDER` a hold.
type dumpListing struct {
	walk   *shard.Walk
	piece  shard.Piece
	owners []*peer // of the piece's items, when some are left for another call
	done   int     // of the piece's items
	ended  bool    // the walk is at its end
}

func (l *dumpListing) next(h *Hub, out []byte) ([]byte, bool) {
	if l.done == len(l.piece.Items) {
		if l.ended {
			return out, false
		}
		l.ended = !l.walk.Next(&l.piece)
		l.owners, l.done = l.owners[:0], 0
	}
	d := &h.directory
	d.mu.RLock()
	defer d.mu.RUnlock()
	for limit := len(out) + listingPiece; l.done < len(l.piece.Items) && len(out) < limit; l.done++ {
		item := l.piece.Items[l.done]
		if p := l.ownerLocked(d, item); p != nil {
			out = wire.AppendPair(out, l.piece.Name(item), p.nameLocked())
		}
	}
	if l.done < len(l.piece.Items) && len(l.owners) == 0 {
		for _, item := range l.piece.Items {
			l.owners = append(l.owners, d.lookupLocked(item.Owner))
		}
	}
	return out, true
}

// ownerLocked returns the owner of the item that is next, or nil when that is
// gone: as the table has just named it, or who that was then.
func (l *dumpListing) ownerLocked(d *directory, item shard.Item) *peer {
	if len(l.owners) == 0 {
		return d.lookupLocked(item.Owner)
	}
	if p := l.owners[l.done]; d.thereLocked(p) {
		return p
	}
	return nil
}

func (l *dumpListing) rest() {
	if l.done == len(l.piece.Items) {
		l.piece, l.owners, l.done = shard.Piece{}, nil, 0
	}
}

func (l *dumpListing) close() { l.walk.Close() }

// whoListing is the reply to `who`: a line `ADDR: REGISTERED` a registration.
type whoListing struct {
	only   string // if not "", list who is registered under this name
	number uint64 // of the last registration looked at
}

// whoLooks is how many registrations a piece looks at, at most.
const whoLooks = 512

func (l *whoListing) next(h *Hub, out []byte) ([]byte, bool) {
	var more bool
	limit := len(out) + listingPiece
	l.number, more = h.directory.who(l.number, whoLooks, func(addr, name string) bool {
		if l.only == "" || l.only == name {
			out = append(out, addr...)
			out = append(out, ": "...)
			out = append(out, name...)
			out = append(out, '\n')
		}
		return len(out) < limit
	})
	return out, more
}

func (l *whoListing) rest()  {}
func (l *whoListing) close() {}
