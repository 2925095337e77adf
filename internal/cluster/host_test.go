package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// A world is a cluster in a bubble: a keyspace, nodes, and what is true of each
// partition, which is a number that its owner raises.
type world struct {
	t     *testing.T
	begun time.Time
	keys  *keyspace
	nodes []*testNode

	mu     sync.Mutex // guards truth and the nodes' tables
	truth  [Partitions]uint64
	token  [Partitions]uint64
	broken []string
	looks  int
	copies func(from, to *testNode) (lost, unacked bool, takes time.Duration)
}

func newWorld(t *testing.T, n int) *world {
	w := &world{t: t, begun: time.Now(), keys: newKeyspace(t)}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			if n.stop != nil {
				n.stop()
			}
		}
		time.Sleep(time.Minute) // what is late comes: a bubble's time ends with its test
	})
	for i := range n {
		w.add(fmt.Sprint("n", i), 1)
	}
	return w
}

type testNode struct {
	*Member
	world *world
	name  string
	wire  *wire
	rate  float64       // of its clock
	skew  time.Duration // of its time of day

	self     string
	last     *Map
	ever     *Map // the same, in earlier lives, too
	parts    [Partitions]testPart
	copies   map[string][Partitions]*testPart // by epoch and nonce
	highest  uint64
	adopted  int
	deposals int
	hold     time.Duration // how long a recovery takes
	stop     context.CancelFunc
	dead     bool
	turns    int
}

type testPart struct {
	own       bool
	frozen    bool
	recovered time.Duration // when its recovery ends
	epoch     uint64
	value     uint64
	next      uint64
}

func (w *world) add(name string, rate float64) *testNode {
	n := &testNode{world: w, name: name, wire: &wire{keyspace: w.keys, name: name}, rate: rate}
	n.join()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = append(w.nodes, n)
	return n
}

// join is the start of a process.
func (n *testNode) join() {
	n.world.mu.Lock()
	n.parts, n.copies, n.last, n.ever, n.self = [Partitions]testPart{}, map[string][Partitions]*testPart{}, nil, nil, ""
	n.dead = false
	n.world.mu.Unlock()
	m, err := Join(context.Background(), Options{
		Store: n.wire, Host: n, Name: n.name, Addr: n.name + ":1", Version: "test",
		Now:  n.now,
		Wall: func() time.Time { return time.Now().Add(n.skew) },
	})
	if err != nil {
		n.world.t.Fatal(err)
	}
	n.Member = m
	n.hold = m.Conf().Recovery()
}

func (n *testNode) now() time.Duration {
	return time.Duration(float64(time.Since(n.world.begun)+time.Hour) * n.rate)
}

// run has it run by itself, kill ends that like -9 does, and crash takes its memory, too.
func (n *testNode) run() {
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go n.Member.Run(ctx)
}

func (n *testNode) kill() {
	n.world.mu.Lock()
	n.dead = true
	n.world.mu.Unlock()
	n.stop()
}

func (w *world) breaks(format string, args ...any) {
	if len(w.broken) < 20 {
		w.broken = append(w.broken, fmt.Sprintf(format, args...))
	}
}

func (n *testNode) Adopt(self string, m *Map, nodes []Node) {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	n.adopted++
	if n.last != nil && m.Version < n.last.Version {
		n.world.breaks("%s adopts map %d after %d", n.name, m.Version, n.last.Version)
	}
	if n.ever != nil && (m.Version < n.ever.Version || m.Version == n.ever.Version && !m.same(n.ever)) {
		n.world.breaks("%s adopts map %d (%x) after %d (%x) in an earlier life", n.name, m.Version, m.Mark, n.ever.Version, n.ever.Mark)
	}
	n.ever = m
	if n.last == nil {
		n.self = self
	} else if n.self != self {
		n.world.breaks("%s has another ID all of a sudden", n.name)
	}
	lost, gained := m.Since(n.last, self)
	for _, p := range lost {
		n.parts[p] = testPart{}
	}
	for _, p := range gained {
		is := m.Partitions[p]
		if c := n.copies[copyKey(is.Nonce)][p]; c != nil && is.Nonce != 0 && c.epoch == is.Epoch {
			n.parts[p] = *c
			n.parts[p].own = true
			if c.value != n.world.truth[p] {
				n.world.breaks("%s serves an old copy of %d: %d, not %d", n.name, p, c.value, n.world.truth[p])
			}
			continue
		}
		n.parts[p] = testPart{own: true, epoch: is.Epoch, recovered: n.now() + n.hold, value: n.world.truth[p], next: max(m.Base, uint64(time.Now().Add(n.skew).UnixMicro()))}
	}
	n.last = m
}

func copyKey(nonce uint64) string { return fmt.Sprint(nonce) }

func (n *testNode) Deposed() {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	n.deposals++
	n.last, n.self = nil, ""
	n.parts = [Partitions]testPart{}
	n.copies = map[string][Partitions]*testPart{}
}

