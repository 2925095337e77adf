package session

import (
	"strconv"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// lookReply is the reply to `look` and `look*`: a line a hold, a wait and a
// rate, and the end.
type lookReply struct {
	*holds
	session *Session
}

func (l *lookReply) next(out []byte) ([]byte, bool) {
	limit := len(out) + l.hub.pieceBytes()
	more := l.holds.next(func(name []byte, item shard.Item, owner *peer) bool {
		out = appendLook(l.session.item(out), name, item, owner)
		return len(out) < limit
	})
	if !more {
		// In protocol 1, too: a client that asks this is none of the old ones.
		out = append(l.session.prefix(out), wire.End...)
	}
	return out, more
}

// appendLook appends a line. No field has a TAB in it: requests have blanks
// instead.
func appendLook(out, name []byte, item shard.Item, owner *peer) []byte {
	kind, state := wire.Exclusive, wire.Held
	if item.Kind == shard.Shared {
		kind = wire.Shared
	}
	switch item.State {
	case shard.Held:
		if owner != nil && owner.isAway() {
			state = wire.Away
		}
	case shard.Waits:
		state = wire.Waits
	case shard.Limited:
		kind, state = wire.Rate, wire.Limited
	case shard.Open:
		kind, state = wire.Rate, wire.Open
	}
	out = append(append(out, name...), '\t')
	out = append(append(out, kind...), '\t')
	out = append(append(out, state...), '\t')
	out = append(strconv.AppendUint(out, item.Age, 10), '\t')
	out = strconv.AppendUint(out, item.Number, 10)
	if owner != nil {
		out = append(append(out, '\t'), owner.addr()...)
		out = owner.appendName(append(out, '\t'))
		if p := owner.process(); p != nil {
			out = AppendProcess(append(out, '\t'), p)
		}
	}
	return append(out, '\n')
}
