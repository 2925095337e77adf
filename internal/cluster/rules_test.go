package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The numbers are those of the rules in docs/cluster.md.

var bg = context.Background()

// once has a wire do something to the next request of a kind, and only to that.
func once(op string, f fault) func(string) fault {
	done := false
	return func(got string) fault {
		if got != op || done {
			return fault{}
		}
		done = true
		return f
	}
}

// cluster is a world whose nodes have had their partitions given, and then stand still:
// what follows is done step by step.
func standing(t *testing.T, nodes int) *world {
	w := newWorld(t, nodes)
	for _, n := range w.nodes {
		n.run()
	}
	w.settled("even", 2*time.Minute, w.even)
	for _, n := range w.nodes {
		n.stop()
	}
	synctest.Wait()
	for _, step := range []func(*testNode) bool{
		func(n *testNode) bool { return n.beat(bg) },
		func(n *testNode) bool { return n.look(bg) },
	} {
		for _, n := range w.nodes { // whatever hung when it was stopped
			if !step(n) {
				t.Fatal("a node does not stand")
			}
			n.wire.sent = nil
		}
	}
	return w
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// Rule 2: who has lost its registration drops everything and takes a new ID.
func TestDeposed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 2)
		n := w.nodes[0]
		was := n.Self()
		w.keys.remove(was)
		if n.beat(bg) || n.deposals != 1 || n.Right() != 0 || n.Self() != "" {
			t.Fatalf("deposed %d times, right %v, ID %q", n.deposals, n.Right(), n.Self())
		}
		if s := n.Status(); s.Serving+s.Recovering+s.Frozen > 0 {
			t.Errorf("it has not dropped everything: %+v", s)
		}
		if !n.beat(bg) || n.Self() == was || n.Right() <= n.now() {
			t.Errorf("it is %q, and was %q", n.Self(), was)
		}
		if s := n.Status(); s.Serving+s.Recovering > 0 {
			t.Errorf("under the new ID it has what the old one had: %+v", s)
		}
	})
}

// Rule 2: a process that comes back within W, under its old name, has nothing.
func TestRestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 2)
		n := w.nodes[0]
		was := n.Self()
		n.join()
		if !n.beat(bg) || n.Self() == was {
			t.Fatalf("it is %q, and was %q", n.Self(), was)
		}
		if s := n.Status(); s.Serving+s.Recovering > 0 {
			t.Errorf("it serves: %+v", s)
		}
		if w.keys.nodes[was] == "" {
			t.Error("the old registration is gone")
		}
	})
}

// Rule 3: the right counts from when the request was sent.
func TestRightFromSend(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 1)
		n := w.nodes[0]
		n.wire.fault = once("beat", fault{before: 700 * time.Millisecond, after: 800 * time.Millisecond})
		sent := n.now()
		if !n.beat(bg) {
			t.Fatal("no answer")
		}
		if got, want := n.Right(), sent+DefaultW; got != want {
			t.Errorf("the right lasts until %v, want %v", got, want)
		}
		if h := n.Health(); h.RoundTrip != 1500*time.Millisecond {
			t.Errorf("round trip %v", h.RoundTrip)
		}
	})
}

// Rule 3: a request that was lost gives no right. The next try has the same value, and
// counts from its own sending.
func TestRightAfterLoss(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 1)
		n := w.nodes[0]
		right := n.Right()
		n.wire.fault = once("beat", fault{lost: true})
		if n.beat(bg) || n.Right() != right {
			t.Fatalf("the right went from %v to %v by a lost request", right, n.Right())
		}
		tried := *n.pending
		sent := n.now()
		if !n.beat(bg) || n.Right() != sent+DefaultW {
			t.Errorf("the right lasts until %v, sent at %v", n.Right(), sent)
		}
		if got := w.keys.nodes[n.Self()]; got != tried.Encode() {
			t.Errorf("the second try had another value: %s, not %s", got, tried.Encode())
		}
	})
}

