package session

import (
	"cmp"
	"slices"
	"sync"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/shard"
)

// How a node of a cluster is, for metrics, the API and the page.

// A NodeState is that.
type NodeState struct {
	Self, Name string
	Version    uint64 // of the map by which it serves
	Partitions Partitions
	Recovering time.Duration // for how long those have that have for longest; 0: none is
	Moved      uint64        // holds that were claimed at another owner
	Refused    uint64        // of these, that it did not accept
	Unanswered uint64        // requests that were answered with Unavailable
	Links      []NodeLink    // to the other nodes, by name
}

// A NodeLink is how a link to another node is.
type NodeLink struct {
	To     Peer
	Live   bool          // requests are passed on
	Silent time.Duration // since the last answer was asked for by which what is held there is believed; less than 0: there was none
	Left   time.Duration // until that is given up
	Held   int           // holds of clients of this node
	Waits  int
	Served uint64 // connections that served
	Lost   uint64 // clients that have lost what they held there, as it was not heard for too long
}

// NodeState looks. It is nil where the hub is no node's.
func (h *Hub) NodeState() *NodeState {
	n := h.node
	if n == nil {
		return nil
	}
	to, now := n.routes.Load(), lease.Now()
	s := &NodeState{
		Self: to.self, Name: n.cfg.Name, Version: to.version, Partitions: h.Partitions(),
		Moved: n.moved.Load(), Refused: n.refused.Load(), Unanswered: n.unavailable.Load(),
	}
	n.past.mu.Lock()
	for p := range n.past.gained {
		if h.locks.Partition(p) == shard.PartitionRecovering && n.past.gained[p] > 0 {
			s.Recovering = max(s.Recovering, now-n.past.gained[p])
		}
	}
	n.past.mu.Unlock()
	for _, u := range n.others() {
		l := NodeLink{To: u.peer, Silent: -1, Live: u.Live(), Waits: u.waiting(), Served: u.served.Load(), Lost: u.ended.Load()}
		if at := u.lease.Load(); at != nil {
			l.Left = at.Left(now)
			l.Silent = max(0, at.Span()-(at.Deadline()-now))
		}
		st := u.locks.Stats()
		l.Held = st.Locks[shard.Exclusive] + st.Holders
		s.Links = append(s.Links, l)
	}
	return s
}

// A Place is where a name is served, and why there.
type Place struct {
	Partition int
	Epoch     uint64
	Owner     Peer // its ID is "" if nobody is
	Here      bool
	State     string // here: serving, recovering or frozen; else served, or nobody
	// Since is when it has got that owner, by this node's clock, From whose it was, and How
	// it has changed; Since is zero if that was before this node knew of it.
	Since time.Time
	From  string
	How   string // first, fail-over or move
}

// PlaceOf returns where a name is served; nil: the hub is no node's.
func (h *Hub) PlaceOf(name []byte) *Place {
	n := h.node
	if n == nil {
		return nil
	}
	p, to := n.partitionOf(name)
	at := &Place{Partition: p, State: "served"}
	at.Epoch = n.routes.Load().epoch[p]
	n.past.mu.Lock()
	change := n.past.changes[p]
	n.past.mu.Unlock()
	at.Since, at.From, at.How = change.at, change.from, change.how
	switch {
	case to == nil:
		at.Here, at.Owner = true, Peer{ID: n.self(), Name: n.cfg.Name}
		at.State = partitionWord(h.locks.Partition(p))
	case to == n.nobody:
		at.State = "nobody"
	default:
		at.Owner = to.peer
	}
	return at
}

func partitionWord(s shard.PartitionState) string {
	switch s {
	case shard.PartitionServing:
		return "serving"
	case shard.PartitionRecovering:
		return "recovering"
	case shard.PartitionFrozen:
		return "frozen"
	}
	return "nobody"
}

// A past is what has become of partitions since this node knows of them.
type past struct {
	known   *Layout                         // the latest; guarded by the node's adopting
	changes [shard.Partitions]change        // guarded by mu
	gained  [shard.Partitions]time.Duration // when this node has got it, by the lease's clock; guarded by mu
	names   map[string]string               // of nodes, by ID; those that are gone, too, as long as partitions were theirs
	mu      sync.Mutex
}

// A change is that of an owner.
type change struct {
	at        time.Time
	from, how string
}

// note takes in a newer map.
func (n *node) note(l *Layout) {
	p := &n.past
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.known
	p.known = l
	now, since := time.Now(), lease.Now()
	names := make(map[string]string)
	for id, name := range p.names {
		if slices.Contains(l.Owner[:], id) || old != nil && slices.Contains(old.Owner[:], id) {
			names[id] = name
		}
	}
	for _, peer := range l.Peers {
		names[peer.ID] = peer.Name
	}
	names[l.Self] = n.cfg.Name
	p.names = names
	for i := range l.Owner {
		mine := l.Owner[i] == l.Self
		if old == nil {
			if mine {
				p.gained[i] = since
			}
			continue
		}
		if old.Epoch[i] == l.Epoch[i] && old.Owner[i] == l.Owner[i] {
			continue
		}
		c := change{at: now, from: cmp.Or(names[old.Owner[i]], old.Owner[i]), how: "fail-over"}
		switch {
		case l.Epoch[i] <= firstEpoch || old.Owner[i] == "":
			c.how = "first"
		case l.Nonce[i] != 0 && l.Nonce[i] != old.Nonce[i]:
			c.how = "move"
		}
		p.changes[i] = c
		if mine {
			p.gained[i] = since
		}
	}
}
