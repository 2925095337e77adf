package session

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/shard"
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

// Who is cut off by a node that ends may believe in what he holds for as long as he does not know: it is
// free when the node's link is not kept any more.
func TestNodesCutOff(t *testing.T) {
	c := newTestCluster(t, 2, time.Second)
	home, owner := c.nodes[0], c.nodes[1]
	a, other := home.client("a"), owner.client("other")
	x := c.name(owner, 0)
	a.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
	a.EndsFor(WhyShutdown)
	a.Close()
	c.pump()
	other.gets("g "+x+"\n", "0 Lock Get Failure: "+x+"\n")
	c.kill(home) // which ends
	other.gets("gw 10000 "+x+"\n", "1 Lock Get Success: "+x+"\n")
}

// A node that has stood still frees nothing before it knows that it may serve: who held it has perhaps
// claimed it elsewhere, and somebody waits for it here.
func TestNodesFreeNothingWithoutRight(t *testing.T) {
	const longest = time.Second
	c := newTestCluster(t, 2, longest)
	home, owner := c.nodes[0], c.nodes[1]
	x := c.name(owner, 0)
	home.client("a").gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
	held := func() bool { return owner.hub.locks.Holder([]byte(x)) != 0 }
	owner.right.Store(0)
	c.kill(home)
	c.pump()
	for end := time.Now().Add(2 * longest); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !held() {
			t.Fatal("it is free")
		}
	}
	owner.right.Store(int64(lease.Now() + time.Hour))
	for end := time.Now().Add(20 * time.Second); held(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is not free")
		}
	}
}

// What clients of other nodes held at one that is gone they hold at its heirs; nobody else gets
// it, and nobody gets anything new for as long as somebody may not have said what he holds.
func TestNodesFailOver(t *testing.T) {
	const longest = 3 * time.Second
	c := newImpatientCluster(t, 3, longest, 0, soonest)
	dead, heir, home := c.nodes[0], c.nodes[1], c.nodes[2]
	a, b, other := home.client("a"), heir.client("b"), home.client("other")
	var theirs []string // of the one that dies
	for i := range 6 {
		theirs = append(theirs, c.name(dead, i))
	}
	beside, free := c.name(heir, 7), c.name(dead, 8)
	a.gets("g "+theirs[0]+"\nsg "+theirs[1]+"\n", "1 Lock Get Success: "+theirs[0]+"\n1 Shared Lock Get Success: "+theirs[1]+"\n")
	b.gets("g "+theirs[2]+"\nsg "+theirs[1]+"\nsg "+theirs[3]+"\n",
		"1 Lock Get Success: "+theirs[2]+"\n2 Shared Lock Get Success: "+theirs[1]+"\n1 Shared Lock Get Success: "+theirs[3]+"\n")
	a.gets("g "+beside+"\n", "1 Lock Get Success: "+beside+"\n")

	c.kill(dead)
	c.pump()
	other.gets("g "+free+"\n", "0 Unavailable: "+free+"\n")
	other.gets("g "+beside+"\n", "0 Lock Get Failure: "+beside+"\n")
	began := time.Now()
	c.inherit(dead, heir)
	c.pump()
	other.gets("g "+free+"\n", "0 Server Recovering: "+free+"\n")
	for _, x := range theirs[:4] {
		other.gets("g "+x+"\n", "0 Server Recovering: "+x+"\n")
	}
	// Who holds may say so again.
	a.gets("g "+theirs[0]+"\n", "1 Lock Get Success: "+theirs[0]+"\n")
	b.gets("g "+theirs[2]+"\n", "1 Lock Get Success: "+theirs[2]+"\n")
	a.gets("gw 20000 "+free+"\n", "1 Lock Get Success: "+free+"\n")
	if took := time.Since(began); took < longest {
		t.Errorf("something new was granted after %v", took)
	}
	other.gets("g "+theirs[0]+"\ng "+theirs[2]+"\nsi "+theirs[1]+"\nsi "+theirs[3]+"\n",
		"0 Lock Get Failure: "+theirs[0]+"\n0 Lock Get Failure: "+theirs[2]+"\n2 Shared Lock Is Locked: "+theirs[1]+"\n1 Shared Lock Is Locked: "+theirs[3]+"\n")
	a.Close()
	c.pump()
	other.gets("g "+theirs[0]+"\nsi "+theirs[1]+"\n", "1 Lock Get Success: "+theirs[0]+"\n1 Shared Lock Is Locked: "+theirs[1]+"\n")
	if n := home.hub.node.refused.Load() + heir.hub.node.refused.Load(); n > 0 {
		t.Errorf("%d claims were refused", n)
	}
}

// A node that has lost its registration joins anew under another ID. What its clients hold at other nodes
// they hold still when that moves: to that node itself, to another one, or one that is new.
func TestNodesAnotherID(t *testing.T) {
	for which := range 6 {
		c := newTestCluster(t, 3, time.Hour)
		home, owner, heir := c.nodes[0], c.nodes[1], c.nodes[2]
		a, b, kept := home.client("a"), owner.client("b"), home.client("kept")
		kept.keeps()
		x, y, z, u, parts := c.name(owner, 0), c.name(owner, 1), c.name(owner, 2), c.name(owner, 3), c.owned(owner)
		a.gets("g "+x+"\nsgl 1 "+y+"\n", "1 Lock Get Success: "+x+"\n1 Shared Lock Get Success: "+y+"\n")
		kept.until("1 g "+z+"\n", "Lock Get Success: "+z+"\n")
		home.hub.Depose()
		c.inherit(home, owner, heir)
		home.id = "reborn"
		to := home
		switch which / 2 {
		case 1:
			to = heir
		case 2:
			to = c.add("new")
		}
		c.publish()
		c.pump()
		a.gets("g "+u+"\n", "1 Lock Get Success: "+u+"\n")
		if which%2 == 1 {
			home.breaks(owner)
			home.breaks(heir)
			c.pump()
		}
		c.move(owner, to, parts, nil)
		b.gets("g "+x+"\nsgl 1 "+y+"\ng "+z+"\ng "+u+"\n",
			"0 Lock Get Failure: "+x+"\n0 Shared Lock Limit Reached: "+y+"\n0 Lock Get Failure: "+z+"\n0 Lock Get Failure: "+u+"\n")
		a.gets("r "+x+"\nsr "+y+"\nr "+u+"\n", "1 Lock Release Success: "+x+"\n1 Shared Lock Release Success: "+y+"\n1 Lock Release Success: "+u+"\n")
		kept.until("1 r "+z+"\n", "Lock Release Success: "+z+"\n")
		b.gets("g "+x+"\nsgl 1 "+y+"\ng "+z+"\ng "+u+"\n",
			"1 Lock Get Success: "+x+"\n1 Shared Lock Get Success: "+y+"\n1 Lock Get Success: "+z+"\n1 Lock Get Success: "+u+"\n")
		if n := to.hub.node.refused.Load() + home.hub.node.refused.Load(); n > 0 {
			t.Errorf("%d: %d claims were refused", which, n)
		}
	}
}

