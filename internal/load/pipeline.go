package load

// A pipeline is a connection without its socket: what was asked over it and has
// no reply yet, and what is next.
type pipeline struct {
	asked []asked // a ring of requests that have no reply yet; a power of two
	head  uint32  // the oldest of them
	tail  uint32  // where the next one goes

	turn   uint8  // which of the two requests is next
	number uint64 // of the name, from the first one on to the second
	holds  bool   // the last request sent takes a lock

	// In an open loop:
	index int   // in the worker's schedule
	owed  int64 // requests that are due and not sent
	sent  int64 // requests sent

	in  []byte // the beginning of a reply whose end is not there
	out []byte // requests that the socket did not take
}

// asked is a request that waits for its reply.
type asked struct {
	at      int64  // when it was sent or, in an open loop, due
	number  uint32 // of the name
	turn    uint8
	counted bool // sent within the measured time
}

func newPipeline(depth, index int) *pipeline {
	size := 1
	for size < depth+1 { // and the last release
		size *= 2
	}
	return &pipeline{asked: make([]asked, size), index: index}
}

func (p *pipeline) outstanding() int { return int(p.tail - p.head) }
