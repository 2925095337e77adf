package session

import (
	"cmp"
	"slices"

	"github.com/nylen/lockd/internal/shard"
)

// A Client is one connection, for whoever asks who is there.
type Client struct {
	Address string
	Name    string  // under which it has registered; "" if it has not
	Process Process // nil: nobody knows
	Access  *Access // nil: it has not said who it is
	Locks   int     // that its sessions hold, of both kinds

	id uint32
}

// Clients returns up to n of the clients that are there, those who hold most
// first, and how many more there are, but for those that have come while the server
// drained. It goes over all locks and holds no mutex
// for long, so its answer is of no single moment.
func (h *Hub) Clients(n int) (first []Client, more int) {
	locks := make(map[*peer]int)
	for kind := range shard.Kinds {
		walk := h.locks.Walk(kind)
		var piece shard.Piece
		for on := true; on; {
			on = walk.Next(&piece)
			for _, item := range piece.Items {
				if p := h.directory.peer(item.Owner); p != nil {
					if c := p.client(); c != nil {
						locks[c]++
					}
				}
			}
		}
		walk.Close()
	}
	var all []Client
	h.directory.each(func(p *peer) {
		if p.client() == p && !p.late() {
			c := Client{Address: p.addr(), Process: p.process(), Access: p.accessNow(), Locks: locks[p], id: p.id}
			if name := p.registered.Load(); name != nil {
				c.Name = *name
			}
			all = append(all, c)
		}
	})
	slices.SortFunc(all, func(a, b Client) int {
		return cmp.Or(cmp.Compare(b.Locks, a.Locks), cmp.Compare(a.id, b.id))
	})
	n = min(n, len(all))
	return all[:n], len(all) - n
}

// client returns session 0 of the connection that a session is of, or nil when the
// session has ended.
func (p *peer) client() *peer {
	if s := p.session.Load(); s != nil {
		return s.client(p)
	}
	return nil
}

// late tells whether a session's client has come while the server drained.
func (p *peer) late() bool {
	s := p.session.Load()
	return s != nil && s.stream.late
}

// client does the same for a session whose peer is p. It may begin just now, on
// another goroutine: session 0 has no peer itself yet when others find it.
func (s *Session) client(p *peer) *peer {
	if s == &s.stream.main {
		return p
	}
	return s.stream.main.peer
}

// each calls f for everybody who is there.
func (d *directory) each(f func(*peer)) {
	d.mu.RLock()
	places := d.places
	d.mu.RUnlock()
	for place := uint32(1); place < places; place++ {
		if p := d.at(place).Load(); p != nil {
			f(p)
		}
	}
}
