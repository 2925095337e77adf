package shard

import "math/bits"

// How long locks are held is counted when a hold ends, under the mutex that is held
// for that anyway. Most holds are over within a tick, and those cost nothing here:
// they are what is missing from the number of all that ended.

// AgeBuckets is in how many sizes holds come that took a tick or more. Each is four
// times as long as the one before, the last one has no end.
const AgeBuckets = 12

// ageBits is how many bits of a time in ticks a bucket has.
const ageBits = 2

// AgeBound returns the time in milliseconds below which all are that are in the
// buckets before i, and those that took no tick: 16 for 0, 64 for 1.
func AgeBound(i int) uint64 { return 1 << (tickBits + ageBits*i) }

// ages counts in ticks.
type ages struct {
	counts [AgeBuckets]uint64
	ticks  uint64 // the sum of all
}

// Ages is how long holds have taken that are over, without those that took no tick.
type Ages struct {
	Counts [AgeBuckets]uint64 // from AgeBound(i) to less than AgeBound(i+1)
	Sum    uint64             // milliseconds
}

func (a *Ages) addLocked(more *ages) {
	for i, n := range more.counts {
		a.Counts[i] += n
	}
	a.Sum += more.ticks << tickBits
}

// recordAgeLocked counts a hold that is over, and took some ticks.
//
//go:noinline
func (s *Shard) recordAgeLocked(k Kind, age Moment) {
	if age >= ahead { // who got it was ahead of who lets go
		return
	}
	a := &s.ages[k]
	a.counts[min((bits.Len32(uint32(age))-1)/ageBits, AgeBuckets-1)]++
	a.ticks += uint64(age)
}
