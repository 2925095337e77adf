package session

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Waits are in the buckets in which Prometheus's own histogram has them.
func TestWaitSizes(t *testing.T) {
	theirs := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "x", NativeHistogramBucketFactor: 1.1, NativeHistogramZeroThreshold: WaitSizeZero,
	})
	var zero uint64
	ours := make(map[int]int64)
	observe := func(v float64) {
		theirs.Observe(v)
		if i := waitSize(v); i == 0 {
			zero++
		} else {
			ours[WaitSizeIndex(i)]++
		}
	}
	for exp := minWaitExp - 3; exp <= maxWaitExp; exp++ {
		for _, v := range []float64{math.Exp2(float64(exp)), math.Nextafter(math.Exp2(float64(exp)), 0)} {
			observe(v)
		}
	}
	for range 100_000 {
		observe(math.Exp2(rand.Float64()*(maxWaitExp-minWaitExp+2) + minWaitExp - 2))
	}
	for n := range sizesPerOctave {
		observe(waitSizeBounds[n])
	}
	observe(0)
	var m dto.Metric
	if err := theirs.Write(&m); err != nil {
		t.Fatal(err)
	}
	h := m.GetHistogram()
	if h.GetSchema() != WaitSizeSchema || h.GetZeroCount() != zero {
		t.Errorf("schema %d, %d at zero, want %d, %d", h.GetSchema(), zero, WaitSizeSchema, h.GetZeroCount())
	}
	want := make(map[int]int64)
	index, n, delta := int32(0), int64(0), h.GetPositiveDelta()
	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range span.GetLength() {
			n, delta = n+delta[0], delta[1:]
			want[int(index)] = n
			index++
		}
	}
	// What is longer than any wait can be is in our last one.
	last := WaitSizeIndex(WaitSizes - 1)
	for i, n := range want {
		if i > last {
			want[last] += n
		}
	}
	for i := WaitSizeIndex(1); i <= last; i++ {
		if ours[i] != want[i] {
			t.Errorf("bucket %d has %d, want %d", i, ours[i], want[i])
		}
	}
	if len(ours) != WaitSizes-1 {
		t.Errorf("%d buckets were used, not all of %d", len(ours), WaitSizes-1)
	}
}