// A link that breaks is nothing that clients hear of.
func TestNodesLinkBreaks(t *testing.T) {
	c := newTestCluster(t, 2, time.Hour)
	home, owner := c.nodes[0], c.nodes[1]
	a, b := home.client("a"), owner.client("b")
	x, y := c.name(owner, 0), c.name(owner, 1)
	a.gets("g "+x+"\nsg "+y+"\n", "1 Lock Get Success: "+x+"\n1 Shared Lock Get Success: "+y+"\n")
	home.breaks(owner)
	c.pump()
	b.gets("g "+x+"\nsg "+y+"\n", "0 Lock Get Failure: "+x+"\n2 Shared Lock Get Success: "+y+"\n")
	a.gets("r "+x+"\n", "1 Lock Release Success: "+x+"\n")
	b.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
}

// Without the right to serve nothing is granted and nothing confirmed; what is held stays held.
func TestNodesWithoutRight(t *testing.T) {
	c := newImpatientCluster(t, 2, time.Hour, 0, soonest)
	home, owner := c.nodes[0], c.nodes[1]
	a, b, plain := home.client("a"), owner.client("b"), owner.client("plain")
	x, y := c.name(owner, 0), c.name(owner, 1)
	a.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
	plain.gets("g "+y+"\n", "1 Lock Get Success: "+y+"\n")
	b.feed("gw 20000 " + y + "\n")
	owner.right.Store(0)
	a.gets("g "+c.name(owner, 2)+"\n", "0 Unavailable: "+c.name(owner, 2)+"\n")
	a.gets("r "+x+"\n", "1 Lock Release Success: "+x+"\n") // which is remembered
	plain.gets("ping\n", "0 Unavailable: ping\n")
	plain.Close()
	c.pump()
	for range 20 {
		b.feed("")
		c.pump()
		time.Sleep(time.Millisecond)
	}
	if b.got != "" {
		t.Errorf("without the right: %q", b.got)
	}
	owner.right.Store(int64(time.Now().Add(time.Hour).UnixNano()))
	c.pump()
	b.gets("", "1 Lock Get Success: "+y+"\n")
	b.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
}

// While a node has no right to serve nothing becomes less sure by that: when it has it again, a kept client
// loses nothing that is sure a moment later.
func TestNodesRightReturns(t *testing.T) {
	c := newTestCluster(t, 2, 5*time.Second)
	home, owner := c.nodes[0], c.nodes[1]
	a := home.client("a")
	a.keeps()
	x := c.name(owner, 0)
	a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n")
	l := home.links[0]
	l.cut = true
	for l.up.lease.Load().Left(lease.Now()) > 950*time.Millisecond {
		time.Sleep(time.Millisecond)
	}
	a.feed("0 ping\n")
	home.right.Store(0)
	for l.up.lease.Load().Left(lease.Now()) > 250*time.Millisecond {
		a.feed("")
		time.Sleep(time.Millisecond)
	}
	home.right.Store(int64(lease.Now() + time.Hour))
	a.feed("")
	l.cut = false
	a.until("", "0 1 pong\n")
	a.until("1 r "+x+"\n", "1 1 Lock Release Success: "+x+"\n")
}

