package session

import (
	"fmt"
	"strings"
	"testing"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
)

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
	if a.feed(""); a.got != "" && time.Since(asked) < patience-2*tickEvery {
		t.Errorf("it is told %q after %v", a.got, time.Since(asked))
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
	l := home.linkTo(owner)
	l.cut = true
	a.feed("1 r " + x + "\n")
	l.answers()
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

// What somebody asks by an older map of whom nobody serves, when all that others had asked there has been taken
// back, is asked of its owner all the same.
func TestNodesAskByAnOlderMap(t *testing.T) {
	c := newTestCluster(t, 3, time.Minute)
	home, dead, heir := c.nodes[0], c.nodes[1], c.nodes[2]
	x, y := c.name(dead, 0), c.name(heir, 0)
	a := home.client("a")
	key := a.keepsFor(15 * time.Second)
	said := a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n")
	claim := "1 claim " + strings.Fields(said)[1] + " " + x + "\n"
	a = a.comesBack(key, 2)
	c.kill(dead)
	c.publish() // it is not registered any more, and nobody serves what it did
	older := home.hub.node.routes.Load()
	c.inherit(dead, heir)
	newer := home.hub.node.routes.Swap(older)
	a.feed(claim)
	home.hub.node.routes.Store(newer)
	a.until("", "Claim Success: "+x+"\n")
	a.until("1 g "+y+"\n", "Lock Get Success: "+y+"\n")
}