// Rule 3: an answer that was lost: the next try finds its own value there, and the
// right counts from when the first was sent.
func TestRightAfterSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 1)
		n := w.nodes[0]
		time.Sleep(time.Second)
		first := n.now()
		n.wire.fault = once("beat", fault{silent: true})
		if n.beat(bg) {
			t.Fatal("an answer")
		}
		ceil := n.Ceil()
		if !n.beat(bg) || n.Right() != first+DefaultW {
			t.Errorf("the right lasts until %v, first sent at %v", n.Right(), first)
		}
		if n.deposals > 0 || n.Ceil() <= ceil {
			t.Errorf("deposed %d times, ceiling %d after %d", n.deposals, n.Ceil(), ceil)
		}
	})
}

// Rule 3: the same for a registration.
func TestRegisterAfterSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		n := w.nodes[0]
		n.wire.fault = once("register", fault{silent: true})
		first := n.now()
		if n.beat(bg) || n.Right() != 0 {
			t.Fatal("an answer")
		}
		if !n.beat(bg) || n.Right() != first+DefaultW || len(w.keys.nodes) != 1 {
			t.Errorf("the right lasts until %v, first sent at %v; %d nodes", n.Right(), first, len(w.keys.nodes))
		}
	})
}

// Rule 3: an answer that comes when nobody waits for it any more moves nothing.
func TestLateBeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 1)
		n := w.nodes[0]
		n.wire.fault = once("beat", fault{late: time.Second})
		n.beat(bg)
		right := n.Right()
		time.Sleep(2 * time.Second)
		if n.Right() != right {
			t.Errorf("the right went from %v to %v by itself", right, n.Right())
		}
		if !n.beat(bg) || n.Right() > n.now()+DefaultW-2*time.Second || n.deposals > 0 {
			t.Errorf("the right lasts for %v, for a request of 3.7 s ago", n.Right()-n.now())
		}
	})
}

// Rule 4: an outage longer than W ends the right. The table stays, and goes on with the
// first beat that succeeds.
func TestOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 1)
		n := w.nodes[0]
		n.wire.fault = func(string) fault { return fault{down: true} }
		n.beat(bg)
		time.Sleep(DefaultW + 2*time.Second)
		if n.now() < n.Right() {
			t.Fatal("it has the right still")
		}
		n.wire.fault = nil
		if !n.beat(bg) || n.now() >= n.Right() || n.deposals > 0 {
			t.Fatalf("right %v of %v, deposed %d times", n.Right(), n.now(), n.deposals)
		}
		if s := n.Status(); s.Serving != Partitions {
			t.Errorf("it has not all it had: %+v", s)
		}
		if h := n.Health(); h.WithoutRight < 2*time.Second || h.RightLeast != 0 {
			t.Errorf("health: %+v", h)
		}
	})
}

// Rule 6: a deletion compares: a node that beats after all, between the look and the
// deletion, stays, and so does one whose map has changed.
func TestDeletionCompares(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 2)
		a, b := w.nodes[0], w.nodes[1]
		slept := func() {
			for range 12 {
				time.Sleep(DefaultW / 10)
				a.beat(bg)
				if !a.look(bg) {
					t.Fatal("no look")
				}
			}
		}
		beats := false
		a.wire.fault = func(op string) fault {
			if op == "commit" && !beats {
				beats = true
				v, _ := w.keys.view() // the keyspace is locked
				n := *v.Node(b.value.ID)
				n.Seq, n.raw = n.Seq+1, ""
				w.keys.put(n)
			}
			return fault{}
		}
		for !beats {
			slept()
		}
		if len(w.keys.nodes) != 2 || w.keys.deleted > 0 {
			t.Fatal("it is deleted, though it lives")
		}
	})
}

