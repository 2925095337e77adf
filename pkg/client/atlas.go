package client

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/nylen/lockd/internal/wire"
)

// An atlas is a map of a cluster: at which address each partition of the names is served.
// It does not change.
type atlas struct {
	version int64
	self    string   // the address of the node that has told it
	addrs   []string // of all nodes
	owner   [wire.Partitions]int16
}

// nowhere is the owner of a partition that nobody serves.
const nowhere = -1

func newAtlas() *atlas {
	a := new(atlas)
	for p := range a.owner {
		a.owner[p] = nowhere
	}
	return a
}

// add reads a line, of which the first one is about who has told it.
func (a *atlas) add(line string) error {
	f := &fields{all: strings.Split(line, "\t")}
	addr, _, _, parts := f.text(), f.text(), f.text(), f.text()
	if f.wrong {
		return &ReplyError{Reply: line}
	}
	if len(a.addrs) == 0 {
		a.self = addr
	}
	n := len(a.addrs)
	a.addrs = append(a.addrs, addr)
	if parts == "-" || n != int(int16(n)) {
		return nil
	}
	for part := range strings.SplitSeq(parts, ",") {
		first, last, is := strings.Cut(part, "-")
		if !is {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if errors.Join(err, err2) != nil || from > to || to >= wire.Partitions {
			return &ReplyError{Reply: line}
		}
		for p := from; p <= to; p++ {
			a.owner[p] = int16(n)
		}
	}
	return nil
}

// readAtlas asks for the map, on a connection that nobody else uses yet, and to be told when
// there is a newer one. A nil one is none: there is none yet, or it is not for this client.
func readAtlas(ctx context.Context, t transport, notices bool) (_ *atlas, err error) {
	stop := context.AfterFunc(ctx, func() { t.close() })
	defer func() {
		if !stop() && ctx.Err() != nil {
			err = ctx.Err()
		}
	}()
	if !notices {
		if _, err := say(t, wire.Hello+" 2 "+wire.Notices); err != nil {
			return nil, err
		}
	}
	a := newAtlas()
	line, err := say(t, wire.Map)
	for ; err == nil; line, err = hear(t) {
		if !hasPrefix(line, wire.Item) {
			break
		}
		if err := a.add(string(line[len(wire.Item):])); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	r, err := parseReply(line, readMap, "", readMap.most)
	if err != nil || r.err != nil {
		return nil, err
	}
	a.version = r.n
	return a, nil
}
