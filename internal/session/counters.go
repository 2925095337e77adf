package session

import (
	"sort"
	"sync/atomic"
	"time"
)

// counterStripes is over how many sets of counters the streams are spread.
const counterStripes = 64

// counters count what the shards do not: the commands that are not about one
// lock. Each stream writes to one of a number of sets, so that none is written
// by all; who asks sums them.
type counters struct {
	commands        [maxCommands]atomic.Uint64
	linked          linkedCounts // of a node's: those that came over links
	invalid         atomic.Uint64
	tooLong         atomic.Uint64
	http            atomic.Uint64
	tls             atomic.Uint64
	control         atomic.Uint64
	tooManySessions atomic.Uint64
	shareSessions   atomic.Uint64 // refused at a client's share
	shareBytes      atomic.Uint64 // the same, but for what the shards count
	serverFull      atomic.Uint64 // the same, at the bound on memory
	cutOff          atomic.Uint64 // connections ended since they kept too much
	shuttingDown    atomic.Uint64

	notAuthenticated atomic.Uint64
	notAllowed       atomic.Uint64
	authFailed       atomic.Uint64

	losses     [whys]atomic.Uint64 // what clients have lost, by why
	waits      [waitResults]atomic.Uint64
	waitTimes  [len(WaitBuckets) + 1]atomic.Uint64 // how many waits ended within each bucket
	waitMicros atomic.Uint64                       // their sum
	waitSizes  [WaitSizes]atomic.Uint64            // the same waits in finer buckets

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
func (c *counters) waited(r waitResult, since time.Time) {
	took := time.Since(since)
	c.waits[r].Add(1)
	c.waitMicros.Add(uint64(took.Microseconds()))
	c.waitTimes[sort.SearchFloat64s(WaitBuckets[:], took.Seconds())].Add(1)
	c.waitSizes[waitSize(took.Seconds())].Add(1)
}