// Rule 7, 13: who is silent is deleted in one transaction with all that was its own,
// which others recover, above its ceiling.
func TestFailOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.nodes[2].skew = 30 * time.Second // its tokens are ahead
		for _, n := range w.nodes {
			n.run()
		}
		w.settled("even", 2*time.Minute, w.even)
		dead := w.nodes[2]
		ceil, was := dead.Ceil(), w.keys.read().Map
		dead.kill()
		killed := time.Now()
		w.settled("given away", 3*DefaultW, func() bool { return len(w.keys.read().Nodes) == 2 })
		if took := time.Since(killed); took < DefaultW {
			t.Errorf("it was deleted after %v", took)
		}
		m := w.keys.read().Map
		if m.Base < ceil || m.Version != was.Version+1 {
			t.Errorf("base %d, the dead node's ceiling %d; version %d after %d", m.Base, ceil, m.Version, was.Version)
		}
		for i, p := range m.Partitions {
			switch old := was.Partitions[i]; {
			case old.Owner != dead.self && p != old:
				t.Fatalf("partition %d was not its own, and becomes %+v", i, p)
			case old.Owner == dead.self && (p.Owner == dead.self || p.Nonce != 0 || p.Epoch != old.Epoch+1):
				t.Fatalf("partition %d becomes %+v", i, p)
			}
		}
		w.add("n3", 1).run() // to which nothing moves before all have recovered
		w.settled("even", 2*time.Minute, w.even)
		w.check()
	})
}

// Rule 8: without the acknowledgement of the copy nothing is committed.
func TestMoveUncopied(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 2)
		a, b := w.nodes[0], w.nodes[1]
		w.copies = func(from, to *testNode) (bool, bool, time.Duration) { return false, true, 0 }
		parts := a.View().Map.Owned(a.Self())[:10]
		a.move(bg, a.View(), Move{a.Self(), b.Self(), parts})
		if slices.Contains(a.wire.sent, "commit") {
			t.Error("it was committed")
		}
		if s := a.Status(); s.Frozen > 0 || s.Serving != Partitions/2 {
			t.Errorf("%+v", s)
		}
		if h := a.Health(); h.MovesFailed != 10 || h.Moves != 0 || h.FrozenMost != DefaultW {
			t.Errorf("%+v", h)
		}
	})
}

// moved plays a move in which something happens to the commits, and returns what
// becomes of it.
func moved(t *testing.T, w *world, fault func(op string) fault) (stays bool) {
	t.Helper()
	a, b := w.nodes[0], w.nodes[1]
	seen := a.View().Map
	parts := seen.Owned(a.Self())[:10]
	a.wire.fault = fault
	go func() {
		for range 400 { // what the host does meanwhile
			time.Sleep(100 * time.Millisecond)
			a.turn()
			b.turn()
			w.alone()
			w.mu.Lock()
			if a.parts[parts[0]].own && !a.parts[parts[0]].frozen && a.last.Version == seen.Version {
				w.breaks("it is thawed under the map that the move was compared with")
			}
			w.mu.Unlock()
		}
	}()
	a.move(bg, a.View(), Move{a.Self(), b.Self(), parts})
	time.Sleep(20 * time.Second) // what is late comes
	a.wire.fault = nil
	for _, n := range w.nodes {
		n.look(bg)
		n.beat(bg)
		n.turn()
	}
	w.alone()
	time.Sleep(time.Minute)
	m := w.keys.read().Map
	stays = m.Partitions[parts[0]].Owner == a.Self()
	for _, p := range parts {
		switch {
		case stays && (!a.parts[p].own || a.parts[p].frozen):
			t.Errorf("partition %d is its own, and not served: %+v", p, a.parts[p])
		case !stays && (a.parts[p].own || !b.parts[p].own || b.parts[p].recovered != 0):
			t.Errorf("partition %d was moved: %+v, %+v", p, a.parts[p], b.parts[p])
		}
	}
	w.check()
	return stays
}

