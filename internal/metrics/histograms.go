package metrics

import (
	"math"
	"time"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/shard"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// waitHistogram is the histogram of waits, with the few buckets that all formats have,
// and the many of a native one, which go over in protobuf only.
func waitHistogram(st session.Stats, state session.State, started float64) prometheus.Metric {
	var count uint64
	fine := make(map[int]int64)
	for i, n := range state.WaitSizes {
		count += n
		if n > 0 && i > 0 {
			fine[session.WaitSizeIndex(i)] = int64(n)
		}
	}
	// A wait that ended between the one sum and the other is not in both.
	var below uint64
	coarse := make(map[float64]uint64)
	for i, bound := range session.WaitBuckets {
		below += st.WaitTimes[i]
		coarse[bound] = min(below, count)
	}
	whole, part := math.Modf(started)
	return both{
		prometheus.MustNewConstHistogram(waitTime, count, st.WaitSeconds, coarse),
		must(prometheus.NewConstNativeHistogram(waitTime, count, st.WaitSeconds, fine, nil, state.WaitSizes[0],
			session.WaitSizeSchema, session.WaitSizeZero, time.Unix(int64(whole), int64(part*1e9)))),
	}
}

// both is a histogram that is a classic and a native one, of the same observations.
type both struct{ classic, native prometheus.Metric }

// Desc implements prometheus.Metric.
func (b both) Desc() *prometheus.Desc { return b.native.Desc() }

// Write implements prometheus.Metric.
func (b both) Write(out *dto.Metric) error {
	var classic dto.Metric
	if err := b.classic.Write(&classic); err != nil {
		return err
	}
	if err := b.native.Write(out); err != nil {
		return err
	}
	out.Histogram.Bucket = classic.Histogram.Bucket
	return nil
}

func must(m prometheus.Metric, err error) prometheus.Metric {
	if err != nil {
		return prometheus.NewInvalidMetric(waitTime, err)
	}
	return m
}

// holdHistogram is the histogram of holds of a kind that are over. Those that took no
// tick of the clock are what the buckets lack.
func holdHistogram(kind shard.Kind, st *shard.Stats) prometheus.Metric {
	count := st.Release[kind] + st.LetGo[kind] + st.Orphans[kind]
	ages := &st.Ages[kind]
	longer := uint64(0)
	for _, n := range ages.Counts {
		longer += n
	}
	below := count - longer
	buckets := make(map[float64]uint64)
	for i, n := range ages.Counts {
		buckets[float64(shard.AgeBound(i))/1e3] = below
		below += n
	}
	return prometheus.MustNewConstHistogram(holdTime, count, float64(ages.Sum)/1e3, buckets, kind.String())
}
