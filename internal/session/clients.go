package session

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// A Client is one connection, for whoever asks who is there.
type Client struct {
	Transport string
	Age       time.Duration // of the connection
	Sessions  int
	Locks     int   // that its sessions hold, of both kinds
	Waits     int   // of its sessions that wait for one
	Bytes     int64 // that the server keeps for it, about
	Away      bool  // it is kept, and has no connection now

	id   uint32
	late bool // nobody waits for it when the server drains: it has come then, or is kept
	peer *peer
}

// Address returns its address. It is not kept, unless others have asked for it: a
// server may have a million clients.
func (c *Client) Address() string {
	if l := c.peer.label.Load(); l != nil {
		return l.text
	}
	return c.peer.ip.String()
}

// Name returns the name under which it has registered, "" if it has not.
func (c *Client) Name() string {
	if name := c.peer.registered.Load(); name != nil {
		return *name
	}
	return ""
}

// NameOrAddress returns what stands for it where there is room for one of them.
func (c *Client) NameOrAddress() string { return cmp.Or(c.Name(), c.Address()) }

// Access returns who it has shown to be, nil if it has not.
func (c *Client) Access() *Access { return c.peer.accessNow() }

// Process returns which process it is, nil if nobody knows.
func (c *Client) Process() Process { return c.peer.process() }

// count adds what one of its sessions holds or waits for.
func (c *Client) count(item shard.Item, name int) {
	c.Bytes += int64(shard.ItemBytes(name))
	if item.State == shard.Held {
		c.Locks++
	} else {
		c.Waits++
		c.Bytes += int64(waitBytes + name)
	}
}

// clientsThere finds clients by the places of their sessions in the directory.
type clientsThere []struct {
	id     uint32
	client *Client
}

// of returns whose an owner's ID is, nil if that one has come since or is gone.
func (t clientsThere) of(id uint32) *Client {
	if place := id & placeMask; int(place) < len(t) && t[place].id == id {
		return t[place].client
	}
	return nil
}

// countClients fills the clients of a census, who hold nothing yet.
func (h *Hub) countClients(c *Census) clientsThere {
	there := make(clientsThere, h.directory.end())
	now := h.clock.nanoseconds()
	index := make([]int32, len(there)) // of a place's client among c.Clients, +1
	of := func(p *peer) int32 {
		place := p.id & placeMask
		if int(place) >= len(there) {
			return 0
		}
		if index[place] != 0 && c.Clients[index[place]-1].peer == p {
			return index[place]
		}
		s := p.session.Load()
		if s == nil {
			return 0
		}
		st := s.stream
		transport, since := st.connection(p)
		c.Clients = append(c.Clients, Client{
			Transport: transport, Age: milliseconds(since.Age(now)), Away: p.isAway(),
			Bytes: streamBytes + int64(st.kept.Load()), id: p.id, late: st.late || st.outlives() || st.node.Load(), peer: p,
		})
		index[place] = int32(len(c.Clients))
		return index[place]
	}
	clientOf := make([]int32, len(there))
	h.directory.each(func(p *peer) {
		main := p.client()
		if main == nil || int(p.id&placeMask) >= len(there) {
			return
		}
		i := of(main)
		if i == 0 {
			return
		}
		there[p.id&placeMask].id, clientOf[p.id&placeMask] = p.id, i
		one := &c.Clients[i-1]
		if one.Sessions++; p != main {
			one.Bytes += sessionBytes
		}
		if name := p.registered.Load(); name != nil {
			one.Bytes += int64(registrationBytes + len(*name))
		}
	})
	for place, i := range clientOf { // they do not move any more
		if i != 0 {
			there[place].client = &c.Clients[i-1]
		}
	}
	return there
}

// Clients returns up to n of the clients that are there, those who hold most
// first, and how many more there are, but for those that nobody waits for while the
// server drains. It goes over all locks and holds no mutex
// for long, so its answer is of no single moment.
func (h *Hub) Clients(n int) (first []*Client, more int) {
	c := h.takeCensus(new(busiest), new(atomic.Bool))
	var all []*Client
	for i := range c.Clients {
		if one := &c.Clients[i]; !one.late && !one.Away {
			all = append(all, one)
		}
	}
	slices.SortFunc(all, ByLocks.Compare)
	n = min(n, len(all))
	return all[:n], len(all) - n
}

// A ClientOrder is one of those in which clients are listed. Those that are alike
// stand in the order in which they came.
type ClientOrder uint8

// The orders that there are: the largest and the oldest first.
const (
	ByLocks ClientOrder = iota
	ByWaits
	ByBytes
	ByAge
	clientOrderCount
)

// Compare is less than 0 if a comes before b.
func (o ClientOrder) Compare(a, b *Client) int {
	n := 0
	switch o {
	case ByLocks:
		n = cmp.Compare(b.Locks, a.Locks)
	case ByWaits:
		n = cmp.Compare(b.Waits, a.Waits)
	case ByBytes:
		n = cmp.Compare(b.Bytes, a.Bytes)
	}
	return cmp.Or(n, cmp.Compare(b.Age, a.Age), cmp.Compare(a.id, b.id))
}

// firstOf returns the first n in an order, without sorting all.
func firstOf(clients []Client, n int, compare func(a, b *Client) int) (first []*Client) {
	var last *Client // none behind it is among the first n
	cut := func() {
		slices.SortFunc(first, compare)
		if len(first) > n {
			clear(first[n:])
			first = first[:n]
			last = first[n-1]
		}
	}
	for i := range clients {
		if last != nil && compare(&clients[i], last) > 0 {
			continue
		}
		if first = append(first, &clients[i]); len(first) >= 2*n {
			cut()
		}
	}
	cut()
	return first
}

// client returns session 0 of the connection that a session is of, or nil when the
// session has ended.
func (p *peer) client() *peer {
	if s := p.session.Load(); s != nil {
		return s.client(p)
	}
	return nil
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
	end := d.end()
	for place := uint32(1); place < end; place++ {
		if p := d.at(place).Load(); p != nil {
			f(p)
		}
	}
}

// end is the place behind the last one that has been taken.
func (d *directory) end() uint32 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.places
}
