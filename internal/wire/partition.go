package wire

import "github.com/cespare/xxhash/v2"

// Partitions is how many parts the nodes of a cluster cut the names into.
const Partitions = 1 << partitionBits

const partitionBits = 10

// PartitionOf returns the partition of a name, which has to be folded: the uppermost bits of
// its XXH64 with the seed 0. Clients that ask the node which serves it go by that.
func PartitionOf(name string) int { return int(xxhash.Sum64String(name) >> (64 - partitionBits)) }
