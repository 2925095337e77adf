// Package memstore is a cluster's store in memory, for tests: nodes of one process share
// it. It loses and delays nothing, but that it may be told to be out of reach.
package memstore

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nylen/lockd/internal/cluster"
)

// Keys are what all see.
type Keys struct {
	mu       sync.Mutex // guards what follows
	conf     cluster.Conf
	m        *cluster.Map
	want     cluster.Want
	nodes    map[string]string
	watchers []chan struct{}
}

// New makes a cluster.
func New(c cluster.Conf) *Keys { return NewWith(c, cluster.NewMap()) }

// NewWith makes one with another first map.
func NewWith(c cluster.Conf, m *cluster.Map) *Keys {
	return &Keys{conf: c, m: m, nodes: make(map[string]string)}
}

// A Store is the way of one node to them.
type Store struct {
	keys *Keys
	away atomic.Bool
}

// Store returns one.
func (k *Keys) Store() *Store { return &Store{keys: k} }

// Away has the store answer nothing, or do so again.
func (s *Store) Away(away bool) { s.away.Store(away) }

var errAway = errors.New("the store is out of reach")

// do makes a transaction.
func do[T any](ctx context.Context, s *Store, f func(*Keys) T) (result T, err error) {
	if s.away.Load() {
		<-ctx.Done()
		return result, errors.Join(errAway, ctx.Err())
	}
	if err := ctx.Err(); err != nil {
		return result, err
	}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	return f(s.keys), nil
}

func (k *Keys) viewLocked() *cluster.View {
	v := &cluster.View{Conf: k.conf, Map: k.m, Want: k.want}
	for _, id := range slices.Sorted(maps.Keys(k.nodes)) {
		n := cluster.DecodeNode(id, k.nodes[id])
		v.Nodes = append(v.Nodes, n)
	}
	return v
}

func (k *Keys) changedLocked() {
	for _, w := range k.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// Init implements cluster.Store.
func (s *Store) Init(context.Context, cluster.Conf, *cluster.Map) error { return cluster.ErrExists }

// Read implements cluster.Store.
func (s *Store) Read(ctx context.Context) (*cluster.View, error) {
	return do(ctx, s, (*Keys).viewLocked)
}

// Register implements cluster.Store.
func (s *Store) Register(ctx context.Context, n cluster.Node) (cluster.Beat, error) {
	return do(ctx, s, func(k *Keys) cluster.Beat {
		if k.nodes[n.ID] != "" {
			return cluster.Beat{View: k.viewLocked()}
		}
		k.nodes[n.ID] = n.Encode()
		k.changedLocked()
		return cluster.Beat{Done: true, View: k.viewLocked()}
	})
}

// Beat implements cluster.Store.
func (s *Store) Beat(ctx context.Context, old, next cluster.Node) (cluster.Beat, error) {
	return do(ctx, s, func(k *Keys) cluster.Beat {
		if k.nodes[old.ID] != old.Encode() {
			return cluster.Beat{View: k.viewLocked()}
		}
		k.nodes[next.ID] = next.Encode()
		return cluster.Beat{Done: true, View: k.viewLocked()}
	})
}

// Commit implements cluster.Store.
func (s *Store) Commit(ctx context.Context, c cluster.Change) (bool, error) {
	return do(ctx, s, func(k *Keys) bool {
		if k.m.Encode() != c.Seen.Encode() {
			return false
		}
		for _, id := range c.Present {
			if k.nodes[id] == "" {
				return false
			}
		}
		for _, id := range c.Absent {
			if k.nodes[id] != "" {
				return false
			}
		}
		for _, n := range c.Gone {
			if k.nodes[n.ID] != n.Encode() {
				return false
			}
		}
		for _, n := range c.Gone {
			delete(k.nodes, n.ID)
		}
		k.m = c.Next
		k.changedLocked()
		return true
	})
}

// PutWant implements cluster.Store.
func (s *Store) PutWant(ctx context.Context, seen, next cluster.Want) (bool, error) {
	return do(ctx, s, func(k *Keys) bool {
		if k.want.Encode() != seen.Encode() {
			return false
		}
		k.want = next
		k.changedLocked()
		return true
	})
}

// Watch implements cluster.Store.
func (s *Store) Watch(ctx context.Context) <-chan struct{} {
	w := make(chan struct{}, 1)
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	s.keys.watchers = append(s.keys.watchers, w)
	context.AfterFunc(ctx, func() {
		s.keys.mu.Lock()
		defer s.keys.mu.Unlock()
		s.keys.watchers = slices.DeleteFunc(s.keys.watchers, func(other chan struct{}) bool { return other == w })
	})
	return w
}
