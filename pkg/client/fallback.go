package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// An oldPool are the clients of a server that speaks protocol 1 only. There
// the connection is the owner, so each lock has one of its own.
//
// As long as connecting succeeds, it is up to the callers how many do so at a
// time. After a failure there is one attempt at a time, with a pause before it,
// and everybody else waits for what comes of it: a server that has no room does
// not get more of it by being asked. After each that succeeds twice as many may
// be made at a time, since the room may have been for one.
type oldPool struct {
	opts   Options
	most   int
	period time.Duration // in which a client asks whether the server is there
	outage time.Duration // after which there is no waiting for a connection
	news   *news

	mu     sync.Mutex // guards what follows
	idle   []*Client  // holding nothing
	open   map[*Client]struct{}
	closed bool

	backoff backoff
	failure error                // what came of an attempt to connect; nil: callers need not take turns
	next    time.Time            // when the next one may be, after a failure
	trying  map[*Client]struct{} // those that have been made since, and are under way
	atOnce  int                  // how many these may be
	well    time.Time            // since when attempts succeed; zero after a failure
	down    time.Time            // since when they fail; zero after a success
	changed chan struct{}        // closes when those that wait have to look again
}

func newOldPool(o *LockerOptions, all targets) *oldPool {
	return &oldPool{
		opts:    o.Options,
		most:    o.OldConnections,
		period:  max(o.ReadTimeout/2, 0),
		outage:  o.outage(),
		news:    newNews(o, all.String()),
		open:    make(map[*Client]struct{}),
		trying:  make(map[*Client]struct{}),
		backoff: newBackoff(o),
		changed: make(chan struct{}),
	}
}

// take returns a client that holds nothing. It waits for its turn to connect,
// until ctx or the mux ends, or attempts have failed for as long as the options
// allow: then the error is the last failure.
func (p *oldPool) take(ctx context.Context, m *mux) (*Client, error) {
	for {
		p.mu.Lock()
		c, dead := p.takeIdleLocked()
		var err error
		if c == nil {
			if len(p.open) >= p.most {
				dead = append(dead, p.takeLostLocked()...)
			}
			c, err = p.connectLocked()
		}
		failure, next, changed := p.failure, p.next, p.changed
		turns := len(p.trying) < p.atOnce
		hopeless, enough := p.hopelessLocked()
		p.mu.Unlock()
		for _, c := range dead {
			c.Close()
		}
		switch {
		case c != nil || err != nil:
			return c, err
		case hopeless:
			return nil, failure
		}
		var due <-chan time.Time
		if turns {
			due = time.After(time.Until(next))
		}
		select {
		case <-changed:
		case <-due:
		case <-enough:
		case <-ctx.Done():
			return nil, failure
		case <-m.ctx.Done():
			return nil, failure
		}
	}
}

// hopeless tells whether attempts to connect have failed for so long that there
// is no waiting.
func (p *oldPool) hopeless() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	hopeless, _ := p.hopelessLocked()
	return hopeless
}

