package session

import (
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// busiest knows how often names were asked for lately, as far as the table's
// samples tell. One goroutine at a time uses it.
type busiest struct {
	taken time.Time // when samples were last taken
	rates map[lockKey]float64
}

// A lockKey tells a lock, or a rate, from all others.
type lockKey struct {
	kind shard.Kind
	name string
}

// What came within busyMemory counts about as much as all that came before:
// samples of a few hundred requests say little. What is below leastBusy is
// forgotten.
const (
	busyMemory = 3 * time.Second
	leastBusy  = 0.5 // a second
)

// take adds the samples since the last time.
func (b *busiest) take(samples []shard.BusyName, now time.Time) {
	took := now.Sub(b.taken)
	b.taken = now
	if b.rates == nil {
		b.rates = make(map[lockKey]float64)
	}
	if took <= 0 {
		return
	}
	part := min(1, took.Seconds()/busyMemory.Seconds())
	for key, rate := range b.rates {
		if rate *= 1 - part; rate < leastBusy {
			delete(b.rates, key)
		} else {
			b.rates[key] = rate
		}
	}
	for _, s := range samples {
		// Half of what may have been another's.
		requests := float64(s.Requests) - float64(s.Over)/2
		b.rates[lockKey{s.Kind, string(s.Name)}] += part * requests / took.Seconds()
	}
	b.bound()
}

// mostBusy is how many names are known at most: of names that are asked for once and
// never again there may be thousands new in each second, which take seconds to be
// forgotten.
const mostBusy = 4 * CensusRows

// bound forgets the names with the fewest requests if there are too many.
func (b *busiest) bound() {
	over := len(b.rates) - mostBusy
	if over <= 0 {
		return
	}
	sorted := slices.Sorted(maps.Values(b.rates))
	most := sorted[over-1] // that one has which is forgotten
	alike := over - sort.SearchFloat64s(sorted, most)
	for key, rate := range b.rates {
		if rate == most && alike > 0 {
			alike--
		} else if rate >= most {
			continue
		}
		delete(b.rates, key)
	}
}

// rate returns how many requests a second a name has.
func (b *busiest) rate(kind shard.Kind, name string) float64 { return b.rates[lockKey{kind, name}] }

// rows takes samples, and returns the busiest names with what they are now.
func (b *busiest) rows(h *Hub, there clientsThere) []LockRow {
	if b.taken.IsZero() {
		b.taken = h.clock.start
	}
	b.take(h.locks.TakeBusy(), time.Now())
	best := ranking{better: func(a, b *LockRow) bool { return a.Busy > b.Busy }}
	for key, rate := range b.rates {
		best.offer(LockRow{Kind: key.kind, Busy: rate}, []byte(key.name))
	}
	rows := best.rows()
	for i := range rows {
		rows[i].lookUp(h, there)
	}
	return rows
}

// lookUp fills a row with what is known of its lock now.
func (r *LockRow) lookUp(h *Hub, there clientsThere) {
	if r.Kind == shard.Rates {
		return
	}
	walk := h.locks.Look([]byte(r.Name))
	defer walk.Close()
	walk.Now = h.clock.nanoseconds()
	var p shard.Piece
	walk.Next(&p)
	for _, item := range p.Items {
		if item.Kind != r.Kind || item.State != shard.Held {
			continue
		}
		row := rowOf(item, there.of(item.Owner))
		row.Name, row.Busy = r.Name, r.Busy
		*r = row
		r.name()
		return
	}
}