// Rule 8: the ways that a commit can go.
func TestMove(t *testing.T) {
	commits := func(of ...fault) func(string) fault {
		return func(op string) fault {
			if op != "commit" || len(of) == 0 {
				return fault{}
			}
			f := of[0]
			of = of[1:]
			return f
		}
	}
	reads := func(n int, of func(string) fault) func(string) fault {
		return func(op string) fault {
			if op == "read" && n > 0 {
				n--
				return fault{lost: true}
			}
			return of(op)
		}
	}
	lost, silent, late := fault{lost: true}, fault{silent: true}, fault{late: 10 * time.Second}
	for name, c := range map[string]struct {
		fault func(string) fault
		stays bool
	}{
		"answered":             {commits(), false},
		"answer lost":          {commits(silent), false},
		"lost once":            {commits(lost), false},
		"lost twice":           {commits(lost, lost), true}, // written back
		"late twice":           {commits(late, late), true},
		"late, reads lost":     {reads(3, commits(late, late, late)), true},
		"late write-back":      {commits(late, late, late), true},
		"silent, reads lost":   {reads(4, commits(silent)), false},
		"late for less":        {commits(fault{late: time.Second}, lost), false},
		"write-back is silent": {commits(lost, lost, silent), true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				if got := moved(t, standing(t, 2), c.fault); got != c.stays {
					t.Errorf("it stays: %v", got)
				}
			})
		})
	}
}

// Rule 8: a move whose target was deleted meanwhile fails, and is thawed under the map
// that the deletion made.
func TestMoveToDeleted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 2)
		a, b := w.nodes[0], w.nodes[1]
		v := a.View()
		first := true
		a.wire.fault = func(op string) fault {
			if op == "commit" && first {
				first = false
				now, _ := w.keys.view()
				if !w.keys.commit(farewell(now, *now.Node(b.value.ID))) {
					t.Error("it was not deleted")
				}
			}
			return fault{}
		}
		a.move(bg, v, Move{a.Self(), b.Self(), v.Map.Owned(a.Self())[:10]})
		if s := a.Status(); s.Frozen > 0 || s.Serving+s.Recovering != Partitions {
			t.Errorf("%+v", s)
		}
		if h := a.Health(); h.MovesFailed != 10 {
			t.Errorf("%+v", h)
		}
	})
}

// Rule 13: the ceiling is above the clock and the highest token, is good only once it
// is confirmed, and never goes back.
func TestCeil(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 1)
		n := w.nodes[0]
		n.highest = uint64(time.Now().Add(time.Hour).UnixMicro())
		before := n.Ceil()
		n.wire.fault = once("beat", fault{silent: true})
		if n.beat(bg); n.Ceil() != before {
			t.Error("a ceiling that is not confirmed counts")
		}
		if n.beat(bg); n.Ceil() != n.highest+60e6 {
			t.Errorf("ceiling %d, highest token %d", n.Ceil(), n.highest)
		}
		before = n.Ceil()
		n.highest, n.skew = 0, -time.Hour
		if n.beat(bg); n.Ceil() != before {
			t.Errorf("the ceiling went from %d to %d", before, n.Ceil())
		}
		n.highest = 1<<53 - 2
		if n.beat(bg); n.Ceil() != 1<<53 {
			t.Errorf("ceiling %d", n.Ceil())
		}
	})
}

// Rule 13: a process that lost its registration goes on above its earlier ceiling.
func TestCeilOfNextLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 1)
		n := w.nodes[0]
		before := n.Ceil()
		w.keys.remove(n.Self())
		n.skew = -time.Hour
		n.beat(bg)
		if n.beat(bg); n.Ceil() < before {
			t.Errorf("ceiling %d after %d", n.Ceil(), before)
		}
	})
}

// Rule 14: nothing is made up where there is no cluster, and a newer one is left alone.
func TestJoin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		conf := w.keys.conf
		w.keys.conf = ""
		opts := w.nodes[0].opts
		if _, err := Join(bg, opts); !errors.Is(err, ErrNoCluster) {
			t.Errorf("an empty store: %v", err)
		}
		c, _ := DecodeConf(conf)
		c.Protocol = 2
		w.keys.conf = c.Encode()
		if _, err := Join(bg, opts); err == nil {
			t.Error("a cluster of a newer protocol is joined")
		}
	})
}

