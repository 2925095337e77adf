package conn

import "sync/atomic"

// tallyStripes is over how many tallies the sessions are spread.
const tallyStripes = 64

// A tally counts what the shards do not: the commands that are not about one
// lock, and bytes. Each session writes to one of a number of tallies, so that
// none is written by all; who asks sums them.
type tally struct {
	commands [maxCommands]atomic.Uint64
	invalid  atomic.Uint64
	tooLong  atomic.Uint64
	http     atomic.Uint64
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64
	_        [64]byte
}

func (h *Hub) tallyOf(id uint32) *tally { return &h.tallies[id%tallyStripes] }

// sum adds up one counter of all tallies.
func (h *Hub) sum(counter func(*tally) *atomic.Uint64) (n uint64) {
	for i := range h.tallies {
		n += counter(&h.tallies[i]).Load()
	}
	return n
}
