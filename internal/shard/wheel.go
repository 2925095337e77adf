package shard

import "math/bits"

// A wheel keeps waiters by the time at which their patience ends. Adding and
// removing one costs the same however many there are, so does expiring one but
// for the few moves to lower levels that went before, and nothing is allocated
// for it: the waiters of a slot form a list.
//
// It is a hierarchical timing wheel (G. Varghese and T. Lauck, "Hashed and
// Hierarchical Timing Wheels", SOSP 1987): a slot of level l covers 64^l
// milliseconds, and when its time comes its waiters move to lower levels.
type wheel struct {
	now   uint64 // milliseconds
	count int
	down  int                 // the level whose slot of now is being moved down; 0: none
	used  [wheelLevels]uint64 // which slots have waiters
	slots [wheelLevels][64]uint32
}

// wheelLevels levels reach as far as 2^42 milliseconds: more than a hundred
// years of running.
const wheelLevels = 7

// add puts a waiter into the slot of its due time, or of the next millisecond
// when that is over.
func (w *wheel) add(waiters *slab[waiter], ref uint32) {
	x := waiters.at(ref)
	x.due = max(x.due, w.now+1)
	w.place(waiters, ref)
}

func (w *wheel) place(waiters *slab[waiter], ref uint32) {
	x := waiters.at(ref)
	level := (bits.Len64(x.due^w.now) - 1) / 6
	slot := x.due >> (6 * level) & 63
	x.slot = uint16(level<<6) | uint16(slot)
	x.timerPrev, x.timerNext = 0, w.slots[level][slot]
	if x.timerNext != 0 {
		waiters.at(x.timerNext).timerPrev = ref
	}
	w.slots[level][slot] = ref
	w.used[level] |= 1 << slot
	w.count++
}

func (w *wheel) remove(waiters *slab[waiter], ref uint32) {
	x := waiters.at(ref)
	level, slot := x.slot>>6, x.slot&63
	if x.timerPrev != 0 {
		waiters.at(x.timerPrev).timerNext = x.timerNext
	} else if w.slots[level][slot] = x.timerNext; x.timerNext == 0 {
		w.used[level] &^= 1 << slot
	}
	if x.timerNext != 0 {
		waiters.at(x.timerNext).timerPrev = x.timerPrev
	}
	w.count--
}

// next returns the level and the beginning of the first slot that has
// waiters: nobody's patience ends before it.
func (w *wheel) next() (level int, at uint64, ok bool) {
	for level := range w.used {
		shift := 6 * level
		here := w.now >> shift & 63
		if later := w.used[level] >> here >> 1; later != 0 {
			slot := here + 1 + uint64(bits.TrailingZeros64(later))
			return level, w.now>>shift>>6<<6<<shift | slot<<shift, true
		}
	}
	return 0, 0, false
}

// expired takes out a waiter whose time has come by now, or returns 0 when
// there is none, in which case the wheel stands at now, or when the steps that
// it may take are used up.
func (w *wheel) expired(waiters *slab[waiter], now uint64, steps *int) uint32 {
	for ; *steps > 0; *steps-- {
		if w.down > 0 {
			if ref := w.slots[w.down][w.now>>(6*w.down)&63]; ref != 0 {
				w.remove(waiters, ref)
				w.place(waiters, ref)
				continue
			}
			w.down = 0
		}
		if ref := w.slots[0][w.now&63]; ref != 0 && waiters.at(ref).due <= w.now {
			w.remove(waiters, ref)
			return ref
		}
		level, at, ok := w.next()
		if !ok || at > now {
			w.now = max(w.now, now)
			return 0
		}
		w.now, w.down = at, level
	}
	return 0
}