// A planned move loses nothing: who holds something has it at the new owner, whichever node it is a
// client of, who waits keeps its place, and rates go on. Nobody hears of it.
func TestNodesMove(t *testing.T) {
	c := newTestCluster(t, 3, time.Hour)
	from, to, third := c.nodes[0], c.nodes[1], c.nodes[2]
	var names []string
	for i := range 12 {
		names = append(names, c.name(from, i))
	}
	clients := []*nodeClient{from.client("f"), to.client("t"), third.client("h")}
	for i, x := range names[:6] {
		clients[i%3].gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
	}
	shared := names[6]
	for i, a := range clients {
		a.gets("sg "+shared+"\n", fmt.Sprint(i+1, " Shared Lock Get Success: ", shared, "\n"))
	}
	rate := names[7]
	clients[0].gets("rl 5 600000 3 "+rate+"\n", "5 Rate Allowed: "+rate+"\n")
	// A queue of clients of all nodes.
	var line []*nodeClient
	for i := range 6 {
		a := c.nodes[(i+1)%3].client(fmt.Sprint("w", i))
		line = append(line, a)
		a.feed("gw 600000 " + names[0] + "\n")
		c.pump()
	}
	other := third.client("other")
	c.move(from, to, c.owned(from), func() {
		other.feed("g " + names[1] + "\n")
		c.pump()
		clients[2].feed("r " + names[2] + "\n") // which waits for the end of the move
		c.pump()
	})
	clients[2].gets("", "1 Lock Release Success: "+names[2]+"\n")
	other.gets("", "0 Lock Get Failure: "+names[1]+"\n")
	for i, x := range names[:6] {
		if i != 2 {
			clients[i%3].gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
			other.gets("g "+x+"\n", "0 Lock Get Failure: "+x+"\n")
		}
	}
	other.gets("si "+shared+"\n", "3 Shared Lock Is Locked: "+shared+"\n")
	other.gets("ri 5 600000 "+rate+"\n", "2 Rate Open: "+rate+"\n")
	holder := clients[0]
	for _, next := range line {
		holder.gets("r "+names[0]+"\n", "1 Lock Release Success: "+names[0]+"\n")
		c.pump()
		next.gets("", "1 Lock Get Success: "+names[0]+"\n")
		holder = next
	}
	other.gets("gw 20000 "+names[2]+"\n", "1 Lock Get Success: "+names[2]+"\n")
	for _, a := range append(clients, line...) {
		a.Close()
	}
	c.pump()
	for _, x := range names[:6] {
		other.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
	}
	other.gets("si "+shared+"\n", "0 Shared Lock Not Locked: "+shared+"\n")
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
	link := home.links[slices.IndexFunc(home.links, func(l *testLink) bool { return l.to == owner.id })]
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

// A client that is kept has what it held at any other node when its own is gone: what the dead one
// served, and all else.
func TestNodesTakeUpClients(t *testing.T) {
	c := newTestCluster(t, 3, 2*time.Second)
	dead, heir, next := c.nodes[0], c.nodes[1], c.nodes[2]
	a := dead.client("a")
	said := a.until("hello 2 notices\n0 keep 1000\n", "\n")
	key := strings.TrimSpace(said[strings.LastIndex(said, " ")+1:])
	if !strings.Contains(said, "0 1000 Kept Everywhere: ") {
		t.Fatalf("told %q", said)
	}
	at := map[string]string{}
	tokens := map[string]string{}
	for i, n := range c.nodes {
		x, y := c.name(n, i), c.name(n, i+10)
		at[x], at[y] = "g", "sg"
		said := a.until(fmt.Sprint(i+1, " g ", x, "\n"), "Lock Get Success: "+x+"\n")
		tokens[x] = strings.Fields(said)[1]
		a.until(fmt.Sprint(i+1, " sg ", y, "\n"), fmt.Sprint(i+1, " 1 Shared Lock Get Success: ", y, "\n"))
	}
	released := c.name(heir, 20)
	a.until("9 g "+released+"\n", "Lock Get Success: "+released+"\n")
	c.kill(dead)
	c.inherit(dead, heir)
	c.pump()
	b := next.client("b")
	b.until("hello 2 notices\n0 resume "+key+" 2 1000\n", "0 0 Claims Open 1: "+key+"\n")
	for i, n := range c.nodes {
		_ = n
		x, y := "", ""
		for name, verb := range at {
			if c.nameOf(name) == i && verb == "g" {
				x = name
			} else if c.nameOf(name) == i {
				y = name
			}
		}
		b.until(fmt.Sprint(i+1, " claim ", tokens[x], " ", x, "\n"), fmt.Sprint(i+1, " ", tokens[x], " Lock Claim Success: ", x, "\n"))
		b.until(fmt.Sprint(i+1, " claims 1 ", y, "\n"), fmt.Sprint(i+1, " 1 Shared Lock Claim Success: ", y, "\n"))
	}
	b.until("0 claimed\n", "0 1 ok\n")
	other := heir.client("other")
	for name, verb := range at {
		if verb == "g" {
			if got := other.until("g "+name+"\n", "\n"); got != "0 Lock Get Failure: "+name+"\n" && got != "0 Server Recovering: "+name+"\n" {
				t.Errorf("another client is told %q", got)
			}
		}
	}
	// What the dead node's link held, and nobody has claimed, ends with its time.
	other.gets("gw 20000 "+released+"\n", "1 Lock Get Success: "+released+"\n")
	for heir.hub.Partitions().Recovering > 0 {
		c.pump()
		time.Sleep(5 * time.Millisecond)
	}
	for i, n := range c.nodes {
		_ = n
		for name, verb := range at {
			if c.nameOf(name) == i && verb == "g" {
				other.gets("g "+name+"\n", "0 Lock Get Failure: "+name+"\n")
				b.until(fmt.Sprint(i+1, " r ", name, "\n"), fmt.Sprint(i+1, " 1 Lock Release Success: ", name, "\n"))
				c.pump()
				other.gets("g "+name+"\n", "1 Lock Get Success: "+name+"\n")
			} else if c.nameOf(name) == i {
				other.gets("si "+name+"\n", "1 Shared Lock Is Locked: "+name+"\n")
			}
		}
	}
	// An earlier connection that comes late is nobody.
	late := heir.client("late")
	late.until("hello 2 notices\n0 resume "+key+" 2 1000\n", "\n")
}

// nameOf is which of the first nodes has served a name, by how name has made it.
func (c *testCluster) nameOf(name string) int {
	n := 0
	fmt.Sscanf(name, "k%d", &n)
	return n / 10000 % 10
}

// After a resume at the same node nothing is answered that was asked over the earlier connection; a
// wait keeps its place for who asks again, and what the client does not name is let go.
func TestNodesResumeHere(t *testing.T) {
	c := newTestCluster(t, 2, time.Hour)
	home, owner := c.nodes[0], c.nodes[1]
	x, y, z, w := c.name(owner, 0), c.name(owner, 1), c.name(owner, 2), c.name(owner, 3)
	holder := owner.client("holder")
	holder.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
	a := home.client("a")
	said := a.until("hello 2 notices\n0 keep 1000\n", "\n")
	key := strings.TrimSpace(said[strings.LastIndex(said, " ")+1:])
	said = a.until("1 g "+y+"\n", "Lock Get Success: "+y+"\n")
	token := strings.Fields(said)[1]
	a.until("2 g "+z+"\n", "Lock Get Success: "+z+"\n")
	a.feed("1 gw 600000 " + x + "\n2 si " + w + "\n") // of which it hears nothing
	b := owner.client("b")
	c.pump()
	b.feed("gw 600000 " + x + "\n")
	a.Close()
	again := home.client("again")
	_, _, next := again.Advance([]byte("hello 2 notices\n0 resume "+key+" 2 1000\n"), nil)
	if next != Moved {
		t.Fatalf("next is %v", next)
	}
	again.Stream = again.Successor()
	again.until("", " Resumed: "+key+"\n")
	again.until("1 claim "+token+" "+y+"\n", "1 "+token+" Lock Claim Success: "+y+"\n")
	again.feed("1 gw 600000 " + x + "\n")
	again.until("0 claimed\n", "0 1 ok\n")
	c.pump()
	holder.gets("r "+x+"\n", "1 Lock Release Success: "+x+"\n")
	again.until("", "Lock Get Success: "+x+"\n") // before b, who came later
	holder.gets("g "+z+"\n", "1 Lock Get Success: "+z+"\n")
	if b.feed(""); b.got != "" {
		t.Errorf("b is told %q", b.got)
	}
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

// Who has not heard that he was granted a lock asks for it once more when he is back. That he says he has
// claimed all, while this is not answered, lets nothing go that the answer says he has.
func TestNodesAskAgainAfterResume(t *testing.T) {
	c := newTestCluster(t, 2, time.Hour)
	home, owner := c.nodes[0], c.nodes[1]
	x, y, z := c.name(owner, 0), c.name(owner, 1), c.name(owner, 2)
	a := home.client("a")
	key := a.keeps()
	for i, line := range []string{"gw 60000 " + x, "sgw 1 60000 " + y, "gw 60000 " + z} {
		a.until(fmt.Sprintln(i+1, line), "\n") // of which it hears nothing
	}
	a = a.comesBack(key, 2)
	a.feed("1 gw 60000 " + x + "\n2 sgw 1 60000 " + y + "\n0 claimed\n")
	a.until("", "2 1 Shared Lock Get Success: "+y+"\n")
	c.pump()
	other := owner.client("other")
	other.gets("g "+x+"\nsgl 1 "+y+"\ng "+z+"\n", "0 Lock Get Failure: "+x+"\n0 Shared Lock Limit Reached: "+y+"\n1 Lock Get Success: "+z+"\n")
	a.until("1 r "+x+"\n", "1 1 Lock Release Success: "+x+"\n")
	a.until("2 sr "+y+"\n", "2 1 Shared Lock Release Success: "+y+"\n")
	c.pump()
	other.gets("g "+x+"\nsgl 1 "+y+"\n", "1 Lock Get Success: "+x+"\n1 Shared Lock Get Success: "+y+"\n")
}

// A kept client whose node becomes the owner of what it holds is held back until that is claimed, which
// nobody else does: it has it all, and hears that all is well.
func TestNodesHeirIsHome(t *testing.T) {
	c := newTestCluster(t, 3, 2*time.Second)
	dead, heir := c.nodes[0], c.nodes[1]
	a := heir.client("a")
	a.keeps()
	var names []string
	for i := range 3 {
		x := c.name(dead, i)
		names = append(names, x)
		a.until(fmt.Sprint(i+1, " g ", x, "\n"), "Lock Get Success: "+x+"\n")
	}
	c.kill(dead)
	i := slices.IndexFunc(heir.links, func(l *testLink) bool { return l.to == dead.id })
	for l := heir.links[i].up.lease.Load(); l.Left(lease.Now()) > 950*time.Millisecond; time.Sleep(5 * time.Millisecond) {
		c.pump() // until what it holds there is not sure for as long as it is kept
	}
	a.feed("0 ping\n")
	if a.got != "" {
		t.Fatalf("it is told %q", a.got)
	}
	c.inherit(dead, heir)
	began := time.Now()
	a.until("", "0 1 pong\n")
	if d := time.Since(began); d > 400*time.Millisecond {
		t.Errorf("that took %v", d)
	}
	for i, x := range names {
		a.until(fmt.Sprint(i+1, " r ", x, "\n"), fmt.Sprint(i+1, " 1 Lock Release Success: ", x, "\n"))
	}
}

// A kept client is told that it has lost what is not sure for too long, and nobody gets that before it
// cannot believe in it any more: it may be told late.
func TestNodesLimbo(t *testing.T) {
	c := newTestCluster(t, 2, 4*time.Second)
	home, owner := c.nodes[0], c.nodes[1]
	a, other := home.client("a"), owner.client("other")
	a.keeps()
	x, y := c.name(owner, 0), c.name(owner, 1)
	a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n")
	a.until("2 g "+y+"\n", "Lock Get Success: "+y+"\n")
	for _, l := range home.links {
		l.cut = true
	}
	got := ""
	for end := time.Now().Add(20 * time.Second); !strings.Contains(got, "Lost: "+x) || !strings.Contains(got, "Lost: "+y); time.Sleep(time.Millisecond) {
		a.feed("")
		if got += a.got; time.Now().After(end) {
			t.Fatalf("it is told %q", got)
		}
		a.got = ""
	}
	lost := time.Now()
	for _, l := range home.links {
		l.cut = false
	}
	c.pump()
	home.breaks(owner) // and what is claimed over the next connection is what it held
	c.pump()
	a.until("2 gw 10000 "+y+"\n", "Lock Get Success: "+y+"\n")
	other.gets("g "+y+"\n", "0 Lock Get Failure: "+y+"\n")
	other.feed("gw 10000 " + x + "\n")
	for other.got == "" && time.Since(lost) < 10*time.Second {
		c.pump()
		a.feed("")
		other.feed("")
		time.Sleep(time.Millisecond)
	}
	if d := time.Since(lost); other.got != "1 Lock Get Success: "+x+"\n" || d < 900*time.Millisecond {
		t.Errorf("another client is told %q, after %v", other.got, d)
	}
	other.got = ""
	time.Sleep(1100 * time.Millisecond)
	c.pump()
	other.gets("g "+y+"\n", "0 Lock Get Failure: "+y+"\n")
}

// What is in limbo its client does not have, whoever says so: its node, too, while the owner is away. And
// what is not held any more does not stand for what is held.
func TestNodesLimboIsNotHeld(t *testing.T) {
	c := newImpatientCluster(t, 2, 8*time.Second, 50*time.Millisecond, soonest)
	home, owner := c.nodes[0], c.nodes[1]
	a, b := home.client("a"), home.client("b")
	a.keeps()
	b.until("hello 2\n0 keep 1000\n", "\n")
	x, y, z := c.name(owner, 0), c.name(owner, 1), c.name(owner, 2)
	a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n")
	a.until("1 sg "+y+"\n", "Lock Get Success: "+y+"\n")
	b.until("1 g "+z+"\n1 sg "+z+"\n", "Shared Lock Get Success: "+z+"\n")
	for _, l := range home.links {
		l.cut = true
	}
	for got := ""; !strings.Contains(got, "Lost: "+x) || !strings.Contains(got, "Lost: "+y); time.Sleep(time.Millisecond) {
		a.feed("")
		b.feed("")
		got += a.got
		a.got = ""
	}
	home.breaks(owner)
	a.until("1 g "+x+"\n", "1 0 Unavailable: "+x+"\n")
	a.until("1 sg "+y+"\n", "1 0 Unavailable: "+y+"\n")
	a.until("1 r "+x+"\n", "1 1 Lock Release Success: "+x+"\n")
	r := a.sessions[1].remote
	if held, limbo := r.owner.Held(), len(r.limbo); held != 1 || limbo != 1 {
		t.Errorf("%d held, %d in limbo", held, limbo)
	}
	for !home.network.has(b.carrier) { // who wants no notices
		b.feed("")
		time.Sleep(time.Millisecond)
	}
	r = b.sessions[1].remote
	if held, limbo := r.owner.Held(), len(r.limbo); held != 2 || limbo != 2 {
		t.Errorf("without notices: %d held, %d in limbo", held, limbo)
	}
}

// A client that holds very much has all of it, too, after a move and a fail-over.
func TestNodesManyHolds(t *testing.T) {
	c := newTestCluster(t, 3, 10*time.Second)
	from, to, home := c.nodes[0], c.nodes[1], c.nodes[2]
	a, local := home.client("a"), from.client("local")
	var names []string
	for i := range 3000 {
		x := fmt.Sprint("many", i)
		if c.layout.Owner[shard.PartitionOf([]byte(x))] == from.id {
			names = append(names, x)
		}
	}
	for _, one := range []struct {
		*nodeClient
		verb, said string
	}{{a, "g", "1 Lock Get Success: "}, {local, "sg", "1 Shared Lock Get Success: "}} {
		sent, want := "", ""
		for _, x := range names {
			sent += one.verb + " " + x + "\n"
			want += one.said + x + "\n"
		}
		one.gets(sent, want)
	}
	check := func(when string) {
		t.Helper()
		other, sent, want := to.client("other "+when), "", ""
		for _, x := range names {
			sent += "i " + x + "\nsi " + x + "\n"
			want += "1 Lock Is Locked: " + x + "\n1 Shared Lock Is Locked: " + x + "\n"
		}
		other.gets(sent, want)
		other.Close()
	}
	parts := c.owned(from)
	c.move(from, to, parts, nil)
	check("moved")
	c.move(to, from, parts, nil)
	check("moved back")
	c.move(from, to, parts, nil)
	check("moved again")
	c.kill(to) // whose clients are none of these
	c.inherit(to, from, home)
	c.pump()
	for home.hub.Partitions().Recovering+from.hub.Partitions().Recovering > 0 {
		a.feed("")
		local.feed("")
		c.pump()
		time.Sleep(5 * time.Millisecond)
	}
	to = home
	check("failed over")
	if n := home.hub.node.refused.Load() + from.hub.node.refused.Load(); n > 0 {
		t.Errorf("%d claims were refused", n)
	}
}

// A client that ends leaves each node once, however many parts its end takes.
func TestNodesLeaveOnce(t *testing.T) {
	c := newTestCluster(t, 3, time.Hour)
	home := c.nodes[0]
	a := home.client("a")
	sent, want := "", ""
	for i := range 4500 {
		x := fmt.Sprint("much", i)
		sent += "g " + x + "\n"
		want += "1 Lock Get Success: " + x + "\n"
	}
	a.gets(sent, want)
	left := a.main.remote.guest
	for done := false; !done; {
		for _, r := range *left.remotes.Load() { // as soon as one has left
			r.mu.Lock()
			quits := len(r.queue) - r.first
			r.mu.Unlock()
			if quits > 1 {
				t.Fatalf("it says %d times that it leaves", quits)
			}
		}
		a.turn.Begin(0)
		done = a.CloseSome()
	}
	c.pump()
	numbers := &home.hub.node.numbers
	if end, free := numbers.end(), len(numbers.free); int(end) != 1+free {
		t.Errorf("%d numbers, %d of them free", end-1, free)
	}
}

// Of a node that is gone nothing is kept when nobody has anything there.
func TestNodesForgetTheDead(t *testing.T) {
	c := newTestCluster(t, 3, time.Second)
	dead, heir, home := c.nodes[0], c.nodes[1], c.nodes[2]
	a := home.client("a")
	x, y := c.name(dead, 0), c.name(heir, 1)
	a.gets("g "+x+"\nr "+x+"\ng "+y+"\n", "1 Lock Get Success: "+x+"\n1 Lock Release Success: "+x+"\n1 Lock Get Success: "+y+"\n")
	c.kill(dead)
	c.inherit(dead, heir)
	c.pump()
	a.gets("g "+y+"\n", "1 Lock Get Success: "+y+"\n")
	c.publish()
	if n := len(home.hub.node.former); n != 0 {
		t.Errorf("%d links to nodes that are gone", n)
	}
	if n := len(*a.main.remote.guest.remotes.Load()); n != 1 {
		t.Errorf("the client is at %d other nodes", n)
	}
	a.Close()
	c.pump()
	numbers := &home.hub.node.numbers
	if end, free := numbers.end(), len(numbers.free); int(end) != 1+free {
		t.Errorf("%d numbers, %d of them free", end-1, free)
	}
}

// A kept client whose node has not heard of an owner for too long has lost what it held there, and
// nothing else: what it holds at others is no node's to free.
func TestNodesKeepTheRest(t *testing.T) {
	c := newTestCluster(t, 3, 2*time.Second)
	home, silent, fine := c.nodes[0], c.nodes[1], c.nodes[2]
	a := home.client("a")
	a.until("hello 2 notices\n0 keep 1000\n", "\n")
	x, y := c.name(silent, 0), c.name(fine, 1)
	a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n")
	a.until("2 g "+y+"\n", "Lock Get Success: "+y+"\n")
	for _, l := range home.links {
		l.cut = l.to == silent.id
	}
	end := time.Now().Add(3 * time.Second)
	for !home.network.has(a.carrier) && time.Now().Before(end) {
		c.pump()
		time.Sleep(time.Millisecond)
	}
	if !home.network.has(a.carrier) {
		t.Fatal("the client is not told")
	}
	a.Close() // as its connection is ended
	c.pump()
	other := fine.client("other")
	other.gets("g "+y+"\n", "0 Lock Get Failure: "+y+"\n")
}

// A kept client that is not listened to, since an owner is silent, has what it held there when its own
// node serves that: it is claimed although nobody listens.
func TestNodesClaimForWhomNobodyListens(t *testing.T) {
	c := newTestCluster(t, 3, 3*time.Second)
	home, dead, fine := c.nodes[0], c.nodes[1], c.nodes[2]
	a := home.client("a")
	a.until("hello 2 notices\n0 keep 1000\n", "\n")
	x := c.name(dead, 0)
	a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n")
	c.kill(dead)
	for end := time.Now().Add(10 * time.Second); a.got != "" || !a.unsure() && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		a.got = ""
		a.feed("0 ping\n")
		c.pump()
	}
	c.inherit(dead, home)
	if said := a.until("", "0 1 pong\n"); strings.Contains(said, "Lost") {
		t.Errorf("it is told %q", said)
	}
	other := fine.client("other")
	other.gets("g "+x+"\n", "0 Server Recovering: "+x+"\n")
	a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n")
}

// unsure tells whether the client is not listened to, as not all is sure that it holds.
func (c *nodeClient) unsure() bool { return c.keeping.Load().unsure != 0 }

// wokenCarrier counts how often it is woken.
type wokenCarrier struct{ times atomic.Int64 }

func (c *wokenCarrier) Wake() { c.times.Add(1) }

// A client that is not listened to is woken until it is, also if it is served several times in a turn.
func TestNodesWakeWhomNobodyListensTo(t *testing.T) {
	c := newTestCluster(t, 2, time.Hour)
	home := c.nodes[0]
	woken := new(wokenCarrier)
	st := newStream(home.hub, "a", woken)
	defer st.Close()
	st.turn.Begin(0)
	_, out, _ := st.Advance([]byte("hello 2 notices\n0 keep 1000\n"), nil)
	if !strings.Contains(string(out), "Kept Everywhere") {
		t.Fatalf("told %q", out)
	}
	home.hub.Uncertain()
	st.turn.Begin(0)
	for i := range 3 {
		before := woken.times.Load()
		if _, _, next := st.Advance(nil, nil); next != Stalled {
			t.Fatalf("next is %v", next)
		}
		end := time.Now().Add(10 * time.Second)
		for woken.times.Load() == before && time.Now().Before(end) {
			time.Sleep(time.Millisecond)
		}
		if woken.times.Load() == before {
			t.Fatalf("it is not woken after %d times", i+1)
		}
	}
}

// What a kept client is told it counts on for K, and not for the time that others may be silent.
func TestNodesConfirmForK(t *testing.T) {
	c := newImpatientCluster(t, 2, time.Second, 0, soonest)
	home, owner := c.nodes[0], c.nodes[1]
	home.hub.cfg.DeadPeer = time.Minute
	a, plain := home.client("a"), home.client("plain")
	a.until("hello 2 notices\n0 keep 100\n", "\n")
	x, y := c.name(owner, 0), c.name(owner, 1)
	a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n")
	a.until("0 ping\n", "0 1 pong\n")
	plain.gets("g "+y+"\n", "1 Lock Get Success: "+y+"\n")
	plain.gets("ping\n", "0 Unavailable: ping\n")
}

// Whoever claims what a dead node had waits until somebody serves that, however long it takes: a no
// would cost the lock. What is asked behind that is not answered before it.
func TestNodesClaimsArePatient(t *testing.T) {
	const patience = 100 * time.Millisecond
	c := newImpatientCluster(t, 3, 10*time.Second, patience, 0)
	dead, heir, next := c.nodes[0], c.nodes[1], c.nodes[2]
	a := dead.client("a")
	said := a.until("hello 2 notices\n0 keep 1000\n", "\n")
	key := strings.TrimSpace(said[strings.LastIndex(said, " ")+1:])
	x, y, z := c.name(dead, 0), c.name(dead, 1), c.name(dead, 2)
	said = a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n")
	token := strings.Fields(said)[1]
	a.until("2 sg "+y+"\n", "Lock Get Success: "+y+"\n")
	c.kill(dead)
	b := next.client("b")
	b.until("hello 2 notices\n0 resume "+key+" 2 1000\n", "0 0 Claims Open 1: "+key+"\n")
	b.feed("1 claim " + token + " " + x + "\n2 claims 1 " + y + "\n2 sr " + z + "\n0 claimed\n")
	for end := time.Now().Add(5 * patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		c.pump()
		b.feed("")
	}
	if b.got != "" {
		t.Errorf("while nobody serves it: %q", b.got)
	}
	c.inherit(dead, heir)
	said = b.until("", "0 1 ok\n")
	for _, want := range []string{"1 " + token + " Lock Claim Success: " + x, "2 1 Shared Lock Claim Success: " + y + "\n2 1 Shared Lock Release Success: " + z} {
		if !strings.Contains(said, want) {
			t.Errorf("told %q, want %q", said, want)
		}
	}
}

// What is asked of a node that has just come is not late before it has been asked, however long the cluster has
// been there.
func TestNodesNewLinkIsNotLate(t *testing.T) {
	const patience = 500 * time.Millisecond
	c := newImpatientCluster(t, 2, time.Minute, patience, 0)
	home := c.nodes[0]
	time.Sleep(patience + 100*time.Millisecond)
	fresh := c.add("fresh")
	x := c.name(c.nodes[1], 0)
	c.inherit(c.nodes[1], fresh) // to which there is no connection yet
	asked := time.Now()
	a := home.client("a")
	a.feed("hello 2\n1 g " + x + "\n")
	a.got = ""
	l := home.links[len(home.links)-1]
	for first := l.up.tick.Load(); l.up.tick.Load() < first+2; time.Sleep(time.Millisecond) {
	}
	if a.feed(""); a.got != "" && time.Since(asked) < patience {
		t.Errorf("it is told %q after %v", a.got, time.Since(asked))
	}
}

// What a client that has come again does not name is let go, also where its partition has moved before
// it had said all.
func TestNodesLetGoWhatMovesInDoubt(t *testing.T) {
	c := newTestCluster(t, 3, time.Hour)
	home, owner, third := c.nodes[0], c.nodes[1], c.nodes[2]
	for _, to := range []*testNode{home, third} {
		y, z, w := c.name(owner, 0), c.name(owner, 1), c.name(owner, 2)
		a := home.client("a")
		said := a.until("hello 2 notices\n0 keep 1000\n", "\n")
		key := strings.TrimSpace(said[strings.LastIndex(said, " ")+1:])
		said = a.until("1 g "+y+"\n", "Lock Get Success: "+y+"\n")
		token := strings.Fields(said)[1]
		a.until("2 g "+z+"\n", "Lock Get Success: "+z+"\n")
		a.until("3 sg "+w+"\n", "Lock Get Success: "+w+"\n")
		a.Close()
		again := home.client("again")
		if _, _, next := again.Advance([]byte("hello 2 notices\n0 resume "+key+" 2 1000\n"), nil); next != Moved {
			t.Fatalf("next is %v", next)
		}
		again.Stream = again.Successor()
		again.until("", " Resumed: "+key+"\n")
		c.move(owner, to, c.owned(owner), nil)
		for range 20 {
			c.pump()
			again.feed("")
			time.Sleep(time.Millisecond)
		}
		again.until("1 claim "+token+" "+y+"\n", "1 "+token+" Lock Claim Success: "+y+"\n")
		again.until("0 claimed\n", "0 1 ok\n")
		c.pump()
		other := third.client("other")
		other.gets("gw 3000 "+z+"\ng "+y+"\nsi "+w+"\n",
			"1 Lock Get Success: "+z+"\n0 Lock Get Failure: "+y+"\n0 Shared Lock Not Locked: "+w+"\n")
		other.Close()
		again.Close()
		c.pump()
		c.move(to, owner, c.owned(to), nil)
	}
}

// While an answer of the former owner's is on its way, by which a client gets a lock, the new one is not
// told that all is claimed: whoever asks there would get it, too.
func TestNodesAnswerComesBehindMove(t *testing.T) {
	c := newTestCluster(t, 3, 10*time.Second)
	home, owner, third := c.nodes[0], c.nodes[1], c.nodes[2]
	for i, to := range []*testNode{third, home} {
		x := c.name(owner, i)
		a, other := home.client("a"), third.client("other")
		a.until("hello 2\n1 g "+x+"\n1 r "+x+"\n", "Lock Release Success: "+x+"\n")
		l := home.links[slices.IndexFunc(home.links, func(l *testLink) bool { return l.to == owner.id })]
		l.cut = true
		a.feed("1 g " + x + "\n")
		l.turn.Begin(0)
		_, out, _ := l.stream.Advance(l.up.Take(nil), nil) // which does not arrive for now
		c.move(owner, to, c.owned(owner), nil)
		stay := func() {
			for range 40 {
				c.pump()
				a.feed("")
				time.Sleep(5 * time.Millisecond)
			}
			other.gets("g "+x+"\n", "0 Lock Get Failure: "+x+"\n")
		}
		stay()
		if err := l.up.Receive(out); err != nil {
			t.Fatal(err)
		}
		l.cut = false
		a.until("", "Lock Get Success: "+x+"\n")
		stay()
		a.until("1 r "+x+"\n", "1 1 Lock Release Success: "+x+"\n")
		c.move(to, owner, c.owned(to), nil)
	}
}

// What is in limbo, and comes to the client's own node, nobody gets before the client cannot believe in it
// any more. Of what a session had to claim there nothing is left when it has ended.
func TestNodesLimboComesHome(t *testing.T) {
	c := newTestCluster(t, 2, 8*time.Second)
	home, owner := c.nodes[0], c.nodes[1]
	a, other := home.client("a"), home.client("other")
	a.keeps()
	x, y := c.name(owner, 0), c.name(owner, 1)
	a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n")
	for _, l := range home.links {
		l.cut = true
	}
	for got := ""; !strings.Contains(got, "Lost: "+x); time.Sleep(time.Millisecond) {
		a.feed("")
		got += a.got
		a.got = ""
	}
	lost := time.Now()
	c.move(owner, home, c.owned(owner), nil)
	for _, l := range home.links {
		l.cut = false
	}
	other.feed("gw 10000 " + x + "\n")
	for other.got == "" && time.Since(lost) < 10*time.Second {
		c.pump()
		a.feed("")
		other.feed("")
		time.Sleep(time.Millisecond)
	}
	if d := time.Since(lost); other.got != "1 Lock Get Success: "+x+"\n" || d < 900*time.Millisecond {
		t.Errorf("another client is told %q, after %v", other.got, d)
	}
	c.move(home, owner, c.owned(home), nil)
	c.pump()
	a.until("2 g "+y+"\n", "Lock Get Success: "+y+"\n")
	c.move(owner, home, c.owned(owner), nil)
	k := a.keeping.Load()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		c.pump()
		k.homingMu.Lock()
		n := len(k.homing)
		k.homingMu.Unlock()
		if n > 0 {
			break
		}
	}
	a.until("2 r "+y+"\n", "2 1 Lock Release Success: "+y+"\n")
	if len(k.homing) > 0 {
		t.Errorf("%d sessions have something to claim", len(k.homing))
	}
}

