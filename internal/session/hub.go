// Package session is what clients say and what it means: it turns requests to
// calls of the table of locks, and the outcomes to replies.
//
// The center is the Stream, a state machine with bytes in, bytes out, no
// socket and no goroutine, and the Sessions that it has: the owners of what
// the client holds. When a session ends, all of that is released. What moves
// the bytes is a Carrier, and knows nothing of locks; the package knows nothing
// of sockets.
//
// What a command does is a method with values in and out (verbs.go); that
// requests and replies are text is the business of a face (text.go), which
// others may stand beside.
//
// What the sessions of a server share is its Hub.
package session

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// Config is what a Hub needs to know. Every field must be set, unless it says
// what nothing means; pkg/server fills in the defaults.
type Config struct {
	Shards          int          // 0: the shard package's default
	Table           shard.Config // its bounds; Start is 0 for now, Notify is the hub's
	DisableDump     bool
	DisableRegistry bool
	MaxLine         int           // bytes of a request line, without its newline
	MaxOutput       int           // bytes of replies that may wait for a client to read them
	MaxSessions     int           // of one connection
	Postpone        time.Duration // how long a request about a lock is postponed at most; 0: DefaultPostpone
	DeadPeer        time.Duration // for how long a client may be silent that was asked something; 0: DefaultDeadPeer
	Version         string
	Authority       Authority // who may do what; nil: all may all, but for what is for this machine

	MaxKeep  time.Duration // for how long a client may be kept without a connection; 0: none is
	Store    Store         // what outlives the process; nil: nothing does
	Floor    uint64        // with a Store: a token from here on is not given before that is raised
	Recovery *Recovery     // what an earlier process has left; nil: nothing

	Upstream *UpstreamConfig // of a proxy; nil: it is none
	Cluster  *ClusterConfig  // of a node of a cluster; nil: it is none

	MaxConnections int                  // for those who look at the bounds
	CPU            func() time.Duration // how much processor time the server has used; nil: nobody knows

	MaxMemory int64             // bytes that clients can have the server keep; 0: no bound
	ShareBy   ShareBy           // what counts as one client
	Share     shard.ShareLimits // of one client; 0: as much as there is
	Short     func(Shortage)    // is told, now and then, that requests are refused at a bound; may be nil
	Lost      func()            // is told that the ledger has something new; it does not block; may be nil
}

// Hub is what all sessions of a server share: the table of locks, the
// directory of who is there, the settings and the counters.
type Hub struct {
	cfg       Config
	network   Network
	locks     *shard.Set
	memory    *shard.Memory
	frugal    int // bytes of replies that may be pending whatever the memory
	keeps     kept
	upstream  *Upstream   // nil: this is no proxy
	node      *node       // nil: this is no node of a cluster
	recovery  *recovery   // nil: there is, and was, none
	draining  atomic.Bool // nothing new is taken; beside what all read and nobody writes
	ending    atomic.Bool // and nothing is asked any more
	accounts  accounts
	shortages shortages
	directory directory
	ledger    ledger
	counters  [counterStripes]counters
	clock     clock
	watch     watch
	censuses  censuses
	callers   atomic.Uint32 // that there were

	sorting turns        // which sorted list collects
	rounds  atomic.Int64 // that sorted lists have
}

// Network is all the carriers of a server.
type Network interface {
	// Connections returns how many there are.
	Connections() int
	// CatchUp tells whether there may be connections that have been made or
	// have ended without the carriers knowing it yet. Then it calls f when they
	// do, on any goroutine.
	CatchUp(f func()) bool
	// Kick ends the connection of a carrier soon, whatever is under way on it; nil: it
	// is told alone who is kicked.
	Kick(Carrier, Kick)
	// Detach ends the connection of a carrier soon, since its client has come over
	// another one or has to come again: nothing that has not been executed is.
	Detach(Carrier)
	// Outlives is told, by a stream, that what it has is not lost with the server's
	// process, or that its client is another node: nobody waits for its end when the
	// server drains.
	Outlives(Carrier)
	// Authenticated is told, by a stream, that its client has shown a token, and
	// whose that is; nil: nobody's.
	Authenticated(*Stream, *Access)
	// Gone returns which of some carriers has a client that is known to have
	// closed its side, or -1. It may look at the connections, and does not
	// wait. What it says of one that ends meanwhile means nothing.
	Gone([]Carrier) int
	// Want says that somebody is kept waiting, or was refused, by the clients of
	// some carriers. It has them asked whether they are there, and does not wait.
	// A nil one among them is passed over.
	Want([]Carrier)
}

// NewHub makes the common part of a server's sessions.
func NewHub(cfg Config, n Network) *Hub {
	cfg.Postpone = cmp.Or(cfg.Postpone, DefaultPostpone)
	cfg.DeadPeer = cmp.Or(cfg.DeadPeer, DefaultDeadPeer)
	cfg.Table.Locks = cmp.Or(cfg.Table.Locks, shard.DefaultMaxLocks)
	cfg.Table.Waiters = cmp.Or(cfg.Table.Waiters, shard.DefaultMaxWaiters)
	if cfg.CPU == nil {
		cfg.CPU = func() time.Duration { return 0 }
	}
	if cfg.Store != nil {
		cfg.Store = promptStore{cfg.Store}
	}
	h := &Hub{cfg: cfg, network: n}
	now := time.Now()
	cfg.Table.Start = cmp.Or(cfg.Table.Start, max(uint64(now.UnixMicro()), cfg.Floor))
	cfg.Table.Notify = h.notify
	cfg.Table.OwnerOf = h.ownerOf
	cfg.Table.Mirror = cfg.Upstream != nil
	cfg.Table.Recovering = cfg.Recovery != nil
	cfg.Table.Partitioned = cfg.Cluster != nil
	h.memory = shard.NewMemory(cfg.MaxMemory)
	cfg.Table.Memory = h.memory
	h.locks = shard.New(cfg.Shards, cfg.Table)
	h.frugal = min(cfg.MaxOutput, frugalOutput)
	h.accounts.init(h.locks, cfg.ShareBy, cfg.Share)
	h.shortages.tell = cfg.Short
	h.ledger.init(h.memory, cfg.Lost)
	h.clock.init(h.locks, now)
	if cfg.Store != nil {
		h.clock.floor = &floor{store: cfg.Store}
		h.clock.floor.init(&h.clock, cfg.Floor, cfg.Table.Start)
	}
	h.directory.memory = h.memory
	h.directory.init()
	h.watch.hub = h
	h.censuses.hub = h
	if cfg.Recovery != nil {
		h.beginRecovery(cfg.Recovery)
	}
	if cfg.Upstream != nil {
		h.upstream = newUpstream(h, *cfg.Upstream)
	}
	if cfg.Cluster != nil {
		h.node = newNode(h, *cfg.Cluster)
	}
	return h
}

// ownerOf returns an owner that holds something, by its ID.
func (h *Hub) ownerOf(id uint32) *shard.Owner { return &h.directory.peer(id).session.Load().owner }

// notify tells the session of an owner that its wait is over.
func (h *Hub) notify(owner uint32) {
	if p := h.directory.peer(owner); p != nil {
		if s := p.session.Load(); s != nil {
			s.stream.post(s)
		}
	}
}

// Close ends what the hub does by itself. All streams have to be closed.
func (h *Hub) Close() {
	h.upstream.stop()
	h.node.stop()
	h.recovery.stop()
	h.keeps.stop(h.outlived())
	h.clock.stop()
	h.watch.stop()
	h.censuses.stop()
	h.shortages.running.Wait()
}
