package cluster

import (
	"errors"
	"fmt"
	"time"
)

// Health is how a member is, for metrics, the API and the page.
type Health struct {
	ID         string
	Registered bool
	// Right is how much of the right to serve is left, RightLeast the least there was
	// when a heartbeat renewed it, since the start: 0 if it has ever run out.
	Right      time.Duration
	RightLeast time.Duration
	// RoundTrip is that of the last heartbeat that was answered, RoundTripMost the
	// longest.
	RoundTrip     time.Duration
	RoundTripMost time.Duration
	Beats         uint64 // heartbeats that were confirmed
	FailedBeats   uint64 // without an answer
	// FailedCompares counts transactions whose compare failed, Deposed lost
	// registrations, Unknown transactions whose outcome was not known at first.
	FailedCompares uint64
	Deposed        uint64
	Unknown        uint64
	// WithoutRight is for how long it had partitions and no right to serve them.
	WithoutRight time.Duration
	// Map is the version of the newest map adopted. Rewinds counts how often the store
	// has shown an older one: it was restored.
	Map     uint64
	Rewinds uint64
	// Headroom is how far the highest token is below what may be granted.
	Headroom uint64
	// Deletions are nodes that this one has deleted, Moves partitions that it has
	// moved away, MovesFailed those that stayed.
	Deletions   uint64
	Moves       uint64
	MovesFailed uint64
	// FrozenFor is how long the move that is under way has stood still for, FrozenMost
	// the longest ever.
	FrozenFor  time.Duration
	FrozenMost time.Duration
	// FailedReads counts reads without an answer, Restarts how often all silences
	// were counted anew because of such or of a gap.
	FailedReads uint64
	Restarts    uint64
	// ClockJumps counts how often the time of day went another way than the clock.
	ClockJumps uint64
	// LastError is why the store did not do what it was asked for last time; empty if
	// it did.
	LastError string
	Status    Status
	Nodes     []NodeHealth
}

// NodeHealth is what a member sees of another, or of itself.
type NodeHealth struct {
	Node
	// Silence is for how long its registration has not changed.
	Silence time.Duration
	// Lag is how many versions its map is behind.
	Lag   uint64
	Owned int
}

// Health tells how the member is.
func (m *Member) Health() Health {
	status, highest := m.opts.Host.Status(), m.opts.Host.Highest()
	m.mu.Lock()
	defer m.mu.Unlock()
	h, now := m.health, m.opts.Now()
	h.ID, h.Registered, h.Status = m.value.ID, m.joined, status
	if right := m.Right(); right > 0 {
		h.Right = max(0, right-now)
		if now > right {
			h.RightLeast = 0
			if m.known != nil && len(m.known.Owned(h.ID)) > 0 {
				h.WithoutRight += now - right
			}
		}
	}
	if ceil := m.Ceil(); ceil > highest {
		h.Headroom = ceil - highest
	}
	if m.frozenAt > 0 {
		h.FrozenFor = now - m.frozenAt
		h.FrozenMost = max(h.FrozenMost, h.FrozenFor)
	}
	if m.known != nil {
		h.Map = m.known.Version
	}
	if m.view != nil {
		counts := m.view.Map.Count()
		for _, n := range m.view.Nodes {
			h.Nodes = append(h.Nodes, NodeHealth{
				Node: n, Silence: m.silences.silent(n.ID, now), Owned: counts[n.ID],
				Lag: m.view.Map.Version - min(n.Map, m.view.Map.Version),
			})
		}
	}
	return h
}

// May returns nil while the member may serve, and else why it may not.
func (m *Member) May() error {
	right, now := m.Right(), m.opts.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.joined:
		return errors.New("not registered in the cluster")
	case right == 0:
		return errors.New("no right to serve: the store has not confirmed it yet")
	case now >= right:
		return fmt.Errorf("no right to serve: the store has not confirmed it for %v", (now - right + m.conf.W).Round(100*time.Millisecond))
	}
	return nil
}
