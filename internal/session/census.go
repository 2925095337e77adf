package session

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/nylen/lockd/internal/shard"
)

// A Census is who is there and which locks stand out, for those who look at a
// server. It is made by one walk over the table for all who ask, without holding a
// mutex for long, so what it says is of no single moment. It does not change.
type Census struct {
	At      time.Time
	Took    time.Duration
	Clients []Client // in no order

	// Up to CensusRows of the locks that are held or waited for: those with the
	// longest queues, those held for longest and, rates among them, those that are
	// asked for most.
	ByQueue, Oldest, Busiest []LockRow

	// As many of the clients, in each order.
	First [clientOrderCount][]*Client
}

// CensusRows is how many locks each list of a census has at most. It has fewer where
// names are long: censusBytes of them.
const (
	CensusRows  = 1000
	censusBytes = 1 << 20
)

// A LockRow is a lock, or a rate, in a Census.
type LockRow struct {
	Name       string
	Kind       shard.Kind // shard.Rates: it is a rate
	Holders    int        // 0: it is not held now
	Holder     *Client    // one of them; nil: none, or it has just gone
	HolderName string     // of its session
	Held       time.Duration
	Token      uint64 // of an exclusive lock
	Queue      int    // how many wait for it
	OldestWait time.Duration
	Busy       float64 // requests a second, about
}

// A census is not made again before some time is over: the longer it took, the longer,
// so that it takes no more than a part of a processor however many ask.
// On a machine that is busy with something else it may take much longer than it works.
const (
	censusEvery = 100 * time.Millisecond
	censusPart  = 10
	censusMost  = 10 * time.Second
)

// censusKept is for how long one is kept: it counts as memory, and it is large where
// there are many clients.
const censusKept = 30 * time.Second

// censuses makes them, one at a time.
type censuses struct {
	hub   *Hub
	done  sync.WaitGroup
	ended atomic.Bool

	mu       sync.Mutex // guards what follows
	last     *Census
	size     int         // of that one, in bytes
	forget   *time.Timer // forgets it; nil: there was none
	fresh    time.Time   // until when the last one is
	running  bool
	inquires map[*inquiry]struct{}
	busy     busiest // used by who makes one
}

// An inquiry is a question for a census.
type inquiry struct {
	wake     func() // called when the answer is there
	answered atomic.Bool
	census   *Census // the answer, when there is one; nil: the server has ended
}

func (i *inquiry) answer(c *Census) {
	i.census = c
	i.answered.Store(true)
}

// ask answers now if there is a census that is fresh, else later.
func (all *censuses) ask(wake func()) *inquiry {
	i := &inquiry{wake: wake}
	all.mu.Lock()
	defer all.mu.Unlock()
	switch {
	case all.ended.Load():
		i.answer(nil)
		return i
	case all.last != nil && time.Now().Before(all.fresh):
		i.answer(all.last)
		return i
	}
	if all.inquires == nil {
		all.inquires = make(map[*inquiry]struct{})
	}
	all.inquires[i] = struct{}{}
	if !all.running {
		all.running = true
		all.done.Go(all.run)
	}
	return i
}

// withdraw takes a question back.
func (all *censuses) withdraw(i *inquiry) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.inquires, i)
}

func (all *censuses) run() {
	began := time.Now()
	c := all.hub.takeCensus(&all.busy, &all.ended)
	all.mu.Lock()
	if c != nil {
		all.keepLocked(c)
		all.fresh = began.Add(min(max(censusEvery, censusPart*c.Took), censusMost))
	}
	askers := all.inquires
	all.inquires, all.running = nil, false
	all.mu.Unlock()
	for i := range askers {
		i.answer(c)
		i.wake()
	}
}

// keepLocked keeps a census for those who ask next.
func (all *censuses) keepLocked(c *Census) {
	size := c.size()
	all.hub.memory.Add(size - all.size)
	all.last, all.size = c, size
	if all.forget == nil {
		all.forget = time.AfterFunc(censusKept, all.drop)
	} else {
		all.forget.Reset(censusKept)
	}
}

// drop forgets the last one. Nobody has asked for a while.
func (all *censuses) drop() {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.hub.memory.Add(-all.size)
	all.last, all.size = nil, 0
}

// stop ends what is under way.
func (all *censuses) stop() {
	all.mu.Lock()
	all.ended.Store(true)
	if all.forget != nil {
		all.forget.Stop()
	}
	all.mu.Unlock()
	all.done.Wait()
}

var errClosed = errors.New("the server has ended")

