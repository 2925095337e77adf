package conn

import (
	"sort"
	"sync/atomic"
	"time"
)

// tallyStripes is over how many tallies the sessions are spread.
const tallyStripes = 64

// A tally counts what the shards do not: the commands that are not about one
// lock, and bytes. Each session writes to one of a number of tallies, so that
// none is written by all; who asks sums them.
type tally struct {
	commands        [maxCommands]atomic.Uint64
	invalid         atomic.Uint64
	tooLong         atomic.Uint64
	http            atomic.Uint64
	tooManySessions atomic.Uint64
	bytesIn         atomic.Uint64
	bytesOut        atomic.Uint64

	waits      [waitResults]atomic.Uint64
	waitTimes  [len(WaitBuckets) + 1]atomic.Uint64 // how many waits ended within each bucket
	waitMicros atomic.Uint64                       // their sum

	_ [64]byte
}

// What becomes of a wait.
type waitResult uint8

const (
	waitGranted waitResult = iota
	waitTimedOut
	waitCanceled
	waitGone // its connection or session ended
	waitResults
)

func (r waitResult) String() string {
	return [...]string{"granted", "timed_out", "canceled", "gone"}[r]
}

// WaitBuckets are the upper bounds of the histogram of waits, in seconds.
var WaitBuckets = [...]float64{0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600}

// waited counts a wait that is over.
func (t *tally) waited(r waitResult, w *wait) {
	took := time.Since(w.since)
	t.waits[r].Add(1)
	t.waitMicros.Add(uint64(took.Microseconds()))
	t.waitTimes[sort.SearchFloat64s(WaitBuckets[:], took.Seconds())].Add(1)
}

func (h *Hub) tallyOf(id uint32) *tally { return &h.tallies[id%tallyStripes] }

// sum adds up one counter of all tallies.
func (h *Hub) sum(counter func(*tally) *atomic.Uint64) (n uint64) {
	for i := range h.tallies {
		n += counter(&h.tallies[i]).Load()
	}
	return n
}
