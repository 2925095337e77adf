package session

import (
	"strconv"
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// `top`, `clients` and `stats`: what somebody who looks at the whole server wants
// to see first, each bounded however much there is.

// count is how many lines somebody wants of those.
var count = argument{word: "COUNT", least: 1, most: CensusRows}

// The orders in which they come, the first one unless another is asked for.
var (
	lockOrders = []struct {
		word string
		rows func(*Census) []LockRow
	}{
		{wire.ByQueue, func(c *Census) []LockRow { return c.ByQueue }},
		{wire.ByAge, func(c *Census) []LockRow { return c.Oldest }},
		{wire.ByRequests, func(c *Census) []LockRow { return c.Busiest }},
	}
	clientOrders = []struct {
		word  string
		order ClientOrder
	}{
		{wire.ByLocks, ByLocks}, {wire.ByWaits, ByWaits}, {wire.ByBytes, ByBytes}, {wire.ByAge, ByAge},
	}
)

// censusReply is the reply to what a census answers: a line each, and the end.
type censusReply struct {
	session *Session
	inquiry *inquiry
	line    func(c *Census, n int, out []byte) (_ []byte, ok bool) // appends the line of a number, if there is one
	done    int                                                    // lines
	hurried bool
}

// census begins such a reply.
func (s *Session) census(line func(c *Census, n int, out []byte) ([]byte, bool), out []byte) []byte {
	st := s.stream
	return s.list(&censusReply{session: s, inquiry: s.hub.censuses.ask(st.wake), line: line}, out)
}

// queued implements queued: it waits until the census is there. To hurry helps
// nothing, but to listen to the client no more: it is looked at again after
// censusLook, and others have the time until then.
func (l *censusReply) queued() bool { return !l.hurried && !l.inquiry.answered.Load() }
func (l *censusReply) hurry()       { l.hurried = true }

const censusLook = time.Millisecond

func (l *censusReply) next(out []byte) (_ []byte, more bool) {
	s := l.session
	if !l.inquiry.answered.Load() {
		s.stream.pause(censusLook)
		return out, true
	}
	c := l.inquiry.census
	for limit := len(out) + s.hub.pieceBytes(); c != nil && len(out) < limit; l.done++ {
		before := len(out)
		if out, more = l.line(c, l.done, s.item(out)); !more {
			c, out = nil, out[:before]
		}
	}
	if c == nil {
		return append(s.prefix(out), wire.End...), false
	}
	return out, true
}

func (*censusReply) rest()      {}
func (*censusReply) keeps() int { return 0 }

func (l *censusReply) close() { l.session.hub.censuses.withdraw(l.inquiry) }

func (s *Session) textTop(order, out []byte) []byte {
	most := int(s.args().a)
	for i, o := range lockOrders {
		if string(order) == o.word || len(order) == 0 && i == 0 {
			return s.census(func(c *Census, n int, out []byte) ([]byte, bool) {
				rows := o.rows(c)
				if n >= min(most, len(rows)) {
					return out, false
				}
				return appendLockRow(out, &rows[n]), true
			}, out)
		}
	}
	return s.reply(out, 0, wire.InvalidArgument, []byte(wire.Top))
}

func (s *Session) textClients(order, out []byte) []byte {
	most := int(s.args().a)
	for i, o := range clientOrders {
		if string(order) == o.word || len(order) == 0 && i == 0 {
			return s.census(func(c *Census, n int, out []byte) ([]byte, bool) {
				rows := c.First[o.order]
				if n >= min(most, len(rows)) {
					return out, false
				}
				return appendClient(out, rows[n]), true
			}, out)
		}
	}
	return s.reply(out, 0, wire.InvalidArgument, []byte(wire.Clients))
}

// appendLockRow appends a line of `top`.
func appendLockRow(out []byte, r *LockRow) []byte {
	kind := wire.Exclusive
	switch r.Kind {
	case shard.Shared:
		kind = wire.Shared
	case shard.Rates:
		kind = wire.Rate
	}
	out = append(append(out, r.Name...), '\t')
	out = append(append(out, kind...), '\t')
	for _, n := range [...]uint64{
		uint64(r.Holders), uint64(r.Held.Milliseconds()), r.Token, uint64(r.Queue), uint64(r.OldestWait.Milliseconds()),
	} {
		out = append(strconv.AppendUint(out, n, 10), '\t')
	}
	out = append(strconv.AppendFloat(out, r.Busy, 'f', 1, 64), '\t')
	if r.Holder != nil {
		out = append(out, r.Holder.Address()...)
	}
	return append(append(append(out, '\t'), r.HolderName...), '\n')
}

// appendClient appends a line of `clients`.
func appendClient(out []byte, c *Client) []byte {
	out = append(append(out, c.Address()...), '\t')
	out = append(append(out, c.Name()...), '\t')
	out = append(append(out, c.Transport...), '\t')
	if a := c.Access(); a != nil {
		out = append(out, a.Name...)
	}
	for _, n := range [...]int64{
		c.Age.Milliseconds(), int64(c.Sessions), int64(c.Locks), int64(c.Waits), c.Bytes,
	} {
		out = strconv.AppendInt(append(out, '\t'), n, 10)
	}
	if p := c.Process(); p != nil {
		out = AppendProcess(append(out, '\t'), p)
	}
	return append(out, '\n')
}

// figuresReply is the reply to `stats`.
type figuresReply struct{ session *Session }

func (l figuresReply) next(out []byte) ([]byte, bool) {
	s := l.session
	for _, f := range s.hub.Figures() {
		out = append(append(s.item(out), f.Name...), '\t')
		out = append(strconv.AppendUint(out, f.Value, 10), '\n')
	}
	return append(s.prefix(out), wire.End...), false
}

func (figuresReply) rest()      {}
func (figuresReply) keeps() int { return 0 }
func (figuresReply) close()     {}

func (s *Session) textStats(_, out []byte) []byte {
	if s.catchUp() {
		return out
	}
	return s.list(figuresReply{s}, out)
}

// Figures returns how the server is, in a few numbers for those who look at it:
// what happened since it began, what there is now, and the bounds on that, which
// are 0 where there is none.
func (h *Hub) Figures() []Counter {
	st := h.Stats()
	l := &st.Locks
	var requests, grants, refusals, rejected uint64
	for _, n := range st.Commands {
		requests += n
	}
	for k := range shard.Kinds {
		grants += l.Acquire[k][shard.Acquired] - l.Again[k] // who has it already gets nothing
		refusals += l.Acquire[k][shard.Refused]
	}
	for _, n := range st.Rejected {
		rejected += n
	}
	waits := uint64(l.Waiters)
	for _, n := range st.Waits {
		waits += n
	}
	draining := uint64(0)
	if h.draining.Load() {
		draining = 1
	}
	t := &h.cfg.Table
	return []Counter{
		{"uptime_ms", uint64(time.Since(h.clock.start).Milliseconds())},
		{"draining", draining},
		{"requests", requests},
		{"grants", grants},
		{"refusals", refusals},
		{"rejected", rejected},
		{"orphans", l.Orphans[shard.Exclusive] + l.Orphans[shard.Shared]},
		{"waits", waits},
		{"timeouts", st.Waits[waitTimedOut.String()]},
		{"rates_allowed", l.Allowed},
		{"rates_limited", l.Limited},
		{"cpu_us", uint64(h.cfg.CPU().Microseconds())},
		{"connections", uint64(h.network.Connections())},
		{"max_connections", uint64(h.cfg.MaxConnections)},
		{"sessions", uint64(st.Sessions)},
		{"locks", uint64(l.Locks[shard.Exclusive])},
		{"shared_locks", uint64(l.Locks[shard.Shared])},
		{"holders", uint64(l.Holders)},
		{"waiters", uint64(l.Waiters)},
		{"max_waiters", uint64(t.Waiters)},
		{"rates", uint64(l.Limiters)},
		{"entries", uint64(l.Locks[shard.Exclusive] + l.Holders + l.Waiters + l.Limiters)},
		{"max_entries", uint64(t.Locks)},
		{"memory", uint64(max(0, st.Memory))},
		{"max_memory", uint64(st.MaxMemory)},
	}
}
