package session

import (
	"errors"
	"slices"
	"strconv"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// A Part is a partition that moves, with the epoch that it will have at its new owner.
type Part struct {
	Index int
	Epoch uint64
}

// ErrNotFrozen is that a partition cannot be copied, as it does not stand still.
var ErrNotFrozen = errors.New("not all partitions are frozen here")

// copyBytes is about how much of a copy is sent at a time.
const copyBytes = 64 << 10

// Copy writes what a new owner has to be sent of partitions that are frozen here: requests for
// the session 0 of a link. It returns how many records they have.
func (h *Hub) Copy(parts []Part, nonce uint64, write func([]byte) error) (records int, err error) {
	n := h.node
	var indexes []int
	var out []byte
	for _, p := range parts {
		if h.locks.Partition(p.Index) != shard.PartitionFrozen {
			return 0, ErrNotFrozen
		}
		indexes = append(indexes, p.Index)
		out = appendRequestLine(out, wire.Copy, nonce, uint64(p.Index), p.Epoch, h.locks.HighestIn(p.Index))
	}
	e := h.locks.Export(indexes)
	var r shard.Records
	for more := true; more; {
		e.Now = h.clock.nanoseconds()
		more = e.Next(&r)
		for _, rec := range r.All {
			of := described{person: person{"-", 0}, home: "-"}
			if rec.Kind != shard.Rates {
				var there bool
				if of, there = n.describe(rec.Owner); !there {
					continue // it has gone meanwhile
				}
			}
			out = appendRecord(out, rec, of, r.Name(rec))
			records++
			if len(out) >= copyBytes {
				if err := write(out); err != nil {
					return 0, err
				}
				out = out[:0]
			}
		}
	}
	for _, p := range indexes {
		if h.locks.Partition(p) != shard.PartitionFrozen {
			return 0, ErrNotFrozen
		}
	}
	out = appendRequestLine(out, wire.Copied, nonce, uint64(records))
	return records, write(out)
}

func appendRequestLine(out []byte, verb string, numbers ...uint64) []byte {
	out = append(append(out, "0 "...), verb...)
	for _, n := range numbers {
		out = strconv.AppendUint(append(out, ' '), n, 10)
	}
	return append(out, '\n')
}

// appendRecord appends `put`, with all numbers of a record, whose it is, and its name.
func appendRecord(out []byte, r shard.Record, of described, name []byte) []byte {
	untold := uint64(0)
	if r.Untold {
		untold = 1
	}
	out = append(out, "0 "+wire.Put...)
	for _, n := range [...]uint64{uint64(r.State), uint64(r.Kind), untold, uint64(r.Limit), r.Token, r.Age, r.Left, r.Window, r.Owed, uint64(r.Part)} {
		out = strconv.AppendUint(append(out, ' '), n, 10)
	}
	out = of.append(append(out, ' '))
	return append(append(append(out, ' '), name...), '\n')
}

// putNumbers is how many numbers one has.
const putNumbers = 10

// parseRecord reads what follows `put`.
func parseRecord(arg []byte) (r shard.Record, of described, name []byte, ok bool) {
	var n [putNumbers]uint64
	for i := range n {
		if n[i], arg, ok = wire.Number(arg); !ok {
			return r, of, nil, false
		}
	}
	who := arg
	if end := slices.Index(arg, ' '); end >= 0 {
		who, name = arg[:end], arg[end+1:]
	}
	of, err := parsePerson(string(who))
	r = shard.Record{
		State: shard.State(n[0]), Kind: shard.Kind(n[1]), Untold: n[2] == 1, Limit: uint32(n[3]), Token: n[4],
		Age: n[5], Left: n[6], Window: n[7], Owed: n[8], Part: uint32(n[9]),
	}
	return r, of, name, err == nil
}
