package cluster

import "context"

// A Part is a partition on its way to another owner, with the epoch it will have there.
type Part struct {
	Index int
	Epoch uint64
}

// A Host is what serves the partitions: the rest of lockd. Its methods are called one
// at a time, but for Copy, during which any may be, and Highest and Status, which may
// be called at any time. None but Copy may wait for anything. All may ask the member's
// Right, Ceil, Self, View and Health.
//
// Beside them the host asks Member.Right and Member.Ceil, once a turn, with one reading
// of the clock: without the right nothing is executed, confirmed, granted or freed.
// Then everything stays as it is, and goes on when the right comes back.
type Host interface {
	// Adopt tells of a newer map, and of all registered nodes at that moment. Self is
	// the host's own ID, which changes only between a Deposed and the next Adopt. Maps
	// come in order, never an older one, though some may be left out; the same one
	// comes again when nodes have come, gone or changed their addresses. What changes
	// for the host is m.Since(the last one, self), where after a Deposed there is no
	// last one: of what is lost everything is dropped before Adopt returns; of what is
	// gained, a partition whose nonce names a copy that is here, of this epoch, is
	// served from that; any other recovers, for Conf.Recovery from now, with tokens
	// above m.Base and the clock. An unused copy is of no use once a map was adopted
	// whose epoch of the partition is as high as the copy's.
	Adopt(self string, m *Map, nodes []Node)
	// Deposed tells that the registration is lost: everything is dropped before it
	// returns, copies and frozen partitions as well, and clients are told.
	Deposed()
	// Highest is the highest fencing token granted, claimed or had in a copy so far.
	Highest() uint64
	// Status is how the partitions are.
	Status() Status
	// Freeze has partitions stand still: once it has returned nothing of them is
	// executed, confirmed, granted or freed, and requests wait, until Thaw or until
	// they are lost. Both ignore those that are not the host's. A partition that
	// recovers is never frozen.
	Freeze(parts []int)
	Thaw(parts []int)
	// Copy sends frozen partitions to another node, with all that is in them and the
	// next token, under a nonce, and returns nil once that one has acknowledged that
	// it has all of it. It fails if not all of them are frozen here. A copy that arrives late, or twice, is never served but if the
	// map names its nonce.
	Copy(ctx context.Context, to Node, parts []Part, nonce uint64) error
}
