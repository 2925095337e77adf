package cluster

import (
	"hash/fnv"
	"slices"
)

// rank is how much a partition is drawn to a node: rendezvous hashing. All nodes
// compute the same, whatever they run on.
func rank(id string, partition int) uint64 {
	h := fnv.New64a()
	h.Write([]byte{byte(partition >> 8), byte(partition)})
	h.Write([]byte(id))
	x := h.Sum64()
	// FNV's last bytes reach few of its bits: the finish of MurmurHash3.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// reassign gives partitions to live nodes, by rank, with nothing copied. Nobody gets
// more than an even share while another has less: so what is left to be moved, after
// the first start or a fail-over, is little or nothing.
func reassign(m *Map, parts []int, to []Node) {
	counts := m.Count()
	ids := make([]string, 0, len(to))
	load := make(map[string]int)
	for _, n := range to {
		ids = append(ids, n.ID)
		load[n.ID] = counts[n.ID]
	}
	for _, p := range parts {
		delete(counts, m.Partitions[p].Owner)
	}
	for i, p := range parts {
		share := evenShare(load, len(parts)-i)
		slices.SortFunc(ids, func(a, b string) int {
			if rank(a, p) > rank(b, p) {
				return -1
			}
			return 1
		})
		for _, id := range ids {
			if load[id] < share {
				m.Partitions[p] = Partition{Owner: id, Epoch: m.Partitions[p].Epoch + 1}
				load[id]++
				break
			}
		}
	}
}

// evenShare is the least bound on what each has, so that so many more find a place
// under it.
func evenShare(load map[string]int, more int) int {
	sorted := make([]int, 0, len(load))
	for _, n := range load {
		sorted = append(sorted, n)
	}
	slices.Sort(sorted)
	sum := more
	for i, n := range sorted {
		sum += n
		share := (sum + i) / (i + 1) // the lowest i+1 of them, filled up evenly
		if i+1 == len(sorted) || share <= sorted[i+1] {
			return share
		}
	}
	return 0
}

// heirs returns the nodes that may be given what others leave: those who are not on
// their way out themselves, unless all are.
func heirs(nodes []Node, want Want) []Node {
	var stay []Node
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return n.Protocol == 0 }) // see DecodeNode
	for _, n := range nodes {
		if !n.Leaving && !want.Drained(n.Name) {
			stay = append(stay, n)
		}
	}
	if len(stay) == 0 {
		return nodes
	}
	return stay
}
