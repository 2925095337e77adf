package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Partition is who owns one, and how it came by it.
type Partition struct {
	// Owner is a node's ID; empty before the first node.
	Owner string
	// Epoch grows whenever the owner changes.
	Epoch uint64
	// Nonce names the copy that the former owner has sent. 0: there is none, the owner
	// recovers.
	Nonce uint64
}

// A Map is who owns what: the value of P/map. One that others have is not changed any
// more: Next makes another.
type Map struct {
	// Version grows with each change, by one, or by more after a store was restored.
	Version uint64
	// Mark is random in each version: an etcd that was restored from a snapshot has
	// the same versions once more, with other marks.
	Mark uint64
	// Base is what all fencing tokens of new owners are above.
	Base       uint64
	Partitions [Partitions]Partition

	raw string // as it was read
}

// NewMap is a cluster's first: nobody owns anything.
func NewMap() *Map { return (&Map{Version: 1, Mark: newNonce()}).seal() }

// MaxBase is the most that NewMapAfter takes: a year's tokens are left above it.
const MaxBase = maxToken - 365*24*3600e6

// NewMapAfter is the first of a cluster that follows other servers, all of whose tokens are
// below base. Their holders may not know yet that these are gone: so each partition has
// had an owner, of whom nothing is known, and the next one recovers it.
func NewMapAfter(base uint64) *Map {
	m := &Map{Version: 1, Mark: newNonce(), Base: min(base, MaxBase)}
	for i := range m.Partitions {
		m.Partitions[i].Epoch = 1
	}
	return m.seal()
}

// Next returns a copy to make the following version of.
func (m *Map) Next() *Map {
	next := *m
	next.Version++
	next.Mark = newNonce()
	next.raw = ""
	return &next
}

// Count returns how many partitions each ID owns.
func (m *Map) Count() map[string]int {
	counts := make(map[string]int)
	for i := range m.Partitions {
		counts[m.Partitions[i].Owner]++
	}
	return counts
}

// Owned returns the partitions of an ID, in order.
func (m *Map) Owned(id string) []int {
	var parts []int
	for i := range m.Partitions {
		if m.Partitions[i].Owner == id {
			parts = append(parts, i)
		}
	}
	return parts
}

// Since returns what changes for the node self that had the map old, nil if none: lost
// is what it has to drop, at once, and gained what is its own from now on. A partition
// with another epoch is in both. What is gained with a nonce whose copy the node has
// is served; everything else that is gained recovers.
func (m *Map) Since(old *Map, self string) (lost, gained []int) {
	for i := range m.Partitions {
		var was Partition
		if old != nil {
			was = old.Partitions[i]
		}
		is := m.Partitions[i]
		if was == is {
			continue
		}
		if was.Owner == self && self != "" {
			lost = append(lost, i)
		}
		if is.Owner == self && self != "" {
			gained = append(gained, i)
		}
	}
	return lost, gained
}

// same tells whether two are one version of one history.
func (m *Map) same(other *Map) bool { return m.Version == other.Version && m.Mark == other.Mark }

// Its text: a line of words, a line of the owners' IDs, and a line of runs of
// partitions, each OWNER:EPOCH[:NONCE][*LENGTH] in hexadecimal numbers, where OWNER is
// a place in the line of IDs, from 1, or 0 for nobody. 1,024 partitions that were all
// moved are some 25 KB, those of a new cluster a few.
const mapTag = "lockd-map-1"

// Encode is the value of P/map, as it was read if it was.
func (m *Map) Encode() string {
	if m.raw == "" {
		return m.encode()
	}
	return m.raw
}

// seal ends the making of a map: from now on it is others', too.
func (m *Map) seal() *Map {
	m.raw = m.encode()
	return m
}

func (m *Map) encode() string {
	b := make([]byte, 0, 8<<10)
	b = fmt.Appendf(b, "%s %d %x %d\n", mapTag, m.Version, m.Mark, m.Base)
	places := map[string]uint64{"": 0}
	for i := range m.Partitions {
		owner := m.Partitions[i].Owner
		if _, ok := places[owner]; !ok {
			if len(places) > 1 {
				b = append(b, ' ')
			}
			places[owner] = uint64(len(places))
			b = append(b, owner...)
		}
	}
	b = append(b, '\n')
	for i := 0; i < Partitions; {
		p, run := m.Partitions[i], i+1
		for run < Partitions && m.Partitions[run] == p {
			run++
		}
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendUint(b, places[p.Owner], 16)
		b = append(b, ':')
		b = strconv.AppendUint(b, p.Epoch, 16)
		if p.Nonce != 0 {
			b = append(b, ':')
			b = strconv.AppendUint(b, p.Nonce, 16)
		}
		if run-i > 1 {
			b = append(b, '*')
			b = strconv.AppendUint(b, uint64(run-i), 16)
		}
		i = run
	}
	return string(append(b, '\n'))
}

// DecodeMap reads one.
func DecodeMap(text string) (*Map, error) {
	m := &Map{raw: strings.Clone(text)}
	if err := m.decode(m.raw); err != nil {
		return nil, fmt.Errorf("the cluster's map cannot be read: %w", err)
	}
	return m, nil
}

func (m *Map) decode(text string) error {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) != 4 || lines[3] != "" {
		return fmt.Errorf("it has not three lines")
	}
	words := strings.Split(lines[0], " ")
	if len(words) != 4 || words[0] != mapTag {
		return fmt.Errorf("it does not begin with %s, but %.40q", mapTag, lines[0])
	}
	var err error
	number := func(word string, base int) uint64 {
		n, wrong := strconv.ParseUint(word, base, 64)
		if wrong != nil && err == nil {
			err = fmt.Errorf("%.40q is no number", word)
		}
		return n
	}
	m.Version, m.Mark, m.Base = number(words[1], 10), number(words[2], 16), number(words[3], 10)
	owners := append([]string{""}, strings.Fields(lines[1])...)
	if i := slices.IndexFunc(owners[1:], func(id string) bool { return !validID(id) }); i >= 0 {
		return fmt.Errorf("%.40q is no node's ID", owners[i+1])
	}
	at := 0
	for word := range strings.SplitSeq(lines[2], " ") {
		word, times, many := strings.Cut(word, "*")
		run := uint64(1)
		if many {
			run = number(times, 16)
		}
		owner, rest, _ := strings.Cut(word, ":")
		epoch, nonce, copied := strings.Cut(rest, ":")
		place := number(owner, 16)
		p := Partition{Epoch: number(epoch, 16)}
		if copied {
			p.Nonce = number(nonce, 16)
		}
		if err != nil {
			return err
		}
		if place >= uint64(len(owners)) || run < 1 || run > uint64(Partitions-at) {
			return fmt.Errorf("%.40q is no partition", word)
		}
		p.Owner = owners[place]
		for range run {
			m.Partitions[at] = p
			at++
		}
	}
	if at != Partitions {
		return fmt.Errorf("it has %d partitions", at)
	}
	return err
}