// Rule 14: a snapshot: whoever beat since has another value than the one in it, drops
// everything and joins anew. All recovers.
func TestRestored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 2)
		s := w.keys.snapshot()
		for _, n := range w.nodes {
			n.beat(bg)
		}
		time.Sleep(DefaultW + time.Second)
		w.keys.restore(s)
		for _, n := range w.nodes {
			n.run()
		}
		time.Sleep(time.Second)
		for _, n := range w.nodes {
			if n.deposals != 1 {
				t.Errorf("%s was deposed %d times", n.name, n.deposals)
			}
		}
		w.settled("even", 3*time.Minute, w.even)
		w.check()
	})
}

// Rule 14: a snapshot that has the node's own last value, but an older map, or another
// of the same version.
func TestRewound(t *testing.T) {
	for name, again := range map[string]int{"older": 0, "same version": 1} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := standing(t, 2)
				a := w.nodes[0]
				s := w.keys.snapshot()
				change := func() {
					w.keys.bump()
				}
				change()
				a.look(bg)
				w.keys.restore(s)
				for range again {
					change()
				}
				if a.beat(bg) || a.deposals != 1 || a.Right() != 0 || a.Health().Rewinds != 1 {
					t.Errorf("deposed %d times, right %v, %d rewinds", a.deposals, a.Right(), a.Health().Rewinds)
				}
			})
		})
	}
}

// Rule 15: an outage of the store for all, for longer than W: nobody is deleted.
func TestNobodyDeletedAfterOutage(t *testing.T) {
	for _, way := range []fault{{down: true}, {lost: true}} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, 3)
			for _, n := range w.nodes {
				n.run()
			}
			w.settled("even", 2*time.Minute, w.even)
			before := w.keys.read().Map
			for _, n := range w.nodes {
				n.wire.mu.Lock()
				n.wire.fault = func(string) fault { return way }
				n.wire.mu.Unlock()
			}
			time.Sleep(DefaultW + 2*time.Second)
			// It comes back for one long before the others.
			for i, n := range w.nodes {
				n.wire.mu.Lock()
				n.wire.fault = nil
				n.wire.mu.Unlock()
				if i == 0 {
					time.Sleep(4 * time.Second)
				}
			}
			time.Sleep(time.Minute)
			if after := w.keys.read(); len(after.Nodes) != 3 || w.keys.deleted > 0 || !after.Map.same(before) {
				t.Errorf("%d nodes, %d deleted, map %d after %d", len(after.Nodes), w.keys.deleted, after.Map.Version, before.Version)
			}
			for _, n := range w.nodes {
				if n.deposals > 0 || n.Health().Restarts == 0 {
					t.Errorf("%s was deposed %d times, its silences begun anew %d times", n.name, n.deposals, n.Health().Restarts)
				}
				n.stop()
			}
			w.check()
		})
	}
}

// Rule 15: a balancer that was away, its reads failed or not made, counts silence from
// when it is back.
func TestSilenceAfterGap(t *testing.T) {
	for name, away := range map[string]func(n *testNode){
		"failed": func(n *testNode) {
			n.wire.fault = func(string) fault { return fault{down: true} }
			for range 4 {
				time.Sleep(DefaultW / 3)
				n.look(bg)
			}
			n.wire.fault = nil
		},
		"failed once": func(n *testNode) {
			for range 3 {
				time.Sleep(DefaultW / 3)
				n.beat(bg)
				n.look(bg)
			}
			n.wire.fault = once("read", fault{down: true})
			n.look(bg)
		},
		"paused": func(n *testNode) { time.Sleep(2 * DefaultW) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := standing(t, 2)
				a, b := w.nodes[0], w.nodes[1]
				_ = b // never beats again
				away(a)
				back := time.Now()
				for len(w.keys.read().Nodes) == 2 {
					a.beat(bg)
					a.look(bg)
					time.Sleep(DefaultW / 10)
					if time.Since(back) > 5*DefaultW {
						t.Fatal("it is never deleted")
					}
				}
				if took := time.Since(back); took < DefaultW*11/10 {
					t.Errorf("deleted %v after the balancer was back", took)
				}
			})
		})
	}
}

