package session

import (
	"bytes"
	"slices"
	"sort"

	"github.com/nylen/lockd/internal/shard"
)

// sorted lists all holds of a kind sorted by name, a piece at a time.
//
// The table is not sorted, and sorting all of it would take as much memory as
// it has. So the names are had in rounds: each walks the table and keeps the
// smallest names above those already listed, as many as fit into a fixed
// number of bytes.
//
// A round keeps its names in runs, each sorted when it is full, and merges them
// when it lists them. When there are more than it has room for, it cuts off the
// upper half of them. From a sample of the names that it saw it guesses up to
// which name the next one has room for.
//
// One list at a time collects the names of a round, see turns; the others wait.
type sorted struct {
	hub    *Hub
	stream *Stream // whose memory it takes; nil: nobody's
	kind   shard.Kind
	room   int // bytes of names in the round

	turn    ticket
	hurried bool // it waits for no turn
	state   sortedState
	walk    *shard.Walk // of the round, or of one shared lock's holders
	piece   shard.Piece

	holds  bool   // there is a round
	fresh  *run   // what is being collected
	runs   []*run // sorted; when they are listed, a heap by their next names
	size   int    // of the runs' names
	full   bool   // there are names above last, or were, that the round does not have
	upper  []byte // the largest name that it may have, if it is full
	last   []byte // no name up to this one is to be listed any more
	any    bool   // last counts
	name   []byte // of the shared lock whose holders are being listed
	within bool   // a holder of it came before

	sample sample // of the round that is collected
	ahead  []byte // what upper is in the next round; nil: nobody knows
}

// A run is names and who holds them.
type run struct {
	names   []byte
	entries []sortedEntry
	next    int // to be listed
}

type sortedEntry struct {
	owner    *peer // of an exclusive lock; nil: gone since
	from, to uint32
}

// newRun makes a run for about as many bytes of names as the one before had.
func newRun(before int) *run {
	if before == 0 {
		return &run{}
	}
	return &run{names: make([]byte, 0, before+before/8), entries: make([]sortedEntry, 0, runNames/2)}
}

// wasteful tells whether a run takes far more memory than what is left of it.
func (r *run) wasteful() bool {
	left := 0
	for _, e := range r.entries[r.next:] {
		left += int(e.to - e.from)
	}
	return cap(r.names) > 2*left || cap(r.entries) > 2*(len(r.entries)-r.next)
}

func (r *run) name(i int) []byte { return r.names[r.entries[i].from:r.entries[i].to] }
func (r *run) first() []byte     { return r.name(r.next) }

// sort sorts a run. A lock that was let go and taken again while the walk went on
// may be in it twice, and a shared one with many holders is.
func (r *run) sort() {
	name := func(e sortedEntry) []byte { return r.names[e.from:e.to] }
	compare := func(a, b sortedEntry) int { return bytes.Compare(name(a), name(b)) }
	slices.SortFunc(r.entries, compare)
	r.entries = slices.CompactFunc(r.entries, func(a, b sortedEntry) bool { return compare(a, b) == 0 })
}

// size is how much of the room a run takes.
func (r *run) size() (n int) {
	for _, e := range r.entries {
		n += nameSize(int(e.to - e.from))
	}
	return n
}

func nameSize(n int) int { return max(n, nameBytes) }

// cut drops the names of a sorted run above one, and the memory that they take
// if that is most of it.
func (r *run) cut(upper []byte) {
	n := sort.Search(len(r.entries), func(i int) bool { return bytes.Compare(r.name(i), upper) > 0 })
	if n > len(r.entries)/2 {
		clear(r.entries[n:]) // of owners
		r.entries = r.entries[:n]
		return
	}
	r.shrink(r.entries[:n])
}

// shrink keeps some of the entries, and no more memory than those take.
func (r *run) shrink(entries []sortedEntry) {
	size := 0
	for _, e := range entries {
		size += int(e.to - e.from)
	}
	names := make([]byte, 0, size)
	kept := make([]sortedEntry, 0, len(entries))
	for _, e := range entries {
		from := uint32(len(names))
		names = append(names, r.names[e.from:e.to]...)
		kept = append(kept, sortedEntry{e.owner, from, uint32(len(names))})
	}
	r.names, r.entries, r.next = names, kept, 0
}

type sortedState uint8

const (
	sortBegin sortedState = iota
	sortCollect
	sortList
	sortHolders // of the shared lock name
	sortEnd
)

