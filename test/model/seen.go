package main

import "sync"

// seen is the set of states that were met, as fingerprints, each with that of the state
// before it: 16 bytes, and room. It is in parts, so that two cores seldom meet.
type seen struct {
	parts [256]seenPart
}

type seenPart struct {
	mu   sync.Mutex // guards what follows
	at   []uint64
	from []uint64
	n    int
}

// add tells whether the state is new.
func (s *seen) add(state, from uint64) bool {
	p := &s.parts[state>>56]
	p.mu.Lock()
	defer p.mu.Unlock()
	if 4*p.n >= 3*len(p.at) {
		p.grow()
	}
	i := p.find(state)
	if p.at[i] != 0 {
		return false
	}
	p.at[i], p.from[i] = state, from
	p.n++
	return true
}

func (p *seenPart) find(state uint64) int {
	mask := uint64(len(p.at) - 1)
	i := state & mask
	for p.at[i] != 0 && p.at[i] != state {
		i = (i + 1) & mask
	}
	return int(i)
}

func (p *seenPart) grow() {
	at, from := p.at, p.from
	n := max(64, 2*len(at))
	p.at, p.from = make([]uint64, n), make([]uint64, n)
	for i, state := range at {
		if state != 0 {
			j := p.find(state)
			p.at[j], p.from[j] = state, from[i]
		}
	}
}

// before returns the state from which a state was met first, 0 for the first of all.
func (s *seen) before(state uint64) uint64 {
	p := &s.parts[state>>56]
	return p.from[p.find(state)]
}