// Rule 15: the time that a read's own answer takes is nobody's silence.
func TestSilenceOfSlowReads(t *testing.T) {
	s := newSilences(Conf{W: DefaultW})
	s.saw(10*time.Second, map[string]string{"a": "1"})
	s.saw(12*time.Second, map[string]string{"a": "1"})
	if got := s.silent("a", 11*time.Second); got != time.Second {
		t.Errorf("silent for %v", got)
	}
	s.saw(14*time.Second, map[string]string{"a": "2"})
	if got := s.silent("a", 13*time.Second); got != 0 {
		t.Errorf("silent for %v", got)
	}
}

// An unregistered owner may have the right still: it is waited for, too.
func TestUnregisteredOwner(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 2)
		a, b := w.nodes[0], w.nodes[1]
		ceil := b.Ceil()
		w.keys.remove(b.Self())
		gone := time.Now()
		for len(w.keys.read().Map.Owned(b.Self())) > 0 {
			a.beat(bg)
			a.look(bg)
			a.turn()
			b.turn()
			w.alone()
			time.Sleep(DefaultW / 10)
			if time.Since(gone) > 5*DefaultW {
				t.Fatal("it owns them for ever")
			}
		}
		if took := time.Since(gone); took < DefaultW {
			t.Errorf("given away after %v", took)
		}
		if m := w.keys.read().Map; m.Base < ceil {
			t.Errorf("base %d is below its ceiling %d", m.Base, ceil)
		}
		w.check()
	})
}

// Who leaves with a drain hands everything over: nothing recovers.
func TestLeaveDrained(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 3)
		for _, n := range w.nodes {
			n.run()
		}
		w.settled("even", 2*time.Minute, w.even)
		n := w.nodes[1]
		left := make(chan error, 1)
		go func() { left <- n.Leave(bg, true) }()
		w.settled("left", 2*time.Minute, func() bool { return len(left) > 0 })
		if err := <-left; err != nil {
			t.Error(err)
		}
		w.mu.Lock()
		n.dead = true
		w.mu.Unlock()
		v := w.keys.read()
		if len(v.Nodes) != 2 {
			t.Errorf("%d nodes are registered", len(v.Nodes))
		}
		for _, other := range []*testNode{w.nodes[0], w.nodes[2]} {
			if s := other.Status(); s.Recovering > 0 {
				t.Errorf("%s recovers: %+v", other.name, s)
			}
		}
		w.settled("even", time.Minute, w.even)
		w.check()
	})
}

// Who just leaves is not waited for.
func TestLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		for _, n := range w.nodes {
			n.run()
		}
		w.settled("even", 2*time.Minute, w.even)
		n := w.nodes[1]
		begun, ceil := time.Now(), n.Ceil()
		n.wire.fault = once("commit", fault{silent: true})
		if err := n.Leave(bg, false); err != nil || n.Right() != 0 {
			t.Errorf("%v, right %v", err, n.Right())
		}
		if took := time.Since(begun); took > DefaultW {
			t.Errorf("it took %v", took)
		}
		w.nodes[1].dead = true
		v := w.keys.read()
		if len(v.Nodes) != 1 || len(v.Map.Owned(w.nodes[0].Self())) != Partitions || v.Map.Base < ceil {
			t.Errorf("%d nodes, base %d", len(v.Nodes), v.Map.Base)
		}
		// The last one.
		if err := w.nodes[0].Leave(bg, true); err != nil {
			t.Error(err)
		}
		if v := w.keys.read(); len(v.Nodes) != 0 {
			t.Errorf("%d nodes", len(v.Nodes))
		}
		w.check()
	})
}

// A drain empties a node, and its end fills it again. With rebalancing off, who joins
// gets nothing.
func TestWants(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 3)
		for _, n := range w.nodes {
			n.run()
		}
		w.settled("even", 2*time.Minute, w.even)
		want := func(change func(Want) Want) {
			v := w.keys.read()
			if ok, err := w.nodes[0].wire.PutWant(bg, v.Want, change(v.Want)); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		owned := func(i int) int { return len(w.keys.read().Map.Owned(w.nodes[i].Self())) }
		want(func(w Want) Want { return w.Drain("n1", true) })
		w.settled("drained", time.Minute, func() bool { return owned(1) == 0 })
		want(func(w Want) Want { w = w.Drain("n1", false); w.Still = true; return w })
		time.Sleep(time.Minute)
		if owned(1) > 0 {
			t.Error("it is filled, though nothing shall be evened out")
		}
		want(func(w Want) Want { w.Still = false; w.raw = ""; return w })
		w.settled("even", time.Minute, w.even)
		w.check()
	})
}

