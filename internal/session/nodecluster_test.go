package session

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/shard"
)

// A testCluster is some nodes in one process, whose links are pumped by the test: so it
// decides what arrives.
type testCluster struct {
	t        *testing.T
	nodes    []*testNode
	layout   Layout
	longest  time.Duration
	patience time.Duration
	prompt   time.Duration
	moves    int
}

type testNode struct {
	c       *testCluster
	hub     *Hub
	id      string
	network *detaching
	right   atomic.Int64 // until when it may serve
	dead    bool

	mu    sync.Mutex
	links []*testLink
}

// soonest is how soon they do in tests that want to see it: clients of protocol 1 stand a tenth of that.
const soonest = 500 * time.Millisecond

// A testLink is the connection of a node to another one.
type testLink struct {
	from   *testNode
	to     string
	up     *Upstream
	stream *Stream
	turn   Turn
	rest   []byte
	cut    bool // nothing arrives
	ended  atomic.Bool
}

func (l *testLink) Wake() {}

func newTestCluster(t *testing.T, n int, longest time.Duration) *testCluster {
	t.Helper()
	return newImpatientCluster(t, n, longest, 0, 0)
}

// newImpatientCluster makes one whose nodes have less patience than usual, if that is not 0, and answer
// who may not wait that soon. If that is 0 they do not: it is the test that pumps their links, and on a
// busy machine it may be a while until it does.
func newImpatientCluster(t *testing.T, n int, longest, patience, prompt time.Duration) *testCluster {
	t.Helper()
	c := &testCluster{t: t, longest: longest, patience: patience, prompt: cmp.Or(prompt, time.Minute)}
	for i := range n {
		c.add(fmt.Sprint("n", i))
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			for _, l := range n.links {
				if l.stream != nil {
					l.stream.Close()
				}
			}
		}
		for _, n := range c.nodes {
			n.hub.Close()
		}
	})
	c.spread()
	return c
}

func (c *testCluster) add(id string) *testNode {
	n := &testNode{c: c, id: id, network: &detaching{all: make(map[Carrier]bool)}}
	n.right.Store(int64(lease.Now() + time.Hour))
	cfg := testConfig()
	cfg.DeadPeer = 50 * time.Millisecond
	cfg.MaxKeep = time.Second
	if c.longest == time.Minute {
		cfg.MaxKeep = 15 * time.Second
	}
	nothing := func() {}
	cfg.Cluster = &ClusterConfig{
		World: "w", Longest: c.longest, Serves: 20 * time.Millisecond, Patience: c.patience, Prompt: c.prompt,
		Right: func() time.Duration { return time.Duration(n.right.Load()) },
		Ceil:  func() uint64 { return 1 << 53 },
		Log:   func(string, ...any) {},
		Connect: func(to Peer) *Upstream {
			l := &testLink{from: n, to: to.ID}
			l.up = n.hub.NewLink(to, UpstreamConfig{Flush: nothing, Cut: nothing, End: func() { l.ended.Store(true) }, Log: func(string, ...any) {}})
			n.mu.Lock()
			n.links = append(n.links, l)
			n.mu.Unlock()
			return l.up
		},
	}
	n.hub = NewHub(cfg, n.network)
	c.nodes = append(c.nodes, n)
	return n
}

func (c *testCluster) node(id string) *testNode {
	for _, n := range c.nodes {
		if n.id == id && !n.dead {
			return n
		}
	}
	return nil
}

// spread has the partitions be served by all nodes in turns, with a map that all have.
func (c *testCluster) spread() {
	for p := range c.layout.Owner {
		c.layout.Owner[p] = c.nodes[p%len(c.nodes)].id
		c.layout.Epoch[p]++
	}
	c.publish()
	c.pump()
}

// publish has all nodes that live take a newer map.
func (c *testCluster) publish() {
	c.layout.Version++
	c.tellAll()
}

func (c *testCluster) tellAll() {
	for _, n := range c.nodes {
		if !n.dead {
			c.tell(n)
		}
	}
}

// tell has one take it.
func (c *testCluster) tell(n *testNode) {
	l := c.layout
	l.Self, l.Me = n.id, Peer{ID: n.id, Name: n.id, Addr: n.id + ":1"}
	for _, other := range c.nodes {
		if other != n && !other.dead {
			l.Peers = append(l.Peers, Peer{ID: other.id, Name: other.id, Addr: other.id + ":1"})
		}
	}
	n.hub.Adopt(&l)
}

