package api

import (
	"cmp"
	"context"
	"math"
	"net/http"
	"time"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/shard"
)

// A lockRow is a line of a list of locks. One of kind rate is a rate that is asked for
// often.
type lockRow struct {
	named
	Kind         string  `json:"kind"`
	Holders      int     `json:"holders"`
	Holder       *party  `json:"holder"` // one of them; null: nobody, or it has just gone
	HeldMS       int64   `json:"held_ms"`
	Token        uint64  `json:"token,omitempty"` // of an exclusive lock
	Queue        int     `json:"queue"`
	OldestWaitMS int64   `json:"oldest_wait_ms"`
	Busy         float64 `json:"busy"` // requests a second, about
}

type lockList struct {
	At       moment    `json:"at"`
	CensusAt moment    `json:"census_at"`
	Total    lockTotal `json:"total"`
	Locks    []lockRow `json:"locks"`
	Next     string    `json:"next"`
	Partial  bool      `json:"partial"`
}

type lockTotal struct {
	Exclusive uint64 `json:"exclusive"`
	Shared    uint64 `json:"shared"`
	Waiters   uint64 `json:"waiters"`
}

func (a *API) total() lockTotal {
	v := a.sampler.now().values
	return lockTotal{v["locks"], v["shared_locks"], v["waiters"]}
}

// The orders of lists of locks.
var lockSorts = map[string]func(*session.Census) []session.LockRow{
	"queue":   func(c *session.Census) []session.LockRow { return c.ByQueue },
	"oldest":  func(c *session.Census) []session.LockRow { return c.Oldest },
	"busiest": func(c *session.Census) []session.LockRow { return c.Busiest },
}

// censusTime is how long a request waits for a census at most.
const censusTime = 5 * time.Second

// census returns one that is not old, or answers that there is none.
func (a *API) census(c *call) *session.Census {
	ctx, cancel := context.WithTimeout(c.r.Context(), censusTime)
	defer cancel()
	census, err := a.cfg.Hub.Census(ctx)
	if err != nil {
		busy(c.w, "the table could not be looked at in time")
	}
	return census
}

func (a *API) locks(c *call) {
	rows := lockSorts[c.oneOf("sort", "queue", "oldest", "busiest")]
	prefix, holder := c.param("prefix"), c.param("holder")
	if rows != nil && (prefix != "" || holder != "") {
		c.refuse("a search by prefix or holder has no order: leave out sort")
	}
	if len(prefix) > mostFilter || len(holder) > mostFilter {
		c.refuse("what is searched for is longer than %d bytes", mostFilter)
	}
	if rows == nil {
		a.searchLocks(c, prefix, holder)
	} else {
		a.topLocks(c, rows)
	}
}

// topLocks answers with the first locks in an order.
func (a *API) topLocks(c *call, rows func(*session.Census) []session.LockRow) {
	kind, limit, from := c.oneOf("kind", kinds...), c.limit(), a.cursor(c, cursorOfTop, 1)[0]
	if c.bad() {
		return
	}
	census := a.census(c)
	if census == nil {
		return
	}
	c.send(a.made.get(census, "locks?"+c.r.URL.RawQuery, func() any {
		list := lockList{At: moment(time.Now()), CensusAt: moment(census.At), Total: a.total(), Locks: []lockRow{}}
		all := rows(census)
		for i := int(min(from, uint64(len(all)))); i < len(all); i++ {
			if kind != "" && all[i].Kind.String() != kind {
				continue
			}
			if len(list.Locks) == limit {
				list.Next = a.writeCursor(cursorOfTop, uint64(i))
				break
			}
			list.Locks = append(list.Locks, topRow(&all[i]))
		}
		return list
	}))
}

func topRow(r *session.LockRow) lockRow {
	row := lockRow{
		named: nameOf(r.Name), Kind: r.Kind.String(), Holders: r.Holders, HeldMS: r.Held.Milliseconds(), Token: r.Token,
		Queue: r.Queue, OldestWaitMS: r.OldestWait.Milliseconds(), Busy: rounded(r.Busy),
	}
	if r.Holder != nil {
		name := r.HolderName
		if name == r.Holder.Address() {
			name = ""
		}
		row.Holder = &party{Address: r.Holder.Address(), named: nameOf(name), Identity: identityOf(r.Holder.Access()), Transport: r.Holder.Transport, Away: r.Holder.Away}
	}
	return row
}

func rounded(n float64) float64 { return math.Round(n*10) / 10 }

// kinds are the words for the kinds of locks.
var kinds = []string{shard.Exclusive.String(), shard.Shared.String()}

// kindOf returns the kind that a word means; Kinds for none.
func kindOf(word string) shard.Kind {
	for k := range shard.Kinds {
		if k.String() == word {
			return k
		}
	}
	return shard.Kinds
}

// mostSearches is how many may search the table at a time. Others wait for that, for
// searchWait at most.
const (
	mostSearches = 2
	searchWait   = 2 * time.Second
)

// search makes a search when it is the request's turn, or answers that it has to come
// again.
func (a *API) search(c *call, q session.Search) (f session.Found, ok bool) {
	timer := time.NewTimer(searchWait)
	defer timer.Stop()
	select {
	case a.searches <- struct{}{}:
	case <-timer.C:
		busy(c.w, "as many search as may at a time")
		return f, false
	case <-c.r.Context().Done():
		return f, false
	}
	defer a.searches.leave()
	return a.cfg.Hub.Find(q), true
}

