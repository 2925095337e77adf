package session

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

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

// What a client that has come again does not name is let go, also where its partition has moved before
// it had said all.
func TestNodesLetGoWhatMovesInDoubt(t *testing.T) {
	c := newTestCluster(t, 3, time.Hour)
	home, owner, third := c.nodes[0], c.nodes[1], c.nodes[2]
	for _, to := range []*testNode{home, third} {
		y, z, w := c.name(owner, 0), c.name(owner, 1), c.name(owner, 2)
		a := home.client("a")
		key := a.keeps()
		said := a.until("1 g "+y+"\n", "Lock Get Success: "+y+"\n")
		token := strings.Fields(said)[1]
		a.until("2 g "+z+"\n", "Lock Get Success: "+z+"\n")
		a.until("3 sg "+w+"\n", "Lock Get Success: "+w+"\n")
		again := a.comesBack(key, 2)
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
		l := home.linkTo(owner)
		l.cut = true
		a.feed("1 g " + x + "\n")
		out := l.answers()
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

// What a client has asked for again, and moves before that is answered, is decided by who answers.
func TestNodesDecideWhereItIsServed(t *testing.T) {
	c := newTestCluster(t, 3, time.Minute)
	home, owner, third := c.nodes[0], c.nodes[1], c.nodes[2]
	x := c.name(owner, 0)
	a := home.client("a")
	key := a.keeps()
	a.until("1 g "+x+"\n", "Lock Get Success: "+x+"\n")
	a = a.comesBack(key, 2)
	l := home.linkTo(owner)
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
	l := home.linkTo(owner)
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
