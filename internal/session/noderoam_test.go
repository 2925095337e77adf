package session

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// Clients that come another way while partitions move: in each of these tests somebody else got once
// what they held.

// roamsTo has a kept client come at a node, perhaps another one than it was at.
func (c *nodeClient) roamsTo(to *testNode, key string, life int) *nodeClient {
	c.n.c.t.Helper()
	k := &roamer{nodeClient: c, key: key, life: life - 1}
	if what := k.comes(to); what != "" {
		c.n.c.t.Fatal(what)
	}
	return k.nodeClient
}

// stands has a cluster be pumped for a while, in which its nodes do what they have to.
func (c *testCluster) stands(clients ...*nodeClient) {
	for range 20 {
		c.pump()
		for _, one := range clients {
			one.feed("")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// hasFollowed has the cluster be pumped until a node has claimed all, as far as the others know, or a second is
// over: it may have to wait for who does not come.
func (c *testCluster) hasFollowed(home *testNode, clients ...*nodeClient) {
	c.stands(clients...)
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		done := true
		for _, n := range c.nodes {
			n.hub.node.mu.Lock()
			done = done && n.hub.node.follows[home.id] >= c.layout.Version
			n.hub.node.mu.Unlock()
		}
		c.stands(clients...)
		if done {
			return
		}
	}
}

// A hold of two kinds, as its client and others see it.
type testHold struct{ claim, asks, refused, release string }

func (c *nodeClient) holds(name string, kind string) testHold {
	c.n.c.t.Helper()
	if kind == "shared" {
		c.until("1 sgl 1 "+name+"\n", "1 1 Shared Lock Get Success: "+name+"\n")
		return testHold{"1 claims 1 " + name + "\n", "sgl 1 " + name + "\n", "0 Shared Lock Limit Reached: " + name + "\n", "1 sr " + name + "\n"}
	}
	said := c.until("1 g "+name+"\n", " Lock Get Success: "+name+"\n")
	return testHold{"1 claim " + strings.Fields(said)[1] + " " + name + "\n", "g " + name + "\n", "0 Lock Get Failure: " + name + "\n", "1 r " + name + "\n"}
}

// What has been copied of a partition stays true: that somebody has come another way, and claims what he held,
// waits for the end of the move.
func TestNodesClaimBehindCopy(t *testing.T) {
	for _, kind := range []string{"exclusive", "shared"} {
		for _, what := range []string{"asks again", "forgets"} {
			t.Run(kind+" "+what, func(t *testing.T) {
				c := newTestCluster(t, 3, time.Minute)
				home, owner, next := c.nodes[0], c.nodes[1], c.nodes[2]
				x := c.name(owner, 0)
				a, other := home.client("a"), next.client("other")
				k := 15 * time.Second
				if what == "forgets" {
					k = 200 * time.Millisecond
				}
				key := a.keepsFor(k)
				h := a.holds(x, kind)
				c.move(owner, home, c.owned(owner), func() {
					a = a.roamsTo(next, key, 2)
					a.feed(h.claim)
					c.stands(a)
					if what == "asks again" {
						home.breaks(owner) // it claims all there once more
					} else {
						time.Sleep(k)
					}
					c.stands(a)
				})
				c.hasFollowed(home, a)
				// By now its home's K may be over, and the client has nothing, if it has not heard that it has.
				other.feed(h.asks)
				c.stands(a, other)
				said := a.until("", ": "+x+"\n")
				if has := strings.Contains(said, "Success"); has == strings.Contains(other.got, "Success") || !has && what == "asks again" {
					t.Errorf("the client is told %q, another one %q", said, other.got)
				}
			})
		}
	}
}

// Who is known to have come another way is so at the next owner, too: his former home does not know what he
// claims.
func TestNodesCopyOfWhoHasCome(t *testing.T) {
	for _, kind := range []string{"exclusive", "shared"} {
		t.Run(kind, func(t *testing.T) {
			c := newTestCluster(t, 3, time.Minute)
			home, next, owner := c.nodes[0], c.nodes[1], c.nodes[2]
			x := c.name(owner, 0)
			a, other := home.client("a"), owner.client("other")
			key := a.keepsFor(15 * time.Second)
			h := a.holds(x, kind)
			// It moves to the node at which the client comes, before its home hears of that.
			parts := c.owned(owner)
			c.hands(owner, next, parts, func() {})
			c.tell(owner)
			c.tell(next)
			a = a.roamsTo(next, key, 2)
			a.until("1 ping\n", "1 1 pong\n") // the session is there
			c.tell(home)
			c.stands(a) // and its home's claim is refused
			c.move(next, home, parts, nil)
			c.hasFollowed(home, a)
			other.gets(h.asks, h.refused)
			a.until(h.claim, "Claim Success: "+x+"\n")
			other.gets(h.asks, h.refused)
			a.until(h.release, "Release Success: "+x+"\n")
			other.until(h.asks, "Get Success: "+x+"\n")
		})
	}
}

// A claim, or a request for what the client may have, that the former owner has answered when the lock has moved:
// it is not let go at the new one by that the client has named all.
func TestNodesAnswerOfFormerOwner(t *testing.T) {
	for _, kind := range []string{"exclusive", "shared"} {
		for _, again := range []string{"claims", "waits"} {
			for i := range 4 {
				at, late := i%2, i/2 > 0
				t.Run(fmt.Sprint(kind, " ", again, " ", i), func(t *testing.T) {
					c := newTestCluster(t, 3, time.Minute)
					home, owner, next := c.nodes[0], c.nodes[1], c.nodes[2*at]
					x := c.name(owner, 0)
					a, other := home.client("a"), c.nodes[2].client("other")
					key := a.keepsFor(15 * time.Second)
					h := a.holds(x, kind)
					a = a.comesBack(key, 2)
					l := home.linkTo(owner)
					l.cut = true
					claimed, end := "0 claimed\n", "1 ok\n"
					if again == "claims" {
						a.feed(h.claim)
					} else {
						a.feed("1 " + map[string]string{"exclusive": "gw 60000 ", "shared": "sgw 1 60000 "}[kind] + x + "\n")
						end = "Get Success: " + x + "\n"
					}
					if !late {
						a.feed(claimed)
						claimed = ""
					}
					out := l.answers()
					c.move(owner, next, c.owned(owner), nil)
					c.stands(a)
					a.feed(claimed)
					c.stands(a)
					if err := l.up.Receive(out); err != nil {
						t.Fatal(err)
					}
					l.cut = false
					a.until("", end)
					c.hasFollowed(home, a)
					other.gets(h.asks, h.refused)
					a.until(h.release, "Release Success: "+x+"\n")
					other.until(h.asks, "Get Success: "+x+"\n")
				})
			}
		}
	}
}

// Who has held a lock before, and his node does not know that he does not any more, takes it from nobody when it
// moves.
func TestNodesFormerHolderMoves(t *testing.T) {
	c := newTestCluster(t, 3, time.Minute)
	home, owner, next := c.nodes[0], c.nodes[1], c.nodes[2]
	x := c.name(owner, 0)
	a, b, other := home.client("a"), home.client("b"), owner.client("other")
	key := a.keepsFor(15 * time.Second)
	h := a.holds(x, "exclusive")
	a.Close() // what it held nobody claims where it comes to now
	c.move(owner, home, c.owned(owner), nil)
	a = a.roamsTo(next, key, 2)
	a.until(h.claim, "Claim Success: "+x+"\n")
	a.until(h.release, "Release Success: "+x+"\n")
	b.until("hello 2\n1 g "+x+"\n", " Lock Get Success: "+x+"\n")
	parts := c.owned(home)
	c.hands(home, next, parts, func() {})
	c.tell(home)
	c.stands(b) // the new owner says that it is none
	c.tell(owner)
	c.tell(next)
	c.hasFollowed(home, b)
	other.gets(h.asks, h.refused)
	b.until(h.release, " Lock Release Success: "+x+"\n")
	other.until(h.asks, "Get Success: "+x+"\n")
}

// A claim that was on its way for too long is made at the new owner, though a wait of the earlier connection goes on
// at the former one.
func TestNodesClaimBehindParkedWait(t *testing.T) {
	c := newTestCluster(t, 3, time.Minute)
	home, owner, next := c.nodes[0], c.nodes[1], c.nodes[2]
	x, y := c.name(owner, 0), c.name(owner, 1)
	a, other := home.client("a"), owner.client("other")
	key := a.keepsFor(15 * time.Second)
	other.until("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
	h := a.holds(y, "shared")
	a.feed("1 gw 3600000 " + x + "\n")
	c.stands(a)
	a = a.comesBack(key, 2)
	parts := []int{shard.PartitionOf([]byte(y))}
	c.hands(owner, next, parts, func() {})
	c.tell(owner)
	c.tell(next)
	a.feed(h.claim)
	c.stands(a) // the former owner says that it is none
	c.tell(home)
	a.until("", "Claim Success: "+y+"\n")
	a.until("1 gw 3600000 "+x+"\n0 claimed\n", "0 1 ok\n")
	other.until("r "+x+"\n", "Release Success: "+x+"\n")
	a.until("", " Lock Get Success: "+x+"\n")
}
