package main

import (
	"context"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// What lockd top knows of a server: a picture each time it asks.

// topSource is whom lockd top asks. Every list is bounded by a count: none of it
// costs more with a million locks than with a hundred.
type topSource interface {
	// Numbers are the server's, by key.
	Numbers(ctx context.Context) (map[string]int64, error)
	// Locks are the first of an order: queue, oldest or busiest.
	Locks(ctx context.Context, count int, order string) ([]client.TopLock, error)
	// Clients are the first of an order: locks, waits, bytes or oldest.
	Clients(ctx context.Context, count int, order string) ([]client.Connection, error)
	// Losses are the last ones: of one lock, or with nil of all.
	Losses(ctx context.Context, count int, name *string) ([]client.Loss, error)
	Look(ctx context.Context, name string) ([]client.Entry, error)
	Kick(ctx context.Context, addr string) error
	// Version is the server's; empty if it is not known. It is asked for once a connection.
	Version(ctx context.Context) string
}

// topView is what the table shows.
type topView int

const (
	viewLocks topView = iota
	viewClients
	viewLosses
	views
)

func (v topView) String() string { return [views]string{"Locks", "Clients", "Losses"}[v] }

// topWant is what to ask for.
type topWant struct {
	view  topView
	order string
	count int
	lock  *string // whose own view is open
	// mine asks for the locks and the clients among which those of one client are.
	mine bool
	kick string // whom to end first
}

// A topPicture is what came of it. Each part has an error of its own: who may not
// have the lists may have the numbers.
type topPicture struct {
	want    topWant
	at      time.Time
	took    time.Duration
	numbers map[string]int64
	version string
	locks   []client.TopLock
	clients []client.Connection
	losses  []client.Loss
	entries []client.Entry

	numbersErr, listErr, entriesErr, lossesErr, mineErr error

	lossesOf []client.Loss // of the lock whose view is open

	kicked  string // who was ended
	kickErr error
	lost    error // why there is no answer at all
}

// has tells whether a list was asked for.
func (p *topPicture) has(v topView) bool {
	return p.want.view == v || p.want.mine && v != viewLosses
}