// Census returns a census that is not old: a tenth of a second, or ten times as
// long as it took. It fails when ctx is done first, and when the hub is closed.
func (h *Hub) Census(ctx context.Context) (*Census, error) {
	made := make(chan struct{})
	i := h.censuses.ask(sync.OnceFunc(func() { close(made) }))
	if !i.answered.Load() {
		defer h.censuses.withdraw(i)
		select {
		case <-made:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if i.census == nil {
		return nil, errClosed
	}
	return i.census, nil
}

// takeCensus makes one; nil if it was ended.
func (h *Hub) takeCensus(b *busiest, ended *atomic.Bool) *Census {
	c := &Census{At: time.Now()}
	began := c.At
	there := h.countClients(c)
	queues := ranking{better: func(a, b *LockRow) bool {
		return cmp.Or(cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.OldestWait, b.OldestWait)) > 0
	}}
	oldest := ranking{better: func(a, b *LockRow) bool { return a.Held > b.Held }}
	walk := h.locks.WalkAll()
	defer walk.Close()
	var p shard.Piece
	var last []byte // the name of the lock before
	shared := false // that is a shared one
	for more := true; more; {
		if ended.Load() {
			return nil
		}
		walk.Now = h.clock.nanoseconds()
		more = walk.Next(&p)
		for _, item := range p.Items {
			owner := there.of(item.Owner)
			name := p.Name(item)
			if owner != nil {
				owner.count(item, len(name))
			}
			switch {
			case item.State != shard.Held:
			case item.Kind == shard.Shared && shared && bytes.Equal(name, last): // another holder
			default:
				last, shared = append(last[:0], name...), item.Kind == shard.Shared
				row := rowOf(item, owner)
				if row.Queue > 0 {
					queues.offer(row, name)
				}
				oldest.offer(row, name)
			}
		}
	}
	c.ByQueue, c.Oldest = queues.rows(), oldest.rows()
	c.Busiest = b.rows(h, there)
	for o := range clientOrderCount {
		c.First[o] = firstOf(c.Clients, CensusRows, o.Compare)
	}
	for _, list := range [][]LockRow{c.ByQueue, c.Oldest} {
		for i := range list {
			list[i].Busy = b.rate(list[i].Kind, list[i].Name)
			list[i].name()
		}
	}
	c.Took = time.Since(began)
	return c
}

// rowOf makes the row of a lock that an item says is held. It has no name yet.
func rowOf(item shard.Item, owner *Client) LockRow {
	r := LockRow{
		Kind: item.Kind, Holders: 1, Holder: owner, Held: milliseconds(item.Age),
		Queue: int(item.Queue), OldestWait: milliseconds(item.Oldest),
	}
	if item.Kind == shard.Shared {
		r.Holders = int(item.Number)
	} else {
		r.Token = item.Number
	}
	return r
}

// size is about how many bytes it takes, at most.
func (c *Census) size() int {
	n := cap(c.Clients) * int(unsafe.Sizeof(Client{}))
	for _, rows := range [...][]LockRow{c.ByQueue, c.Oldest, c.Busiest} {
		for i := range rows {
			n += int(unsafe.Sizeof(rows[i])) + len(rows[i].Name) + len(rows[i].HolderName)
		}
	}
	for _, first := range c.First {
		n += cap(first) * int(unsafe.Sizeof(first[0]))
	}
	return n
}

// name notes the holder's name, which is made for those who are listed alone.
func (r *LockRow) name() {
	if r.Holder != nil {
		r.HolderName = r.Holder.NameOrAddress()
	}
}

func milliseconds(n uint64) time.Duration { return time.Duration(n) * time.Millisecond }

// A ranking keeps the best of the rows that it is offered.
type ranking struct {
	better func(a, b *LockRow) bool
	all    []LockRow // a heap with the worst one first
	bytes  int       // of their names
}

func (r *ranking) Len() int           { return len(r.all) }
func (r *ranking) Less(i, j int) bool { return r.better(&r.all[j], &r.all[i]) }
func (r *ranking) Swap(i, j int)      { r.all[i], r.all[j] = r.all[j], r.all[i] }
func (r *ranking) Push(row any)       { r.all = append(r.all, row.(LockRow)) }
func (r *ranking) Pop() any {
	last := len(r.all) - 1
	row := r.all[last]
	r.all[last] = LockRow{}
	r.all = r.all[:last]
	return row
}

// offer takes a row with a name that is not its own yet.
func (r *ranking) offer(row LockRow, name []byte) {
	full := len(r.all) >= CensusRows || r.bytes+len(name) > censusBytes
	if full && len(r.all) > 0 && !r.better(&row, &r.all[0]) {
		return
	}
	row.Name = string(name)
	r.bytes += len(name)
	heap.Push(r, row)
	for len(r.all) > CensusRows || r.bytes > censusBytes {
		r.bytes -= len(heap.Pop(r).(LockRow).Name)
	}
}

// rows returns them, the best first. Of those that are alike the order is that of
// their names, so that they stand still. A lock that was let go and taken again while
// the walk went on may have been offered twice: it is one row, the better one.
func (r *ranking) rows() []LockRow {
	slices.SortFunc(r.all, func(a, b LockRow) int {
		switch {
		case r.better(&a, &b):
			return -1
		case r.better(&b, &a):
			return 1
		}
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	seen := make(map[lockKey]bool, len(r.all))
	return slices.DeleteFunc(r.all, func(row LockRow) bool {
		one := lockKey{row.Kind, row.Name}
		twice := seen[one]
		seen[one] = true
		return twice
	})
}