func (n *testNode) Highest() uint64 {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	return n.highest
}

func (n *testNode) Status() Status {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	var s Status
	for i := range n.parts {
		switch p := &n.parts[i]; {
		case !p.own:
		case p.frozen:
			s.Frozen++
		case n.now() < p.recovered:
			s.Recovering++
		default:
			s.Serving++
		}
	}
	return s
}

func (n *testNode) Freeze(parts []int) {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	for _, other := range n.world.nodes {
		if other.dead || other.last == nil || n.last == nil || other.last.Version != n.last.Version {
			continue
		}
		for i := range other.parts {
			if p := &other.parts[i]; p.own && other.now() < p.recovered {
				n.world.breaks("%s moves partitions while %s recovers", n.name, other.name)
				break
			}
		}
	}
	for _, p := range parts {
		if n.parts[p].own && n.now() >= n.parts[p].recovered {
			n.parts[p].frozen = true
		}
	}
}

func (n *testNode) Thaw(parts []int) {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	for _, p := range parts {
		n.parts[p].frozen = false
	}
}

func (n *testNode) Copy(ctx context.Context, to Node, parts []Part, nonce uint64) error {
	n.world.mu.Lock()
	var target *testNode
	for _, other := range n.world.nodes {
		if other.self == to.ID && !other.dead {
			target = other
		}
	}
	var sent [Partitions]*testPart
	for _, p := range parts {
		if !n.parts[p.Index].frozen {
			n.world.mu.Unlock()
			return errors.New("not frozen")
		}
		sent[p.Index] = &testPart{epoch: p.Epoch, value: n.parts[p.Index].value, next: n.parts[p.Index].next}
	}
	var lost, unacked bool
	var takes time.Duration
	if how := n.world.copies; how != nil && target != nil {
		lost, unacked, takes = how(n, target)
	}
	n.world.mu.Unlock()
	time.Sleep(takes)
	if target == nil || lost {
		<-ctx.Done()
		return ctx.Err()
	}
	n.world.mu.Lock()
	target.copies[copyKey(nonce)] = sent
	n.world.mu.Unlock()
	if unacked {
		<-ctx.Done()
		return ctx.Err()
	}
	return ctx.Err()
}

// every is which partitions a turn and a check are about: others each time.
const every = 7

// turn is what a host does all the time: it raises the numbers of what it may serve,
// and grants tokens. Two who do so at once, or one who does not know what another has
// done, are what a cluster must not have.
func (n *testNode) turn() {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	if n.dead || n.now() >= n.Right() {
		return
	}
	ceil := n.Ceil()
	n.turns++
	for i := n.turns % every; i < Partitions; i += every {
		p := &n.parts[i]
		if !p.own || p.frozen || n.now() < p.recovered {
			continue
		}
		if p.value != n.world.truth[i] {
			n.world.breaks("%s serves %d, and does not know that another does: %d, not %d", n.name, i, p.value, n.world.truth[i])
		}
		n.world.truth[i]++
		p.value = n.world.truth[i]
		if p.next >= ceil {
			continue
		}
		if p.next <= n.world.token[i] {
			n.world.breaks("%s grants token %d of %d after %d", n.name, p.next, i, n.world.token[i])
		}
		n.world.token[i] = p.next
		n.highest = max(n.highest, p.next)
		p.next++
	}
}

// alone checks that no partition has two who may serve it.
func (w *world) alone() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	for i := w.looks % every; i < Partitions; i += every {
		who := ""
		for _, n := range w.nodes {
			if n.dead || !n.parts[i].own || n.parts[i].frozen || n.now() >= n.Right() {
				continue
			}
			if who != "" {
				w.breaks("%s and %s serve %d", who, n.name, i)
				return
			}
			who = n.name
		}
	}
}

// check fails for rules that were broken.
func (w *world) check() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys.mu.Lock()
	defer w.keys.mu.Unlock()
	for _, b := range append(w.broken, w.keys.broken...) {
		w.t.Error(b)
	}
}

// settled waits, in the bubble's time, until something is so.
func (w *world) settled(what string, within time.Duration, so func() bool) {
	w.t.Helper()
	for begun := time.Now(); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Since(begun) > within {
			w.t.Fatalf("after %v: not %s", within, what)
		}
		for _, n := range w.nodes {
			n.turn()
		}
		w.alone()
	}
}

// even tells whether all that live own the same number, or one more, and serve it.
func (w *world) even() bool {
	v := w.keys.read()
	counts := v.Map.Count()
	live := 0
	for _, n := range w.nodes {
		if !n.dead {
			live++
		}
	}
	if len(v.Nodes) != live || len(counts) != live {
		return false
	}
	for _, n := range w.nodes {
		if n.dead {
			continue
		}
		if c := counts[n.Self()]; c < Partitions/live || c > Partitions/live+1 || n.Status().Serving != c {
			return false
		}
	}
	return true
}
