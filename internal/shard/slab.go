package shard

// chunkItems is how many items a slab allocates at a time: few enough that
// making a chunk delays nobody and a small table stays small, many enough
// that a chunk's own bookkeeping is a few bytes an item.
const chunkItems = 128

// spareChunks is how many empty chunks a slab keeps for the next items; what
// is empty beyond that goes back to the garbage collector, so the memory of a
// peak is returned when the peak is over.
const spareChunks = 4

// A slab holds items of one type without a pointer in them. An item is known
// by its reference, a small integer, which stays valid until the item is
// freed; items never move. Reference 0 is never given out and means none.
//
// Items without pointers are what keeps the garbage collector out of the
// table: however many locks are held, it sees one pointer a chunk.
type slab[T any] struct {
	chunks []*chunk[T]
	vacant []uint32 // positions in chunks that hold nil
	open   uint32   // first of the chunks that have free items, +1; 0: none
	live   uint32   // how many items are in use
	empty  int      // how many chunks have only free items
}

type chunk[T any] struct {
	items [chunkItems]T
	free  [chunkItems]uint8 // stack of free items
	nfree int32
	// The chunks with free items form a list, by position + 1.
	next, prev uint32
}

// at returns the item of a reference. The pointer is good until the item is
// freed.
func (s *slab[T]) at(ref uint32) *T {
	ref--
	return &s.chunks[ref/chunkItems].items[ref%chunkItems]
}

// end returns the first reference past all that are in use, for walks.
func (s *slab[T]) end() uint32 { return uint32(len(s.chunks))*chunkItems + 1 }

// chunkOf tells whether the chunk of a reference exists: a walk skips those
// that do not.
func (s *slab[T]) chunkOf(ref uint32) bool { return s.chunks[(ref-1)/chunkItems] != nil }

// alloc returns the reference of an item that is all zero.
func (s *slab[T]) alloc() uint32 {
	if s.open == 0 {
		s.grow()
	}
	pos := s.open - 1
	c := s.chunks[pos]
	if c.nfree == chunkItems {
		s.empty--
	}
	c.nfree--
	s.live++
	i := c.free[c.nfree]
	if c.nfree == 0 {
		s.unlink(pos)
	}
	return pos*chunkItems + uint32(i) + 1
}

// release gives an item back and zeroes it.
func (s *slab[T]) release(ref uint32) {
	ref--
	pos := ref / chunkItems
	c := s.chunks[pos]
	var zero T
	c.items[ref%chunkItems] = zero
	c.free[c.nfree] = uint8(ref % chunkItems)
	c.nfree++
	s.live--
	if c.nfree == 1 {
		s.link(pos)
	}
	if c.nfree < chunkItems {
		return
	}
	s.empty++
	if s.empty > spareChunks {
		s.empty--
		s.unlink(pos)
		s.chunks[pos] = nil
		s.vacant = append(s.vacant, pos)
	}
}

func (s *slab[T]) grow() {
	c := &chunk[T]{nfree: chunkItems}
	for i := range c.free {
		c.free[i] = uint8(chunkItems - 1 - i)
	}
	pos := uint32(len(s.chunks))
	if n := len(s.vacant); n > 0 {
		pos = s.vacant[n-1]
		s.vacant = s.vacant[:n-1]
		s.chunks[pos] = c
	} else {
		s.chunks = append(s.chunks, c)
	}
	s.empty++
	s.link(pos)
}

func (s *slab[T]) link(pos uint32) {
	c := s.chunks[pos]
	c.prev, c.next = 0, s.open
	if s.open != 0 {
		s.chunks[s.open-1].prev = pos + 1
	}
	s.open = pos + 1
}

func (s *slab[T]) unlink(pos uint32) {
	c := s.chunks[pos]
	if c.prev != 0 {
		s.chunks[c.prev-1].next = c.next
	} else {
		s.open = c.next
	}
	if c.next != 0 {
		s.chunks[c.next-1].prev = c.prev
	}
}
