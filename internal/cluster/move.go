package cluster

import (
	"context"
	"slices"
	"time"
)

// rebalance makes the first step of the plan, if that is this node's, and all is well:
// no node is silent, recovers, has frozen anything or an older map than this.
func (m *Member) rebalance(ctx context.Context, v *View) {
	self, ok := m.allWell(v)
	if !ok {
		return
	}
	plan := Plan(v.Map, v.Nodes, v.Want)
	if len(plan) == 0 || plan[0].From != self {
		return
	}
	m.mu.Lock()
	early := m.opts.Now() < m.retry
	m.mu.Unlock()
	if early {
		return
	}
	m.move(ctx, v, plan[0])
}

func (m *Member) allWell(v *View) (self string, ok bool) {
	mine := m.opts.Host.Status()
	m.mu.Lock()
	defer m.mu.Unlock()
	self, now := m.value.ID, m.opts.Now()
	if !m.joined || now >= m.Right() || m.known == nil || !m.known.same(v.Map) {
		return self, false
	}
	for i := range v.Nodes {
		n := &v.Nodes[i]
		status, version := n.Status, n.Map
		if n.ID == self {
			status, version = mine, m.known.Version
		} else if m.silences.silent(n.ID, now) >= m.conf.Beat()*2 {
			return self, false
		}
		if status.Recovering > 0 || status.Frozen > 0 || status.Unwell != "" || version != v.Map.Version {
			return self, false
		}
	}
	for id := range v.Map.Count() {
		if v.Node(id) == nil {
			return self, false
		}
	}
	return self, true
}

// move hands partitions of this node's over to another: they are frozen, their copy is
// acknowledged, and then the map says whose they are. Once that was sent it may happen
// at any time, and they stay frozen until the map shows that it has or, by being
// another one, that it never will.
func (m *Member) move(ctx context.Context, v *View, mv Move) {
	to := v.Node(mv.To)
	if to == nil {
		return
	}
	m.mu.Lock()
	life := m.life
	m.mu.Unlock()
	nonce := newNonce()
	next := v.Map.Next()
	parts := make([]Part, len(mv.Parts))
	for i, p := range mv.Parts {
		parts[i] = Part{p, v.Map.Partitions[p].Epoch + 1}
		next.Partitions[p] = Partition{mv.To, parts[i].Epoch, nonce}
	}
	next.seal()
	if !m.freeze(life, mv.Parts) {
		return
	}
	defer m.unfrozen()
	copying, cancel := context.WithTimeout(ctx, m.conf.W)
	err := m.opts.Host.Copy(copying, *to, parts, nonce)
	cancel()
	if err != nil {
		m.opts.Log.Warn("Partitions were not moved: their copy was not taken.", "to", to.Name, "error", err)
		m.thaw(life, mv.Parts, nil, nil)
		m.movedOr(0, len(mv.Parts))
		return
	}
	m.settle(ctx, life, mv, Change{Seen: v.Map, Next: next, Present: []string{mv.To}})
}

// settle commits a move, and finds out what became of it.
func (m *Member) settle(ctx context.Context, life uint64, mv Move, c Change) {
	const tries = 2
	for try := 0; ; try++ {
		if known := m.newest(life); known == nil {
			return // deposed, and all is dropped
		} else if known.Version > c.Seen.Version {
			m.thaw(life, mv.Parts, c.Seen, known)
			if known.Partitions[mv.Parts[0]] == c.Next.Partitions[mv.Parts[0]] {
				m.movedOr(len(mv.Parts), 0)
			} else {
				m.movedOr(0, len(mv.Parts))
			}
			return
		}
		change := c
		if try >= tries {
			// Nothing was heard of it, and it may still be on its way. Another version of the
			// map makes it void.
			change = Change{Seen: c.Seen, Next: c.Seen.Next().seal()}
		}
		call, cancel := m.brief(ctx)
		done, err := m.opts.Store.Commit(call, change)
		cancel()
		m.committed(done, err)
		if err == nil && !done && try < tries {
			try = tries // it fails again, but what is there is still to be seen
		}
		// What is there now tells: a new map, the move's, the write-back's or another's,
		// or the old one still.
		at := m.stamp()
		call, cancel = m.brief(ctx)
		v, err := m.opts.Store.Read(call)
		cancel()
		if err == nil {
			m.saw(at, v)
			continue
		}
		m.failed(err)
		pause := time.NewTimer(m.conf.Beat() / 4)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// newest is the newest map adopted in this life; nil if that is over.
func (m *Member) newest(life uint64) *Map {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life != life {
		return nil
	}
	return m.known
}

func (m *Member) freeze(life uint64, parts []int) bool {
	m.adopting.Lock()
	defer m.adopting.Unlock()
	m.mu.Lock()
	current := m.life == life
	if current {
		m.frozenAt = m.opts.Now()
	}
	m.mu.Unlock()
	if current {
		m.opts.Host.Freeze(parts)
	}
	return current
}

// thaw ends it for those that are still this node's: under a map that is newer than the
// one that the move was compared with, or if nothing was sent.
func (m *Member) thaw(life uint64, parts []int, seen, known *Map) {
	m.adopting.Lock()
	defer m.adopting.Unlock()
	m.mu.Lock()
	current := m.life == life
	m.mu.Unlock()
	if !current {
		return
	}
	if seen != nil {
		parts = slices.DeleteFunc(slices.Clone(parts), func(p int) bool { return known.Partitions[p] != seen.Partitions[p] })
	}
	if len(parts) > 0 {
		m.opts.Host.Thaw(parts)
	}
}

func (m *Member) unfrozen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.health.FrozenMost = max(m.health.FrozenMost, m.opts.Now()-m.frozenAt)
	m.frozenAt = 0
}

// movedOr counts partitions that were moved, or have stayed.
func (m *Member) movedOr(moved, stayed int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.health.Moves += uint64(moved)
	m.health.MovesFailed += uint64(stayed)
	if stayed == 0 {
		m.failures = 0
		soon(m.lookSoon)
		return
	}
	// What stands still in vain shall not do so all the time.
	m.retry = m.opts.Now() + m.conf.W<<min(m.failures, 6)
	m.failures++
}
