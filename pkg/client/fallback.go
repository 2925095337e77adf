package client

import (
	"context"
	"errors"
	"sync"
	"time"
)

// An oldPool are the clients of a server that speaks protocol 1 only. There
// the connection is the owner, so each lock has one of its own.
//
// As long as connecting succeeds, it is up to the callers how many do so at a
// time. After a failure there is one attempt at a time, with a pause before it,
// and everybody else waits for what comes of it: a server that has no room does
// not get more of it by being asked.
type oldPool struct {
	opts     Options
	most     int
	period   time.Duration // in which a client asks whether the server is there
	failFast bool

	mu     sync.Mutex // guards what follows
	idle   []*Client  // holding nothing
	open   map[*Client]struct{}
	closed bool

	backoff backoff
	failure error         // what came of the last attempt to connect, if not its success
	next    time.Time     // when the next one may be, after a failure
	attempt *Client       // which that is, when it is under way
	well    time.Time     // since when attempts succeed; zero after a failure
	changed chan struct{} // closes when those that wait have to look again
}

func newOldPool(o *LockerOptions) *oldPool {
	return &oldPool{
		opts:     o.Options,
		most:     o.OldConnections,
		period:   max(o.ReadTimeout/2, 0),
		failFast: o.FailFast,
		open:     make(map[*Client]struct{}),
		backoff:  newBackoff(o),
		changed:  make(chan struct{}),
	}
}

// take returns a client that holds nothing, and tells whether it is new. It
// waits for its turn to connect, until ctx or the link ends: then the error is
// the last failure, as it is at once if that is what the options say.
func (p *oldPool) take(ctx context.Context, k *link) (c *Client, isNew bool, err error) {
	for {
		var dead []*Client
		p.mu.Lock()
		c, dead = p.takeIdleLocked()
		if c == nil {
			c, err = p.connectLocked()
			isNew = c != nil
		}
		failure, next, changed := p.failure, p.next, p.changed
		underWay := p.attempt != nil
		p.mu.Unlock()
		for _, c := range dead {
			c.Close()
		}
		switch {
		case c != nil || err != nil:
			return c, isNew, err
		case p.failFast:
			return nil, false, failure
		}
		var due <-chan time.Time
		if !underWay {
			due = time.After(time.Until(next))
		}
		select {
		case <-changed:
		case <-due:
		case <-ctx.Done():
			return nil, false, failure
		case <-k.ctx.Done():
			return nil, false, failure
		}
	}
}

// takeIdleLocked returns a client that is at hand, if there is one, and those
// that were lost meanwhile.
func (p *oldPool) takeIdleLocked() (c *Client, dead []*Client) {
	for len(p.idle) > 0 {
		c := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if c.Err() == nil {
			return c, dead
		}
		delete(p.open, c)
		dead = append(dead, c)
	}
	return nil, dead
}

// connectLocked returns a client that connects, or nil if it is not yet time
// for that.
func (p *oldPool) connectLocked() (*Client, error) {
	switch {
	case p.closed:
		return nil, ErrClosed
	case len(p.open) >= p.most:
		return nil, ErrTooManySessions
	case p.failure != nil && (p.attempt != nil || time.Now().Before(p.next)):
		return nil, nil
	}
	c, err := newClient(p.opts, p.period, p.tried)
	if err != nil {
		return nil, err
	}
	p.open[c] = struct{}{}
	if p.failure != nil {
		p.attempt = c
	}
	return c, nil
}

// tried takes note of what came of connecting.
func (p *oldPool) tried(c *Client, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.wakeLocked()
	decides := p.attempt == c
	if decides {
		p.attempt = nil
	}
	switch {
	case err == nil:
		if p.well.IsZero() {
			p.well = time.Now()
		}
		p.failure = nil
	case errors.Is(err, ErrClosed):
		// Nobody knows: the pool did not need it any more.
	case p.failure == nil || decides:
		if !p.well.IsZero() {
			p.backoff.stood(time.Since(p.well))
		}
		p.well = time.Time{}
		p.failure, p.next = err, time.Now().Add(p.backoff.pause())
	}
}

// wakeLocked has those that wait look again.
func (p *oldPool) wakeLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// put gives back a client that holds nothing, or cannot be sure.
func (p *oldPool) put(c *Client, sure bool) {
	p.mu.Lock()
	keep := sure && c.Err() == nil && !p.closed
	if keep {
		p.idle = append(p.idle, c)
		if p.failure != nil {
			p.wakeLocked()
		}
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
	p.wakeLocked()
	p.mu.Unlock()
	for c := range open {
		c.Close()
	}
}

func (p *oldPool) acquire(ctx context.Context, k *link, v *verb, limit int, name string) (*Lock, error) {
	switch {
	case v.waits:
		return nil, ErrNoWaiting
	case limit > 0:
		return nil, ErrNoSharedLimits
	}
	c, isNew, err := p.take(ctx, k)
	if err != nil {
		return nil, err
	}
	n, err := c.ask(ctx, v, name)
	if err != nil {
		p.put(c, true) // a Get that was given up is undone, see Client
		if !isNew && errors.Is(err, ErrLost) {
			p.drop() // the others are likely to have ended with that one
		}
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
