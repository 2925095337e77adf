package cluster

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawNodes makes up a cluster: nodes, who owns what, what is wanted.
func drawNodes(t *rapid.T) (*Map, []Node, Want) {
	m := NewMap().Next()
	var nodes []Node
	var want Want
	for i := range rapid.IntRange(1, 9).Draw(t, "nodes") {
		n := Node{ID: fmt.Sprintf("%016x", rapid.Uint64().Draw(t, "id")), Name: fmt.Sprint("n", i), Protocol: 1}
		n.Leaving = rapid.IntRange(0, 9).Draw(t, "leaving") == 0
		if rapid.IntRange(0, 5).Draw(t, "drained") == 0 {
			want = want.Drain(n.Name, true)
		}
		if !slices.ContainsFunc(nodes, func(other Node) bool { return other.ID == n.ID }) {
			nodes = append(nodes, n)
		}
	}
	weights := rapid.SliceOfN(rapid.IntRange(0, 5), len(nodes), len(nodes)).Draw(t, "weights")
	var pool []string
	for i, w := range weights {
		for range w {
			pool = append(pool, nodes[i].ID)
		}
	}
	if len(pool) == 0 {
		pool = []string{nodes[0].ID}
	}
	seed := rapid.Uint64().Draw(t, "seed")
	for i := range m.Partitions {
		seed = seed*6364136223846793005 + 1442695040888963407
		m.Partitions[i] = Partition{Owner: pool[seed>>33%uint64(len(pool))], Epoch: 1}
	}
	want.Still = rapid.IntRange(0, 3).Draw(t, "still") == 0
	return m.seal(), nodes, want
}

func (mv Move) apply(m *Map) *Map {
	next := m.Next()
	for _, p := range mv.Parts {
		next.Partitions[p] = Partition{Owner: mv.To, Epoch: next.Partitions[p].Epoch + 1, Nonce: 1}
	}
	return next
}

// TestPlan: whatever the cluster, the plan is the same for all, moves what it has to
// and nothing else, and ends.
func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, nodes, want := drawNodes(t)
		plan := Plan(m, nodes, want)
		shuffled := rapid.Permutation(nodes).Draw(t, "order")
		if other := Plan(m, shuffled, want); fmt.Sprint(other) != fmt.Sprint(plan) {
			t.Fatalf("another order of nodes makes another plan:\n%v\n%v", plan, other)
		}
		stay := 0
		for _, n := range nodes {
			if !n.Leaving && !want.Drained(n.Name) {
				stay++
			}
		}
		if stay == 0 {
			if plan != nil {
				t.Fatalf("all leave, and this is moved: %v", plan)
			}
			return
		}
		before := m.Count()
		moved := make(map[int]bool)
		for _, mv := range plan {
			if len(mv.Parts) == 0 || len(mv.Parts) > MoveLimit || mv.From == mv.To {
				t.Fatalf("a step of %d from %s to %s", len(mv.Parts), mv.From, mv.To)
			}
			for _, p := range mv.Parts {
				if moved[p] || m.Partitions[p].Owner != mv.From {
					t.Fatalf("partition %d is moved from %s", p, mv.From)
				}
				moved[p] = true
			}
		}
		// One step at a time, and a new plan after each.
		total, last := 0, m
		for next := plan; len(next) > 0; next = Plan(last, nodes, want) {
			last = next[0].apply(last)
			total += len(next[0].Parts)
			if total > len(moved) {
				t.Fatalf("%d partitions were moved by a plan for %d", total, len(moved))
			}
		}
		after := last.Count()
		least, most, needed := Partitions, 0, 0
		for _, n := range nodes {
			if n.Leaving || want.Drained(n.Name) {
				if after[n.ID] != 0 {
					t.Fatalf("%s, drained, still owns %d", n.Name, after[n.ID])
				}
				needed += before[n.ID]
				continue
			}
			least, most = min(least, after[n.ID]), max(most, after[n.ID])
			if want.Still && after[n.ID] < before[n.ID] {
				t.Fatalf("%s gave, though nothing is to be evened out", n.Name)
			}
		}
		if !want.Still {
			if most-least > 1 {
				t.Fatalf("uneven: from %d to %d", least, most)
			}
			// The least number of moves: drained + surplus above the floor, less one
			// for each of those who keep one more.
			needed = 0
			extra := Partitions % stay
			over := 0
			for _, n := range nodes {
				switch d := before[n.ID] - Partitions/stay; {
				case n.Leaving || want.Drained(n.Name):
					needed += before[n.ID]
				case d > 0:
					needed += d
					over++
				}
			}
			needed -= min(extra, over)
		}
		if len(moved) != needed {
			t.Fatalf("%d are moved, %d have to be", len(moved), needed)
		}
	})
}

