package session

import (
	"fmt"
	"testing"
	"time"
)

// Any node takes any client: what is served elsewhere is asked there.
func TestNodesAskEachOther(t *testing.T) {
	c := newTestCluster(t, 3, time.Hour)
	clients := make([]*nodeClient, 3)
	for i, n := range c.nodes {
		clients[i] = n.client(fmt.Sprint("c", i))
	}
	for i, owner := range c.nodes {
		x := c.name(owner, i)
		for k, client := range clients {
			other := clients[(k+1)%3]
			client.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
			other.gets("g "+x+"\ni "+x+"\n", "0 Lock Get Failure: "+x+"\n1 Lock Is Locked: "+x+"\n")
			client.gets("r "+x+"\nr "+x+"\n", "1 Lock Release Success: "+x+"\n0 Lock Release Failure: "+x+"\n")
			client.gets("sg "+x+"\n", "1 Shared Lock Get Success: "+x+"\n")
			other.gets("sg "+x+"\nsi "+x+"\n", "2 Shared Lock Get Success: "+x+"\n2 Shared Lock Is Locked: "+x+"\n")
			client.gets("sr "+x+"\n", "1 Shared Lock Release Success: "+x+"\n")
			other.gets("sr "+x+"\nsr "+x+"\n", "1 Shared Lock Release Success: "+x+"\n0 Shared Lock Release Failure: "+x+"\n")
			client.gets("rl 5 60000 1 "+x+"\nrd "+x+"\n", "5 Rate Allowed: "+x+"\n1 Rate Dropped: "+x+"\n")
		}
	}
}

// Requests of a client are executed in their order, whoever serves them.
func TestNodesKeepOrder(t *testing.T) {
	c := newTestCluster(t, 3, time.Hour)
	a := c.nodes[0].client("a")
	sent, want := "", ""
	for i := range 100 {
		x := c.name(c.nodes[(i*7)%3], i)
		sent += "g " + x + "\nme\nr " + x + "\n"
		want += "1 Lock Get Success: " + x + "\n1 a a\n1 Lock Release Success: " + x + "\n"
	}
	a.gets(sent, want)
}

// A client's end frees what it held, everywhere.
func TestNodesReleaseOrphans(t *testing.T) {
	c := newTestCluster(t, 3, time.Hour)
	a, b := c.nodes[0].client("a"), c.nodes[1].client("b")
	var names []string
	for i := range 9 {
		names = append(names, c.name(c.nodes[i%3], i))
		a.gets("g "+names[i]+"\n", "1 Lock Get Success: "+names[i]+"\n")
	}
	a.Close()
	c.pump()
	for _, x := range names {
		b.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
	}
	numbers := &c.nodes[0].hub.node.numbers
	if end, free := numbers.end(), len(numbers.free); int(end) != 1+free {
		t.Errorf("%d numbers, %d of them free", end-1, free)
	}
}

// Who asks to wait for what it holds has it, also when that is on its way for longer than the partition is
// away: it does not wait for what stands in for itself, and loses nothing by that.
func TestNodesWaitForOneself(t *testing.T) {
	c := newTestCluster(t, 3, time.Hour)
	home, owner, third := c.nodes[0], c.nodes[1], c.nodes[2]
	x, y := c.name(owner, 0), c.name(owner, 1)
	a, b, other := home.client("a"), home.client("b"), third.client("other")
	a.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
	b.gets("sgl 1 "+y+"\n", "1 Shared Lock Get Success: "+y+"\n")
	link := home.linkTo(owner)
	link.cut = true
	a.feed("gw 600000 " + x + "\n")
	b.feed("sgw 1 600000 " + y + "\n")
	parts := c.owned(owner)
	c.move(owner, third, parts, nil)
	c.move(third, owner, parts, nil)
	link.cut = false
	a.gets("", "1 Lock Get Success: "+x+"\n")
	b.gets("", "1 Shared Lock Get Success: "+y+"\n")
	other.gets("g "+x+"\nsgl 1 "+y+"\n", "0 Lock Get Failure: "+x+"\n0 Shared Lock Limit Reached: "+y+"\n")
	a.gets("r "+x+"\n", "1 Lock Release Success: "+x+"\n")
	b.gets("sr "+y+"\n", "1 Shared Lock Release Success: "+y+"\n")
	other.gets("gw 10000 "+x+"\nsgw 1 10000 "+y+"\n", "1 Lock Get Success: "+x+"\n1 Shared Lock Get Success: "+y+"\n")
	if n := home.hub.node.refused.Load(); n > 0 {
		t.Errorf("%d claims were refused", n)
	}
}