// Without watches everything works, a beat later.
func TestDeaf(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		for _, n := range w.nodes {
			n.wire.deaf = true
			n.run()
		}
		w.settled("even", 2*time.Minute, w.even)
		late := w.add("n2", 1)
		late.wire.deaf = true
		late.run()
		w.settled("even", 2*time.Minute, w.even)
		w.check()
	})
}

// Answers that overtake each other: the older map is not adopted any more, and that it
// is older is no rewind.
func TestOvertaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 1)
		n := w.nodes[0]
		n.wire.fault = once("read", fault{after: time.Second})
		go n.look(bg)
		time.Sleep(time.Second / 2)
		w.keys.bump()
		n.beat(bg)
		adopted := n.last.Version
		time.Sleep(time.Second)
		if n.last.Version != adopted || n.View().Map.Version != adopted || n.deposals > 0 {
			t.Errorf("map %d after %d, deposed %d times", n.last.Version, adopted, n.deposals)
		}
		w.check()
	})
}

// An answer to a request of an earlier life is not used in the next.
func TestAnswerOfEarlierLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 2)
		n := w.nodes[0]
		n.wire.fault = once("beat", fault{after: time.Second})
		go n.beat(bg)
		time.Sleep(time.Second / 2)
		w.keys.remove(n.Self())
		life := n.stamp().life
		n.deposed(life) // found by another request
		time.Sleep(time.Second)
		if n.Right() != 0 || n.Self() != "" || n.last != nil {
			t.Errorf("right %v, ID %q", n.Right(), n.Self())
		}
	})
}

// A balancer whose own registration was deleted, by hand, between its look and its
// transaction, deletes nobody.
func TestDeletionByDeleted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 2)
		a := w.nodes[0]
		tried := false
		a.wire.fault = func(op string) fault {
			if op == "commit" {
				tried = true
				delete(w.keys.nodes, a.value.ID)
			}
			return fault{}
		}
		for !tried {
			time.Sleep(DefaultW / 10)
			a.beat(bg)
			a.look(bg)
		}
		if w.keys.deleted > 0 {
			t.Error("it has deleted another")
		}
	})
}

// A registration that cannot be read is a node's all the same: it is given nothing,
// keeps others from moving, and is deleted if it does not change.
func TestUnreadable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		const id = "00000000000000ff"
		w.keys.nodes[id] = "{\"id\": 7}"
		beats := time.Now()
		for _, n := range w.nodes {
			n.run()
		}
		w.settled("served", time.Minute, func() bool {
			if time.Since(beats) < 20*time.Second {
				w.keys.mu.Lock()
				w.keys.nodes[id] = fmt.Sprint("{", time.Now())
				w.keys.mu.Unlock()
			}
			v := w.keys.read()
			if time.Since(beats) < 20*time.Second && v.Node(id) == nil {
				t.Fatal("it is deleted, though it lives")
			}
			if len(v.Map.Owned(id)) > 0 {
				t.Fatal("it is given something")
			}
			return len(v.Nodes) == 2 && w.even()
		})
		w.check()
	})
}

// Nothing is moved while a node has not the newest map yet: it may have been given
// something that it does not know of, and does not say that it recovers.
func TestWaitsForMaps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := standing(t, 2)
		a, b := w.nodes[0], w.nodes[1]
		w.keys.bump()
		for i, step := range []func(){func() {}, func() { b.look(bg) }, func() { b.beat(bg) }} {
			step()
			a.look(bg)
			if _, well := a.allWell(a.View()); well != (i == 2) {
				t.Errorf("step %d: all is well: %v", i, well)
			}
		}
	})
}
