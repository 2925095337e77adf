package server

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/nylen/lockd/internal/conn"
	"github.com/nylen/lockd/internal/session"
)

// An Upstream makes a server a proxy: it asks another server for locks and rates, over
// one connection that is kept there, and has all of its own clients' sessions on it.
// So they survive what that connection survives; see docs/surviving.md. On Linux such a
// server has one event loop for every four of GOMAXPROCS, and one at least.
type Upstream struct {
	// Target names it in the log.
	Target string
	// Dial connects to it. A connection within TLS is connected when it is returned.
	Dial func(context.Context) (net.Conn, error)
	// Token returns what to show it, anew for each connection; nil: nothing.
	Token func(context.Context) (string, error)
	// Keep is for how long it is to keep what clients hold while it cannot be reached;
	// 0 means as long as it does.
	Keep time.Duration
	// Patience is how long a request that may wait has to wait while it cannot be
	// reached, before it is refused; 0 means 10 s.
	Patience time.Duration

	prompt time.Duration // the same for requests that may not; 0: what clients stand
	loops  int           // event loops; 0: what befits the machine
}

func (o *Options) upstream() *conn.Upstream {
	if o.Upstream == nil {
		return nil
	}
	return &conn.Upstream{
		Target: o.Upstream.Target, What: "upstream", Dial: o.Upstream.Dial, Token: o.Upstream.Token,
		Keep: o.Upstream.Keep, Patience: o.Upstream.Patience, Prompt: o.Upstream.prompt,
		Loops: o.Upstream.loops,
	}
}

// checkUpstream tells what a proxy cannot do.
func (o *Options) checkUpstream() error {
	switch {
	case o.Upstream == nil:
		return nil
	case o.Upstream.Dial == nil:
		return &OptionError{"server", errors.New("nobody says how to connect to it")}
	case len(o.HTTP) > 0:
		return &OptionError{"http", errors.New("a proxy does not ask for rates over HTTP: ask the server itself")}
	}
	return nil
}

// An UpstreamError says why a server can be no proxy's, and what to change.
type UpstreamError struct{ Reason string }

func (e *UpstreamError) Error() string { return "lockd: upstream: " + e.Reason }

// AwaitUpstream waits until a proxy's upstream serves it for the first time, and returns
// what is wrong if it does not: an UpstreamError if it never will as it is.
func (s *Server) AwaitUpstream(ctx context.Context) error {
	err := s.conns.FirstUpstream(ctx)
	if wrong := new(session.ErrUpstream); errors.As(err, &wrong) {
		return &UpstreamError{wrong.Reason}
	}
	return err
}
