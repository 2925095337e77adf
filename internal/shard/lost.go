package shard

// Lost is what an owner that is gone has held, for whoever keeps account of it:
// ReleaseSome notes there what it releases. Its zero value counts alone, and it may
// be used again and again.
//
// It is filled under a shard's mutex, so what it takes is bounded by Most, and the
// time by the batch's: to note a lock counts as a part of the work.
type Lost struct {
	Most  int // how many are noted one by one
	Items []LostItem
	More  [Kinds]int // released besides

	names []byte
}

// A LostItem is a hold that was lost.
type LostItem struct {
	Kind     Kind
	Number   uint64    // the fencing token, or how many held a shared lock
	Lasted   uint64    // milliseconds
	Waiting  int       // how many waited for the lock then
	Waiters  [3]uint32 // the first of them: IDs, which are good for a moment
	from, to uint32
}

// Reset empties it, for up to so many items.
func (l *Lost) Reset(most int) {
	l.Most, l.Items, l.names, l.More = most, l.Items[:0], l.names[:0], [Kinds]int{}
}

// Name returns an item's name, which is good until Reset.
func (l *Lost) Name(i *LostItem) []byte { return l.names[i.from:i.to] }

// noteLocked notes a hold that is about to be released, and tells how much work
// that was.
func (s *Shard) noteLocked(l *Lost, kind Kind, n *name, number uint64, since, now Moment, queue uint32) (work int) {
	if l == nil {
		return 0
	}
	if len(l.Items) >= l.Most {
		l.More[kind]++
		return 0
	}
	i := LostItem{Kind: kind, Number: number, Lasted: now.Since(since), from: uint32(len(l.names))}
	l.names = s.names.append(l.names, n)
	i.to = uint32(len(l.names))
	if queue != 0 {
		i.Waiting = int(s.waiters.at(queue).line())
		for n, ref := 0, queue; n < min(i.Waiting, len(i.Waiters)); n++ {
			w := s.waiters.at(ref)
			i.Waiters[n], ref = w.owner, w.next
		}
	}
	l.Items = append(l.Items, i)
	return n.extra()
}
