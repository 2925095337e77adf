package session

import (
	"bytes"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// A Search looks through the table for one page of what somebody wants to see.
type Search struct {
	View   shard.View
	Kind   shard.Kind     // Kinds: both
	Prefix []byte         // of the names
	From   shard.Position // where the page before has ended; zero: the beginning
	Most   int            // items of a page
	Holder string         // in the address, the name or the identity of who holds or waits, in whatever case; "": anybody
	Client *Client        // whose sessions they are; nil: anybody's
}

// Found is a page.
type Found struct {
	Items []FoundItem
	Next  shard.Position // where to go on
	More  bool           // there may be more behind it
	// Partial says that the search has ended since it had taken long enough, or its
	// names were long enough, before the page was full.
	Partial bool
}

// A FoundItem is a hold, a wait or a rate that a search has found.
type FoundItem struct {
	shard.Item
	Name string
	Who  Who // nobody, if it is a rate
}

// Who is a session, for whoever asks.
type Who struct {
	Address   string
	Name      string // under which it, or its client, has registered; "" if neither has
	Transport string
	Access    *Access // nil: the client has not said who it is
	Away      bool    // it is kept, and has no connection now
}

func whoIs(p *peer) (w Who) {
	w.Address, w.Name = p.addr(), p.knownName()
	if s := p.session.Load(); s != nil {
		main := s.client(p)
		w.Transport, _ = s.stream.connection(main)
		w.Access, w.Away = main.accessNow(), p.isAway()
	}
	return w
}

// knownName returns the name of a session, or "" if that is its address.
func (p *peer) knownName() string {
	if name := p.name(); name != p.addr() {
		return name
	}
	return ""
}

// A page's work is bounded: by the items that are looked at, and by time. What one
// client has is on one page, so that may take longer. So is its size, by the bytes of
// names, which may be long.
const (
	searchBytes = 256 << 10
	searchItems = 200_000
	searchTime  = 50 * time.Millisecond
	clientItems = 20 * searchItems
	clientTime  = 5 * searchTime
)

// Find returns a page of a search. What is there from the first page to the last is
// found exactly once. It holds no mutex for long, and does not take long itself.
func (h *Hub) Find(q Search) Found {
	if q.Client != nil {
		return h.find(q, clientItems, clientTime)
	}
	return h.find(q, searchItems, searchTime)
}

func (h *Hub) find(q Search, items int, most time.Duration) (f Found) {
	w := h.locks.WalkFrom(q.View, q.Kind, q.Prefix, q.From)
	defer w.Close()
	m := newMatcher(q.Holder, q.Client)
	var p shard.Piece
	f.More = true
	size := 0 // of the names
	for began, looked := time.Now(), 0; f.More && len(f.Items) < q.Most; {
		if looked >= items || size >= searchBytes || looked > 0 && time.Since(began) >= most {
			f.Partial = true
			break
		}
		w.Now, p.Most = h.clock.nanoseconds(), q.Most-len(f.Items)
		f.More = w.Next(&p)
		looked += 1 + len(p.Items)
		for _, item := range p.Items {
			found := FoundItem{Item: item}
			if item.Owner != 0 {
				owner := h.directory.peer(item.Owner)
				if owner == nil || !m.wants(owner) {
					continue
				}
				found.Who = whoIs(owner)
			}
			found.Name = string(p.Name(item))
			size += len(found.Name)
			f.Items = append(f.Items, found)
		}
	}
	f.Next = w.Position()
	return f
}

// A matcher tells whether items of a session are wanted.
type matcher struct {
	holder []byte
	client *peer
	known  map[*peer]bool // by client, as sessions may be many
	text   []byte
}

func newMatcher(holder string, client *Client) *matcher {
	m := &matcher{holder: bytes.ToLower([]byte(holder)), known: make(map[*peer]bool)}
	if client != nil {
		m.client = client.peer
	}
	return m
}

func (m *matcher) wants(p *peer) bool {
	if len(m.holder) == 0 && m.client == nil {
		return true
	}
	c := p.client()
	if c == nil || m.client != nil {
		return c != nil && c == m.client
	}
	wanted, known := m.known[c]
	if !known {
		wanted = m.wantsClient(c)
		m.known[c] = wanted
	}
	if wanted || p == c {
		return wanted
	}
	name := p.registered.Load()
	return name != nil && m.has(append(m.text[:0], *name...))
}

func (m *matcher) wantsClient(c *peer) bool {
	if m.has(c.appendAddr(m.text[:0])) || m.has(c.appendName(m.text[:0])) {
		return true
	}
	a := c.accessNow()
	return a != nil && m.has(append(m.text[:0], a.Name...))
}

// has tells whether the holder that is wanted stands in a text.
func (m *matcher) has(text []byte) bool {
	m.text = text
	return bytes.Contains(bytes.ToLower(text), m.holder)
}
