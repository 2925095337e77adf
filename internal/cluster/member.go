package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// Options are what a Member is made of.
type Options struct {
	Store Store
	Host  Host
	// Name, Addr, Admin and Version stand in the registration.
	Name    string
	Addr    string
	Admin   string
	Version string
	Log     *slog.Logger // nil: none
	// Now is a clock that counts suspends (kept.Now), which the host reads, too, and
	// Wall the time of day.
	Now  func() time.Duration
	Wall func() time.Time
}

// A Member is a process's part in a cluster.
type Member struct {
	opts  Options
	right atomic.Int64
	ceil  atomic.Uint64
}

// Join reads the cluster's conf, and returns a member that is not registered yet: that
// is what Run does.
func Join(ctx context.Context, opts Options) (*Member, error) {
	return nil, errors.New("not yet")
}

// Conf is the cluster's.
func (m *Member) Conf() Conf { return Conf{} }

// Right is until when, by Options.Now, this process may serve. It is 0 when it may not
// at all, never goes back but to that, and costs one load.
func (m *Member) Right() time.Duration { return time.Duration(m.right.Load()) }

// Ceil is what fencing tokens have to be below to be granted.
func (m *Member) Ceil() uint64 { return m.ceil.Load() }

// Run registers, and is a member until the context ends. It returns then, with the
// registration still there, as if the process had died; Leave is the other way.
func (m *Member) Run(ctx context.Context) error { return nil }

// Leave ends the membership, while Run runs, which then returns: with drain it first
// waits until all its partitions are moved away, or ctx ends. Then it stops serving
// (Right is 0, Deposed), and deletes its registration, whose partitions others recover
// at once, not after a silence.
func (m *Member) Leave(ctx context.Context, drain bool) error { return nil }
