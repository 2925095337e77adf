package session

import (
	"bytes"
	"slices"
	"sort"
)

// A sample is some of the names that a round of a sorted list has seen, evenly
// spread: every so many'th. The table has them in the order of a hash, which
// knows nothing of theirs.
type sample struct {
	names [][]byte // their beginnings
	every int      // one of so many is taken
	seen  int
	size  int // of all that were seen
}

const (
	sampleNames = 2048
	sampleBytes = 64 // of each name
)

func (s *sample) begin() { s.names, s.every, s.seen, s.size = s.names[:0], 1, 0, 0 }

func (s *sample) add(name []byte) {
	s.size += nameSize(len(name))
	if s.seen++; s.seen%s.every != 0 {
		return
	}
	if len(s.names) == sampleNames {
		for i := range sampleNames / 2 {
			s.names[i] = s.names[2*i+1]
		}
		s.names = s.names[:sampleNames/2]
		s.every *= 2
		if s.seen%s.every != 0 {
			return
		}
	}
	s.names = append(s.names, bytes.Clone(name[:min(len(name), sampleBytes)]))
}

// guess returns up to which name, above last, there is room for all names: not
// quite, since it is a guess. It is nil if there is room for all that are above.
func (s *sample) guess(last []byte, room int) (upper []byte) {
	slices.SortFunc(s.names, bytes.Compare)
	from := sort.Search(len(s.names), func(i int) bool { return bytes.Compare(s.names[i], last) > 0 })
	i := from + int(float64(len(s.names))*0.8*float64(room)/float64(s.size))
	if i >= len(s.names) {
		return nil
	}
	return s.names[i]
}
