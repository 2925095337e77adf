package metrics

import (
	"testing"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/shard"
	dto "github.com/prometheus/client_model/go"
)

// The histogram of waits is a classic and a native one, which do not contradict each
// other, also when waits have ended between the one sum and the other.
func TestWaitHistogram(t *testing.T) {
	var st session.Stats
	var state session.State
	st.WaitTimes[0], st.WaitTimes[3], st.WaitTimes[len(st.WaitTimes)-1] = 5, 7, 1
	st.WaitSeconds = 700
	state.WaitSizes[0], state.WaitSizes[100], state.WaitSizes[101] = 2, 3, 4 // 9 of 13
	var m dto.Metric
	if err := waitHistogram(st, state, 1e9+0.25).Write(&m); err != nil {
		t.Fatal(err)
	}
	h := m.GetHistogram()
	if h.GetSampleCount() != 9 || h.GetSampleSum() != 700 || h.GetZeroCount() != 2 || h.GetSchema() != session.WaitSizeSchema {
		t.Errorf("%v", h)
	}
	if s := h.GetPositiveSpan(); len(s) != 1 || s[0].GetOffset() != int32(session.WaitSizeIndex(100)) || s[0].GetLength() != 2 {
		t.Errorf("spans %v", s)
	}
	if c := h.GetCreatedTimestamp(); c.GetSeconds() != 1e9 || c.GetNanos() != 250_000_000 {
		t.Errorf("created %v", c)
	}
	for i, b := range h.GetBucket() {
		if want := []uint64{5, 5, 5, 9, 9, 9, 9, 9, 9}[i]; b.GetCumulativeCount() != want || b.GetUpperBound() != session.WaitBuckets[i] {
			t.Errorf("bucket %d: %v, want %d", i, b, want)
		}
	}
	if len(h.GetBucket()) != len(session.WaitBuckets) {
		t.Errorf("buckets %v", h.GetBucket())
	}
}

// Holds that took no tick are what is missing from all that have ended.
func TestHoldHistogram(t *testing.T) {
	var st shard.Stats
	st.Release[shard.Shared], st.LetGo[shard.Shared], st.Orphans[shard.Shared] = 10, 20, 30
	st.Ages[shard.Shared].Counts[0] = 5
	st.Ages[shard.Shared].Counts[2] = 6
	st.Ages[shard.Shared].Counts[shard.AgeBuckets-1] = 7
	st.Ages[shard.Shared].Sum = 1500
	for kind, want := range map[shard.Kind]struct {
		count   uint64
		sum     float64
		buckets [shard.AgeBuckets]uint64
	}{
		shard.Exclusive: {},
		shard.Shared:    {60, 1.5, [shard.AgeBuckets]uint64{42, 47, 47, 53, 53, 53, 53, 53, 53, 53, 53, 53}},
	} {
		var m dto.Metric
		if err := holdHistogram(kind, &st).Write(&m); err != nil {
			t.Fatal(err)
		}
		h := m.GetHistogram()
		if h.GetSampleCount() != want.count || h.GetSampleSum() != want.sum || len(h.GetBucket()) != shard.AgeBuckets {
			t.Errorf("%v: %v", kind, h)
		}
		bound := 0.016
		for i, b := range h.GetBucket() {
			if b.GetCumulativeCount() != want.buckets[i] || b.GetUpperBound() < bound*0.999 || b.GetUpperBound() > bound*1.001 {
				t.Errorf("%v, bucket %d: %v, want %d up to %v", kind, i, b, want.buckets[i], bound)
			}
			bound *= 4
		}
	}
}
