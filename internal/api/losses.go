package api

import (
	"slices"

	"github.com/nylen/lockd/internal/session"
)

// A loss is something that a client had, or wanted, and has not got.
type loss struct {
	Seq uint64 `json:"seq"`
	At  moment `json:"at"`
	named
	Kind     string   `json:"kind"`
	What     string   `json:"what"` // held, waited or refused
	Why      string   `json:"why"`
	Bound    string   `json:"bound,omitempty"`
	Token    uint64   `json:"token,omitempty"`
	Count    int      `json:"count,omitempty"`
	LastedMS int64    `json:"lasted_ms"`
	Client   loser    `json:"client"`
	By       string   `json:"by,omitempty"`
	Holder   string   `json:"holder,omitempty"`
	Waiting  int      `json:"waiting"`
	Waiters  []string `json:"waiters"`
	Times    int      `json:"times,omitempty"`
	More     int      `json:"more,omitempty"`
}

// A loser is the client of a loss, who may be gone.
type loser struct {
	Address string `json:"address"`
	named
	Identity
}

func lossOf(l *session.Loss) loss {
	out := loss{
		Seq: l.Seq, At: moment(l.At), named: nameOf(l.Name), Kind: l.Kind.String(), What: l.What.String(), Why: l.Why.String(),
		Bound: l.Bound, Token: l.Token, Count: l.Count, LastedMS: l.Lasted.Milliseconds(),
		Client: loser{l.Address, nameOf(l.Client), Identity{l.Identity, base64Of(l.Identity)}},
		By:     l.By, Holder: l.Holder, Waiting: l.Waiting, Waiters: l.Waiters, Times: l.Times, More: l.More,
	}
	if out.Waiters == nil {
		out.Waiters = []string{}
	}
	return out
}

func lossesOf(all []session.Loss) []loss {
	out := make([]loss, 0, len(all))
	for i := range all {
		out = append(out, lossOf(&all[i]))
	}
	return out
}

// lossesUnder returns the latest losses of a name.
func (a *API) lossesUnder(name string, n int) []loss {
	all, _ := a.cfg.Hub.Losses(0, n, func(l *session.Loss) bool { return l.Name == name && l.More == 0 })
	return lossesOf(all)
}

func (a *API) losses(c *call) {
	name, why, limit, before := c.param("name"), c.oneOf("why", a.whys...), c.limit(), a.cursor(c, cursorOfLosses, 1)[0]
	if len(name) > mostFilter {
		c.refuse("the name is longer than that of any lock")
	}
	if c.bad() {
		return
	}
	var match func(*session.Loss) bool
	if name != "" || why != "" {
		match = func(l *session.Loss) bool {
			return (name == "" || l.Name == name && l.More == 0) && (why == "" || l.Why.String() == why)
		}
	}
	all, next := a.cfg.Hub.Losses(before, limit, match)
	list := struct {
		Losses []loss `json:"losses"`
		Next   string `json:"next"`
	}{lossesOf(all), ""}
	if next != 0 {
		list.Next = a.writeCursor(cursorOfLosses, next)
	}
	c.answer(list)
}

// mostTold is how many losses viewers are told of at a time: the latest.
const mostTold = 20

// tellLosses tells viewers of the losses since the last sample.
func (s *sampler) tellLosses() {
	hub, last := s.api.cfg.Hub, s.loss
	if s.loss = hub.LastLoss(); s.loss == last {
		return
	}
	s.api.viewers.tell(func() []byte {
		all, _ := hub.Losses(s.loss+1, mostTold, func(l *session.Loss) bool { return l.Seq > last })
		slices.Reverse(all)
		return appendEvent(nil, "losses", lossesOf(all))
	})
}