// kill ends a node: nothing comes from it any more.
func (c *testCluster) kill(n *testNode) {
	n.dead = true
	for _, l := range n.links {
		if l.stream != nil {
			l.stream.Close()
			l.stream = nil
		}
	}
}

// inherit has the partitions of a dead node be served by others.
func (c *testCluster) inherit(from *testNode, to ...*testNode) {
	for p := range c.layout.Owner {
		if c.layout.Owner[p] == from.id {
			c.layout.Owner[p] = to[p%len(to)].id
			c.layout.Epoch[p]++
			c.layout.Nonce[p] = 0
		}
	}
	c.publish()
}

// move has a node's partitions that are among some move to another one, as a member does it.
func (c *testCluster) move(from, to *testNode, parts []int, between func()) {
	c.t.Helper()
	c.hands(from, to, parts, func() {})
	if between != nil {
		between()
	}
	c.tellAll()
	c.pump()
}

// hands has a node hand partitions over to another one, by a map of which nobody has been told yet, and something
// done between the parts of that.
func (c *testCluster) hands(from, to *testNode, parts []int, beside func()) {
	c.t.Helper()
	c.moves++
	nonce := ^uint64(c.moves)
	from.hub.Freeze(parts)
	beside()
	c.copy(from, to, parts, nonce, beside)
	from.hub.Uncertain()
	beside()
	for _, p := range parts {
		c.layout.Owner[p] = to.id
		c.layout.Epoch[p]++
		c.layout.Nonce[p] = nonce
	}
	c.layout.Version++
}

// copy has a node copy partitions that are frozen to another one, and something done for each piece.
func (c *testCluster) copy(from, to *testNode, parts []int, nonce uint64, beside func()) {
	c.t.Helper()
	var all []Part
	for _, p := range parts {
		all = append(all, Part{p, c.layout.Epoch[p] + 1})
	}
	l := &testLink{from: from, to: to.id, stream: new(Stream)}
	l.stream.Begin(to.hub, Address{Name: "copy"}, l, &l.turn)
	feed := func(b []byte) string {
		l.turn.Begin(0)
		_, out, _ := l.stream.Advance(b, nil)
		return string(out)
	}
	said := feed([]byte("hello 2 notices\n0 link w " + from.id + " " + to.id + "\n"))
	_, err := from.hub.Copy(all, nonce, func(b []byte) error {
		beside()
		said += feed(slices.Clone(b))
		return nil
	})
	if err != nil || strings.Contains(said, " 0 ") {
		c.t.Fatalf("copied: %v, %q", err, said[max(0, len(said)-500):])
	}
	l.stream.Close()
}

// owned returns the partitions of a node.
func (c *testCluster) owned(n *testNode) (parts []int) {
	for p, owner := range c.layout.Owner {
		if owner == n.id {
			parts = append(parts, p)
		}
	}
	return parts
}

// pump moves what is under way on all links, until nothing is.
func (c *testCluster) pump() {
	for moved := true; moved; {
		moved = false
		for _, n := range c.nodes {
			n.mu.Lock()
			links := n.links
			n.mu.Unlock()
			for _, l := range links {
				if !n.dead && !l.cut && !l.ended.Load() {
					moved = l.pump() || moved
				}
			}
		}
	}
}

func (l *testLink) pump() (moved bool) {
	to := l.from.c.node(l.to)
	if to == nil {
		if l.stream != nil {
			l.up.Lost(nil)
			l.stream = nil
		}
		return false
	}
	if l.stream == nil {
		l.up.Begin("")
		l.stream, l.rest = new(Stream), nil
		l.stream.Begin(to.hub, Address{Name: l.from.id + "->" + l.to}, l, &l.turn)
	}
	in := append(l.rest, l.up.Take(nil)...)
	l.turn.Begin(0)
	rest, out, next := l.stream.Advance(in, nil)
	l.rest = append([]byte(nil), rest...)
	if next == Moved {
		l.stream = l.stream.Successor()
	}
	moved = len(rest) < len(in) || len(out) > 0 || next == Moved
	if len(out) > 0 {
		if err := l.up.Receive(out); err != nil {
			l.from.c.t.Errorf("%s -> %s: %v", l.from.id, l.to, err)
			l.stream.Close()
			l.stream = nil
			l.up.Lost(nil)
		}
	}
	if l.up.Replays() {
		l.up.GoOn()
	}
	return moved
}

// answers has what is asked over a link arrive, and returns the answers, which do not for now.
func (l *testLink) answers() []byte {
	l.turn.Begin(0)
	_, out, _ := l.stream.Advance(l.up.Take(nil), nil)
	return out
}

