package cluster

import (
	"cmp"
	"slices"
)

// MoveLimit is how many partitions are moved at a time: as long as a move takes, their
// requests wait.
const MoveLimit = 64

// A Move is a step of a plan: partitions of one owner to another.
type Move struct {
	From, To string // IDs
	Parts    []int
}

// Plan returns what is to be moved, in order, so that nodes on their way out own
// nothing and the others the same number, or one more. It needs as few moves as
// possible. Everybody who has the same map, nodes and want has the same plan, and there
// is no other agreement: who is the owner in its first step makes that. The rest is
// planned again when it is done.
//
// Partitions of nobody and of unregistered nodes are none of its matters. Nodes that
// speak different protocols give each other nothing.
func Plan(m *Map, nodes []Node, want Want) []Move {
	if len(nodes) == 0 {
		return nil
	}
	nodes = slices.SortedFunc(slices.Values(nodes), func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	var plan []Move
	for _, group := range byProtocol(nodes) {
		plan = append(plan, planGroup(m, group, want)...)
	}
	return plan
}

// byProtocol yields the nodes that speak one, lowest first.
func byProtocol(nodes []Node) func(yield func(int, []Node) bool) {
	return func(yield func(int, []Node) bool) {
		groups := make(map[int][]Node)
		var protocols []int
		for _, n := range nodes {
			if n.Protocol == 0 { // see DecodeNode
				continue
			}
			if groups[n.Protocol] == nil {
				protocols = append(protocols, n.Protocol)
			}
			groups[n.Protocol] = append(groups[n.Protocol], n)
		}
		slices.Sort(protocols)
		for _, p := range protocols {
			if !yield(p, groups[p]) {
				return
			}
		}
	}
}

func planGroup(m *Map, nodes []Node, want Want) []Move {
	var stay, go_ []Node
	for _, n := range nodes {
		if n.Leaving || want.Drained(n.Name) {
			go_ = append(go_, n)
		} else {
			stay = append(stay, n)
		}
	}
	if len(stay) == 0 {
		return nil // there is nowhere to go
	}
	counts := m.Count()
	targets := targetsOf(counts, stay, go_, want.Still)
	type owner struct {
		id      string
		surplus int
	}
	var givers []owner
	var takers []owner
	for _, n := range go_ { // first: somebody waits for these
		if counts[n.ID] > 0 {
			givers = append(givers, owner{n.ID, counts[n.ID]})
		}
	}
	for _, n := range stay {
		switch d := counts[n.ID] - targets[n.ID]; {
		case d > 0:
			givers = append(givers, owner{n.ID, d})
		case d < 0:
			takers = append(takers, owner{n.ID, -d})
		}
	}
	var plan []Move
	for _, g := range givers {
		left := m.Owned(g.id)
		for i := range takers {
			t := &takers[i]
			n := min(g.surplus, t.surplus)
			if n == 0 {
				continue
			}
			// Those that are drawn to the taker most: so they would come to it in a
			// fail-over, too.
			slices.SortFunc(left, func(a, b int) int {
				return cmp.Or(cmp.Compare(rank(t.id, b), rank(t.id, a)), cmp.Compare(a, b))
			})
			give := slices.Sorted(slices.Values(left[:n]))
			left = left[n:]
			g.surplus -= n
			t.surplus -= n
			for batch := range slices.Chunk(give, MoveLimit) {
				plan = append(plan, Move{From: g.id, To: t.id, Parts: batch})
			}
		}
	}
	return plan
}

// targetsOf is how many partitions each that stays is to own. Who has most keeps one
// more where it can't be even: so nothing is moved for that.
func targetsOf(counts map[string]int, stay, leave []Node, still bool) map[string]int {
	targets := make(map[string]int)
	load := make(map[string]int)
	more := 0
	for _, n := range leave {
		more += counts[n.ID]
	}
	total := more
	for _, n := range stay {
		load[n.ID] = counts[n.ID]
		total += counts[n.ID]
	}
	if still { // what is drained fills up who has least, and nobody else gives
		share := evenShare(load, more)
		for _, n := range stay {
			targets[n.ID] = max(counts[n.ID], share)
		}
		over := -total
		for _, n := range targets {
			over += n
		}
		for i := len(stay) - 1; i >= 0 && over > 0; i-- {
			if id := stay[i].ID; targets[id] > counts[id] {
				targets[id]--
				over--
			}
		}
		return targets
	}
	by := slices.SortedStableFunc(slices.Values(stay), func(a, b Node) int { return cmp.Compare(counts[b.ID], counts[a.ID]) })
	for i, n := range by {
		targets[n.ID] = total / len(by)
		if i < total%len(by) {
			targets[n.ID]++
		}
	}
	return targets
}
