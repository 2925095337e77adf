package api

import (
	"sync"

	"github.com/nylen/lockd/internal/session"
)

// made are replies that come from one census, for all who ask the same of it. One is
// made at a time.
type made struct {
	mu     sync.Mutex // guards what follows, and is held while one is made
	census *session.Census
	all    map[string]*reply
	busy   map[busyKey]float64 // how often locks are asked for, once somebody wants to know
}

type busyKey struct{ kind, name string }

// mostMade is how many are kept. Who asks for pages behind the first asks for those
// once.
const mostMade = 64

// get returns what make makes, unless somebody has asked for it before.
func (m *made) get(c *session.Census, key string, make func() any) *reply {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beginLocked(c)
	r := m.all[key]
	if r == nil {
		r = newReply(make())
		if len(m.all) < mostMade {
			m.all[key] = r
		}
	}
	return r
}

func (m *made) beginLocked(c *session.Census) {
	if m.census != c {
		m.census, m.all, m.busy = c, make(map[string]*reply), nil
	}
}

// rates returns how often the busiest locks are asked for.
func (m *made) rates(c *session.Census) map[busyKey]float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beginLocked(c)
	if m.busy == nil {
		m.busy = make(map[busyKey]float64, len(c.Busiest))
		for i := range c.Busiest {
			row := &c.Busiest[i]
			m.busy[busyKey{row.Kind.String(), row.Name}] = row.Busy
		}
	}
	return m.busy
}