// All rounds that there are share roundsBytes of names, of which each has at least
// minRoundBytes: a list that its client does not read keeps its round, and delays
// others, whose rounds are shorter then. (As the first ones have more, all of them
// together take roundsBytes times the logarithm of their number.) A name counts as
// at least nameBytes. A run has runNames, or the part of the room that runPart
// says: so it is the room that bounds a list's memory, however long names are.
const (
	roundsBytes   = 8 << 20
	minRoundBytes = 64 << 10
	nameBytes     = 32
	runNames      = 2048
	runPart       = 8
)

// sorted begins such a list for a stream. It has to be closed.
func (h *Hub) sorted(kind shard.Kind, st *Stream) *sorted {
	return &sorted{hub: h, stream: st, kind: kind, turn: ticket{wake: st.wake}}
}

// queued tells whether the list waits for its turn.
func (l *sorted) queued() bool {
	return l.state == sortBegin && !l.hurried && l.hub.sorting.queued(&l.turn)
}

// hurry has it wait for no turn any more.
func (l *sorted) hurry() {
	l.hurried = true
	l.hub.sorting.leave(&l.turn)
}

// next calls f for each hold of the next piece, at most about until it returns
// false, and tells whether there may be more. first tells that the hold is the
// first one of its lock. The names are good during the call.
func (l *sorted) next(f func(name []byte, holder *peer, first bool) bool) (more bool) {
	switch l.state {
	case sortBegin:
		l.beginRound()
	case sortCollect:
		l.collect()
	case sortList:
		l.list(f)
	case sortHolders:
		l.holders(f)
	case sortEnd:
		return false
	}
	return true
}

// hold counts the list among those that have a round, and share the room, or out.
func (l *sorted) hold(has bool) {
	if has == l.holds {
		return
	}
	l.holds = has
	n := 1
	if has {
		l.room = max(roundsBytes/int(l.hub.rounds.Add(1)), minRoundBytes)
		if l.hub.memory.Full() {
			l.room = minRoundBytes
		}
	} else {
		l.hub.rounds.Add(-1)
		n = -1
	}
	l.hub.memory.Add(n * l.room)
	if l.stream != nil {
		l.stream.account.share.KeepBytes(n * l.room)
	}
}

// beginRound begins a round if it is the list's turn.
func (l *sorted) beginRound() {
	if !l.hurried && !l.hub.sorting.take(&l.turn) {
		return
	}
	l.hold(true)
	l.runs, l.fresh, l.size = nil, newRun(0), 0
	l.upper, l.full = append(l.upper[:0], l.ahead...), l.ahead != nil
	l.sample.begin()
	l.walk = l.hub.locks.Walk(l.kind)
	l.state = sortCollect
}

// collect takes a piece of the round's walk.
func (l *sorted) collect() {
	more := l.walk.Next(&l.piece)
	r := l.fresh
	for i, item := range l.piece.Items {
		if i > 0 && l.kind == shard.Shared && item.SameLock(l.piece.Items[i-1]) {
			continue
		}
		name := l.piece.Name(item)
		if l.any && bytes.Compare(name, l.last) <= 0 {
			continue
		}
		l.sample.add(name)
		if l.full && bytes.Compare(name, l.upper) > 0 {
			continue
		}
		from := uint32(len(r.names))
		r.names = append(r.names, name...)
		r.entries = append(r.entries, sortedEntry{l.hub.directory.peer(item.Owner), from, uint32(len(r.names))})
	}
	if len(r.entries) >= runNames || len(r.names) >= l.room/runPart || !more {
		l.endRun()
	}
	if !more {
		l.endRound()
	}
}

// endRun puts what was collected among the runs.
func (l *sorted) endRun() {
	r := l.fresh
	if len(r.entries) == 0 {
		return
	}
	r.sort()
	l.runs = append(l.runs, r)
	l.size += r.size()
	l.fresh = newRun(len(r.names))
	for l.size > l.room && l.cut() {
	}
}