// What was not executed at an owner is asked elsewhere, also if the link breaks before all that came behind
// it is answered.
func TestNodesComeBackWithoutLink(t *testing.T) {
	c := newImpatientCluster(t, 3, time.Minute, 100*time.Millisecond, soonest)
	home, owner, third := c.nodes[0], c.nodes[1], c.nodes[2]
	x, y := c.name(owner, 0), c.name(owner, 1)
	a := home.client("a")
	a.until("hello 2\n1 g "+x+"\n1 r "+x+"\n", "Lock Release Success: "+x+"\n")
	l := home.links[slices.IndexFunc(home.links, func(l *testLink) bool { return l.to == owner.id })]
	l.cut = true
	owner.hub.Freeze([]int{shard.PartitionOf([]byte(x))})
	a.feed("1 g " + x + "\n1 g " + y + "\n")
	l.turn.Begin(0)
	_, out, _ := l.stream.Advance(l.up.Take(nil), nil)
	first, _, _ := strings.Cut(string(out), "\n")
	if err := l.up.Receive([]byte(first + "\n")); err != nil || !strings.Contains(first, "Elsewhere: "+x) {
		t.Fatalf("%v, %q", err, out)
	}
	home.breaks(owner)
	a.feed("")
	c.move(owner, third, []int{shard.PartitionOf([]byte(x))}, nil)
	said := a.until("", "1 0 Unavailable: "+y+"\n")
	if !strings.Contains(said, "Lock Get Success: "+x+"\n") {
		t.Errorf("told %q", said)
	}
}

