package session

import (
	"math"
	"sort"
)

// Waits are also counted in buckets of which each is 9 % longer than the one before,
// from a microsecond to longer than any wait may be: those of Prometheus's native
// histograms of schema 3, which has eight of them from one power of two to the next.

// WaitSizes is how many buckets there are. The first one is for what is shorter than
// all others, up to WaitSizeZero.
const WaitSizes = 1 + (maxWaitExp-minWaitExp)*sizesPerOctave

// WaitSizeSchema is the name of such buckets.
const WaitSizeSchema = 3

// WaitSizeZero is the longest wait, in seconds, in the first bucket.
const WaitSizeZero = 1.0 / (1 << -minWaitExp)

const (
	minWaitExp     = -20 // 2^-20 s is about a microsecond
	maxWaitExp     = 17  // 2^17 s are 36 hours
	sizesPerOctave = 1 << WaitSizeSchema
)

// waitSizeBounds are those from one half on, to the last bit as Prometheus has them.
var waitSizeBounds = [sizesPerOctave]float64{
	0.5, 0.5452538663326288, 0.5946035575013605, 0.6484197773255048,
	0.7071067811865475, 0.7711054127039704, 0.8408964152537144, 0.9170040432046711,
}

// waitSize returns the bucket of a wait.
func waitSize(seconds float64) int {
	if seconds <= WaitSizeZero {
		return 0
	}
	frac, exp := math.Frexp(seconds)
	i := sort.SearchFloat64s(waitSizeBounds[:], frac) + (exp-1-minWaitExp)*sizesPerOctave
	return min(i, WaitSizes-1)
}

// WaitSizeIndex returns Prometheus's number of a bucket but the first one: the bucket
// of index n goes up to 2^(n/8) seconds.
func WaitSizeIndex(bucket int) int { return bucket + minWaitExp*sizesPerOctave }