// linkTo is a node's link to another one.
func (n *testNode) linkTo(to *testNode) *testLink {
	return n.links[slices.IndexFunc(n.links, func(l *testLink) bool { return l.to == to.id })]
}

// breaks ends the connection of a link; another one is made.
func (n *testNode) breaks(to *testNode) {
	for _, l := range n.links {
		if l.to == to.id && l.stream != nil {
			l.stream.Close()
			l.stream = nil
			l.up.Lost(nil)
		}
	}
}

// name returns one that a node serves, another one each time.
func (c *testCluster) name(n *testNode, i int) string {
	for k := i * 10000; ; k++ {
		name := fmt.Sprint("k", k)
		if c.layout.Owner[shard.PartitionOf([]byte(name))] == n.id {
			return name
		}
	}
}

// A nodeClient is a client of a node.
type nodeClient struct {
	*Stream
	n       *testNode
	carrier *plainCarrier
	got     string
	rest    []byte // that it has not taken
	closed  bool
}

func (n *testNode) client(addr string) *nodeClient {
	c := &nodeClient{n: n, carrier: &plainCarrier{addr}}
	c.Stream = newStream(n.hub, addr, c.carrier)
	first := c.Stream
	n.c.t.Cleanup(func() {
		if !c.closed { // which it may have been as one that is kept, and others have it now
			first.Close()
		}
	})
	return c
}

// Close has its connection end.
func (c *nodeClient) Close() {
	c.closed = true
	c.Stream.Close()
}

func (c *nodeClient) feed(in string) {
	c.turn.Begin(0)
	rest, out, _ := c.Advance(append(c.rest, in...), nil)
	c.rest = slices.Clone(rest)
	c.got += string(out)
}

// gets expects replies to what is sent.
func (c *nodeClient) gets(sent, want string) {
	c.n.c.t.Helper()
	c.feed(sent)
	for end := time.Now().Add(20 * time.Second); len(c.got) < len(want) && time.Now().Before(end); time.Sleep(time.Millisecond) {
		c.n.c.pump()
		c.feed("")
	}
	if c.got != want {
		same := 0
		for same < min(len(c.got), len(want)) && c.got[same] == want[same] {
			same++
		}
		c.n.c.t.Fatalf("%s is told, behind %d bytes,\n%.300q, want\n%.300q", c.Address(), same, c.got[same:], want[same:])
	}
	c.got = ""
}

// until waits until what it is told ends so, and returns all of it.
func (c *nodeClient) until(sent, end string) (all string) {
	c.n.c.t.Helper()
	c.feed(sent)
	for limit := time.Now().Add(10 * time.Second); !strings.HasSuffix(c.got, end) && time.Now().Before(limit); time.Sleep(time.Millisecond) {
		c.n.c.pump()
		c.feed("")
	}
	if all = c.got; !strings.HasSuffix(all, end) {
		c.n.c.t.Fatalf("%s is told %q, want something that ends with %q", c.Address(), all, end)
	}
	c.got = ""
	return all
}

// nameOf is which of the first nodes has served a name, by how name has made it.
func (c *testCluster) nameOf(name string) int {
	n := 0
	fmt.Sscanf(name, "k%d", &n)
	return n / 10000 % 10
}

// comesBack has a kept client's connection be lost, and another one at the same node take it up.
func (c *nodeClient) comesBack(key string, life int) *nodeClient {
	c.n.c.t.Helper()
	c.Close()
	again := c.n.client(fmt.Sprint("again", life))
	_, _, next := again.Advance([]byte(fmt.Sprint("hello 2 notices\n0 resume ", key, " ", life, " 1000\n")), nil)
	if next != Moved {
		c.n.c.t.Fatalf("next is %v", next)
	}
	again.Stream = again.Successor()
	again.until("", " Resumed: "+key+"\n")
	return again
}

// keeps has a client be kept, and returns its KEY.
func (c *nodeClient) keeps() (key string) { return c.keepsFor(time.Second) }

func (c *nodeClient) keepsFor(d time.Duration) (key string) {
	said := c.until(fmt.Sprint("hello 2 notices\n0 keep ", d.Milliseconds(), "\n"), "\n")
	return strings.TrimSpace(said[strings.LastIndex(said, " ")+1:])
}

// unsure tells whether the client is not listened to, as not all is sure that it holds.
func (c *nodeClient) unsure() bool { return c.keeping.Load().unsure != 0 }

// wokenCarrier counts how often it is woken.
type wokenCarrier struct{ times atomic.Int64 }

func (c *wokenCarrier) Wake() { c.times.Add(1) }
