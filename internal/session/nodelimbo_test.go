package session

import (
	"strings"
	"testing"
	"time"
)

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
	other.getsWhatIsLost(x, a, lost)
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
	other.getsWhatIsLost(x, a, lost)
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

// getsWhatIsLost has a client wait for what another one was told to have lost: it has it when that one cannot believe
// in it any more.
func (c *nodeClient) getsWhatIsLost(name string, by *nodeClient, told time.Time) {
	c.n.c.t.Helper()
	c.feed("gw 10000 " + name + "\n")
	for c.got == "" && time.Since(told) < 10*time.Second {
		c.n.c.pump()
		by.feed("")
		c.feed("")
		time.Sleep(time.Millisecond)
	}
	if d := time.Since(told); c.got != "1 Lock Get Success: "+name+"\n" || d < 900*time.Millisecond {
		c.n.c.t.Errorf("another client is told %q, after %v", c.got, d)
	}
}
