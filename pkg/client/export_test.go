package client

import (
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// SetClock has a Locker with these options measure the time for which it is kept by
// another clock than the machine's.
func (o *LockerOptions) SetClock(now func() time.Duration) { o.clock = now }

// Reached tells to which target the connection is over which the lock was gotten.
func (l *Lock) Reached() string { return l.mux.to.String() }

// OwnerOf returns who serves a name by the map that the Locker goes by; "" if it has none.
func (l *Locker) OwnerOf(name string) string {
	r := l.routing.Load()
	if r == nil || r.to[wire.PartitionOf(name)] == nil {
		return ""
	}
	return r.to[wire.PartitionOf(name)].to.String()
}

// SetMapSpread has a Locker with these options ask for newer maps at once.
func (o *LockerOptions) SetMapSpread(d time.Duration) { o.mapSpread = d }

// SplitTargets is for a test.
var SplitTargets = splitTargets

// WayOfRate returns to which target a request for a rate goes; "" if it may be any.
func (l *Locker) WayOfRate(name string) string {
	if m := l.route(takeRate, name); m != nil {
		return m.to.String()
	}
	return ""
}
