package session

import (
	"sync/atomic"

	"github.com/nylen/lockd/internal/shard"
)

// A State is what those who watch a server want to know beside what it counts. To find
// it out goes over all who wait and all clients, so `q` does without.
type State struct {
	Queues    shard.Queues
	Bounds    []Bound         // on what all have
	Share     shard.SharePart // the largest part that any client has of its share
	WaitSizes [WaitSizes]uint64
}

// A Bound is how much there may be of something that all have, and how much there is.
type Bound struct {
	What        string // "locks", "waiters", "sessions" or "memory"
	Used, Limit int64
}

// State looks. It holds no mutex for long.
func (h *Hub) State() State {
	st := State{Queues: h.locks.Queues(h.clock.nanoseconds())}
	locks, most := h.locks.Permits()
	st.Bounds = []Bound{
		{"locks", int64(locks), int64(most)},
		{"waiters", int64(h.locks.Waiting()), int64(h.locks.MaxWaiting())},
		{"sessions", int64(h.directory.count()), MostSessions},
	}
	if limit := h.memory.Limit(); limit > 0 {
		st.Bounds = append(st.Bounds, Bound{"memory", h.memory.Used(), limit})
	}
	h.accounts.each(func(a *account) {
		part := a.share.Part()
		st.Share.Locks = max(st.Share.Locks, part.Locks)
		st.Share.Waiters = max(st.Share.Waiters, part.Waiters)
		st.Share.Rates = max(st.Share.Rates, part.Rates)
		st.Share.Sessions = max(st.Share.Sessions, part.Sessions)
		st.Share.Bytes = max(st.Share.Bytes, part.Bytes)
	})
	for i := range st.WaitSizes {
		st.WaitSizes[i] = h.sum(func(c *counters) *atomic.Uint64 { return &c.waitSizes[i] })
	}
	return st
}

// See looks at what one name has. It counts as nothing.
func (h *Hub) See(name []byte) shard.Sight { return h.locks.See(name, h.clock.nanoseconds()) }

// Started returns when the hub was made, in seconds of Unix time.
func (h *Hub) Started() float64 { return float64(h.clock.began) / 1e6 }
