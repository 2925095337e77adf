package conn

import (
	"sort"
	"sync"
)

// A directory knows the sessions that are there, by the ID under which the
// table of locks knows them, and the names under which some have registered.
//
// An ID is a place in the directory in its lower 24 bits and a generation in
// its upper 8: a place is taken again only after its session has released
// everything, so that the table never confuses two owners, and the generation
// lets somebody who had an ID from the table a moment ago notice that its owner
// has been replaced. For longer than a moment nobody keeps an ID, as it is another
// one's after some millions of sessions: listings keep peers.
type directory struct {
	mu     sync.RWMutex // guards what follows, and the peers
	peers  []*peer      // by place; nil: free
	free   []uint32     // IDs to use next, oldest first
	taken  int
	roll   []registration // sorted by number; struck ones have no peer
	struck int
	number uint64
}

// peer is what others may see of a session. The directory's mutex guards all but
// id and addr, which do not change.
type peer struct {
	id         uint32
	session    *Session // nil when it has ended
	addr       string
	registered string // "" when it is not registered
	number     uint64 // of its registration
}

// registration is a line of `who`.
type registration struct {
	number uint64
	peer   *peer
}

const (
	placeBits = 24
	placeMask = 1<<placeBits - 1
	// recycleAfter is how many places stay free before the oldest is taken
	// again: an ID comes round after 256 times as many sessions.
	recycleAfter = 1 << 14
)

func (d *directory) init() {
	d.peers = make([]*peer, 1) // ID 0 means nobody
}

// add gives a session its ID.
func (d *directory) add(addr string, s *Session) *peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := &peer{session: s, addr: addr}
	if len(d.free) > recycleAfter || len(d.peers) > placeMask {
		p.id = d.free[0]
		d.free = d.free[1:]
	} else {
		p.id = uint32(len(d.peers))
		d.peers = append(d.peers, nil)
	}
	d.peers[p.id&placeMask] = p
	d.taken++
	return p
}

// room tells whether there is a place for one more session.
func (d *directory) room() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.taken < placeMask/2
}

// session returns the session of an ID, or nil when that is gone.
func (d *directory) session(id uint32) *Session {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if p := d.lookupLocked(id); p != nil {
		return p.session
	}
	return nil
}

// remove forgets a session that holds nothing any more.
func (d *directory) remove(p *peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.strikeLocked(p)
	p.session = nil // a listing may keep the peer
	d.peers[p.id&placeMask] = nil
	d.free = append(d.free, p.id+1<<placeBits)
	d.taken--
}

// count returns how many sessions there are.
func (d *directory) count() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.taken
}

// register gives a session a name; the empty one takes it back.
func (d *directory) register(p *peer, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.strikeLocked(p)
	if name == "" {
		return
	}
	d.number++
	p.registered, p.number = name, d.number
	d.roll = append(d.roll, registration{p.number, p})
}

// registered returns the name of a session, which is its address until it
// registers one.
func (d *directory) registered(p *peer) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return p.nameLocked()
}

func (p *peer) nameLocked() string {
	if p.registered == "" {
		return p.addr
	}
	return p.registered
}

// strikeLocked takes a session off the roll, if it is on it.
func (d *directory) strikeLocked(p *peer) {
	if p.registered == "" {
		return
	}
	d.roll[d.findLocked(p.number)].peer = nil
	d.struck++
	p.registered = ""
	if d.struck < 64 || d.struck < len(d.roll)/2 {
		return
	}
	kept := d.roll[:0]
	for _, r := range d.roll {
		if r.peer != nil {
			kept = append(kept, r)
		}
	}
	clear(d.roll[len(kept):])
	d.roll, d.struck = kept, 0
}

// findLocked returns the place in the roll of the first registration whose
// number is at least n.
func (d *directory) findLocked(n uint64) int {
	return sort.Search(len(d.roll), func(i int) bool { return d.roll[i].number >= n })
}

// who calls f for up to n registrations that come after number, oldest first,
// and for none after f returns false. It returns the number of the last one and
// whether there are more.
func (d *directory) who(number uint64, n int, f func(addr, name string) bool) (uint64, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	i := d.findLocked(number + 1)
	for on := true; on && n > 0 && i < len(d.roll); n, i = n-1, i+1 {
		number = d.roll[i].number
		if p := d.roll[i].peer; p != nil {
			on = f(p.addr, p.registered)
		}
	}
	return number, i < len(d.roll)
}

// holder returns the name of the session of an ID, and false when that is
// gone.
func (d *directory) holder(id uint32) (string, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if p := d.lookupLocked(id); p != nil {
		return p.nameLocked(), true
	}
	return "", false
}

// thereLocked tells whether p, which may be nil, is somebody whose session has
// not ended.
func (d *directory) thereLocked(p *peer) bool { return p != nil && d.peers[p.id&placeMask] == p }

// lookupLocked returns the session of an ID, or nil when that is gone.
func (d *directory) lookupLocked(id uint32) *peer {
	if p := d.peers[id&placeMask]; p != nil && p.id == id {
		return p
	}
	return nil
}
