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
	bytes  int                 // of them
	busy   map[busyKey]float64 // how often locks are asked for, once somebody wants to know
}

type busyKey struct{ kind, name string }

// mostMade is how many bytes of them are kept, whatever names are in them and however
// many ways there are to ask for the same. Who asks for pages behind the first asks for
// those once.
const mostMade = 4 << 20

// get returns what make makes, unless somebody has asked for it before.
func (m *made) get(c *session.Census, key string, make func() any) *reply {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beginLocked(c)
	r := m.all[key]
	if r == nil {
		r = newReply(make())
		if size := len(key) + len(r.body); m.bytes+size <= mostMade {
			m.all[key] = r
			m.bytes += size
		}
	}
	return r
}

func (m *made) beginLocked(c *session.Census) {
	if m.census != c {
		m.census, m.all, m.bytes, m.busy = c, make(map[string]*reply), 0, nil
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
