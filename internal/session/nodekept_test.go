package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/shard"
)

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

// After a resume at the same node nothing is answered that was asked over the earlier connection; a
// wait keeps its place for who asks again, and what the client does not name is let go.
func TestNodesResumeHere(t *testing.T) {
	c := newTestCluster(t, 2, time.Hour)
	home, owner := c.nodes[0], c.nodes[1]
	x, y, z, w := c.name(owner, 0), c.name(owner, 1), c.name(owner, 2), c.name(owner, 3)
	holder := owner.client("holder")
	holder.gets("g "+x+"\n", "1 Lock Get Success: "+x+"\n")
	a := home.client("a")
	key := a.keeps()
	said := a.until("1 g "+y+"\n", "Lock Get Success: "+y+"\n")
	token := strings.Fields(said)[1]
	a.until("2 g "+z+"\n", "Lock Get Success: "+z+"\n")
	a.feed("1 gw 600000 " + x + "\n2 si " + w + "\n") // of which it hears nothing
	b := owner.client("b")
	c.pump()
	b.feed("gw 600000 " + x + "\n")
	again := a.comesBack(key, 2)
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

// What was not executed at an owner is asked elsewhere, also if the link breaks before all that came behind
// it is answered.
func TestNodesComeBackWithoutLink(t *testing.T) {
	c := newImpatientCluster(t, 3, time.Minute, 100*time.Millisecond, soonest)
	home, owner, third := c.nodes[0], c.nodes[1], c.nodes[2]
	x, y := c.name(owner, 0), c.name(owner, 1)
	a := home.client("a")
	a.until("hello 2\n1 g "+x+"\n1 r "+x+"\n", "Lock Release Success: "+x+"\n")
	l := home.linkTo(owner)
	l.cut = true
	owner.hub.Freeze([]int{shard.PartitionOf([]byte(x))})
	a.feed("1 g " + x + "\n1 g " + y + "\n")
	out := l.answers()
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
