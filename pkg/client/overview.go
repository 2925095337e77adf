package client

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// A LockOrder says which locks Top returns.
type LockOrder string

// The orders of locks.
const (
	LongestQueue LockOrder = wire.ByQueue
	OldestHold   LockOrder = wire.ByAge
	Busiest      LockOrder = wire.ByRequests
)

// A ClientOrder says which clients Connections returns.
type ClientOrder string

// The orders of clients.
const (
	MostLocks        ClientOrder = wire.ByLocks
	MostWaits        ClientOrder = wire.ByWaits
	MostBytes        ClientOrder = wire.ByBytes
	OldestConnection ClientOrder = wire.ByAge
)

// MaxTop is how many locks Top, and clients Connections, can return.
const MaxTop = 1000

// A TopLock is a lock, or a rate, that stands out.
type TopLock struct {
	Name       string
	Kind       Kind
	Holders    int           // how many hold it; 0 of a rate, and of a lock that is free
	Held       time.Duration // since when, of a shared lock by the one that is named here
	Token      uint64        // the fencing token, of an exclusive lock that is held
	Queue      int           // how many wait for it
	OldestWait time.Duration // for how long the first of them has
	Busy       float64       // requests a second, about, as far as samples tell
	Addr       string        // of a holder; empty: nobody holds it
	Registered string        // the holder's name, or its address again
}

// A Connection is a client of the server, for those who look at all.
type Connection struct {
	Addr       string // as Kick takes it
	Registered string // empty if it has registered no name
	Transport  string // "tcp", "unix", "websocket", "tls", "wss" or "memory"
	Identity   string // the name of its token, certificate or user; empty: it has shown none
	Age        time.Duration
	Sessions   int
	Locks      int // that its sessions hold
	Waits      int // of its sessions that wait for a lock
	Bytes      int64
	More       []string // further fields, see Process
}

// Process returns which process the client is, if the server tells, as Entry's does.
func (c Connection) Process() (Process, bool) { return Entry{More: c.More}.Process() }

// Top returns up to n of the locks that stand out by an order, 1 to MaxTop. The
// answer costs the server the same however often it is asked for, and may be as
// old as docs/protocol.md says.
//
// It returns ErrNoOverview if the server is too old, ErrNotAllowed if it does not tell
// this client, and ErrDisabled if it tells nobody.
func (c *Client) Top(ctx context.Context, n int, order LockOrder) ([]TopLock, error) {
	var all []TopLock
	err := c.overview(ctx, top, countAnd(n, string(order)), func(f *fields) {
		all = append(all, TopLock{
			Name: f.text(), Kind: Kind(f.text()), Holders: int(f.number()), Held: f.duration(), Token: uint64(f.number()),
			Queue: int(f.number()), OldestWait: f.duration(), Busy: f.decimal(), Addr: f.text(), Registered: f.text(),
		})
	})
	return all, err
}

// Connections returns up to n of the server's clients in an order, 1 to MaxTop; else it is as Top.
func (c *Client) Connections(ctx context.Context, n int, order ClientOrder) ([]Connection, error) {
	var all []Connection
	err := c.overview(ctx, clients, countAnd(n, string(order)), func(f *fields) {
		all = append(all, Connection{
			Addr: f.text(), Registered: f.text(), Transport: f.text(), Identity: f.text(), Age: f.duration(),
			Sessions: int(f.number()), Locks: int(f.number()), Waits: int(f.number()), Bytes: f.number(), More: f.rest(),
		})
	})
	return all, err
}

// Figures returns how the server is in numbers, by name, as docs/protocol.md
// lists them. It returns ErrNoOverview if the server is too old, and ErrNotAllowed if it does
// not tell this client.
func (c *Client) Figures(ctx context.Context) (map[string]int64, error) {
	all := make(map[string]int64)
	err := c.overview(ctx, figures, "", func(f *fields) { all[f.text()] = f.number() })
	if err != nil {
		return nil, err
	}
	return all, nil
}

func countAnd(n int, order string) string {
	return strconv.Itoa(min(max(n, 1), MaxTop)) + " " + order
}

// overview asks for lines of fields.
func (c *Client) overview(ctx context.Context, v *verb, arg string, each func(*fields)) error {
	return c.tabbed(ctx, v, arg, func(line string) error {
		f := &fields{all: strings.Split(line, "\t")}
		if each(f); f.wrong {
			return &ReplyError{Reply: line}
		}
		return nil
	})
}
