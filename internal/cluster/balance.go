package cluster

import (
	"context"
	"slices"
	"time"
)

// look reads the store, and does what is for this member to do about the others: it
// deletes who is silent, and gives away what nobody has. It returns false if the read
// failed.
func (m *Member) look(ctx context.Context) bool {
	at := m.stamp()
	call, cancel := m.brief(ctx)
	v, err := m.opts.Store.Read(call)
	cancel()
	now := m.opts.Now()
	m.failed(err)
	if err != nil {
		m.mu.Lock()
		m.health.FailedReads++
		m.silences.interrupt()
		m.mu.Unlock()
		return false
	}
	if !m.saw(at, v) {
		m.mu.Lock()
		m.silences.interrupt() // that was a time without looking
		m.mu.Unlock()
		return true
	}
	m.mu.Lock()
	m.silences.saw(now, signs(v))
	m.health.Restarts = m.silences.restarts
	self, joined := m.value.ID, m.joined
	m.mu.Unlock()
	switch {
	case !joined:
		return true
	case v.Node(self) == nil:
		soon(m.beatSoon) // which finds out, by its compare
		return true
	case now >= m.Right():
		return true
	}
	c, ok := m.raise(v, self)
	if !ok {
		c, ok = m.deletion(v, self, at.sent)
	}
	if ok {
		m.apply(ctx, at, v, c)
		return true
	}
	select {
	case <-m.moveSoon: // an older one
	default:
	}
	select {
	case m.moveSoon <- v:
	default:
	}
	return true
}

// unregistered marks the silence of an owner that has no registration. Nobody knows
// whether it has the right to serve still, so it needs to be waited for like one that
// has; and the first nodes of a new cluster, where nobody owns anything, wait for each
// other this way.
const unregistered = "no registration: "

// signs are what shows that somebody lives, for all who may be silent.
func signs(v *View) map[string]string {
	values := make(map[string]string)
	for i := range v.Nodes {
		values[v.Nodes[i].ID] = v.Nodes[i].Encode()
	}
	for id := range v.Map.Count() {
		if v.Node(id) == nil {
			values[unregistered+id] = ""
		}
	}
	return values
}

// deletion returns the change that deletes who has been silent for too long, and gives
// to others what they and unregistered nodes own; not ok if there is nothing to do
// yet. The live node with the lowest ID comes first, the others a beat later each: if
// they all did it at once all but one would do it in vain.
func (m *Member) deletion(v *View, self string, sent time.Duration) (c Change, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	silent := func(id string) time.Duration { return m.silences.silent(id, sent) }
	patience := m.conf.Silence()
	var live []Node
	for _, n := range v.Nodes { // sorted by ID
		if n.ID == self || silent(n.ID) < m.conf.W {
			live = append(live, n)
		}
	}
	// Not only above the ceilings of those that are deleted: a store that was restored shows
	// earlier ones, and then nodes that were there have registered anew, above what they had.
	base := m.highBase
	patience += time.Duration(min(slices.IndexFunc(live, func(n Node) bool { return n.ID == self }), 3)) * m.conf.Beat()
	var parts []int
	for _, n := range v.Nodes {
		if n.ID != self && silent(n.ID) >= patience {
			c.Gone = append(c.Gone, n)
			parts = append(parts, v.Map.Owned(n.ID)...)
		}
	}
	for id := range v.Map.Count() {
		if v.Node(id) != nil || silent(unregistered+id) < patience {
			continue
		}
		c.Absent = append(c.Absent, id)
		parts = append(parts, v.Map.Owned(id)...)
		if id != "" {
			// Its ceiling went with its registration. It was a minute above its clock and its
			// tokens; that and what this member has ever seen are the best that is known.
			base = max(base, uint64(max(m.opts.Wall().UnixMicro(), 0))+ahead)
		}
	}
	if len(c.Gone) == 0 && len(parts) == 0 {
		return Change{}, false
	}
	slices.Sort(parts)
	slices.Sort(c.Absent)
	c.Absent = slices.DeleteFunc(c.Absent, func(id string) bool { return id == "" })
	c.Seen, c.Next = v.Map, v.Map.Next()
	reassign(c.Next, parts, heirs(live, v.Want))
	c.Next.Base = min(base, maxToken)
	c.Next.seal()
	c.Present = []string{self}
	return c, true
}

// apply makes a change to the map that is not a move. What became of it, if that is
// not known, the next look shows.
func (m *Member) apply(ctx context.Context, at stamp, v *View, c Change) {
	call, cancel := m.brief(ctx)
	defer cancel()
	done, err := m.opts.Store.Commit(call, c)
	m.committed(done, err)
	if err != nil || !done {
		return
	}
	soon(m.lookSoon)
	for _, n := range c.Gone {
		m.opts.Log.Warn("A node was silent for too long, and its partitions are others' now.", "id", n.ID, "name", n.Name, "partitions", len(v.Map.Owned(n.ID)))
	}
	m.mu.Lock()
	m.health.Deletions += uint64(len(c.Gone))
	m.mu.Unlock()
}

// committed counts what came of a change.
func (m *Member) committed(done bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failedLocked(err)
	switch {
	case err != nil:
		m.health.Unknown++
	case !done:
		m.health.FailedCompares++
	}
}
