package api

import (
	"math"
	"strconv"
	"time"
)

// A figure is one of the numbers that are sampled.
type figure uint8

// The figures. Those up to losses are how many there were a second.
const (
	requests figure = iota
	grants
	refusals
	orphans
	waitsBegun
	timeouts
	ratesAllowed
	ratesLimited
	losses
	counts // how many of these there are, and the first of what is there now
)

const (
	cpuPerRequest figure = counts + iota // microseconds
	cpuCores
	connections
	sessions
	locksHeld // exclusive ones
	sharedHolds
	waiters
	oldestWait // milliseconds
	memoryBytes
	heapBytes
	figures
)

// names are those in replies.
var names = [figures]string{
	"requests", "grants", "refusals", "orphans", "waits_begun", "timeouts", "rates_allowed", "rates_limited", "losses",
	"cpu_us", "cpu", "connections", "sessions", "locks", "shared_holds", "waiters", "oldest_wait_ms", "memory_bytes", "heap_bytes",
}

// counters are the names of what the server counts, by what of it is sampled.
var counters = [counts]string{
	"requests", "grants", "refusals", "orphans", "waits", "timeouts", "rates_allowed", "rates_limited", "losses",
}

// A sample is the figures of one moment; NaN: that one is not known.
type sample [figures]float32

// gauge fills in what is there now.
func (s *sample) gauge(now values) {
	for f, name := range map[figure]string{
		connections: "connections", sessions: "sessions", locksHeld: "locks", sharedHolds: "holders", waiters: "waiters", memoryBytes: "memory",
	} {
		s[f] = float32(now[name])
	}
	s[oldestWait] = float32(now["oldest_wait_ms"])
	s[heapBytes] = float32(now["heap"])
}

// since fills in what has happened in some time.
func (s *sample) since(before, now values, took time.Duration) {
	grown := func(name string) float64 {
		// What is made up of several counters may seem to fall, as they are not of one
		// moment.
		return float64(max(now[name], before[name]) - before[name])
	}
	for f, name := range counters {
		s[f] = float32(grown(name) / took.Seconds())
	}
	s[cpuCores], s[cpuPerRequest] = unknown, unknown
	if now["cpu_us"] == 0 {
		return
	}
	s[cpuCores] = float32(grown("cpu_us") / float64(took.Microseconds()))
	if n := grown("requests"); n > 0 {
		s[cpuPerRequest] = float32(grown("cpu_us") / n)
	}
}

var unknown = float32(math.NaN())

// appendNumber appends a figure in JSON.
func appendNumber(out []byte, n float32) []byte {
	if n != n {
		return append(out, "null"...)
	}
	// Three digits behind the point are more than a chart shows; and not 1e+06.
	n64 := math.Round(float64(n)*1000) / 1000
	return strconv.AppendFloat(out, n64, 'f', -1, 64)
}

// MarshalJSON implements json.Marshaler: it is an object, the figures by name.
func (s sample) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for f, n := range s {
		if f > 0 {
			out = append(out, ',')
		}
		out = append(strconv.AppendQuote(out, names[f]), ':')
		out = appendNumber(out, n)
	}
	return append(out, '}'), nil
}
