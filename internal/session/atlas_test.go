package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// Clients that know the map have to find the partition that the table does.
func TestPartitionsAreTheWires(t *testing.T) {
	if wire.Partitions != shard.Partitions {
		t.Fatal(wire.Partitions, shard.Partitions)
	}
	for i := range 10_000 {
		name := fmt.Sprint(i, strings.Repeat("x", i%50))
		if a, b := wire.PartitionOf(name), shard.PartitionOf([]byte(name)); a != b {
			t.Fatal(name, a, b)
		}
	}
}

func TestRanges(t *testing.T) {
	for range 200 {
		var of []int
		for p := range 60 {
			if rand.IntN(3) > 0 {
				of = append(of, p)
			}
		}
		var got []int
		text := ranges(of)
		for part := range strings.SplitSeq(text, ",") {
			first, last, is := strings.Cut(part, "-")
			if part == "-" {
				continue
			}
			from, _ := strconv.Atoi(first)
			to := from
			if is {
				to, _ = strconv.Atoi(last)
			}
			for p := from; p <= to; p++ {
				got = append(got, p)
			}
		}
		if !slices.Equal(of, got) {
			t.Fatalf("%v is %s", of, text)
		}
	}
}

// lines is what a node says to `7 map`.
func (c *testCluster) lines(first *testNode) (want string) {
	nodes := []*testNode{first}
	for _, n := range c.nodes {
		if n != first && !n.dead {
			nodes = append(nodes, n)
		}
	}
	for _, n := range nodes {
		var of []int
		for p, owner := range c.layout.Owner {
			if owner == n.id {
				of = append(of, p)
			}
		}
		want += fmt.Sprintf("- %s:1\t%s\t%s\t%s\n", n.id, n.id, n.id, ranges(of))
	}
	return strings.ReplaceAll(want, "- ", "7 - ") + fmt.Sprintf("7 %d End\n", c.layout.Version)
}

// Who has asked for the map is told of the next one, once; who has not, or takes no notices,
// is not.
func TestMap(t *testing.T) {
	c := newTestCluster(t, 3, time.Hour)
	n := c.nodes[1]
	a, b, plain := n.client("a"), n.client("b"), n.client("plain")
	a.gets("hello 2 notices\n7 map\n", "2 lockd \n"+c.lines(n))
	b.gets("hello 2 notices\n", "2 lockd \n")
	plain.gets("hello 2\n7 map\n", "2 lockd \n"+c.lines(n))
	notice := func() string { return fmt.Sprintf("0 ! Map %d\n", c.layout.Version) }

	c.spread()
	a.gets("", notice())
	c.spread()
	for _, quiet := range []*nodeClient{a, b, plain} {
		quiet.gets("0 ping\n", "0 1 pong\n")
	}
	a.gets("7 map\n", c.lines(n))
	c.publish()
	a.gets("", notice())
	a.gets("7 map\n", c.lines(n))
	c.tell(n) // nothing has changed
	a.gets("0 ping\n", "0 1 pong\n")

	a.Close()
	if r := &n.hub.node.readers; len(r.all)+len(r.telling) > 0 {
		t.Error("an ended client would be told")
	}
	b.gets("0 limits\n", fmt.Sprintf("0 1 dead_peer_ms=50 max_keep_ms=1000 map=%d\n", c.layout.Version))
	n.client("old").gets("map\n", strings.NewReplacer("7 - ", "", "7 ", "").Replace(c.lines(n)))
}

// Who has read a map is not told of that one, however late others are told: it would not know of the next
// one then.
func TestMapIsNews(t *testing.T) {
	c := newTestCluster(t, 1, time.Hour)
	n := c.nodes[0]
	a := n.client("a")
	a.until("hello 2 notices\n0 map\n", " End\n")
	n.hub.node.readers.mu.Lock()
	n.hub.node.readers.newer = true // as it is when nobody has been told yet
	n.hub.node.readers.mu.Unlock()
	n.hub.node.tellReaders()
	a.gets("0 ping\n", "0 1 pong\n")
	c.publish()
	a.gets("", fmt.Sprintf("0 ! Map %d\n", c.layout.Version))
}

func TestMapOfNoCluster(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	s := newStream(h, "a", &plainCarrier{"a"})
	defer s.Close()
	_, out := turn(s, []byte("map\nhello 2 notices\n5 map\n5 limits\n"), nil)
	if got := string(out); !strings.HasPrefix(got, "0 No Cluster: map\n2 lockd \n5 0 No Cluster: map\n") || strings.Contains(got, "map=") {
		t.Error(got)
	}
}

// Many are told, though they come and go meanwhile.
func TestManyReaders(t *testing.T) {
	c := newTestCluster(t, 1, time.Hour)
	n := c.nodes[0]
	var clients []*nodeClient
	for i := range 3 * toldAtOnce {
		one := n.client(fmt.Sprint(i))
		one.until("hello 2 notices\n0 map\n", " End\n")
		clients = append(clients, one)
	}
	for _, one := range clients[:toldAtOnce] {
		one.Close()
	}
	c.publish()
	for _, one := range clients[toldAtOnce:] {
		one.gets("", fmt.Sprintf("0 ! Map %d\n", c.layout.Version))
	}
}
