package session

import (
	"net/netip"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/nylen/lockd/internal/shard"
)

// A directory knows the sessions that are there, by the ID under which the
// table of locks knows them, and the names under which some have registered.
// Looking somebody up takes no mutex.
//
// An ID is a place in the directory in its lower 24 bits and a generation in
// its upper 8: a place is taken again only after its session has released
// everything, so that the table never confuses two owners, and the generation
// lets somebody who had an ID from the table a moment ago notice that its owner
// has been replaced. For longer than a moment nobody keeps an ID, as it is another
// one's after some millions of sessions: lists keep peers.
type directory struct {
	memory *shard.Memory
	pages  [1 << (placeBits - pageBits)]atomic.Pointer[page] // nil behind the last place taken

	mu     sync.RWMutex // guards what follows, who comes and goes, and registrations
	places uint32       // that have been taken at some time
	free   []uint32     // IDs to use next, oldest first
	taken  int
	roll   []registration // sorted by number; struck ones have no peer
	struck int
	number uint64
}

// A page has nil where nobody is.
type page [1 << pageBits]atomic.Pointer[peer]

// peer is what others may see of a session. It does not change but for what is
// atomic, and what the directory's mutex guards.
type peer struct {
	id      uint32
	ip      netip.AddrPort
	label   atomic.Pointer[label]   // of the address, once somebody has asked for it
	evicted atomic.Pointer[ending]  // why it is to end, while its client goes on; nil: it is not
	session atomic.Pointer[Session] // nil when it has ended: a list may keep the peer
	share   atomic.Pointer[shard.Share]

	lingers    atomic.Uint64          // of session 0: until when nobody waits for its client's end, by the clock's nanoseconds
	registered atomic.Pointer[string] // nil when it is not registered
	number     uint64                 // of its registration; guarded
	watchers   map[*Session]struct{}  // to be told of its end; guarded
	access     atomic.Pointer[Access] // of session 0: who the client is; nil: it has not said so
}

// addr returns the address as text, which is made when somebody asks for it.
func (p *peer) addr() string {
	l := p.label.Load()
	if l == nil {
		l = &label{text: p.ip.String()}
		if !p.label.CompareAndSwap(nil, l) { // it may have moved meanwhile
			l = p.label.Load()
		}
	}
	return l.text
}

// appendAddr appends it, and keeps nothing.
func (p *peer) appendAddr(out []byte) []byte {
	if l := p.label.Load(); l != nil {
		return append(out, l.text...)
	}
	return p.ip.AppendTo(out)
}

// process returns who has connected to a unix socket, or nil.
func (p *peer) process() Process {
	if l := p.label.Load(); l != nil {
		return l.process
	}
	return nil
}

// cert returns the name in the certificate that the client has shown, or "".
func (p *peer) cert() string {
	if l := p.label.Load(); l != nil {
		return l.cert
	}
	return ""
}

// name returns the name of a session, see appendName.
func (p *peer) name() string {
	if name := p.registered.Load(); name != nil {
		return *name
	}
	return string(p.appendName(nil))
}

// appendName appends the name of a session: the one that it has registered, else
// that of session 0 with its number, else its address.
func (p *peer) appendName(out []byte) []byte {
	if name := p.registered.Load(); name != nil {
		return append(out, *name...)
	}
	if s := p.session.Load(); s != nil && s.number != 0 {
		if name := s.stream.main.peer.registered.Load(); name != nil {
			return strconv.AppendUint(append(append(out, *name...), '#'), uint64(s.number), 10)
		}
	}
	return append(out, p.addr()...)
}

// registration is a line of `who`.
type registration struct {
	number uint64
	peer   *peer
}

// MostSessions is how many sessions a server has at most, beside the first ones of
// connections.
const MostSessions = placeMask / 2

const (
	placeBits = 24
	placeMask = 1<<placeBits - 1
	pageBits  = 12
	// recycleAfter is how many places stay free before the oldest is taken
	// again: an ID comes round after 256 times as many sessions.
	recycleAfter = 1 << 14
)

