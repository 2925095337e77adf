package cluster

import (
	"context"
	"errors"
)

// A View is the whole of a cluster's keys at one moment.
type View struct {
	Conf  Conf
	Map   *Map
	Want  Want
	Nodes []Node // sorted by ID
}

// Node finds a registration by ID; nil if there is none.
func (v *View) Node(id string) *Node {
	for i := range v.Nodes {
		if v.Nodes[i].ID == id {
			return &v.Nodes[i]
		}
	}
	return nil
}

// TokensBelow is a number below which all fencing tokens are that any node has granted up
// to that moment: who leaves, or is deleted, has the map's base raised to its ceiling.
func (v *View) TokensBelow() uint64 {
	below := v.Map.Base
	for i := range v.Nodes {
		below = max(below, v.Nodes[i].Ceil)
	}
	return below
}

// A Change is a transaction that makes another map, and what it rests on. Everything is
// compared by its value, not by a revision of the store: those are given once more
// when it is restored from a snapshot.
type Change struct {
	Seen *Map // the map that is replaced
	Next *Map
	// Present and Absent are IDs of nodes that have to be registered, or must not be.
	Present []string
	Absent  []string
	// Gone are registrations that are deleted, if they are still as they were seen.
	Gone []Node
}

// A Beat is what came of a heartbeat or a registration.
type Beat struct {
	// Done: the new value stands. If not, View has the one that did.
	Done bool
	View *View
}

// Errors of a Store that are certain: nothing was done. After any other error, the end
// of the context included, what was asked for may have happened, may yet happen, or
// never will.
var (
	// ErrNoCluster: there is none at this place.
	ErrNoCluster = errors.New("there is no cluster here")
	// ErrExists: there is one already.
	ErrExists = errors.New("there is a cluster here already")
	// ErrWorld: the store has another cluster than the one that was joined.
	ErrWorld = errors.New("this is another cluster than the one that was joined")
)

// A Store keeps a cluster's keys. Each operation but Watch is one transaction, which
// takes effect at one moment between call and return, if it does; those that return an
// error perhaps later. None is made twice by the store itself.
//
// A store belongs to the first world that it read: any other is refused.
type Store interface {
	// Init makes a cluster, if there is none: its conf and its first map.
	Init(ctx context.Context, c Conf, m *Map) error
	// Read reads all keys.
	Read(ctx context.Context) (*View, error)
	// Register puts a node's first value, if its ID has none.
	Register(ctx context.Context, n Node) (Beat, error)
	// Beat replaces a node's value, if it is the old one.
	Beat(ctx context.Context, old, next Node) (Beat, error)
	// Commit makes a change, if all that it rests on is still so. If it is not, it
	// returns false.
	Commit(ctx context.Context, c Change) (bool, error)
	// PutWant replaces what is wanted, if it is still as it was seen.
	PutWant(ctx context.Context, seen, next Want) (bool, error)
	// Watch sends, on a channel with room for one, whenever something other than a
	// heartbeat may have changed, until the context ends. It may be late, or silent.
	Watch(ctx context.Context) <-chan struct{}
}
