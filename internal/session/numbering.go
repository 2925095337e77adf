package session

import "sync"

// A numbering gives out numbers of sessions upstream, the smallest ones that are free.
type numbering struct {
	mu   sync.Mutex // guards what follows
	next uint32
	free []uint32
}

func (n *numbering) take() uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := len(n.free) - 1; last >= 0 {
		number := n.free[last]
		n.free = n.free[:last]
		return number
	}
	n.next++
	return n.next - 1
}

func (n *numbering) give(number uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.free = append(n.free, number)
}

// end is the number behind all that there were.
func (n *numbering) end() uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.next
}