// hopelessLocked also returns when to ask again.
func (p *oldPool) hopelessLocked() (hopeless bool, enough <-chan time.Time) {
	if p.down.IsZero() || p.outage == forever {
		return false, nil
	}
	left := p.outage - time.Since(p.down)
	return left <= 0, time.After(left)
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

// takeLostLocked returns the clients of locks that were lost and need not be
// released.
func (p *oldPool) takeLostLocked() (dead []*Client) {
	for c := range p.open {
		if c.Err() != nil {
			delete(p.open, c)
			dead = append(dead, c)
		}
	}
	return dead
}

// connectLocked returns a client that connects, or nil if it is not yet time
// for that.
func (p *oldPool) connectLocked() (*Client, error) {
	switch {
	case p.closed:
		return nil, ErrClosed
	case len(p.open) >= p.most:
		return nil, ErrTooManySessions
	case p.failure != nil && (len(p.trying) >= p.atOnce || time.Now().Before(p.next)):
		return nil, nil
	}
	c, err := newClient(p.opts, p.period, p.tried)
	if err != nil {
		return nil, err
	}
	p.open[c] = struct{}{}
	if p.failure != nil {
		p.trying[c] = struct{}{}
		if !p.down.IsZero() && time.Since(p.next) > p.backoff.most {
			p.down = time.Now() // nobody knows how it was, since nobody has tried
		}
	}
	return c, nil
}

// tried takes note of what came of connecting. What began before the last
// failure tells nothing new.
func (p *oldPool) tried(c *Client, err error) {
	p.mu.Lock()
	failed := p.triedLocked(c, err)
	pause, outage := time.Until(p.next), time.Since(p.down)
	p.wakeLocked()
	p.mu.Unlock()
	switch {
	case err == nil:
		p.news.over()
	case failed:
		p.news.failed(err, pause, outage)
	}
}

// triedLocked tells whether it was a failure that has a pause behind it.
func (p *oldPool) triedLocked(c *Client, err error) (failed bool) {
	_, since := p.trying[c]
	delete(p.trying, c)
	switch {
	case p.failure != nil && !since:
	case err == nil:
		if p.well.IsZero() {
			p.well = time.Now()
		}
		p.next, p.down = time.Time{}, time.Time{}
		if p.atOnce *= 2; p.atOnce > p.most {
			p.failure, p.atOnce = nil, 0
		}
	case errors.Is(err, ErrClosed):
		// Nobody knows: the pool did not need it any more.
	default:
		if !p.well.IsZero() {
			p.backoff.stood(time.Since(p.well))
		}
		p.well = time.Time{}
		if p.down.IsZero() {
			p.down = time.Now()
		}
		p.failure, p.next = err, time.Now().Add(p.backoff.pause())
		p.atOnce = 1
		clear(p.trying)
		return true
	}
	return false
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

// drop closes the clients that are not in use, but for those that connect.
func (p *oldPool) drop() {
	var dropped []*Client
	p.mu.Lock()
	p.idle = slices.DeleteFunc(p.idle, func(c *Client) bool {
		if !c.answered.Load() {
			return false
		}
		delete(p.open, c)
		dropped = append(dropped, c)
		return true
	})
	p.mu.Unlock()
	for _, c := range dropped {
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

func (p *oldPool) acquire(ctx context.Context, m *mux, v *verb, limit int, name string) (*Lock, error) {
	switch {
	case v.waits:
		return nil, ErrNoWaiting
	case limit > 0:
		return nil, ErrNoSharedLimits
	}
	c, n, err := p.ask(ctx, m, v, name, noteOf(ctx))
	if err != nil {
		return nil, err
	}
	return &Lock{name: name, number: n, shared: v == getShared, old: p, client: c}, nil
}

func (p *oldPool) inspect(ctx context.Context, m *mux, v *verb, name string) (int, error) {
	c, n, err := p.ask(ctx, m, v, name, "")
	if err == nil {
		p.put(c, true)
	}
	return int(n), err
}

// ask takes a client, registers the note, and asks. It keeps it if there is an
// error.
func (p *oldPool) ask(ctx context.Context, m *mux, v *verb, name, note string) (*Client, int64, error) {
	c, err := p.take(ctx, m)
	if err != nil {
		return nil, 0, err
	}
	err = c.register(ctx, note)
	var n int64
	if err == nil {
		n, err = c.ask(ctx, v, name)
	}
	if err != nil {
		p.put(c, true) // a Get that was given up is undone, see Client
		if errors.Is(err, ErrLost) && c.answered.Load() {
			p.drop() // the others are likely to have ended with that one
		}
		return nil, 0, err
	}
	return c, n, nil
}

// register registers a note, unless it is registered already. A server that
// registers nobody is no failure.
func (c *Client) register(ctx context.Context, note string) error {
	if note == c.note {
		return nil
	}
	c.note = "\n" // no note: nobody knows, until the server says so
	_, err := c.ask(ctx, iam, registration(c.opts.Name, note, c.opts.MaxLine))
	if ctx.Err() != nil || errors.Is(err, ErrLost) || errors.Is(err, ErrClosed) {
		return err
	}
	c.note = note
	return nil
}

// release releases a lock, by the end of its connection if all else fails.
func (p *oldPool) release(ctx context.Context, c *Client, v *verb, name string) error {
	_, err := c.ask(ctx, v, name)
	p.put(c, err == nil)
	return err
}
