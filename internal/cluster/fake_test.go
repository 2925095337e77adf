package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// A keyspace is a store in memory: what an etcd keeps. Time is the bubble's.
type keyspace struct {
	mu       sync.Mutex
	conf     string
	m        string
	want     string
	nodes    map[string]string
	touched  map[string]time.Time // when a node's value was put there
	watchers []chan struct{}

	broken  []string // rules that were broken, see check
	rewound bool
	by      string // whose request it is
	deleted int
}

func newKeyspace(t *testing.T) *keyspace {
	c, err := NewConf(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &keyspace{conf: c.Encode(), m: NewMap().Encode(), nodes: make(map[string]string), touched: make(map[string]time.Time)}
}

func (k *keyspace) breaks(format string, args ...any) {
	k.broken = append(k.broken, fmt.Sprintf(format, args...))
}

func (k *keyspace) view() (*View, error) {
	if k.conf == "" {
		return nil, ErrNoCluster
	}
	c, err := DecodeConf(k.conf)
	if err != nil {
		return nil, err
	}
	m, err := DecodeMap(k.m)
	if err != nil {
		return nil, err
	}
	v := &View{Conf: c, Map: m}
	if k.want != "" {
		if v.Want, err = DecodeWant(k.want); err != nil {
			return nil, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(k.nodes)) {
		v.Nodes = append(v.Nodes, DecodeNode(id, k.nodes[id]))
	}
	return v, nil
}

func (k *keyspace) put(n Node) {
	k.nodes[n.ID] = n.Encode()
	k.touched[n.ID] = time.Now()
}

func (k *keyspace) changed() {
	for _, w := range k.watchers {
		soon(w)
	}
}

// snapshot and restore are what an operator does with an etcd.
func (k *keyspace) snapshot() *keyspace {
	k.mu.Lock()
	defer k.mu.Unlock()
	return &keyspace{conf: k.conf, m: k.m, want: k.want, nodes: maps.Clone(k.nodes)}
}

func (k *keyspace) restore(s *keyspace) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conf, k.m, k.want, k.nodes = s.conf, s.m, s.want, maps.Clone(s.nodes)
	k.rewound = true
}

func (k *keyspace) read() *View {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, err := k.view()
	if err != nil {
		panic(err)
	}
	return v
}

// remove and bump are what hands do: a registration deleted, another version of the map.
func (k *keyspace) remove(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.nodes, id)
}

func (k *keyspace) bump() {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, _ := k.view()
	k.commit(Change{Seen: v.Map, Next: v.Map.Next().seal()})
}