// place returns where a search goes on.
func (a *API) place(c *call) shard.Position {
	at := a.cursor(c, cursorOfSearch, 3)
	if at[0] > math.MaxUint32 || at[1] > math.MaxUint32 || at[2] > math.MaxUint32 {
		c.refuse("the cursor is none of ours")
		return shard.Position{}
	}
	return shard.Position{Shard: uint32(at[0]), Part: uint32(at[1]), Ref: uint32(at[2])}
}

// next returns the cursor for what a search has left.
func (a *API) next(f session.Found) string {
	if !f.More {
		return ""
	}
	return a.writeCursor(cursorOfSearch, uint64(f.Next.Shard), uint64(f.Next.Part), uint64(f.Next.Ref))
}

// searchLocks answers with locks in the order of the table. Where a holder is looked
// for, a shared lock comes once for each of those who match.
func (a *API) searchLocks(c *call, prefix, holder string) {
	q := session.Search{Kind: kindOf(c.oneOf("kind", kinds...)), Prefix: []byte(prefix), Holder: holder, From: a.place(c), Most: c.limit()}
	if holder != "" {
		q.View = shard.EachHold
	}
	if c.bad() {
		return
	}
	census := a.census(c)
	if census == nil {
		return
	}
	f, ok := a.search(c, q)
	if !ok {
		return
	}
	rates := a.made.rates(census)
	now := time.Now()
	list := lockList{At: moment(now), CensusAt: moment(now), Total: a.total(), Locks: make([]lockRow, 0, len(f.Items)), Next: a.next(f), Partial: f.Partial}
	for _, i := range f.Items {
		row := lockRow{
			named: nameOf(i.Name), Kind: i.Kind.String(), Holders: 1, Holder: partyOf(i.Who), HeldMS: int64(i.Age),
			Queue: int(i.Queue), OldestWaitMS: int64(i.Oldest), Busy: rounded(rates[busyKey{i.Kind.String(), i.Name}]),
		}
		if i.Kind == shard.Shared {
			row.Holders = int(i.Number)
		} else {
			row.Token = i.Number
		}
		list.Locks = append(list.Locks, row)
	}
	c.answer(list)
}

func partyOf(w session.Who) *party {
	return &party{Address: w.Address, named: nameOf(w.Name), Identity: identityOf(w.Access), Transport: w.Transport, Away: w.Away}
}

// lockView is all that there is under one name.
type lockView struct {
	At moment `json:"at"`
	named
	Held      bool          `json:"held"`
	Exclusive exclusiveView `json:"exclusive"`
	Shared    sharedView    `json:"shared"`
	Rate      *rateView     `json:"rate"`
	Losses    []loss        `json:"losses"`
	Served    *servedView   `json:"served"` // in a cluster: where; null: the server is alone
}

type exclusiveView struct {
	Holder      *party `json:"holder"`
	HeldMS      int64  `json:"held_ms"`
	Token       uint64 `json:"token,omitempty"`
	Queue       []wait `json:"queue"`
	QueueLength int    `json:"queue_length"`
}

type sharedView struct {
	Count       int    `json:"count"`
	Holders     []hold `json:"holders"`
	Queue       []wait `json:"queue"`
	QueueLength int    `json:"queue_length"`
}

type hold struct {
	Client *party `json:"client"`
	HeldMS int64  `json:"held_ms"`
}

type wait struct {
	Client *party `json:"client"`
	WaitMS int64  `json:"wait_ms"`
	Limit  uint64 `json:"limit,omitempty"` // of a shared lock: how many may hold it for this one
}

type rateView struct {
	Open     uint64 `json:"open"`
	FullInMS uint64 `json:"full_in_ms"`
	Limited  bool   `json:"limited"`
}

// How many holders, waiters and losses the view of a lock has at most.
const (
	viewRows   = 1000
	viewLosses = 20
)

func (a *API) lock(c *call) {
	name := c.args[0]
	if name == "" {
		name = c.param("name") // a browser cannot send . and .. as a path's segment
	}
	if c.bad() {
		return
	}
	if len(name) > mostFilter {
		fail(c.w, http.StatusBadRequest, "the name is longer than that of any lock")
		return
	}
	v := a.cfg.Hub.ViewLock([]byte(name), viewRows)
	out := lockView{At: moment(time.Now()), named: nameOf(name), Losses: a.lossesUnder(name, viewLosses), Served: a.served(name)}
	x := &v.Exclusive
	out.Exclusive.Queue, out.Exclusive.QueueLength = waits(x.Queue), x.Waiters
	for _, i := range x.Holders {
		out.Exclusive.Holder, out.Exclusive.HeldMS, out.Exclusive.Token = partyOf(i.Who), int64(i.Age), i.Number
	}
	s := &v.Shared
	out.Shared = sharedView{Count: s.Count, Holders: make([]hold, 0, len(s.Holders)), Queue: waits(s.Queue), QueueLength: s.Waiters}
	for _, i := range s.Holders {
		out.Shared.Holders = append(out.Shared.Holders, hold{partyOf(i.Who), int64(i.Age)})
	}
	out.Held = cmp.Or(x.Count, s.Count) > 0
	if r := v.Rate; r != nil {
		out.Rate = &rateView{r.Number, r.Age, r.State == shard.Limited}
	}
	c.answer(out)
}

func waits(queue []session.FoundItem) []wait {
	all := make([]wait, 0, len(queue))
	for _, i := range queue {
		all = append(all, wait{partyOf(i.Who), int64(i.Age), i.Number})
	}
	return all
}
