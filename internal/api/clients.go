package api

import (
	"net/http"
	"time"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/shard"
)

type clientRow struct {
	party
	IdentityKind string       `json:"identity_kind"`
	AgeMS        int64        `json:"age_ms"`
	Sessions     int          `json:"sessions"`
	Locks        int          `json:"locks"`
	Waits        int          `json:"waits"`
	Bytes        int64        `json:"bytes"`
	Process      *processView `json:"process"`
}

type processView struct {
	PID     int    `json:"pid,omitempty"`
	UID     uint32 `json:"uid"`
	Program string `json:"program,omitempty"`
}

func clientRowOf(c *session.Client) clientRow {
	r := clientRow{
		party: party{Address: c.Address(), named: nameOf(c.Name()), Identity: identityOf(c.Access()), Transport: c.Transport, Away: c.Away},
		AgeMS: c.Age.Milliseconds(), Sessions: c.Sessions, Locks: c.Locks, Waits: c.Waits, Bytes: c.Bytes,
		IdentityKind: c.IdentityKind(),
	}
	if p := c.Process(); p != nil {
		r.Process = &processView{p.PID(), p.UID(), p.Program()}
	}
	return r
}

// The orders of lists of clients. In that of the table all can be had, page by page;
// of the others, the first.
var clientSorts = map[string]session.ClientOrder{
	"locks": session.ByLocks, "age": session.ByAge, "waits": session.ByWaits, "bytes": session.ByBytes,
}

const tableOrder = "none"

func (a *API) clients(c *call) {
	sort, q, limit := c.oneOf("sort", "locks", "age", "waits", "bytes", tableOrder), c.param("q"), c.limit()
	from := a.cursor(c, cursorOfClients, 1)[0]
	if len(q) > mostFilter {
		c.refuse("what is searched for is longer than %d bytes", mostFilter)
	}
	if sort == tableOrder && q != "" {
		c.refuse("a search has an order: leave out sort=%s", tableOrder)
	}
	if c.bad() {
		return
	}
	if sort == "" {
		sort = "locks"
	}
	census := a.census(c)
	if census == nil {
		return
	}
	c.send(a.made.get(census, "clients?"+c.r.URL.RawQuery, func() any {
		list := struct {
			At       moment      `json:"at"`
			CensusAt moment      `json:"census_at"`
			Clients  []clientRow `json:"clients"`
			Total    int         `json:"total"`
			Next     string      `json:"next"`
			Partial  bool        `json:"partial"`
		}{At: moment(time.Now()), CensusAt: moment(census.At), Clients: []clientRow{}, Total: len(census.Clients)}
		var rows []*session.Client
		next := uint64(0)
		if sort == tableOrder {
			rows, next = census.After(from, limit)
		} else {
			all := census.First[clientSorts[sort]]
			if q != "" {
				all, list.Partial = census.Search(q, clientSorts[sort])
			}
			rows = all[min(from, uint64(len(all))):]
			if len(rows) > limit {
				rows, next = rows[:limit], from+uint64(limit)
			}
		}
		for _, one := range rows {
			list.Clients = append(list.Clients, clientRowOf(one))
		}
		if next != 0 {
			list.Next = a.writeCursor(cursorOfClients, next)
		}
		return list
	}))
}

type clientView struct {
	At moment `json:"at"`
	clientRow
	Holds   []clientHold `json:"holds"`
	Waiting []clientWait `json:"waiting"`
	Partial bool         `json:"partial"` // there may be more than these
}

type clientHold struct {
	named
	Kind    string `json:"kind"`
	HeldMS  int64  `json:"held_ms"`
	Token   uint64 `json:"token,omitempty"`
	Queue   int    `json:"queue"`
	Session string `json:"session"` // the address of the session that holds it
}

type clientWait struct {
	named
	Kind    string `json:"kind"`
	WaitMS  int64  `json:"wait_ms"`
	Session string `json:"session"`
}

func (a *API) client(c *call) {
	if c.bad() {
		return
	}
	census := a.census(c)
	if census == nil {
		return
	}
	one := a.cfg.Hub.ClientAt(c.args[0], census)
	if one == nil {
		fail(c.w, http.StatusNotFound, "there is no client "+c.args[0])
		return
	}
	v := clientView{At: moment(time.Now()), clientRow: clientRowOf(one), Holds: []clientHold{}, Waiting: []clientWait{}}
	f, ok := a.search(c, session.Search{View: shard.EachHold, Kind: shard.Kinds, Client: one, Most: viewRows})
	if !ok {
		return
	}
	v.Partial = f.More
	for _, i := range f.Items {
		h := clientHold{named: nameOf(i.Name), Kind: i.Kind.String(), HeldMS: int64(i.Age), Queue: int(i.Queue), Session: i.Who.Address}
		if i.Kind == shard.Exclusive {
			h.Token = i.Number
		}
		v.Holds = append(v.Holds, h)
	}
	if f, ok = a.search(c, session.Search{View: shard.EachWait, Kind: shard.Kinds, Client: one, Most: viewRows}); !ok {
		return
	}
	v.Partial = v.Partial || f.More
	for _, i := range f.Items {
		v.Waiting = append(v.Waiting, clientWait{nameOf(i.Name), i.Kind.String(), int64(i.Age), i.Who.Address})
	}
	c.answer(v)
}
