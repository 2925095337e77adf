package shard

// The bytes of a name are kept once, by the shard, without a pointer: the
// first ones beside the lock they name, where comparing finds them in the
// cache, the others in a chain of blocks.
const (
	headBytes  = 24
	blockBytes = 28
)

type name struct {
	hash uint32 // the half of the name's hash that the index uses
	size uint32
	rest uint32 // first block of what does not fit into head; 0: none
	head [headBytes]byte
}

type block struct {
	next  uint32
	bytes [blockBytes]byte
}

// names is where a shard keeps what does not fit into a name's head.
type names struct{ blocks slab[block] }

// set fills n, which is zero, with a copy of b.
func (s *names) set(n *name, hash uint32, b []byte) {
	n.hash = hash
	n.size = uint32(len(b))
	b = b[copy(n.head[:], b):]
	link := &n.rest
	for len(b) > 0 {
		*link = s.blocks.alloc()
		blk := s.blocks.at(*link)
		b = b[copy(blk.bytes[:], b):]
		link = &blk.next
	}
}

// blocksOf is how many blocks a name of a size needs.
func blocksOf(size int) int { return (max(0, size-headBytes) + blockBytes - 1) / blockBytes }

// clear gives back what set took.
func (s *names) clear(n *name) {
	for ref := n.rest; ref != 0; {
		next := s.blocks.at(ref).next
		s.blocks.release(ref)
		ref = next
	}
}

// extra is what it takes more to give back a long name, in locks with short
// ones.
func (n *name) extra() int { return int(n.size) / 128 }

func (s *names) equal(n *name, b []byte) bool {
	if int(n.size) != len(b) {
		return false
	}
	k := min(len(b), headBytes)
	if string(n.head[:k]) != string(b[:k]) {
		return false
	}
	b = b[k:]
	for ref := n.rest; ref != 0; {
		blk := s.blocks.at(ref)
		k = min(len(b), blockBytes)
		if string(blk.bytes[:k]) != string(b[:k]) {
			return false
		}
		b, ref = b[k:], blk.next
	}
	return true
}

func (s *names) append(dst []byte, n *name) []byte {
	end := len(dst) + int(n.size)
	dst = append(dst, n.head[:]...)
	for ref := n.rest; ref != 0; {
		blk := s.blocks.at(ref)
		dst = append(dst, blk.bytes[:]...)
		ref = blk.next
	}
	return dst[:end]
}

// hasPrefix tells whether a name begins with b.
func (s *names) hasPrefix(n *name, b []byte) bool {
	if len(b) > int(n.size) {
		return false
	}
	k := min(len(b), headBytes)
	if string(n.head[:k]) != string(b[:k]) {
		return false
	}
	b = b[k:]
	for ref := n.rest; len(b) > 0; {
		blk := s.blocks.at(ref)
		k = min(len(b), blockBytes)
		if string(blk.bytes[:k]) != string(b[:k]) {
			return false
		}
		b, ref = b[k:], blk.next
	}
	return true
}
