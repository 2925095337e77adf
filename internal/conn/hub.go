// Package conn answers clients: it turns the bytes of a connection into
// requests to the table of locks and the outcomes into bytes.
//
// The center is the Stream, a state machine with bytes in, bytes out, no
// socket and no goroutine, and the Sessions that it has: the owners of what
// the client holds. When a session ends, all of that is released. Transports
// move bytes between streams and the outside: on Linux an event loop for plain
// TCP and unix connections, else a link, which is a goroutine a connection,
// with lines or with messages (WebSocket). They know nothing of locks, and the
// streams nothing of them.
//
// What the sessions of a server share is its Hub.
package conn

import (
	"cmp"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// Config is what a Hub needs to know. Every field must be set; pkg/server
// fills in the defaults.
type Config struct {
	Shards          int          // 0: the shard package's default
	Table           shard.Config // its bounds; Start is 0 for now, Notify is the hub's
	DisableDump     bool
	DisableRegistry bool
	MaxLine         int // bytes of a request line, without its newline
	MaxOutput       int // bytes of replies that may wait for a client to read them
	MaxMessage      int // bytes of a WebSocket message
	MaxConnections  int
	MaxSessions     int // of one connection
	Version         string
	Logger          *slog.Logger // connections, at level debug
}

// Hub is what all sessions of a server share: the table of locks, the
// directory of who is there, the settings and the counters.
type Hub struct {
	cfg       Config
	locks     *shard.Set
	directory directory
	tallies   [tallyStripes]tally
	admission admission
	clock     clock
	partings  partings
	roster
	loops loops

	mapListings atomic.Int64 // under way
}

// NewHub makes the common part of a server's sessions.
func NewHub(cfg Config) *Hub {
	h := &Hub{cfg: cfg}
	now := time.Now()
	cfg.Table.Start = cmp.Or(cfg.Table.Start, uint64(now.UnixMicro()))
	cfg.Table.Notify = h.notify
	h.locks = shard.New(cfg.Shards, cfg.Table)
	h.clock.init(h.locks, now)
	h.directory.init()
	h.roster.init()
	return h
}

// notify tells the session of an owner that its wait is over.
func (h *Hub) notify(owner uint32) {
	if s := h.directory.session(owner); s != nil {
		s.stream.post(s)
	}
}
