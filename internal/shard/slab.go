package shard

import "unsafe"

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
// table: however many locks are held, it sees two pointers a chunk. A chunk has
// nothing but its items, so that those whose size is a power of two waste no
// memory, and stand each on a cache line of its own.
type slab[T any] struct {
	chunks []chunk[T]
	vacant []uint32 // positions in chunks that hold nil
	open   uint32   // first of the chunks that have free items, +1; 0: none
	live   uint32   // how many items are in use
	empty  int32    // how many chunks have only free items
	bytes  int32    // that a chunk takes; 0: not known yet
	memory *Memory  // counts them
}

type chunk[T any] struct {
	items *[chunkItems]T
	*page
}

// A page is the bookkeeping of a chunk.
type page struct {
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
func (s *slab[T]) chunkOf(ref uint32) bool { return s.chunks[(ref-1)/chunkItems].items != nil }

// alloc returns the reference of an item that is all zero.
func (s *slab[T]) alloc() uint32 {
	if s.open == 0 {
		s.grow()
	}
	pos := s.open - 1
	p := s.chunks[pos].page
	if p.nfree == chunkItems {
		s.empty--
	}
	p.nfree--
	s.live++
	i := p.free[p.nfree]
	if p.nfree == 0 {
		s.unlink(pos)
	}
	return pos*chunkItems + uint32(i) + 1
}

// release gives an item back and zeroes it.
func (s *slab[T]) release(ref uint32) {
	ref--
	pos := ref / chunkItems
	var zero T
	c := s.chunks[pos]
	c.items[ref%chunkItems] = zero
	p := c.page
	p.free[p.nfree] = uint8(ref % chunkItems)
	p.nfree++
	s.live--
	if p.nfree == 1 {
		s.link(pos)
	}
	if p.nfree < chunkItems {
		return
	}
	s.empty++
	if s.empty > spareChunks {
		s.empty--
		s.unlink(pos)
		s.chunks[pos] = chunk[T]{}
		s.vacant = append(s.vacant, pos)
		s.memory.Add(-s.chunkBytes())
	}
}

// free returns how many items can be had without a new chunk.
func (s *slab[T]) free() int { return (len(s.chunks)-len(s.vacant))*chunkItems - int(s.live) }

// chunkBytes is what Go allocates for a chunk, with its place among the others.
func (s *slab[T]) chunkBytes() int {
	if s.bytes == 0 {
		s.bytes = int32(allocated(unsafe.Sizeof([chunkItems]T{})) + allocated(unsafe.Sizeof(page{})) + 2*int(unsafe.Sizeof(chunk[T]{})))
	}
	return int(s.bytes)
}

func (s *slab[T]) grow() {
	p := &page{nfree: chunkItems}
	c := chunk[T]{new([chunkItems]T), p}
	s.memory.Add(s.chunkBytes())
	for i := range p.free {
		p.free[i] = uint8(chunkItems - 1 - i)
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
	p := s.chunks[pos].page
	p.prev, p.next = 0, s.open
	if s.open != 0 {
		s.chunks[s.open-1].page.prev = pos + 1
	}
	s.open = pos + 1
}

func (s *slab[T]) unlink(pos uint32) {
	p := s.chunks[pos].page
	if p.prev != 0 {
		s.chunks[p.prev-1].page.next = p.next
	} else {
		s.open = p.next
	}
	if p.next != 0 {
		s.chunks[p.next-1].page.prev = p.prev
	}
}