func (d *directory) init() {
	d.places = 1 // ID 0 means nobody
	d.pages[0].Store(new(page))
}

// at returns where the peer of an ID is, which has been given out.
func (d *directory) at(id uint32) *atomic.Pointer[peer] {
	place := id & placeMask
	return &d.pages[place>>pageBits].Load()[place%(1<<pageBits)]
}

// add gives a session its ID.
func (d *directory) add(addr Address, s *Session) *peer {
	p := &peer{ip: addr.IP}
	p.session.Store(s)
	switch {
	case addr.Name != "":
		p.label.Store(&label{text: addr.Name, process: addr.Process, cert: addr.Cert})
	case addr.Cert != "":
		p.label.Store(&label{text: addr.IP.String(), cert: addr.Cert})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.free) > recycleAfter || d.places > placeMask {
		p.id = d.free[0]
		d.free = d.free[1:]
	} else {
		p.id = d.places
		d.places++
		if p.id%(1<<pageBits) == 0 {
			d.pages[p.id>>pageBits].Store(new(page))
			d.memory.Add(8 << pageBits)
		}
	}
	d.at(p.id).Store(p)
	d.taken++
	return p
}

// room tells whether there is a place for one more session.
func (d *directory) room() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.taken < MostSessions
}

// peer returns whose ID it is, or nil when that one is gone.
func (d *directory) peer(id uint32) *peer {
	if p := d.at(id).Load(); p != nil && p.id == id {
		return p
	}
	return nil
}

// there tells whether p, which may be nil, is somebody whose session has not
// ended.
func (d *directory) there(p *peer) bool { return p != nil && d.at(p.id).Load() == p }

// find looks in a page for who has an address, given as text and, if it is one,
// as that, however it was written, and tells whether there are more pages behind it.
func (d *directory) find(addr string, ip netip.AddrPort, page int) (_ *peer, more bool) {
	if page >= len(d.pages) {
		return nil, false
	}
	places := d.pages[page].Load()
	if places == nil {
		return nil, false
	}
	var away *peer
	for i := range places {
		p := places[i].Load()
		if p == nil {
			continue
		}
		if l := p.label.Load(); (ip.IsValid() && p.where() == ip || l != nil && l.text == addr) && !p.isGuest() {
			if !p.isAway() {
				return p, true
			}
			away = p
		}
	}
	return away, true
}

// remove forgets a session that holds nothing any more.
func (d *directory) remove(p *peer) {
	d.mu.Lock()
	d.strikeLocked(p)
	d.at(p.id).Store(nil)
	p.session.Store(nil)
	d.free = append(d.free, p.id+1<<placeBits)
	d.taken--
	watchers := p.watchers
	p.watchers = nil
	d.mu.Unlock()
	for s := range watchers {
		s.stream.post(s)
	}
}

// watch has a session told of the end of that of an ID, until unwatch. It
// returns nil when that is gone.
func (d *directory) watch(id uint32, s *Session) *peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.peer(id)
	if p == nil {
		return nil
	}
	if p.watchers == nil {
		p.watchers = make(map[*Session]struct{})
	}
	p.watchers[s] = struct{}{}
	return p
}

// unwatch takes it back: who never ends would keep all who ever waited for it.
func (d *directory) unwatch(p *peer, s *Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(p.watchers, s)
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
		p.registered.Store(nil)
		return
	}
	d.number++
	p.registered.Store(&name)
	p.number = d.number
	d.roll = append(d.roll, registration{p.number, p})
}

// strikeLocked takes a session off the roll, if it is on it. The name stays: who
// looks at it needs no mutex, and is not to see that there is none when there was
// one before and is one after.
func (d *directory) strikeLocked(p *peer) {
	if p.registered.Load() == nil {
		return
	}
	d.roll[d.findLocked(p.number)].peer = nil
	d.struck++
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
		if p := d.roll[i].peer; p != nil && !p.isGuest() {
			on = f(p.addr(), p.name())
		}
	}
	return number, i < len(d.roll)
}
