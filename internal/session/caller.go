package session

import (
	"errors"
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// A Caller is a client without a session: it takes units of rates, which are nobody's,
// and can hold nothing. It has an account like other clients, as rates count for who
// has made them. One goroutine at a time may use it.
type Caller struct {
	hub      *Hub
	counters *counters
	account  *account
	addr     string
	key      accountKey // the account's while it is known by no name
	refusals *refusals  // the latest ones; nil: none
}

// Why a request of a caller is not executed.
var (
	ErrNotAuthenticated = errors.New("not authenticated")
	ErrWrongToken       = errors.New("wrong token")
	ErrNotAllowed       = errors.New("not allowed")
	ErrShuttingDown     = errors.New("shutting down")
)

// NewCaller returns a caller at an address. End ends it.
func (h *Hub) NewCaller(addr Address) *Caller {
	c := &Caller{hub: h, counters: h.countersOf(h.callers.Add(1)), addr: addr.Name, key: h.accounts.keyOf(addr, "")}
	if addr.IP.IsValid() {
		c.addr = addr.IP.String()
	}
	c.account = h.accounts.join(c.key)
	return c
}

// End ends it. What it has taken is taken.
func (c *Caller) End() { c.hub.accounts.leave(c.account) }

// Identify returns the access of who shows a token, or shows none if that is nil, where
// clients are asked who they are or not. A wrong token is to be answered late, see
// WrongTokenTakes.
func (c *Caller) Identify(token []byte, asks bool) (*Access, error) {
	by := c.hub.cfg.Authority
	switch {
	case by == nil:
		return nil, nil
	case token != nil:
		a := by.Token(token)
		if a == nil {
			c.counters.authFailed.Add(1)
			return nil, ErrWrongToken
		}
		return a, nil
	case asks:
		c.counters.notAuthenticated.Add(1)
		return nil, ErrNotAuthenticated
	}
	return nil, nil
}

// WrongTokenTakes is how late the answer to a wrong token is, so that guessing takes
// its time.
const WrongTokenTakes = denialTakes

// TakeRate takes units of a rate as the request `rl` does, for who has an access, or is
// nobody and was not asked. Its numbers have to be within RateBounds.
func (c *Caller) TakeRate(a *Access, name []byte, r shard.Rate, units uint32) (shard.Verdict, error) {
	row := lookup([]byte(wire.TakeRate))
	if a != nil && !(a.may(row) && a.reaches(row, name)) {
		c.counters.notAllowed.Add(1)
		return shard.Verdict{}, ErrNotAllowed
	}
	if units > 0 && c.hub.draining.Load() {
		c.counters.shuttingDown.Add(1)
		return shard.Verdict{}, ErrShuttingDown
	}
	c.countAs(a)
	v := c.hub.takeRate(c.account.share, name, r, units)
	if v.Outcome != shard.Acquired && v.Outcome != shard.Refused {
		c.noteRefusal(a, v.Outcome, name)
		c.hub.short(v.Outcome, c.account)
	}
	return v, nil
}

// noteRefusal writes that a request was refused at a bound.
func (c *Caller) noteRefusal(a *Access, outcome shard.Outcome, name []byte) {
	now := shard.MomentOf(c.hub.clock.milliseconds())
	c.counters.losses[WhyRefused].Add(1)
	if c.refusals == nil {
		c.refusals = new(refusals)
	}
	if c.refusals.again(outcome, now) {
		return
	}
	l := Loss{Address: c.addr}
	if a != nil {
		l.Identity = a.Name
	}
	c.refusals.note(&c.hub.ledger, l, shard.Rates, outcome, name, now)
}

// countAs has what follows counted for who has an access, if shares are by name.
func (c *Caller) countAs(a *Access) {
	all := &c.hub.accounts
	if all.by != ShareByToken || c.account.key == within {
		return
	}
	key := c.key
	if a != nil {
		key = all.keyOf(Address{}, a.Name)
	}
	if key != c.account.key {
		all.leave(c.account)
		c.account = all.join(key)
	}
}

// RateBounds are the bounds on the numbers of a rate and on its name, as they are for
// the request `rl`.
type RateBounds struct {
	MaxLimit  uint64 // which is at least 1; of units, that of the limit
	MaxWindow time.Duration
	MaxLine   int // bytes of a request that has the numbers and the name in it
}

// RateBounds returns those of the server.
func (h *Hub) RateBounds() RateBounds {
	return RateBounds{MaxLimit: limit.most, MaxWindow: time.Duration(window.most) * time.Millisecond, MaxLine: h.cfg.MaxLine}
}
