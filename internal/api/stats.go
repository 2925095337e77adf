package api

import "time"

// stats is the reply about the server as a whole.
type stats struct {
	At       moment  `json:"at"`
	Version  string  `json:"version"`
	Revision string  `json:"revision"`
	Started  moment  `json:"started_at"` // the same in each reply: a viewer knows by it that it has another server
	UptimeMS int64   `json:"uptime_ms"`
	Part     string  `json:"part"`
	Node     string  `json:"node,omitempty"` // its name, if it is one
	Draining bool    `json:"draining"`
	Names    bool    `json:"names"`
	You      you     `json:"you"`
	Now      sample  `json:"now"`
	Totals   totals  `json:"totals"`
	Bounds   []bound `json:"bounds"`
}

// you is who asks.
type you struct {
	named
	Role string `json:"role"`
	Kick bool   `json:"kick"`
}

// totals are what the server has counted since it began.
type totals struct {
	Requests     uint64            `json:"requests"`
	Grants       uint64            `json:"grants"`
	Refusals     uint64            `json:"refusals"`
	Rejected     uint64            `json:"rejected"`
	Orphans      uint64            `json:"orphans"`
	Waits        uint64            `json:"waits"`
	Timeouts     uint64            `json:"timeouts"`
	RatesAllowed uint64            `json:"rates_allowed"`
	RatesLimited uint64            `json:"rates_limited"`
	Losses       map[string]uint64 `json:"losses"`
}

// A bound is how much there is of something of which there may not be more than so
// much.
type bound struct {
	ID    string `json:"id"`
	Label string `json:"label"`
	Used  uint64 `json:"used"`
	Limit uint64 `json:"limit"` // 0: there is none
	Unit  string `json:"unit"`
}

func (a *API) statsFor(who Asker, s sampled) *stats {
	v := s.values
	st := &stats{
		At: moment(s.at), Version: a.cfg.Version, Revision: a.cfg.Revision,
		UptimeMS: int64(v["uptime_ms"]), Started: moment(a.started),
		Part: a.part(), Draining: v["draining"] != 0, Names: !a.cfg.NoNames,
		You: you{Role: who.role(), Kick: who.Admin && !a.cfg.NoNames},
		Now: s.sample,
		Totals: totals{
			v["requests"], v["grants"], v["refusals"], v["rejected"], v["orphans"], v["waits"], v["timeouts"],
			v["rates_allowed"], v["rates_limited"], s.lost,
		},
		Bounds: []bound{
			{"locks", "Locks, holders and rates", v["entries"], v["max_entries"], ""},
			{"waiters", "Waiting", v["waiters"], v["max_waiters"], ""},
			{"connections", "Connections", v["connections"], v["max_connections"], ""},
			{"memory", "Memory for clients", v["memory"], v["max_memory"], "bytes"},
		},
	}
	if a.cfg.Cluster != nil {
		st.Node = a.cfg.Hub.NodeName()
	}
	if who.Access != nil {
		st.You.named = nameOf(who.Access.Name)
	}
	return st
}

func (a *API) stats(c *call) {
	who := askerOf(c.r)
	s := &a.sampler
	s.mu.Lock()
	key := who.role()
	if who.Access != nil {
		key += " " + who.Access.Name
	}
	r := s.stats[key]
	if r == nil {
		r = newReply(a.statsFor(who, s.last))
		s.stats[key] = r
	}
	s.mu.Unlock()
	c.send(r)
}

func (a *API) history(c *call) {
	s := &a.sampler
	s.mu.Lock()
	if s.all == nil {
		s.all = newReply(struct {
			At       moment   `json:"at"`
			Interval int64    `json:"interval_ms"`
			From     moment   `json:"from"`
			Series   *history `json:"series"`
		}{
			moment(s.history.at), a.cfg.Every.Milliseconds(),
			moment(s.history.at.Add(-time.Duration(s.history.n-1) * a.cfg.Every)), &s.history,
		})
	}
	r := s.all
	s.mu.Unlock()
	c.send(r)
}