// commit makes a change, and checks what must be so of every change.
func (k *keyspace) commit(c Change) bool {
	if k.m != c.Seen.Encode() {
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
	raised := k.rewound && c.Next.Partitions == c.Seen.Partitions // above what was known before
	if c.Next.Version <= c.Seen.Version || c.Next.Version > c.Seen.Version+1 && !raised || c.Next.Mark == c.Seen.Mark {
		k.breaks("map %d becomes %d", c.Seen.Version, c.Next.Version)
	}
	if c.Next.Base < c.Seen.Base {
		k.breaks("base falls from %d to %d", c.Seen.Base, c.Next.Base)
	}
	for i, p := range c.Next.Partitions {
		if was := c.Seen.Partitions[i]; p != was && p.Epoch <= was.Epoch {
			k.breaks("partition %d: %+v becomes %+v", i, was, p)
		}
	}
	for _, n := range c.Gone {
		if c.Next.Base < n.Ceil {
			k.breaks("base %d is below the ceiling %d of a deleted node", c.Next.Base, n.Ceil)
		}
		if len(c.Next.Owned(n.ID)) > 0 && len(k.nodes) > 1 {
			k.breaks("a deleted node owns something")
		}
		if conf, _ := DecodeConf(k.conf); n.Name != k.by && !k.rewound && time.Since(k.touched[n.ID]) < conf.W {
			k.breaks("%s is deleted, and was there %v ago", n.Name, time.Since(k.touched[n.ID]))
		}
		delete(k.nodes, n.ID)
		k.deleted++
	}
	k.m = c.Next.Encode()
	k.changed()
	return true
}

// A fault is what becomes of one request.
type fault struct {
	before, after time.Duration // on its way, and its answer's
	lost          bool          // never gets there
	silent        bool          // gets there, and the answer does not come
	late          time.Duration // gets there so long after the caller gave up
	down          bool          // refused at once
}

// A wire is one node's way to the keyspace.
type wire struct {
	*keyspace
	fault func(op string) fault // nil: none
	deaf  bool                  // watches tell nothing
	sent  []string
	name  string
}

var errNetwork = errors.New("fake: the network")

func (w *wire) do(ctx context.Context, op string, apply func() error) error {
	var f fault
	w.mu.Lock()
	w.sent = append(w.sent, op)
	if w.fault != nil {
		f = w.fault(op)
	}
	w.mu.Unlock()
	locked := func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.by = w.name
		return apply()
	}
	giveUp := func() error {
		<-ctx.Done()
		return ctx.Err()
	}
	sleep := func(d time.Duration) bool {
		if d == 0 {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d):
			return true
		}
	}
	switch {
	case f.down:
		return errNetwork
	case f.lost:
		return giveUp()
	case f.late > 0:
		go func() {
			<-ctx.Done()
			time.Sleep(f.late)
			locked()
		}()
		return giveUp()
	}
	if !sleep(f.before) {
		return ctx.Err()
	}
	err := locked()
	if f.silent {
		return giveUp()
	}
	if !sleep(f.after) {
		return ctx.Err()
	}
	return err
}

func (w *wire) Init(ctx context.Context, c Conf, m *Map) error {
	return w.do(ctx, "init", func() error {
		if w.conf != "" {
			return ErrExists
		}
		w.conf, w.m = c.Encode(), m.Encode()
		return nil
	})
}

// What is late writes its answer when nobody reads it any more: so answers are read
// only where there is no error.

func (w *wire) Read(ctx context.Context) (*View, error) {
	var v *View
	if err := w.do(ctx, "read", func() (err error) { v, err = w.view(); return err }); err != nil {
		return nil, err
	}
	return v, nil
}

func (w *wire) Register(ctx context.Context, n Node) (Beat, error) {
	return w.beat(ctx, "register", n, func() bool { return w.nodes[n.ID] == "" })
}

func (w *wire) Beat(ctx context.Context, old, next Node) (Beat, error) {
	return w.beat(ctx, "beat", next, func() bool { return w.nodes[old.ID] == old.Encode() })
}

func (w *wire) beat(ctx context.Context, op string, n Node, if_ func() bool) (Beat, error) {
	var b Beat
	if err := w.do(ctx, op, func() (err error) {
		if b.Done = if_(); b.Done {
			w.put(n)
			if op == "register" {
				w.changed()
			}
		}
		b.View, err = w.view()
		return err
	}); err != nil {
		return Beat{}, err
	}
	return b, nil
}

func (w *wire) Commit(ctx context.Context, c Change) (bool, error) {
	var done bool
	if err := w.do(ctx, "commit", func() error { done = w.commit(c); return nil }); err != nil {
		return false, err
	}
	return done, nil
}

func (w *wire) PutWant(ctx context.Context, seen, next Want) (bool, error) {
	var done bool
	if err := w.do(ctx, "want", func() error {
		was := ""
		if seen.Read() {
			was = seen.Encode()
		}
		if done = w.want == was; done {
			w.want = next.Encode()
			w.changed()
		}
		return nil
	}); err != nil {
		return false, err
	}
	return done, nil
}

func (w *wire) Watch(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	if !w.deaf {
		w.mu.Lock()
		w.watchers = append(w.watchers, c)
		w.mu.Unlock()
	}
	return c
}
