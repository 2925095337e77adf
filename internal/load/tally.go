package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// tally is what was measured. It belongs to one goroutine at a time.
type tally struct {
	latency  *hdrhistogram.Histogram // nanoseconds
	requests int64                   // answered, whatever the answer
	kinds    [kinds]int64
	bytesIn  int64
	bytesOut int64
	unsent   int64 // due in an open loop, but never sent
}

const (
	minLatency = 100 // nanoseconds; what is told apart below is of no use
	maxLatency = int64(5 * time.Minute)
)

func newTally() *tally {
	return &tally{latency: hdrhistogram.New(minLatency, maxLatency, 3)}
}

func (t *tally) record(latency int64) {
	// It fails only beyond its range.
	_ = t.latency.RecordValue(min(max(latency, 0), maxLatency))
}

// add moves what another tally has measured over.
func (t *tally) add(from *tally) {
	t.latency.Merge(from.latency)
	t.requests += from.requests
	for i, n := range from.kinds {
		t.kinds[i] += n
	}
	t.bytesIn += from.bytesIn
	t.bytesOut += from.bytesOut
	t.unsent += from.unsent
	from.latency.Reset()
	*from = tally{latency: from.latency}
}

func (t *tally) quantile(percent float64) time.Duration {
	return time.Duration(t.latency.ValueAtQuantile(percent))
}
