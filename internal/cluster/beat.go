package cluster

import (
	"context"
	"time"
)

// ahead is how far the ceiling is above the clock and the highest token, in
// microseconds: what may be granted until the next beat, and while none succeeds.
const ahead = 60e6

// maxToken is what tokens stay below: 2^53, so that every language can count them.
const maxToken = 1 << 53

// beat is one heartbeat, or the try to register. It returns false if it was for
// nothing, and the next shall follow soon.
//
// The right counts from when the request was sent that put the value there. After a
// time-out it is not known whether it did: the next try has the same value, so if that
// stands there, however it came there, it was put there after its first request was
// sent.
func (m *Member) beat(ctx context.Context) bool {
	at := m.stamp()
	joined, old, next := m.nextValue(at)
	call, cancel := m.brief(ctx)
	defer cancel()
	var b Beat
	var err error
	if joined {
		b, err = m.opts.Store.Beat(call, old, next)
	} else {
		b, err = m.opts.Store.Register(call, next)
	}
	now := m.opts.Now()
	if err != nil {
		m.mu.Lock()
		m.health.FailedBeats++
		m.health.Unknown++
		m.failedLocked(err)
		m.mu.Unlock()
		return false
	}
	m.failed(nil)
	sent := at.sent
	if !b.Done {
		m.mu.Lock()
		m.health.FailedCompares++
		first := m.first
		m.mu.Unlock()
		own := b.View.Node(next.ID)
		if own == nil || own.Encode() != next.Encode() {
			m.deposed(at.life)
			return false
		}
		sent = first
	}
	if !m.confirm(at, next) {
		return false
	}
	// The map comes first: what it takes from us is not served under the new right.
	if !m.saw(at, b.View) {
		return false
	}
	m.renew(at, sent, now, next)
	return true
}

// nextValue returns what stands in the store, and what is to. That is made once, and
// stays until it is known what became of it.
func (m *Member) nextValue(at stamp) (joined bool, old, next Node) {
	status, highest := m.opts.Host.Status(), m.opts.Host.Highest()
	m.mu.Lock()
	defer m.mu.Unlock()
	offset := m.offset()
	if jump := offset - m.drift; jump > time.Second || jump < -time.Second {
		m.health.ClockJumps++
	}
	m.drift = offset
	if m.pending == nil {
		n := m.value
		n.raw = ""
		n.Seq++
		// The ceiling never goes back: tokens below the old one may just be granted.
		n.Ceil = min(max(n.Ceil, max(uint64(max(m.opts.Wall().UnixMicro(), 0)), highest)+ahead), maxToken)
		n.Leaving = m.leaving
		n.Status = status
		if m.known != nil {
			n.Map = m.known.Version
		}
		m.pending, m.first = &n, at.sent
	}
	return m.joined, m.value, *m.pending
}

// confirm notes that a value stands in the store.
func (m *Member) confirm(at stamp, next Node) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life != at.life {
		return false
	}
	if !m.joined {
		m.opts.Log.Info("This process is a node of the cluster.", "id", next.ID, "name", next.Name)
	}
	m.value, m.pending, m.joined = next, nil, true
	return true
}

// renew extends the right of who has confirmed a value that was sent then.
func (m *Member) renew(at stamp, sent, now time.Duration, value Node) {
	m.adopting.Lock() // so that nobody is deposed meanwhile
	defer m.adopting.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life != at.life {
		return
	}
	h := &m.health
	was := m.Right()
	if was > 0 {
		least := max(0, was-now)
		if h.Beats == 0 || least < h.RightLeast {
			h.RightLeast = least
		}
		h.Beats++
		if now > was && m.known != nil && len(m.known.Owned(value.ID)) > 0 {
			h.WithoutRight += now - was
		}
	}
	h.RoundTrip = now - at.sent
	h.RoundTripMost = max(h.RoundTripMost, h.RoundTrip)
	m.ceil.Store(value.Ceil) // before the right: tokens are granted only with both
	m.right.Store(int64(max(was, sent+m.conf.W)))
}

// offset is what the time of day is more than the clock.
func (m *Member) offset() time.Duration {
	return time.Duration(m.opts.Wall().UnixNano()) - m.opts.Now()
}
