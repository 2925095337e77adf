package conn

import (
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/nylen/lockd/internal/shard"
)

// Stats is what a Hub counts, for `q` and for metrics.
type Stats struct {
	Commands map[string]uint64 // by verb, all verbs
	Invalid  uint64            // lines with an unknown verb
	Rejected map[string]uint64 // by reason
	BytesIn  uint64            // from clients
	BytesOut uint64            // to clients

	Connections int               // of all transports
	Sessions    int               // owners
	Waits       map[string]uint64 // waits that are over, by what became of them
	WaitTimes   [len(WaitBuckets) + 1]uint64
	WaitSeconds float64 // the sum of their times
	Locks       shard.Stats
	Transport   [Transports]TransportStats
}

// TransportStats counts connections of one transport.
type TransportStats struct {
	Open     int
	Accepted uint64
}

// Stats sums what shards and sessions have counted.
func (h *Hub) Stats() Stats {
	st := Stats{
		Commands: make(map[string]uint64, len(commands)),
		Rejected: h.admission.rejected(),
		Sessions: h.directory.count(),
		Locks:    h.locks.Stats(),
		Invalid:  h.sum(func(t *tally) *atomic.Uint64 { return &t.invalid }),
		BytesIn:  h.sum(func(t *tally) *atomic.Uint64 { return &t.bytesIn }),
		BytesOut: h.sum(func(t *tally) *atomic.Uint64 { return &t.bytesOut }),
	}
	for i, c := range commands {
		st.Commands[c.verb] = h.sum(func(t *tally) *atomic.Uint64 { return &t.commands[i] })
	}
	// The shards count the requests that are about one lock.
	for kind, prefix := range [...]string{shard.Exclusive: "", shard.Shared: "s"} {
		st.Commands[prefix+"g"] = st.Locks.Gets[kind]
		st.Commands[prefix+"r"] = st.Locks.Releases(shard.Kind(kind))
		st.Commands[prefix+"i"] = st.Locks.Inspect[kind]
	}
	st.Rejected["line_too_long"] = h.sum(func(t *tally) *atomic.Uint64 { return &t.tooLong })
	st.Rejected["http"] = h.sum(func(t *tally) *atomic.Uint64 { return &t.http })
	st.Rejected["too_many_sessions"] = h.sum(func(t *tally) *atomic.Uint64 { return &t.tooManySessions })
	st.Rejected["too_many_locks"] = st.Locks.RatesFull
	for _, kind := range []shard.Kind{shard.Exclusive, shard.Shared} {
		st.Rejected["too_many_locks"] += st.Locks.Acquire[kind][shard.Full]
		st.Rejected["too_many_waiters"] += st.Locks.Acquire[kind][shard.TooManyWait]
		st.Rejected["too_many_locks_of_owner"] += st.Locks.Acquire[kind][shard.OwnerFull]
	}
	for t := range Transports {
		st.Transport[t] = h.admission.stats(t)
		st.Connections += st.Transport[t].Open
	}
	st.Waits = make(map[string]uint64)
	for r := range waitResults {
		st.Waits[r.String()] = h.sum(func(t *tally) *atomic.Uint64 { return &t.waits[r] })
	}
	for i := range st.WaitTimes {
		st.WaitTimes[i] = h.sum(func(t *tally) *atomic.Uint64 { return &t.waitTimes[i] })
	}
	st.WaitSeconds = float64(h.sum(func(t *tally) *atomic.Uint64 { return &t.waitMicros })) / 1e6
	return st
}

// countersListing is the reply to `q`: the counters that glockd has, under its
// names. It is one piece, but many requests' worth of work.
type countersListing struct{}

func (countersListing) rest()  {}
func (countersListing) close() {}

func (countersListing) next(h *Hub, out []byte) ([]byte, bool) {
	st := h.Stats()
	type line struct {
		key   string
		value uint64
	}
	lines := []line{
		{"connections", uint64(st.Connections)},
		{"invalid_commands", st.Invalid},
		{"locks", uint64(st.Locks.Locks[shard.Exclusive])},
		{"orphans", st.Locks.Orphans[shard.Exclusive]},
		{"shared_locks", uint64(st.Locks.Locks[shard.Shared])},
		{"shared_orphans", st.Locks.Orphans[shard.Shared]},
	}
	for _, c := range commands {
		if n := st.Commands[c.verb]; n > 0 || c.flags&alwaysListed != 0 {
			lines = append(lines, line{"command_" + c.verb, n})
		}
	}
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.key, b.key) })
	for _, l := range lines {
		out = append(out, l.key...)
		out = append(out, ": "...)
		out = strconv.AppendUint(out, l.value, 10)
		out = append(out, '\n')
	}
	return out, false
}
