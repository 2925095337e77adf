package shard

import (
	"bytes"
	"slices"
)

// Which names are asked for most is found out by sampling: a counter for each lock
// would go with the lock, which is there only while it is held. One request in
// sampleEvery, at random, is noted, among the busyNames that its shard has seen
// most often: when a new one comes it takes the place of the one with the fewest,
// and that one's count, so no name that is asked for often enough is missed (the
// Space-Saving algorithm of Metwally, Agrawal and El Abbadi, 2005).
const (
	sampleEvery   = 64
	busyNames     = 64
	longestSample = 1 << 10 // bytes of a name that is noted
)

// A BusyName is a name that was asked for, and how often, about.
type BusyName struct {
	Name []byte
	Kind Kind // Rates: it is a rate's
	// Requests were counted for it. Up to Over of them may have been another
	// name's whose place it took.
	Requests, Over uint64
}

// sampling is what a shard keeps for it.
type sampling struct {
	random uint32
	hashes []uint32 // of names, in the same order
	names  []BusyName
}

// sampleLocked is called for each request. It costs one count.
func (s *Shard) sampleLocked(k Kind, hash uint32, name []byte) {
	if s.unsampled--; s.unsampled == 0 {
		s.noteBusyLocked(k, hash, name)
	}
}

//go:noinline
func (s *Shard) noteBusyLocked(k Kind, hash uint32, name []byte) {
	b := &s.sampling
	// The next one comes after sampleEvery requests on average, but at random, or
	// a client that asks for names in turn would have one of them noted always.
	b.random ^= b.random << 13 // xorshift (Marsaglia, 2003)
	b.random ^= b.random >> 17
	b.random ^= b.random << 5
	s.unsampled = 1 + uint8(b.random%(2*sampleEvery-1))
	if len(name) > longestSample {
		return
	}
	hash += uint32(k)
	fewest := 0
	for i, h := range b.hashes {
		if h == hash && b.names[i].Kind == k && bytes.Equal(b.names[i].Name, name) {
			b.names[i].Requests += sampleEvery
			return
		}
		if b.names[i].Requests < b.names[fewest].Requests {
			fewest = i
		}
	}
	if len(b.names) < busyNames {
		b.hashes = append(b.hashes, hash)
		b.names = append(b.names, BusyName{Name: bytes.Clone(name), Kind: k, Requests: sampleEvery})
		return
	}
	n := &b.names[fewest]
	b.hashes[fewest] = hash
	*n = BusyName{Name: append(n.Name[:0], name...), Kind: k, Requests: n.Requests + sampleEvery, Over: n.Requests}
}

// TakeBusy returns the names that were asked for most since it was last called, in
// no order.
func (t *Set) TakeBusy() (all []BusyName) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		all = append(all, s.sampling.names...)
		s.sampling.names, s.sampling.hashes = nil, s.sampling.hashes[:0]
		s.mu.Unlock()
	}
	return slices.Clip(all)
}