// cut drops about half of the names, the largest ones, and tells whether that was
// possible.
func (l *sorted) cut() bool {
	// The median of the runs' medians, each of which counts as much as the run.
	middles := slices.Clone(l.runs)
	middle := func(r *run) []byte { return r.name((len(r.entries) - 1) / 2) }
	slices.SortFunc(middles, func(a, b *run) int { return bytes.Compare(middle(a), middle(b)) })
	names := 0
	for _, r := range middles {
		names += len(r.entries)
	}
	if names == 1 {
		return false
	}
	half := names / 2
	for _, r := range middles {
		if half -= len(r.entries); half <= 0 {
			l.upper, l.full = append(l.upper[:0], middle(r)...), true
			break
		}
	}
	kept := 0
	l.size = 0
	for _, r := range l.runs {
		r.cut(l.upper)
		kept += len(r.entries)
		l.size += r.size()
	}
	l.runs = slices.DeleteFunc(l.runs, func(r *run) bool { return len(r.entries) == 0 })
	return kept < names
}

// rest keeps what was found, if that is all of a round, and no more memory than
// about as much as it needs. It keeps no turn and no place in the queue: the turn
// would be that of a client that does not read, for as long as that likes, and all
// others would wait for it.
func (l *sorted) rest() {
	if l.state == sortCollect {
		l.walk.Close()
		l.walk, l.fresh, l.runs, l.sample = nil, nil, nil, sample{}
		l.hold(false)
		l.state = sortBegin
	}
	l.hub.sorting.leave(&l.turn)
	for _, r := range l.runs {
		if r.wasteful() {
			r.shrink(r.entries[r.next:])
		}
	}
	if l.state != sortHolders {
		l.piece = shard.Piece{}
	}
}

func (l *sorted) endRound() {
	if l.ahead = nil; l.full {
		l.ahead = l.sample.guess(l.upper, l.room)
	}
	l.hub.sorting.leave(&l.turn)
	l.walk, l.fresh, l.sample = nil, nil, sample{}
	l.state = sortList
	for i := len(l.runs)/2 - 1; i >= 0; i-- {
		l.sift(i)
	}
}

// sift puts run i in its place in the heap, whose runs below it are in theirs.
func (l *sorted) sift(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(l.runs); child++ {
			if bytes.Compare(l.runs[child].first(), l.runs[least].first()) < 0 {
				least = child
			}
		}
		if least == i {
			return
		}
		l.runs[i], l.runs[least] = l.runs[least], l.runs[i]
		i = least
	}
}

// take returns the round's next entry, whose name becomes last. fresh tells that
// the name is not that of the one before.
func (l *sorted) take() (owner *peer, fresh bool) {
	r := l.runs[0]
	name := r.first()
	fresh = !l.any || !bytes.Equal(name, l.last)
	l.last, l.any = append(l.last[:0], name...), true
	owner = r.entries[r.next].owner
	r.entries[r.next].owner = nil
	if r.next++; r.next == len(r.entries) {
		end := len(l.runs) - 1
		l.runs[0], l.runs[end] = l.runs[end], nil
		l.runs = l.runs[:end]
	}
	l.sift(0)
	return owner, fresh
}

// list lists the entries of a round.
func (l *sorted) list(f func(name []byte, holder *peer, first bool) bool) {
	for on := true; on && len(l.runs) > 0; {
		owner, fresh := l.take()
		switch {
		case !fresh:
		case l.kind == shard.Shared:
			l.name = append(l.name[:0], l.last...)
			l.walk = l.hub.locks.WalkHolders(l.name)
			l.state = sortHolders
			return
		case l.hub.directory.there(owner):
			on = f(l.last, owner, true)
		}
	}
	if len(l.runs) == 0 {
		l.hold(false)
	}
	switch {
	case len(l.runs) > 0:
	case l.full:
		l.last, l.any = append(l.last[:0], l.upper...), true
		l.state = sortBegin
	default:
		l.state = sortEnd
	}
}

// holders lists a piece of the holders of one shared lock. A lock that nobody
// holds any more is left out.
func (l *sorted) holders(f func(name []byte, holder *peer, first bool) bool) {
	more := l.walk.Next(&l.piece)
	for _, item := range l.piece.Items {
		if p := l.hub.directory.peer(item.Owner); p != nil {
			f(l.name, p, !l.within)
			l.within = true
		}
	}
	if !more {
		l.within = false
		l.walk = nil
		l.state = sortList
	}
}

// keeps is what it takes beside its round.
func (l *sorted) keeps() int { return l.piece.Size() }

func (l *sorted) close() {
	l.hold(false)
	l.hub.sorting.leave(&l.turn)
	if l.walk != nil {
		l.walk.Close()
	}
}
