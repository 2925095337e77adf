package session

import (
	"cmp"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// ClusterConfig makes a server a node of a cluster: it owns some partitions of the names,
// and asks other nodes for what is in the others. See docs/cluster.md.
type ClusterConfig struct {
	World string // which cluster it is
	Name  string // this node's, for people
	// Longest is G: the longest that anybody may believe in a lock without hearing of it.
	Longest time.Duration
	// Serves is W: for how long at most a node serves that does not hear of the cluster.
	Serves time.Duration
	// Right returns until when the node may serve, by the lease's clock, and Ceil from where
	// on it may grant no fencing token. Any goroutine calls them, and often.
	Right func() time.Duration
	Ceil  func() uint64
	// Connect has a link to another node made, and one made anew whenever it ends, until it
	// is closed. It calls NewLink.
	Connect  func(Peer) *Upstream
	Patience time.Duration // for how long a request that may wait is not told that its owner cannot be reached; 0: DefaultPatience
	Prompt   time.Duration // the same for who may not wait; what is less than plainTicks, as nothing is, means those
	Log      func(msg string, attrs ...any)
}

// A Peer is another node: a process, so one that starts again is another one.
type Peer struct {
	ID, Name, Addr string
}

// A Layout is who owns which partition. One with a greater version is newer.
type Layout struct {
	Version uint64
	Base    uint64 // new owners grant no fencing token below it
	Self    string // this node's ID
	Me      Peer   // what others know of it
	Peers   []Peer // the nodes that are registered, but for this one
	Owner   [shard.Partitions]string
	Epoch   [shard.Partitions]uint64 // grows whenever the partition gets another owner
	Nonce   [shard.Partitions]uint64 // names the copy that its former owner has sent; 0: none
}

// A node is a hub's side of a cluster. A name's partition is served here, or by the node
// at the other end of a link, which is an Upstream: for its own clients a node is a
// proxy of all others. What a client holds at each of them is in a remote of its session.
//
// Requests of a session are executed in their order: it waits for replies of one owner
// before it asks another one. Until then they are in its backlog.
type node struct {
	hub     *Hub
	cfg     ClusterConfig
	routes  atomic.Pointer[routes]
	past    past
	nobody  *Upstream // asked for what nobody serves: there never is a connection
	numbers numbering // of the guests
	people  people    // who has something here

	copies    copies      // of partitions that may come here
	uncertain atomic.Bool // whether a move has happened: nothing is confirmed

	adopting sync.Mutex // a map is taken after another one

	mu        sync.Mutex               // guards what follows
	links     map[string]*Upstream     // by the IDs of the nodes; nil: all has ended
	former    []*Upstream              // of nodes that are gone
	behind    map[*Upstream]struct{}   // what is held there may have to be claimed elsewhere
	reclaim   map[*remote]struct{}     // who has claims to be made once more
	overtaken []overtaken              // who is to be told that another client has what it had
	follows   map[string]uint64        // the version of the map by which another node has claimed all, by its ID
	ghosts    []*ghost                 // that stand in for clients of other nodes
	guests    map[*Session]*guest      // of all sessions that have one
	blocked   map[*Session]struct{}    // whose backlog is to be looked at again
	paused    map[*Stream]struct{}     // who is not listened to, see isHeldBack
	timers    map[*time.Timer]struct{} // of recoveries
	linked    map[*Stream]struct{}     // the other nodes' ends of their links, and what they ask for lists over

	claimants map[*remote]struct{} // who has claims of holds from elsewhere under way
	limbo     time.Duration        // before when nothing is let go that stands in for the node's own clients, by the lease's clock

	atlas   atomic.Pointer[atlas] // nil: there is no map yet
	readers readers

	kick  chan struct{}
	soon  chan struct{}
	often atomic.Bool // the look-out looks in a moment in any case
	done  chan struct{}
	over  sync.WaitGroup

	overtakes atomic.Bool  // there is something in overtaken
	fresh     atomic.Int32 // how many guests there are whose sessions do not know of them
	sure      atomic.Int64 // until when all that clients hold elsewhere is sure at least, by the lease's clock
	claimed   atomic.Int64 // when the first of the holds is lost that are being claimed elsewhere

	unavailable atomic.Uint64 // requests that were answered so
	moved       atomic.Uint64 // holds that were claimed at another owner
	refused     atomic.Uint64 // of those, that it did not accept
}

// routes are where partitions are served: nil is here.
type routes struct {
	version uint64
	self    string
	origin  string // the first ID that the process had: what its clients are known by at other nodes stays
	to      [shard.Partitions]*Upstream
	epoch   [shard.Partitions]uint64
	since   [shard.Partitions]uint64 // the version by which it is so, as far as is known here
}

func newNode(h *Hub, cfg ClusterConfig) *node {
	cfg.Patience = cmp.Or(cfg.Patience, DefaultPatience)
	n := &node{
		hub: h, cfg: cfg, numbers: numbering{next: 1}, links: make(map[string]*Upstream),
		linked: make(map[*Stream]struct{}), follows: make(map[string]uint64), guests: make(map[*Session]*guest), blocked: make(map[*Session]struct{}), paused: make(map[*Stream]struct{}),
		timers: make(map[*time.Timer]struct{}), behind: make(map[*Upstream]struct{}), claimants: make(map[*remote]struct{}), reclaim: make(map[*remote]struct{}),
		kick: make(chan struct{}, 1), soon: make(chan struct{}, 1), done: make(chan struct{}),
	}
	n.people.init()
	n.copies.init()
	n.claimed.Store(math.MaxInt64)
	h.clock.ceiled = true
	h.clock.last.Store(math.MaxUint64) // so no token is ahead of it
	nothing := func() {}
	n.nobody = n.newLink(Peer{}, UpstreamConfig{Flush: nothing, Cut: nothing, End: nothing, Log: func(string, ...any) {}})
	r := new(routes)
	for p := range r.to {
		r.to[p] = n.nobody
	}
	n.routes.Store(r)
	n.over.Go(n.lookOut)
	return n
}

// NodeName is what a node is called, and Self the ID that it has now.
func (h *Hub) NodeName() string { return h.node.cfg.Name }

func (h *Hub) Self() string { return h.node.self() }

// Cluster tells whether the hub is a node's.
func (h *Hub) Cluster() bool { return h.node != nil }

func (n *node) stop() {
	if n == nil {
		return
	}
	close(n.done)
	n.over.Wait()
	n.mu.Lock()
	links, former := n.links, n.former
	n.links = nil
	for t := range n.timers {
		t.Stop()
	}
	n.mu.Unlock()
	for _, u := range links {
		u.stop()
	}
	for _, u := range former {
		u.stop()
	}
	n.nobody.stop()
}

// NewLink makes the link to another node; see Connect.
func (h *Hub) NewLink(to Peer, cfg UpstreamConfig) *Upstream { return h.node.newLink(to, cfg) }

func (n *node) newLink(to Peer, cfg UpstreamConfig) *Upstream {
	cfg.Patience, cfg.Prompt = n.cfg.Patience, n.cfg.Prompt
	u := makeUpstream(n.hub, cfg)
	u.node, u.peer = n, to
	u.locks = shard.New(mirrorShards, shard.Config{Mirror: true, Memory: n.hub.memory, Locks: n.hub.cfg.Table.Locks, OwnerOf: u.ownerOf})
	u.over.Go(u.lookOut)
	return u
}

// mirrorShards is how many shards the table of a link has.
const mirrorShards = 16

// ownerOf returns an owner of a link's table by its ID, which is the number of its guest.
func (u *Upstream) ownerOf(id uint32) *shard.Owner { return u.find(uint64(id)).owner }

// serves tells whether the node may serve in this turn. One look at the clock decides that
// for all that is done in it: who wakes from a pause in the middle does not know
// better, but who looked once more for a part of it would decide by two times.
func (t *Turn) serves(n *node) bool {
	if !t.righted {
		t.righted = true
		t.right = t.clock() < n.cfg.Right()
	}
	return t.right
}

// partitionOf returns where a name is served; nil: here.
func (n *node) partitionOf(name []byte) (p int, to *Upstream) {
	p = shard.PartitionOf(name)
	return p, n.routes.Load().to[p]
}

// look has the look-out look now, as something has changed.
func (n *node) look() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// lookSoon has it look within againEvery: who waits for what nobody tells of asks for that again and
// again, and would have it, and himself, do nothing else.
func (n *node) lookSoon() {
	if n.often.Load() {
		return
	}
	select {
	case n.soon <- struct{}{}:
	default:
	}
}

// again notes that a session's backlog cannot go on for a reason of which nobody tells.
func (n *node) again(s *Session) {
	n.mu.Lock()
	first := len(n.blocked) == 0
	n.blocked[s] = struct{}{}
	n.mu.Unlock()
	if first {
		n.lookSoon()
	}
}

// forget drops a session that ends.
func (n *node) forget(s *Session) {
	n.mu.Lock()
	delete(n.blocked, s)
	n.mu.Unlock()
}

// againEvery is how often is looked at what waits for a partition, or for the right.
const againEvery = 5 * time.Millisecond

// ceilEvery is how often the ceil of fencing tokens is asked for, which is far away.
const ceilEvery = 200 * time.Millisecond

// lookOut is a goroutine that has those go on who wait for what changes: the map, the right
// to serve, the end of a move.
func (n *node) lookOut() {
	timer := time.NewTimer(ceilEvery)
	defer timer.Stop()
	ceil := uint64(0)
	for {
		select {
		case <-n.done:
			return
		case <-n.kick:
		case <-timer.C:
		case <-n.soon:
			if !n.often.Swap(true) {
				timer.Reset(againEvery)
			}
			continue
		}
		n.often.Store(false) // before it looks: who finds it set is seen
		if now := n.cfg.Ceil(); now != ceil {
			ceil = now
			n.hub.locks.SetCeil(ceil, max(1, shard.MomentOf(n.hub.clock.milliseconds())))
		}
		n.mu.Lock()
		blocked, paused := takeAll(&n.blocked), takeAll(&n.paused)
		n.mu.Unlock()
		for s := range blocked {
			s.stream.post(s)
		}
		for st := range paused {
			st.wake()
		}
		n.tellReaders()
		// Not while a map is taken: it would be told of as followed before anybody has.
		n.adopting.Lock()
		busy := n.follow()
		n.adopting.Unlock()
		n.mu.Lock()
		if busy || len(blocked) > 0 || len(paused) > 0 || len(n.blocked) > 0 || len(n.paused) > 0 {
			n.often.Store(true)
			timer.Reset(againEvery)
		} else {
			timer.Reset(ceilEvery)
		}
		n.mu.Unlock()
	}
}

// takeAll takes all out of a set.
func takeAll[T comparable](set *map[T]struct{}) (all map[T]struct{}) {
	if len(*set) > 0 {
		all, *set = *set, make(map[T]struct{})
	}
	return all
}
