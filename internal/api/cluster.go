package api

import (
	"time"

	"github.com/nylen/lockd/internal/session"
)

// clusterView is how the server is as a part of something larger: a node of a cluster, or
// a proxy of another server.
type clusterView struct {
	At       moment        `json:"at"`
	Node     *nodeView     `json:"node"`     // null: it is none
	Nodes    []clusterNode `json:"nodes"`    // all that are registered, as this one sees them
	Upstream *upstreamView `json:"upstream"` // of a proxy; null: it is none
}

// nodeView is this node.
type nodeView struct {
	ID           string     `json:"id"`
	Name         string     `json:"name"`
	Registered   bool       `json:"registered"`
	RightMS      int64      `json:"right_ms"`
	RightLeastMS int64      `json:"right_least_ms"`
	HeartbeatMS  int64      `json:"heartbeat_ms"`
	Map          uint64     `json:"map"`
	Partitions   partitions `json:"partitions"`
	RecoveringMS int64      `json:"recovering_ms"`
	FrozenMS     int64      `json:"frozen_ms"`
	Taken        uint64     `json:"claims_taken"`
	Refused      uint64     `json:"claims_refused"`
	Unavailable  uint64     `json:"unavailable"`
	Trouble      string     `json:"trouble"` // what the store has said last; empty: all is well
}

type partitions struct {
	Serving    int `json:"serving"`
	Recovering int `json:"recovering"`
	Frozen     int `json:"frozen"`
}

// clusterNode is one of all.
type clusterNode struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Address    string     `json:"address"`
	Admin      string     `json:"admin"`
	Version    string     `json:"version"`
	This       bool       `json:"this"`
	Owned      int        `json:"owned"`
	Partitions partitions `json:"partitions"` // as it said in its last sign
	SilentMS   int64      `json:"silent_ms"`
	Behind     uint64     `json:"behind"` // by how many versions its map is
	Leaving    bool       `json:"leaving"`
	Unwell     string     `json:"unwell"` // what it says is wrong with it
	Link       *linkView  `json:"link"`   // to it; null: it is this one
}

type linkView struct {
	Live        bool   `json:"live"`
	ConfirmedMS *int64 `json:"confirmed_ms"` // null: there was nothing yet
	LeftMS      int64  `json:"left_ms"`
	Held        int    `json:"held"`
	Waits       int    `json:"waits"`
	Lost        uint64 `json:"lost_clients"`
}

type upstreamView struct {
	Live        bool   `json:"live"`
	LeftMS      int64  `json:"left_ms"`
	Connections uint64 `json:"connections"`
	Unanswered  uint64 `json:"unanswered"`
	Lost        uint64 `json:"lost_clients"`
}

// part is what the server is: alone, a node of a cluster, or a proxy.
func (a *API) part() string {
	switch {
	case a.cfg.Cluster != nil:
		return "node"
	case a.cfg.Hub.Upstream() != nil:
		return "proxy"
	}
	return "alone"
}

func (a *API) cluster(c *call) {
	out := clusterView{At: moment(time.Now()), Nodes: []clusterNode{}}
	if a.cfg.Cluster == nil {
		if u := a.cfg.Hub.Upstream(); u != nil {
			l := u.Link()
			out.Upstream = &upstreamView{l.Live, l.Left.Milliseconds(), l.Served, l.Answered, l.Ended}
		}
		c.answer(out)
		return
	}
	h, s := a.cfg.Cluster(), a.cfg.Hub.NodeState()
	out.Node = &nodeView{
		ID: h.ID, Name: s.Name, Registered: h.Registered, RightMS: h.Right.Milliseconds(), RightLeastMS: h.RightLeast.Milliseconds(),
		HeartbeatMS: h.RoundTrip.Milliseconds(), Map: s.Version, Partitions: partitions(s.Partitions),
		RecoveringMS: s.Recovering.Milliseconds(), FrozenMS: h.FrozenFor.Milliseconds(),
		Taken: s.Moved - min(s.Moved, s.Refused), Refused: s.Refused, Unavailable: s.Unanswered, Trouble: h.LastError,
	}
	links := make(map[string]*session.NodeLink)
	for i := range s.Links {
		links[s.Links[i].To.ID] = &s.Links[i]
	}
	for i := range h.Nodes {
		n := &h.Nodes[i]
		row := clusterNode{
			ID: n.ID, Name: n.Name, Address: n.Addr, Admin: n.Admin, Version: n.Version, This: n.ID == h.ID, Owned: n.Owned,
			Partitions: partitions{n.Serving, n.Recovering, n.Frozen}, SilentMS: n.Silence.Milliseconds(), Behind: n.Lag,
			Leaving: n.Leaving, Unwell: n.Unwell,
		}
		if l := links[n.ID]; l != nil {
			row.Link = &linkView{Live: l.Live, LeftMS: l.Left.Milliseconds(), Held: l.Held, Waits: l.Waits, Lost: l.Lost}
			if l.Silent >= 0 {
				ms := l.Silent.Milliseconds()
				row.Link.ConfirmedMS = &ms
			}
		}
		out.Nodes = append(out.Nodes, row)
	}
	c.answer(out)
}

// servedView is where a name is served in a cluster, and since when and why there.
type servedView struct {
	Partition int     `json:"partition"`
	Epoch     uint64  `json:"epoch"`
	Node      string  `json:"node"` // its name; empty: nobody's
	ID        string  `json:"id"`
	Admin     string  `json:"admin"`
	Here      bool    `json:"here"`
	State     string  `json:"state"`
	Since     *moment `json:"since"` // null: since before this node knew of it
	From      string  `json:"from"`
	How       string  `json:"how"`
}

// served returns where a name is; nil: the server is alone.
func (a *API) served(name string) *servedView {
	at := a.cfg.Hub.PlaceOf([]byte(name))
	if at == nil {
		return nil
	}
	v := &servedView{
		Partition: at.Partition, Epoch: at.Epoch, Node: at.Owner.Name, ID: at.Owner.ID, Here: at.Here, State: at.State, From: at.From, How: at.How,
	}
	if !at.Since.IsZero() {
		since := moment(at.Since)
		v.Since = &since
	}
	if a.cfg.Cluster != nil {
		for _, n := range a.cfg.Cluster().Nodes {
			if n.ID == v.ID {
				v.Admin = n.Admin
			}
		}
	}
	return v
}
