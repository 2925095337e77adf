package api

import (
	"time"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/shard"
)

type rateRow struct {
	named
	rateView
}

func (a *API) rates(c *call) {
	q := session.Search{View: shard.EachRate, Kind: shard.Kinds, Prefix: []byte(c.param("prefix")), From: a.place(c), Most: c.limit()}
	if len(q.Prefix) > mostFilter {
		c.refuse("what is searched for is longer than %d bytes", mostFilter)
	}
	if c.bad() {
		return
	}
	f, ok := a.search(c, q)
	if !ok {
		return
	}
	list := struct {
		At      moment    `json:"at"`
		Rates   []rateRow `json:"rates"`
		Next    string    `json:"next"`
		Partial bool      `json:"partial"`
	}{moment(time.Now()), make([]rateRow, 0, len(f.Items)), a.next(f), f.Partial}
	for _, i := range f.Items {
		list.Rates = append(list.Rates, rateRow{nameOf(i.Name), rateView{i.Number, i.Age, i.State == shard.Limited}})
	}
	c.answer(list)
}
