package session

import (
	"context"
	"time"
)

// Kick ends the client at an address, however that is written, or whose session is
// there, for somebody who is no client. It tells whether there is one, and whether it
// has ended: then it executes nothing more, and what it held is free. It does not wait
// for that any longer when ctx is done.
func (h *Hub) Kick(ctx context.Context, addr string, by Kicker) (found, ended bool) {
	p := h.findClient(addr)
	if p == nil {
		return false, false
	}
	s := p.session.Load()
	if s == nil { // it has just ended
		return false, false
	}
	if _, since := s.stream.connection(s.client(p)); milliseconds(since.Age(h.clock.nanoseconds())) < by.MinAge {
		return false, false // another one has its address now
	}
	p = h.kick(s, p, Kick{By: by.Address, ByName: by.Address, ByAccess: by.Access})
	// It is a matter of milliseconds, and done by hand: nobody has to know of those
	// who wait for it.
	tick := time.NewTicker(kickLook)
	defer tick.Stop()
	for h.directory.there(p) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return true, false
		}
	}
	return true, true
}

// kickLook is how often it is looked whether a client has ended.
const kickLook = 5 * time.Millisecond

// A Kicker is who ends a client, and who that one has shown to be.
type Kicker struct {
	Address string
	Access  *Access       // nil: it has not
	MinAge  time.Duration // of the connection that is meant: addresses are used again
}
