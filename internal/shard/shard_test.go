package shard

import (
	"testing"
	"unsafe"
)

// Shards stand in an array, and no two of them share a cache line.
func TestShardsShareNoCacheLine(t *testing.T) {
	const line = 64
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("laid out for 64 bits")
	}
	var s Shard
	if size := unsafe.Sizeof(s); size%line != 0 {
		t.Errorf("a shard is %d bytes", size)
	}
	if used := unsafe.Offsetof(s.sampling) + unsafe.Sizeof(s.sampling); unsafe.Sizeof(s)-used < line {
		t.Errorf("%d bytes between neighbours", unsafe.Sizeof(s)-used)
	}
	// Down to the counters of what is acquired, released and held.
	if hot := unsafe.Offsetof(s.counts) + 8*uintptr(Acquired.event()+1); hot > 3*line {
		t.Errorf("what every request needs takes %d bytes", hot)
	}
}
