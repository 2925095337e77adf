package session

import (
	"errors"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
)

// For how long what clients of a proxy hold may be believed.

var errExpired = errors.New("upstream has not been heard for too long: what clients held is given up")

// stopsIn is how long it takes the proxy to end the clients that have lost what they
// held.
const stopsIn = 100 * time.Millisecond

// expire gives up, for good: every client that holds something, or waits, is ended, before
// anybody is told anything more. Whoever finds the time to be up calls it, and it is done
// when it returns, also if somebody else has been quicker. It tells whether nobody was.
func (u *Upstream) expire(l *lease.Lease) bool {
	u.ends.Lock()
	defer u.ends.Unlock()
	if l == nil || u.lease.Load() != l {
		return false
	}
	l.End() // until all are ended, everybody who looks finds it so
	u.mu.Lock()
	u.live.Store(0)
	u.mu.Unlock()
	n := 0
	for i := range *u.all.Load() {
		if r := u.find(uint64(i)); r != nil && r.expire() {
			n++
		}
	}
	u.ended.Add(uint64(n))
	u.mu.Lock()
	u.key = "" // from now on another one may be asked for, and sessions taken up with that
	u.mu.Unlock()
	u.lease.CompareAndSwap(l, nil)
	if u.node == nil {
		u.cfg.Log("what the proxy's clients held is lost: they were not heard upstream for too long", "clients", n)
	} else if n > 0 {
		u.cfg.Log("what clients held at another node is lost: it was not heard for too long", "clients", n)
	}
	return true
}

// giveUp does that if the time is up, and has the connection end, over which nothing is to be
// believed. Who calls it may have found so a while ago, and the proxy be kept anew.
func (u *Upstream) giveUp() {
	if l := u.lease.Load(); l != nil && l.Expired(lease.Now()) && u.expire(l) {
		u.cfg.Cut()
	}
}

// mayAnswer tells whether a client may be told that all is well without asking upstream:
// it counts on that for the time that it may be silent, and all that time the proxy has
// to end it if upstream is gone.
func (u *Upstream) mayAnswer() bool {
	l := u.lease.Load()
	return l != nil && l.Left(lease.Now()) > u.hub.cfg.DeadPeer
}

// Serves tells, whoever has the connection, whether it has come so far that requests
// were passed on.
func (u *Upstream) Serves() bool { return u.state == serves }

// Live tells whether requests are passed on.
func (u *Upstream) Live() bool { return u.live.Load() != 0 }

// A Link is how a proxy's connection to its server is.
type Link struct {
	Live     bool          // requests are passed on
	Left     time.Duration // until what clients hold is given up, if nothing is heard meanwhile
	Served   uint64        // connections that served
	Answered uint64        // requests that the proxy has answered itself, as they were not answered in time
	Ended    uint64        // clients that have lost what they held, as nothing was heard for too long
}

// Link looks.
func (u *Upstream) Link() Link {
	left := time.Duration(0)
	if l := u.lease.Load(); l != nil {
		left = l.Left(lease.Now())
	}
	return Link{Live: u.Live(), Left: left, Served: u.served.Load(), Answered: u.given.Load(), Ended: u.ended.Load()}
}

// waiting is how many sessions wait for a lock there. It goes over all of them.
func (u *Upstream) waiting() (n int) {
	if u == nil {
		return 0
	}
	for i := range *u.all.Load() {
		if r := u.find(uint64(i)); r != nil && r.waits.Load() > 0 {
			n++
		}
	}
	return n
}

// isLate tells whether the time is up, which the look-out may not know yet.
func (u *Upstream) isLate(now time.Duration) bool {
	l := u.lease.Load()
	return l != nil && l.Expired(now)
}
