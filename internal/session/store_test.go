package session

import (
	"errors"
	"sync"
	"testing"
)

// A memStore is a Store that forgets nothing between the servers of a test. What it is
// told becomes durable in order, on a goroutine of its own, unless the disk is stopped.
type memStore struct {
	mu        sync.Mutex // guards what follows
	keys      map[KeyHash]uint64
	floor     uint64
	recovered int
	log       []string
	stopped   bool // nothing becomes durable
	full      bool // nothing can be written
	queue     []func()
	runs      bool
}

var errDiskFull = errors.New("disk full")

func (m *memStore) Keep(key KeyHash, ms uint64, done func(error)) {
	m.do("keep", done, func() {
		if m.keys == nil {
			m.keys = make(map[KeyHash]uint64)
		}
		m.keys[key] = ms
	})
}

func (m *memStore) Forget(key KeyHash, done func(error)) {
	m.do("forget", done, func() { delete(m.keys, key) })
}

func (m *memStore) Raise(floor uint64, done func(error)) {
	m.do("raise", done, func() { m.floor = max(m.floor, floor) })
}

func (m *memStore) Recovered(done func(error)) { m.do("recovered", done, func() { m.recovered++ }) }

func (m *memStore) do(what string, done func(error), write func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue = append(m.queue, func() {
		m.mu.Lock()
		var err error
		if m.full {
			err = errDiskFull
		} else {
			write()
			m.log = append(m.log, what)
		}
		m.mu.Unlock()
		if done != nil {
			done(err)
		}
	})
	m.beginLocked()
}

func (m *memStore) beginLocked() {
	if !m.runs && !m.stopped && len(m.queue) > 0 {
		m.runs = true
		go m.run()
	}
}

func (m *memStore) run() {
	for {
		m.mu.Lock()
		if len(m.queue) == 0 || m.stopped {
			m.runs = false
			m.mu.Unlock()
			return
		}
		next := m.queue[0]
		m.queue = m.queue[1:]
		m.mu.Unlock()
		next()
	}
}

// stop has nothing become durable until it is told to go on.
func (m *memStore) stop(stopped bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = stopped
	m.beginLocked()
}

func (m *memStore) fill(full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = full
}

// stored is what a server that begins now finds.
func (m *memStore) stored() (keys []StoredKey, floor uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, ms := range m.keys {
		keys = append(keys, StoredKey{Key: key, MS: ms})
	}
	return keys, m.floor
}

// did returns what has become durable, but for the floor.
func (m *memStore) did() (log []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, what := range m.log {
		if what != "raise" {
			log = append(log, what)
		}
	}
	return log
}

// Two KEYs are never the same, and each is what it looks like.
func TestKeys(t *testing.T) {
	a, b := newKey(), newKey()
	first, ok := hashOf([]byte(a), nil)
	if !ok || a == b {
		t.Fatalf("%q, %q", a, b)
	}
	if second, ok := hashOf([]byte(b), nil); !ok || first == second {
		t.Errorf("%q and %q have the same hash", a, b)
	}
	seen := map[KeyHash]bool{first: true}
	for _, who := range []*Access{{Name: "a"}, {Name: "b"}} {
		if h, _ := hashOf([]byte(a), who); seen[h] {
			t.Errorf("%s has the same KEY as somebody else", who.Name)
		} else {
			seen[h] = true
		}
	}
	for _, bad := range []string{"", a[1:], a + "0", "x" + a[1:]} {
		if _, ok := hashOf([]byte(bad), nil); ok {
			t.Errorf("%q is a KEY", bad)
		}
	}
}
