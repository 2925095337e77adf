package session

import (
	"sync/atomic"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

func (h *Hub) countersOf(id uint32) *counters { return &h.counters[id%counterStripes] }

// sum adds up one counter of all stripes.
func (h *Hub) sum(counter func(*counters) *atomic.Uint64) (n uint64) {
	for i := range h.counters {
		n += counter(&h.counters[i]).Load()
	}
	return n
}

// Stats is what a Hub counts, for `q` and for metrics.
type Stats struct {
	Commands    map[string]uint64 // by verb, all verbs
	Invalid     uint64            // lines with an unknown verb
	Rejected    map[string]uint64 // by reason
	Sessions    int               // owners
	Memory      int64             // bytes that are kept for clients
	MaxMemory   int64             // the bound on them; 0: none
	Waits       map[string]uint64 // waits that are over, by what became of them
	WaitTimes   [len(WaitBuckets) + 1]uint64
	WaitSeconds float64           // the sum of their times
	Losses      map[string]uint64 // what clients have lost, by why
	Locks       shard.Stats
}

// Stats sums what shards and streams have counted.
func (h *Hub) Stats() Stats {
	st := Stats{
		Commands: make(map[string]uint64, len(commands)),
		Invalid:  h.sum(func(c *counters) *atomic.Uint64 { return &c.invalid }),
		Sessions: h.directory.count(),
		Locks:    h.locks.Stats(),
		Memory:   h.memory.Used(), MaxMemory: h.memory.Limit(),
	}
	for i, row := range commands {
		st.Commands[row.verb] = h.sum(func(c *counters) *atomic.Uint64 { return &c.commands[i] })
	}
	// The shards count the requests that are about one lock.
	for kind, verbs := range [shard.Kinds][3]string{
		{wire.Get, wire.Release, wire.Inspect},
		{wire.GetShared, wire.ReleaseShared, wire.InspectShared},
	} {
		st.Commands[verbs[0]] += st.Locks.Gets[kind] // what the streams counted was refused before
		st.Commands[verbs[1]] += st.Locks.Releases(shard.Kind(kind))
		st.Commands[verbs[2]] += st.Locks.Inspect[kind]
	}
	st.Rejected = map[string]uint64{
		"line_too_long":     h.sum(func(c *counters) *atomic.Uint64 { return &c.tooLong }),
		"http":              h.sum(func(c *counters) *atomic.Uint64 { return &c.http }),
		"tls":               h.sum(func(c *counters) *atomic.Uint64 { return &c.tls }),
		"control_byte":      h.sum(func(c *counters) *atomic.Uint64 { return &c.control }),
		"too_many_sessions": h.sum(func(c *counters) *atomic.Uint64 { return &c.tooManySessions }),
		"share_of_sessions": h.sum(func(c *counters) *atomic.Uint64 { return &c.shareSessions }),
		"share_of_bytes":    h.sum(func(c *counters) *atomic.Uint64 { return &c.shareBytes }) + st.Locks.RatesFull[shard.ShareBytes],
		"server_full":       h.sum(func(c *counters) *atomic.Uint64 { return &c.serverFull }) + st.Locks.RatesFull[shard.MemoryFull],
		"cut_off":           h.sum(func(c *counters) *atomic.Uint64 { return &c.cutOff }),
		"too_many_locks":    st.Locks.RatesFull[shard.Full],
		"share_of_locks":    st.Locks.RatesFull[shard.ShareFull],
		"share_of_rates":    st.Locks.RatesFull[shard.ShareRates],
		"shutting_down":     h.sum(func(c *counters) *atomic.Uint64 { return &c.shuttingDown }),

		"not_authenticated": h.sum(func(c *counters) *atomic.Uint64 { return &c.notAuthenticated }),
		"not_allowed":       h.sum(func(c *counters) *atomic.Uint64 { return &c.notAllowed }),
		"auth_failed":       h.sum(func(c *counters) *atomic.Uint64 { return &c.authFailed }),
	}
	st.Locks.Waiters += h.upstream.waiting()
	for outcome, bound := range bounds {
		for kind := range shard.Kinds {
			if bound != "" {
				st.Rejected[bound] += st.Locks.Acquire[kind][outcome]
			}
		}
	}
	st.Losses = make(map[string]uint64)
	for why := range whys {
		st.Losses[why.String()] = h.sum(func(c *counters) *atomic.Uint64 { return &c.losses[why] })
	}
	st.Waits = make(map[string]uint64)
	for r := range waitResults {
		st.Waits[r.String()] = h.sum(func(c *counters) *atomic.Uint64 { return &c.waits[r] })
	}
	for i := range st.WaitTimes {
		st.WaitTimes[i] = h.sum(func(c *counters) *atomic.Uint64 { return &c.waitTimes[i] })
	}
	st.WaitSeconds = float64(h.sum(func(c *counters) *atomic.Uint64 { return &c.waitMicros })) / 1e6
	return st
}

// A Counter is one of those that glockd has, under its name.
type Counter struct {
	Name  string
	Value uint64
}

// Counters returns the counters that `q` shows, in no order.
func (h *Hub) Counters() []Counter {
	st := h.Stats()
	connections := h.network.Connections()
	if h.node != nil {
		connections = max(0, connections-h.node.connections())
	}
	all := []Counter{
		{"connections", uint64(connections)},
		{"invalid_commands", st.Invalid},
		{"locks", uint64(st.Locks.Locks[shard.Exclusive])},
		{"orphans", st.Locks.Orphans[shard.Exclusive]},
		{"shared_locks", uint64(st.Locks.Locks[shard.Shared])},
		{"shared_orphans", st.Locks.Orphans[shard.Shared]},
	}
	for _, c := range commands {
		n := st.Commands[c.verb]
		if h.node != nil { // each request is counted where its client is
			n -= min(n, h.sum(func(s *counters) *atomic.Uint64 { return &s.linked[c.number] }))
		}
		if n > 0 || c.flags&alwaysListed != 0 {
			all = append(all, Counter{"command_" + c.verb, n})
		}
	}
	return all
}

// Held returns how many locks are held, a shared one by each of its holders, and
// how many sessions wait for one.
func (h *Hub) Held() (locks, waiters int) {
	st := h.locks.Stats()
	return st.Locks[shard.Exclusive] + st.Holders, st.Waiters + h.upstream.waiting()
}
