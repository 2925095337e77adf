package cluster

import (
	"context"
	"errors"
	"time"
)

// Leave ends the membership, while Run runs, which then returns: with drain it first
// waits until all its partitions are moved away, as long as ctx allows and there is
// somebody to take them. Then it stops serving (Right is 0, and the host is told
// Deposed), and deletes its registration; what it still owned others recover at once,
// not after a silence. An error says that the registration may still be there.
func (m *Member) Leave(ctx context.Context, drain bool) error {
	m.mu.Lock()
	m.leaving = true
	stop, stopped := m.stop, m.stopped
	m.mu.Unlock()
	soon(m.beatSoon)
	if drain {
		m.drained(ctx)
	}
	if stop != nil {
		stop()
		<-stopped
	}
	m.adopting.Lock()
	m.right.Store(0)
	m.opts.Host.Deposed()
	m.mu.Lock()
	self := m.value.ID
	m.life++ // nothing that is still on its way counts
	m.joined = false
	m.mu.Unlock()
	m.adopting.Unlock()
	// Time of its own: who could not be rid of all in time says good-bye the more.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(2*m.conf.Beat(), time.Second))
	defer cancel()
	return m.unregister(last, self)
}

// drained waits until the node owns nothing.
func (m *Member) drained(ctx context.Context) {
	for {
		m.mu.Lock()
		changed, self, known, v := m.changed, m.value.ID, m.known, m.view
		m.mu.Unlock()
		if known == nil || len(known.Owned(self)) == 0 {
			return
		}
		others := false
		for _, n := range v.Nodes {
			others = others || n.ID != self && !n.Leaving && !v.Want.Drained(n.Name)
		}
		if !others {
			return
		}
		again := time.NewTimer(m.conf.Beat())
		select {
		case <-ctx.Done():
			again.Stop()
			return
		case <-changed:
			again.Stop()
		case <-again.C:
		}
	}
}

// unregister deletes the node's own registration, and gives away what it owns.
func (m *Member) unregister(ctx context.Context, self string) error {
	for {
		call, cancel := m.brief(ctx)
		v, err := m.opts.Store.Read(call)
		cancel()
		if err == nil {
			own := v.Node(self)
			if own == nil {
				return nil
			}
			call, cancel := m.brief(ctx)
			var done bool
			done, err = m.opts.Store.Commit(call, farewell(v, *own))
			cancel()
			m.committed(done, err)
			if done && err == nil {
				return nil
			}
		}
		if errors.Is(err, ErrNoCluster) || errors.Is(err, ErrWorld) {
			return err
		}
		pause := time.NewTimer(m.conf.Beat() / 4)
		select {
		case <-ctx.Done():
			pause.Stop()
			if err == nil {
				err = ctx.Err()
			}
			return err
		case <-pause.C:
		}
	}
}

// farewell is the change by which a node goes. If it is the last, what it owns stays
// its own in the map, and the next that come wait whether it is.
func farewell(v *View, own Node) Change {
	c := Change{Seen: v.Map, Next: v.Map.Next(), Gone: []Node{own}}
	var others []Node
	for _, n := range v.Nodes {
		if n.ID != own.ID {
			others = append(others, n)
		}
	}
	if len(others) > 0 {
		reassign(c.Next, v.Map.Owned(own.ID), heirs(others, v.Want))
	}
	c.Next.Base = max(c.Next.Base, own.Ceil)
	c.Next.seal()
	return c
}
