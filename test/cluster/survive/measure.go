//go:build linux

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// spans are measured times.
type spans []time.Duration

func (s spans) String() string {
	if len(s) == 0 {
		return "none"
	}
	all := slices.Sorted(slices.Values(s))
	ms := func(d time.Duration) string { return d.Round(time.Millisecond).String() }
	return fmt.Sprintf("%d times, least %s, median %s, most %s", len(all), ms(all[0]), ms(all[len(all)/2]), ms(all[len(all)-1]))
}

// at returns what was known of the map at a time.
func (h *history) at(t time.Duration) *sight {
	h.mu.Lock()
	defer h.mu.Unlock()
	var is *sight
	for _, s := range h.sights {
		if s.at <= t {
			is = s
		}
	}
	return is
}

// moved tells whether what had an epoch was moved then, with all that was in it.
func (h *history) moved(p int, epoch uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sights {
		if s.m.Partitions[p].Epoch > epoch {
			return s.m.Partitions[p].Nonce != 0
		}
	}
	return false
}

// name is a node's, by the ID of one of its processes.
func (h *history) name(id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.names[id]
}

// newest is the ID that a node had then: what it had before, as an earlier process or as it was deposed, is
// nobody's any more, though it may own something until it is deleted.
func (h *history) newest(name string, by time.Duration) (id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for other, n := range h.names {
		if n == name && h.since[other] <= by && (id == "" || h.since[other] > h.since[id]) {
			id = other
		}
	}
	return id
}

// measure looks at the kills that are long enough ago: when was there a new grant in the
// dead node's partitions, which had to wait for 1.1 G, and for how long was there none in
// those of the others?
func (b *lab) measure() {
	b.w.mu.Lock()
	probes := slices.Clone(b.w.probes)
	b.w.mu.Unlock()
	slices.SortFunc(probes, func(x, y probe) int { return cmp.Compare(x.At, y.At) })
	b.mu.Lock()
	troubles := b.troubles[min(b.measured, len(b.troubles)):]
	b.mu.Unlock()
	const early = 400 * time.Millisecond // the map is looked at twice as often
	whole := b.after() + b.G/2
	for _, t := range troubles {
		if now() < max(t.From+b.W, t.died)+whole {
			break
		}
		b.mu.Lock()
		b.measured++
		b.mu.Unlock()
		if len(t.killed) == 0 || t.died == 0 {
			continue
		}
		s := b.history.at(t.died)
		if s == nil {
			continue
		}
		dead := t.killed[0]
		id := b.history.newest(dead, t.died)
		var first time.Duration
		last := map[string]time.Duration{} // by owner
		var longest time.Duration
		for _, p := range probes {
			if p.At < t.died || p.At > t.died+whole {
				continue
			}
			part := s.m.Partitions[shard.PartitionOf([]byte(p.Name))]
			owner := b.history.name(part.Owner)
			if owner == dead {
				if p.Sent > t.died+early {
					if first == 0 {
						first = p.At - t.died
					}
					if part.Owner == id && p.At < t.died+b.G*11/10 && !b.history.moved(shard.PartitionOf([]byte(p.Name)), part.Epoch) {
						b.find(fmt.Errorf("%s was killed at %.3f, and at %.3f %s has granted %s, in a partition that it owned (epoch %d, ID %s): sooner than 1.1 G", dead, t.died.Seconds(), p.At.Seconds(), p.Home, p.Name, part.Epoch, part.Owner))
					}
				}
			} else if p.Home != dead {
				if from, ok := last[owner]; ok {
					longest = max(longest, p.At-from)
				} else {
					longest = max(longest, p.At-t.died)
				}
				last[owner] = p.At
			}
		}
		b.mu.Lock()
		if first != 0 {
			b.first = append(b.first, first)
		}
		b.longest = append(b.longest, longest)
		b.mu.Unlock()
		if b.alone(t) {
			if most := 3*b.W + b.G*11/10 + patience; first > most {
				b.find(fmt.Errorf("%s was killed at %.3f, and there was no new grant in its partitions for %v", dead, t.died.Seconds(), first))
			}
		}
		b.logf("%s: a new grant in its partitions after %v; the longest pause in others' was %v", strings.SplitN(t.What, ",", 2)[0], first.Round(time.Millisecond), longest.Round(time.Millisecond))
	}
	// What is older than the oldest that is to be measured is not needed any more.
	b.mu.Lock()
	keep := now() - 2*whole
	for _, t := range b.troubles[min(b.measured, len(b.troubles)):] {
		keep = min(keep, t.From)
	}
	b.mu.Unlock()
	b.w.mu.Lock()
	b.w.probes = slices.DeleteFunc(b.w.probes, func(p probe) bool { return p.At < keep })
	b.w.mu.Unlock()
}