// TestPlanJoin: who joins gets its share, of all, and nobody else gets anything.
func TestPlanJoin(t *testing.T) {
	var nodes []Node
	for i := range 4 {
		nodes = append(nodes, Node{ID: fmt.Sprintf("%016x", i+1), Name: fmt.Sprint(i), Protocol: 1})
	}
	m := NewMap().Next()
	parts := m.Owned("")
	reassign(m, parts, nodes[:3])
	if plan := Plan(m, nodes[:3], Want{}); plan != nil {
		t.Fatalf("after the first assignment there is something to move: %v", plan)
	}
	from := make(map[string]int)
	for _, mv := range Plan(m, nodes, Want{}) {
		if mv.To != nodes[3].ID {
			t.Errorf("%s gets something, too", mv.To)
		}
		from[mv.From] += len(mv.Parts)
	}
	for _, n := range nodes[:3] {
		if got := from[n.ID]; got < 85 || got > 86 {
			t.Errorf("%s gives %d", n.ID, got)
		}
	}
}

// TestPlanProtocols: nodes that speak different protocols give each other nothing.
func TestPlanProtocols(t *testing.T) {
	nodes := []Node{{ID: "0000000000000001", Name: "a", Protocol: 1}, {ID: "0000000000000002", Name: "b", Protocol: 2}}
	m := NewMap().Next()
	reassign(m, m.Owned(""), nodes[:1])
	if plan := Plan(m, nodes, Want{}.Drain("a", true)); plan != nil {
		t.Errorf("%v", plan)
	}
}

// TestReassign: only what is given away changes, each gets its even part of it, and
// all compute the same.
func TestReassign(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, nodes, _ := drawNodes(t)
		dead := rapid.SampledFrom(nodes).Draw(t, "dead").ID
		live := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return n.ID == dead })
		if len(live) == 0 {
			return
		}
		next, again := m.Next(), m.Next()
		reassign(next, m.Owned(dead), live)
		reassign(again, m.Owned(dead), rapid.Permutation(live).Draw(t, "order"))
		if next.Partitions != again.Partitions {
			t.Fatal("it depends on the order of nodes")
		}
		for i, p := range next.Partitions {
			switch was := m.Partitions[i]; {
			case was.Owner != dead && was != p:
				t.Fatalf("partition %d of a living owner changes", i)
			case was.Owner == dead && (p.Owner == dead || p.Nonce != 0 || p.Epoch != was.Epoch+1):
				t.Fatalf("partition %d of the dead becomes %+v", i, p)
			}
		}
		before, after := m.Count(), next.Count()
		for _, a := range live {
			for _, b := range live {
				if after[a.ID] > before[a.ID] && after[a.ID] > after[b.ID]+1 {
					t.Fatalf("%s got up to %d, another has %d", a.ID, after[a.ID], after[b.ID])
				}
			}
		}
	})
}

// TestMapText: what is written is read.
func TestMapText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, nodes, _ := drawNodes(t)
		for range rapid.IntRange(0, 20).Draw(t, "moves") {
			p := rapid.IntRange(0, Partitions-1).Draw(t, "p")
			m = Move{To: rapid.SampledFrom(nodes).Draw(t, "to").ID, Parts: []int{p}}.apply(m)
		}
		m.Base = rapid.Uint64Max(1<<53).Draw(t, "base")
		m.raw = ""
		got, err := DecodeMap(m.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if got.Partitions != m.Partitions || !got.same(m) || got.Base != m.Base || got.encode() != m.encode() {
			t.Fatal("it is not the same map")
		}
	})
	for _, text := range []string{"", "\n\n\n", "lockd-map-1 1 1 1\n\n0:0*3ff\n", "lockd-map-1 1 1 1\n\n0:0*401\n", "lockd-map-1 1 1 1\n\n1:0*400\n", "lockd-map-2 1 1 1\n\n0:0*400\n", "lockd-map-1 1 1 x\n\n0:0*400\n", "lockd-map-1 1 1 1\nzz\n0:0*400\n", "lockd-map-1 1 1 1\n\n0:0*ffffffffffffffff\n"} {
		if _, err := DecodeMap(text); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}

func FuzzDecodeMap(f *testing.F) {
	f.Add(NewMap().Encode())
	f.Add("lockd-map-1 1 1 1\n0000000000000001\n1:2:3*400\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := DecodeMap(text)
		if err != nil {
			return
		}
		again, err := DecodeMap(m.encode())
		if err != nil || again.Partitions != m.Partitions {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// worstMap is as long as a map gets: every partition was moved by itself, a hundred
// nodes.
func worstMap() *Map {
	m := NewMap().Next()
	for i := range m.Partitions {
		m.Partitions[i] = Partition{Owner: fmt.Sprintf("%016x", i%100+1), Epoch: 1 << 40, Nonce: 1<<63 + uint64(i)}
	}
	return m.seal()
}

func TestMapSize(t *testing.T) {
	if n := len(worstMap().Encode()); n > 64<<10 {
		t.Errorf("%d bytes", n)
	}
}

func BenchmarkDecodeMap(b *testing.B) {
	text := worstMap().Encode()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeMap(text); err != nil {
			b.Fatal(err)
		}
	}
}