// Who has released a lock, and was not answered as the owner has died, is not ended since somebody else
// has it by now.
func TestNodesReleaseAsOwnerDies(t *testing.T) {
	c := newTestCluster(t, 4, 2*time.Second)
	home, owner, third, heir := c.nodes[0], c.nodes[1], c.nodes[2], c.nodes[3]
	x, y := c.name(owner, 0), c.name(owner, 1)
	a, b := home.client("a"), third.client("b")
	a.until("hello 2\n1 g "+x+"\n1 g "+y+"\n", "Lock Get Success: "+y+"\n")
	l := home.links[slices.IndexFunc(home.links, func(l *testLink) bool { return l.to == owner.id })]
	l.cut = true
	a.feed("1 r " + x + "\n")
	l.turn.Begin(0)
	l.stream.Advance(l.up.Take(nil), nil)
	b.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
	l.cut = false
	c.kill(owner)
	for _, l := range home.links {
		l.cut = l.to == heir.id
	}
	c.inherit(owner, heir)
	c.pump() // so b's claim comes first
	for _, l := range home.links {
		l.cut = false
	}
	a.until("", "1 1 Lock Release Success: "+x+"\n")
	if home.network.has(a.carrier) {
		t.Error("it is ended")
	}
	b.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
	a.until("1 t "+y+"\n", "Lock Token: "+y+"\n")
}

