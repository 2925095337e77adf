package conn

import (
	"context"
	"net"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// Cluster is what makes a server a node of a cluster.
type Cluster struct {
	World   string               // which one
	Name    string               // the node's
	Longest time.Duration        // G, see session.ClusterConfig
	Serves  time.Duration        // W, see there, too
	Right   func() time.Duration // until when it may serve
	Ceil    func() uint64        // what its fencing tokens are below
	// Dial connects to another node, and Token is what to show it; nil: nothing.
	Dial  func(context.Context, session.Peer) (net.Conn, error)
	Token func(context.Context) (string, error)

	Patience, Prompt time.Duration // see session.ClusterConfig
}

// linkToNode is what people call the other end of a link.
const linkToNode = "node"

// cluster is for the session's side.
func (s *Server) cluster(c *Cluster) *session.ClusterConfig {
	return &session.ClusterConfig{
		World: c.World, Name: c.Name, Longest: c.Longest, Serves: c.Serves, Right: c.Right, Ceil: c.Ceil, Patience: c.Patience, Prompt: c.Prompt,
		Log: func(msg string, attrs ...any) { s.cfg.Logger.Info(msg, attrs...) },
		Connect: func(to session.Peer) *session.Upstream {
			u := newUplink(s, &Upstream{
				What: linkToNode, Target: to.Name + " (" + to.Addr + ")", Token: c.Token,
				Dial: func(ctx context.Context) (net.Conn, error) { return c.Dial(ctx, to) },
			})
			up := s.hub.NewLink(to, *u.config())
			u.begin(up)
			return up
		},
	}
}
