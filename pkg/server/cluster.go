package server

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/conn"
	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/shard"
)

// A Cluster makes a server a node of a cluster: it serves some of the names, and asks the
// other nodes for the rest; see docs/cluster.md.
type Cluster struct {
	// Store is where the cluster keeps who is a member and who serves what; pkg/cluster
	// opens it.
	Store cluster.Store
	// Name is the node's, a label: it stays when the process does not.
	Name string
	// Addr is where other nodes, and clients that know the map, reach this one, as Dial
	// takes it.
	Addr string
	// Admin is its address for people, if there is one.
	Admin string
	// Dial connects to another node at its Addr.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Token returns what to show it, anew for each connection; nil: nothing.
	Token func(context.Context) (string, error)

	prompt time.Duration // for requests that may not wait; 0: what clients stand
}

// joinTimeout is how long it may take to read what a cluster is.
const joinTimeout = 10 * time.Second

// A JoinError is why a node cannot be one: its cluster's store has nothing, refuses, or has
// not answered within a time. Another try may succeed.
type JoinError struct {
	Err  error
	Took time.Duration
}

func (e *JoinError) Error() string { return e.Err.Error() }
func (e *JoinError) Unwrap() error { return e.Err }

// openCluster reads what the cluster is, and says in the configuration what follows from
// that.
func (s *Server) openCluster(cfg *conn.Config) error {
	c := s.opts.Cluster
	if c == nil {
		return nil
	}
	host := &clusterHost{}
	ctx, stop := context.WithTimeout(context.Background(), joinTimeout)
	defer stop()
	begun := time.Now()
	m, err := cluster.Join(ctx, cluster.Options{
		Store: c.Store, Host: host, Name: c.Name, Addr: c.Addr, Admin: c.Admin, Version: Version, Log: s.opts.Logger,
	})
	if err != nil {
		return &OptionError{"cluster", &JoinError{err, time.Since(begun)}}
	}
	conf := m.Conf()
	if err := s.opts.fitCluster(conf); err != nil {
		return err
	}
	cfg.Session.DeadPeer, cfg.Session.MaxKeep = s.opts.DeadPeerTimeout, s.opts.MaxKeep
	cfg.Session.Shards = min(s.opts.Shards, shard.Partitions)
	cfg.Cluster = &conn.Cluster{
		World: conf.World, Name: c.Name, Longest: conf.G, Serves: conf.W, Right: m.Right, Ceil: m.Ceil, Token: c.Token, Prompt: c.prompt,
		Dial: func(ctx context.Context, to session.Peer) (net.Conn, error) { return c.Dial(ctx, to.Addr) },
	}
	s.member, s.host = m, host
	return nil
}

// fitCluster has what clients rest on fit what the nodes do: an owner answers for a lock that somebody
// may believe in for so long, and the answer takes a moment.
func (o *Options) fitCluster(conf cluster.Conf) error {
	most := (conf.G * 85 / 100).Truncate(time.Millisecond)
	switch {
	case o.DeadPeerTimeout == DefaultDeadPeerTimeout:
		o.DeadPeerTimeout = min(o.DeadPeerTimeout, most)
	case o.DeadPeerTimeout > most:
		return optionError("dead-peer-timeout", "must be at most %v in this cluster, 85%% of its G, not %v", most, o.DeadPeerTimeout)
	}
	switch {
	case o.MaxKeep == DefaultMaxKeep:
		o.MaxKeep = min(o.MaxKeep, most)
	case o.MaxKeep > most:
		return optionError("max-keep", "must be at most %v in this cluster, 85%% of its G, not %v", most, o.MaxKeep)
	}
	return nil
}

// mostShards is how many shards there may be: a node's have whole partitions.
func (o *Options) mostShards() int {
	if o.Cluster != nil {
		return shard.Partitions
	}
	return shard.MaxShards
}

// checkCluster tells what a node cannot do.
func (o *Options) checkCluster() error {
	c := o.Cluster
	switch {
	case c == nil:
		return nil
	case c.Store == nil || c.Dial == nil:
		return &OptionError{"cluster", errors.New("a node needs a store, and has to be told how to connect to others")}
	case o.Upstream != nil:
		return &OptionError{"cluster", errors.New("a proxy is no node of a cluster: it may have one as its server")}
	case o.State != "":
		return optionError("state", "is for a server that is alone: in a cluster, the other nodes stand for what a file does. Leave it out (LOCKD_STATE= where a service's settings have it); `lockd cluster init --state` has tokens grow from what is in it")
	case len(o.HTTP) > 0:
		return optionError("http", "is not for a node of a cluster, which does not ask other nodes for rates over HTTP: have a server of its own for these")
	case o.Shards > shard.Partitions:
		return optionError("shards", "must be at most %d in a cluster, not %d", shard.Partitions, o.Shards)
	}
	return nil
}

// joinCluster has the server be a node from now on, until leaveCluster.
func (s *Server) joinCluster() {
	if s.member == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	s.leaves = stop
	s.serving.Go(func() { s.member.Run(ctx) })
}

// leaveCluster ends that: the others are told, and need not wait for the end of a silence.
func (s *Server) leaveCluster(ctx context.Context) {
	if s.member == nil || s.leaves == nil {
		return
	}
	if err := s.member.Leave(ctx, true); err != nil {
		s.opts.Logger.Warn("the cluster was not told that this node ends: it will find out", "err", err)
	}
	s.leaves()
}

// A clusterHost is what a member tells, and asks.
type clusterHost struct {
	hub   *session.Hub
	conns *conn.Server
}

func (h *clusterHost) Adopt(self string, m *cluster.Map, nodes []cluster.Node) {
	l := &session.Layout{Version: m.Version, Base: m.Base, Self: self}
	for _, n := range nodes {
		peer := session.Peer{ID: n.ID, Name: n.Name, Addr: n.Addr}
		if n.ID == self {
			l.Me = peer
		} else {
			l.Peers = append(l.Peers, peer)
		}
	}
	for p := range m.Partitions {
		one := &m.Partitions[p]
		l.Owner[p], l.Epoch[p], l.Nonce[p] = one.Owner, one.Epoch, one.Nonce
	}
	h.hub.Adopt(l)
}

func (h *clusterHost) Deposed()        { h.hub.Depose() }
func (h *clusterHost) Highest() uint64 { return h.hub.HighestToken() }

func (h *clusterHost) Status() cluster.Status {
	p := h.hub.Partitions()
	return cluster.Status{Serving: p.Serving, Recovering: p.Recovering, Frozen: p.Frozen}
}

func (h *clusterHost) Freeze(parts []int) { h.hub.Freeze(parts) }
func (h *clusterHost) Thaw(parts []int)   { h.hub.Thaw(parts) }

func (h *clusterHost) Copy(ctx context.Context, to cluster.Node, parts []cluster.Part, nonce uint64) error {
	all := make([]session.Part, len(parts))
	for i, p := range parts {
		all[i] = session.Part(p)
	}
	if err := h.conns.Copy(ctx, session.Peer{ID: to.ID, Name: to.Name, Addr: to.Addr}, all, nonce); err != nil {
		return err
	}
	h.hub.Uncertain()
	return nil
}