// Who looks out for a link that is away does not rest as long as what is held there is believed: the end of
// that is to be noticed at once. Where nobody ever answers he does.
func TestNodesLookOutForTheEnd(t *testing.T) {
	c := newTestCluster(t, 2, time.Minute)
	home, owner := c.nodes[0], c.nodes[1]
	for _, l := range home.links {
		l.cut = true
	}
	home.breaks(owner)
	away := home.links[0].up
	for end := time.Now().Add(10 * time.Second); !home.hub.node.nobody.rests.Load() && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	time.Sleep(20 * tickEvery)
	if away.rests.Load() || !home.hub.node.nobody.rests.Load() {
		t.Errorf("away: %v, nobody's: %v", away.rests.Load(), home.hub.node.nobody.rests.Load())
	}
}

// A claim whose client has gone before it was answered, and does not hold that any more when he is back, is
// not accepted for ever.
func TestNodesClaimOfAnEarlierLife(t *testing.T) {
	c := newTestCluster(t, 3, time.Minute)
	home, owner, first := c.nodes[0], c.nodes[1], c.nodes[2]
	x, y := c.name(owner, 0), c.name(owner, 1)
	b := first.client("b")
	key := b.keeps()
	token := strings.Fields(b.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n"))[1]
	b.until("1 sg "+y+"\n", "Lock Get Success: "+y+"\n")
	a := home.client("a")
	a.until("hello 2 notices\n0 resume "+key+" 2 1000\n", "Claims Open 1: "+key+"\n")
	a.feed("1 claim " + token + " " + x + "\n1 claims 1 " + y + "\n") // of which it hears nothing
	a.Close()
	again := home.client("again")
	if _, _, next := again.Advance([]byte("hello 2 notices\n0 resume "+key+" 3 1000\n"), nil); next != Moved {
		t.Fatalf("next is %v", next)
	}
	again.Stream = again.Successor()
	again.feed("0 claimed\n")
	again.until("", "0 1 ok\n")
	c.pump()
	other := owner.client("other")
	other.gets("g "+x+"\nsgl 1 "+y+"\n", "1 Lock Get Success: "+x+"\n1 Shared Lock Get Success: "+y+"\n")
	if r := again.sessions[1].remote; r.owner.Held() > 0 {
		t.Errorf("%d held", r.owner.Held())
	}
}

// What a client has asked for again, and moves before that is answered, is decided by who answers.
func TestNodesDecideWhereItIsServed(t *testing.T) {
	c := newTestCluster(t, 3, time.Minute)
	home, owner, third := c.nodes[0], c.nodes[1], c.nodes[2]
	x := c.name(owner, 0)
	a := home.client("a")
	key := a.keeps()
	a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n")
	a = a.comesBack(key, 2)
	l := home.links[slices.IndexFunc(home.links, func(l *testLink) bool { return l.to == owner.id })]
	l.cut = true
	a.feed("1 gw 60000 " + x + "\n")
	a.until("0 claimed\n", "0 1 ok\n")
	undecided := func() (n int) {
		for _, r := range *a.sessions[1].remote.guest.remotes.Load() {
			r.mu.Lock()
			n += len(r.undecided)
			r.mu.Unlock()
		}
		return n
	}
	if n := undecided(); n != 1 {
		t.Fatalf("%d are undecided", n)
	}
	c.move(owner, third, c.owned(owner), nil)
	l.cut = false
	a.until("", "Lock Get Success: "+x+"\n")
	if n := undecided(); n != 0 {
		t.Errorf("%d are undecided still", n)
	}
	other := third.client("other")
	other.gets("g "+x+"\n", "0 Lock Get Failure: "+x+"\n")
}

// What a wait of an earlier connection gets is let go if nobody asks for it: also where its partition has
// moved meanwhile, and where the end of the wait comes too late.
func TestNodesLetGoWhatNobodyAsksFor(t *testing.T) {
	c := newTestCluster(t, 3, time.Minute)
	home, owner, third := c.nodes[0], c.nodes[1], c.nodes[2]
	l := home.links[slices.IndexFunc(home.links, func(l *testLink) bool { return l.to == owner.id })]
	for i, to := range []*testNode{third, home, nil} {
		x := c.name(owner, i)
		holder, a := owner.client("holder"), home.client("a")
		holder.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
		key := a.keeps()
		a.feed("1 gw 60000 " + x + "\n")
		c.pump()
		a = a.comesBack(key, 2)
		l.cut = to == nil
		holder.gets("r "+x+"\n", "1 Lock Release Success: "+x+"\n")
		other := owner.client("other")
		if to == nil {
			l.turn.Begin(0)
			_, out, _ := l.stream.Advance(nil, nil)
			a.until("0 claimed\n", "0 1 ok\n")
			if err := l.up.Receive(out); err != nil {
				t.Fatal(err)
			}
			l.cut = false
			c.pump()
		} else {
			c.pump()
			c.move(owner, to, c.owned(owner), nil)
			for range 20 {
				c.pump()
				a.feed("")
				time.Sleep(time.Millisecond)
			}
			a.until("0 claimed\n", "0 1 ok\n")
		}
		other.gets("gw 3000 "+x+"\n", "1 Lock Get Success: "+x+"\n")
		a.Close()
		if to != nil {
			c.move(to, owner, c.owned(to), nil)
		}
	}
}

// What was claimed elsewhere too late its client has lost: it is let go when the claim is accepted after all,
// and the session goes on there.
func TestNodesLateClaim(t *testing.T) {
	c := newTestCluster(t, 2, 2*time.Second)
	home, heir := c.nodes[0], c.nodes[1]
	a := home.client("a")
	key := a.keeps()
	x, y := c.name(home, 0), c.name(heir, 1)
	a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n")
	a.until("1 g "+y+"\n1 r "+y+"\n", "Lock Release Success: "+y+"\n")
	home.links[0].cut = true
	c.move(home, heir, c.owned(home), nil)
	for !home.network.has(a.carrier) {
		time.Sleep(time.Millisecond)
	}
	home.links[0].cut = false
	c.pump()
	a = a.comesBack(key, 2)
	a.until("0 claimed\n", "0 1 ok\n")
	a.until("1 g "+y+"\n", "Lock Get Success: "+y+"\n")
	other := heir.client("other")
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && other.got == ""; time.Sleep(50 * time.Millisecond) {
		a.feed("0 ping\n") // so it lives, and its link does
		c.pump()
		other.feed("g " + x + "\n")
		if strings.HasPrefix(other.got, "0 ") {
			other.got = ""
		}
	}
	if other.got != "1 Lock Get Success: "+x+"\n" {
		t.Errorf("told %q", other.got)
	}
}

// Who has waited for a lock of his own node's, and is back, is answered what he asks behind requests to
// others.
func TestNodesParkedWaitAndBacklog(t *testing.T) {
	c := newTestCluster(t, 2, time.Minute)
	home, owner := c.nodes[0], c.nodes[1]
	x, y, z := c.name(home, 0), c.name(owner, 1), c.name(home, 2)
	holder, a := home.client("holder"), home.client("a")
	holder.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
	key := a.keeps()
	token := strings.Fields(a.until("1 g "+y+"\n", "Lock Get Success: "+y+"\n"))[1]
	a.until("1 sg "+z+"\n", "Lock Get Success: "+z+"\n")
	a.feed("1 gw 60000 " + x + "\n")
	a = a.comesBack(key, 2)
	a.feed("1 claim " + token + " " + y + "\n1 claims 1 " + z + "\n1 gw 60000 " + x + "\n0 claimed\n")
	a.until("", "0 1 ok\n")
	holder.gets("r "+x+"\n", "1 Lock Release Success: "+x+"\n")
	a.until("", "Lock Get Success: "+x+"\n")
}

// A kept client that has come to another node has what it held also where that has moved before it has said
// so: its former node cannot claim it any more.
func TestNodesStandInForWhoHasLeft(t *testing.T) {
	c := newTestCluster(t, 4, 2*time.Second)
	first, owner, home, heir := c.nodes[0], c.nodes[1], c.nodes[2], c.nodes[3]
	x, y, z := c.name(owner, 0), c.name(owner, 1), c.name(heir, 2)
	a := first.client("a")
	key := a.keeps()
	token := strings.Fields(a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n"))[1]
	a.until("1 sg "+y+"\n", "Lock Get Success: "+y+"\n")
	a.Close()
	b := home.client("b")
	b.until("hello 2 notices\n0 resume "+key+" 2 1000\n", "Claims Open 1: "+key+"\n")
	b.until("1 i "+z+"\n", "Not Locked: "+z+"\n")
	c.move(owner, heir, c.owned(owner), nil)
	for range 40 {
		c.pump()
		time.Sleep(5 * time.Millisecond)
	}
	b.until("1 claim "+token+" "+x+"\n", "1 "+token+" Lock Claim Success: "+x+"\n")
	b.until("0 claimed\n", "0 1 ok\n")
	other := heir.client("other")
	other.gets("g "+x+"\n", "0 Lock Get Failure: "+x+"\n")
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) { // what it has not claimed goes in the end
		other.feed("sgl 1 " + y + "\n")
		if other.got == "1 Shared Lock Get Success: "+y+"\n" {
			break
		}
		other.got = ""
		if c.pump(); time.Now().After(end) {
			t.Fatal("it is never let go")
		}
	}
}
