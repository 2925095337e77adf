package client

import (
	"context"
	"sync"
	"time"
)

// An oldPool are the clients of a server that speaks protocol 1 only. There
// the connection is the owner, so each lock has one of its own.
type oldPool struct {
	opts   Options
	most   int
	period time.Duration // in which a client asks whether the server is there

	mu     sync.Mutex // guards what follows
	idle   []*Client  // holding nothing
	open   map[*Client]struct{}
	closed bool
}

// take returns a client that holds nothing.
func (p *oldPool) take() (*Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		c := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if c.Err() == nil {
			return c, nil
		}
		delete(p.open, c)
		c.Close()
	}
	if p.closed {
		return nil, ErrClosed
	}
	if len(p.open) >= p.most {
		return nil, ErrTooManySessions
	}
	c, err := newClient(p.opts, p.period)
	if err != nil {
		return nil, err
	}
	if p.open == nil {
		p.open = make(map[*Client]struct{})
	}
	p.open[c] = struct{}{}
	return c, nil
}

// put gives back a client that holds nothing, or cannot be sure.
func (p *oldPool) put(c *Client, sure bool) {
	p.mu.Lock()
	keep := sure && c.Err() == nil && !p.closed
	if keep {
		p.idle = append(p.idle, c)
	} else {
		delete(p.open, c)
	}
	p.mu.Unlock()
	if !keep {
		c.Close()
	}
}

// drop closes the clients that are not in use.
func (p *oldPool) drop() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	for _, c := range idle {
		delete(p.open, c)
	}
	p.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}

func (p *oldPool) close() {
	p.mu.Lock()
	p.closed = true
	open := p.open
	p.open, p.idle = nil, nil
	p.mu.Unlock()
	for c := range open {
		c.Close()
	}
}

func (p *oldPool) acquire(ctx context.Context, v *verb, limit int, name string) (*Lock, error) {
	switch {
	case v.waits:
		return nil, ErrNoWaiting
	case limit > 0:
		return nil, ErrNoSharedLimits
	}
	c, err := p.take()
	if err != nil {
		return nil, err
	}
	n, err := c.ask(ctx, v, name)
	if err != nil {
		p.put(c, true) // a Get that was given up is undone, see Client
		return nil, err
	}
	return &Lock{name: name, number: n, shared: v == getShared, old: p, client: c}, nil
}

// release releases a lock, by the end of its connection if all else fails.
func (p *oldPool) release(ctx context.Context, c *Client, v *verb, name string) error {
	_, err := c.ask(ctx, v, name)
	p.put(c, err == nil)
	return err
}
