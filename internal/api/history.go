package api

import (
	"strconv"
	"time"
)

// A history is the samples of the last minutes, one after another. A second in which
// the server was not awake has one of which nothing is known.
type history struct {
	series [figures][kept]float32
	next   int       // where the next sample goes
	n      int       // how many there are
	at     time.Time // of the last one
}

// kept is how many samples there are.
const kept = 15 * 60

// add adds a sample, and as many unknown ones as were missed before it.
func (h *history) add(at time.Time, s sample, every time.Duration) {
	if h.n > 0 {
		missed := int((at.Sub(h.at)+every/2)/every) - 1
		for range min(missed, kept) {
			h.put(unknowns)
		}
	}
	h.put(s)
	h.at = at
}

func (h *history) put(s sample) {
	for f, n := range s {
		h.series[f][h.next] = n
	}
	h.next = (h.next + 1) % kept
	h.n = min(h.n+1, kept)
}

// unknowns is a sample of which nothing is known.
var unknowns = func() (s sample) {
	for f := range s {
		s[f] = unknown
	}
	return s
}()

// appendSeries appends all samples of a figure in JSON, oldest first.
func (h *history) appendSeries(out []byte, f figure) []byte {
	out = append(out, '[')
	for i := range h.n {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendNumber(out, h.series[f][(h.next-h.n+i+kept)%kept])
	}
	return append(out, ']')
}

// MarshalJSON implements json.Marshaler: an object with an array for each figure.
func (h *history) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for f := range figures {
		if f > 0 {
			out = append(out, ',')
		}
		out = append(strconv.AppendQuote(out, names[f]), ':')
		out = h.appendSeries(out, f)
	}
	return append(out, '}'), nil
}
