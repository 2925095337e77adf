package shard

import (
	"strconv"
	"testing"
)

// BenchmarkPartitions gets and releases what others do not want, in a set that is not
// partitioned, and in one that has a third of the partitions.
func BenchmarkPartitions(b *testing.B) {
	for _, partitioned := range []bool{false, true} {
		b.Run("partitioned="+strconv.FormatBool(partitioned), func(b *testing.B) {
			set := New(16, Config{Partitioned: partitioned})
			if partitioned {
				set.SetCeil(1<<60, 0)
				for p := 0; p < Partitions; p += 3 {
					set.Recover(p, 1)
					set.Serve(p, 0)
				}
			}
			var names [][]byte
			for i := 0; len(names) < 256; i++ {
				if name := []byte(strconv.Itoa(i)); PartitionOf(name)%3 == 0 {
					names = append(names, name)
				}
			}
			o := &Owner{ID: 1}
			for i := 0; b.Loop(); i++ {
				name := names[i%len(names)]
				if get(set, o, name) != Acquired || !set.Release(o, name) {
					b.Fatal("not got")
				}
			}
		})
	}
}
