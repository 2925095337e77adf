package session

import "github.com/nylen/lockd/internal/shard"

// A LockView is all that there is under one name.
type LockView struct {
	Exclusive LineView
	Shared    LineView
	Rate      *shard.Item // nil: it has no rate, or all units of it are open
}

// A LineView is who holds a lock and who waits for it, in their order, as far as
// somebody wants to see.
type LineView struct {
	Holders []FoundItem
	Count   int // of all holders
	Queue   []FoundItem
	Waiters int // of all who wait
}

// ViewLock returns what there is under a name, with up to most holders and waiters of
// each kind. It counts as nothing.
func (h *Hub) ViewLock(name []byte, most int) (v LockView) {
	v.Exclusive = h.viewLine(name, shard.LookHolder, shard.LookQueue, most)
	v.Shared = h.viewLine(name, shard.LookHolders, shard.LookSharedQueue, most)
	for _, i := range h.lookOnly(name, shard.LookRate, shard.LookRate, 1) {
		v.Rate = &i.Item
	}
	return v
}

func (h *Hub) viewLine(name []byte, holders, queue shard.LookPart, most int) (v LineView) {
	// The first look is of one moment, as far as it goes.
	for _, i := range h.lookOnly(name, holders, queue, 2*most) {
		switch {
		case i.State == shard.Waits && len(v.Queue) < most:
			v.Queue = append(v.Queue, i)
		case i.State == shard.Held && len(v.Holders) < most:
			v.Holders = append(v.Holders, i)
		}
	}
	if len(v.Holders) == most { // they may be all that was seen
		v.Queue = h.lookOnly(name, queue, queue, most)
	}
	v.Count, v.Waiters = len(v.Holders), len(v.Queue)
	if len(v.Holders) > 0 {
		first := v.Holders[0]
		v.Waiters = max(v.Waiters, int(first.Queue))
		if first.Kind == shard.Shared {
			v.Count = max(v.Count, int(first.Number))
		}
	}
	return v
}

func (h *Hub) lookOnly(name []byte, first, last shard.LookPart, most int) (all []FoundItem) {
	l := &holds{hub: h, walk: h.locks.LookOnly(name, first, last)}
	defer l.close()
	for more := true; more && len(all) < most; {
		more = l.next(func(name []byte, item shard.Item, owner *peer) bool {
			f := FoundItem{Item: item, Name: string(name)}
			if owner != nil {
				f.Who = whoIs(owner)
			}
			all = append(all, f)
			return len(all) < most
		})
	}
	return all
}
