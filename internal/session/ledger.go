package session

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/nylen/lockd/internal/shard"
)

// A ledger keeps the latest losses, for whoever asks why a lock was lost. It is
// written where something is lost, and by nothing else: who gets and releases locks
// does not come by.
//
// Each kind of loss has a ring of its own, so that a flood of refusals or of waits
// in vain does not push out what was held. They share a sequence.
type ledger struct {
	memory *shard.Memory
	tell   func() // that there is something new; nil: nobody wants to know

	mu    sync.Mutex // guards what follows, for some hundred entries at a time
	seq   uint64
	rings [whats]ring
}

// ledgerBytes is how large all rings are at most, and a ledgerPart of the bound on
// memory if that is less.
const (
	ledgerBytes = 4 << 20
	ledgerPart  = 32
	ledgerStep  = 256 // entries that are looked at, or written, under one hold of the mutex
)

// A ring is some losses, oldest first, within a bound on their bytes.
type ring struct {
	entries []*entry
	bytes   int
	limit   int
}

// An entry is a loss. It does not change but for its times, which are of their own:
// who counts them may keep them longer than the ledger keeps the entry.
type entry struct {
	Loss
	times *atomic.Uint32 // nil: it has none
}

func (e *entry) size() int {
	n := int(unsafe.Sizeof(entry{})) + 3*int(unsafe.Sizeof(e))
	n += len(e.Name) + len(e.Address) + len(e.Client) + len(e.Identity) + len(e.Process) + len(e.By) + len(e.Holder)
	for _, w := range e.Waiters {
		n += int(unsafe.Sizeof(w)) + len(w)
	}
	return n
}

func (g *ledger) init(m *shard.Memory, tell func()) {
	total := int64(ledgerBytes)
	if m.Limit() > 0 {
		total = min(total, m.Limit()/ledgerPart)
	}
	g.memory, g.tell = m, tell
	// What was held matters most.
	g.rings[LostHold].limit = int(total / 2)
	g.rings[LostWait].limit = int(total / 4)
	g.rings[Refusal].limit = int(total / 4)
}

// add adds losses of a kind, which all happened now.
func (g *ledger) add(what What, losses ...*entry) {
	now := time.Now()
	for some := range slices.Chunk(losses, ledgerStep) {
		g.mu.Lock()
		r := &g.rings[what]
		before := r.bytes
		for _, e := range some {
			g.seq++
			e.Seq, e.At, e.What = g.seq, now, what
			r.add(e)
		}
		g.memory.Add(r.bytes - before)
		g.mu.Unlock()
	}
	if g.tell != nil {
		g.tell()
	}
}

// addRefusal adds one, and returns its times, 1.
func (g *ledger) addRefusal(l Loss) *atomic.Uint32 {
	times := new(atomic.Uint32)
	times.Store(1)
	g.add(Refusal, &entry{Loss: l, times: times})
	return times
}

// largestPart of a ring is how large an entry may be: names may be as long as
// requests, and one that pushes all others out is not kept.
const largestPart = 8

// add puts an entry at the end, and makes room for it.
func (r *ring) add(e *entry) {
	if e.size() > r.limit/largestPart {
		return
	}
	r.entries = append(r.entries, e)
	r.bytes += e.size()
	for r.bytes > r.limit {
		r.bytes -= r.entries[0].size()
		r.entries[0] = nil
		r.entries = r.entries[1:]
	}
}

// find returns the place of the first entry from a sequence number on.
func (r *ring) find(seq uint64) int {
	return sort.Search(len(r.entries), func(i int) bool { return r.entries[i].Seq >= seq })
}

// copy returns a loss as it is now.
func (e *entry) copy() Loss {
	l := e.Loss
	if e.times != nil {
		l.Times = int(e.times.Load())
	}
	return l
}

// Losses returns up to n losses that match, newest first, of those before one whose
// sequence number is given; 0: of all. next is what to go on with, 0 when there are
// no more. match is called under a mutex: it is quick, and keeps nothing; nil: all
// match.
func (h *Hub) Losses(before uint64, n int, match func(*Loss) bool) (page []Loss, next uint64) {
	for n > 0 {
		var done bool
		if page, before, done = h.ledger.before(before, page, n, match); done {
			return page, 0
		}
		if len(page) >= n {
			return page, before
		}
	}
	return page, before
}

// before does a step of that: it tells where the next one begins, and whether there is
// none.
func (g *ledger) before(seq uint64, page []Loss, n int, match func(*Loss) bool) (_ []Loss, next uint64, done bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if seq == 0 {
		seq = g.seq + 1
	}
	var at [whats]int // behind those to come
	for i := range g.rings {
		at[i] = g.rings[i].find(seq)
	}
	for range ledgerStep {
		var latest *entry
		var of int
		for i := range g.rings {
			if at[i] > 0 {
				if e := g.rings[i].entries[at[i]-1]; latest == nil || e.Seq > latest.Seq {
					latest, of = e, i
				}
			}
		}
		if latest == nil {
			return page, 0, true
		}
		at[of]--
		seq = latest.Seq
		if match == nil || match(&latest.Loss) {
			if page = append(page, latest.copy()); len(page) >= n {
				return page, seq, at == [whats]int{}
			}
		}
	}
	return page, seq, false
}

// LossesSince returns up to n losses that came after one whose sequence number is
// given, oldest first: for those who watch. Of what has been pushed out meanwhile
// there is a gap in the numbers. How many times something was refused may grow for a
// second.
func (h *Hub) LossesSince(after uint64, n int) (all []Loss) {
	for n > 0 {
		some := h.ledger.since(after, min(n, ledgerStep))
		if len(some) == 0 {
			return all
		}
		all, n, after = append(all, some...), n-len(some), some[len(some)-1].Seq
	}
	return all
}

func (g *ledger) since(seq uint64, n int) (some []Loss) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var at [whats]int
	for i := range g.rings {
		at[i] = g.rings[i].find(seq + 1)
	}
	for len(some) < n {
		var first *entry
		var of int
		for i := range g.rings {
			if at[i] < len(g.rings[i].entries) {
				if e := g.rings[i].entries[at[i]]; first == nil || e.Seq < first.Seq {
					first, of = e, i
				}
			}
		}
		if first == nil {
			break
		}
		at[of]++
		some = append(some, first.copy())
	}
	return some
}

// LastLoss returns the sequence number of the latest loss, 0 if there was none.
func (h *Hub) LastLoss() uint64 {
	h.ledger.mu.Lock()
	defer h.ledger.mu.Unlock()
	return h.ledger.seq
}
