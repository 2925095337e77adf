package session

import (
	"bytes"
	"strconv"
	"sync"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// The replies of upstream to a remote: the table follows them, and they are passed on.

// beginAnswers takes the mutex, for answerLocked, unless r is nil.
func (r *remote) beginAnswers(now shard.Moment) {
	if r == nil {
		return
	}
	r.mu.Lock()
	if !r.gone {
		r.owner.Now = now
	}
}

// endAnswers gives it back.
func (r *remote) endAnswers() {
	if r != nil {
		if r.comesBackLocked() {
			r.postLocked() // what is to be asked elsewhere may have waited for answers that nobody else waits for
		}
		r.fitLocked()
		r.mu.Unlock()
	}
}

// answerLocked takes a line that upstream has sent for the session. It tells whether it
// was an answer to one of those requests that are answered in the order of all.
func (r *remote) answerLocked(line []byte) (ordered bool) {
	if !r.liveLocked() {
		return false // it has been given up, or is asked once more
	}
	if bytes.HasPrefix(line, []byte(wire.Notice)) {
		r.noticeLocked(line[len(wire.Notice):])
		return false
	}
	i := r.first
	if i == len(r.queue) {
		return false // it is nobody's
	}
	if r.queue[i].waits() && len(r.queue) > i+1 && isAside(line) {
		for i++; i+1 < len(r.queue) && r.queue[i].literal; i++ { // of what was asked while it waits
			r.giveLocked(&r.queue[i])
		}
	}
	a := r.queue[i]
	if i != r.first {
		copy(r.queue[r.first+1:i+1], r.queue[r.first:i])
	}
	r.first++
	if !r.gone {
		r.noteLocked(&a, line)
	}
	r.giveLiteralsLocked()
	if a.command.verb == wire.Quit && a.silent {
		r.up.leave(r)
	}
	return !a.waits()
}

// literal has a reply that was made here come behind those to what was asked before.
func (r *remote) literal(text []byte) {
	r.owes(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.literalLocked(text)
	r.giveLiteralsLocked()
	r.fitLocked()
}

func (r *remote) literalLocked(text []byte) {
	from := uint32(len(r.text))
	r.text = append(r.text, text...)
	r.queue = append(r.queue, asking{literal: true, from: from, name: from, to: uint32(len(r.text))})
}

// giveLiteralsLocked gives the client those that nothing is in front of.
func (r *remote) giveLiteralsLocked() {
	for i := r.first; i < len(r.queue); i++ {
		a := &r.queue[i]
		if a.literal {
			r.giveLocked(a)
		} else if !a.silent && !a.told {
			break
		}
		if a.literal && i == r.first {
			r.first++
		}
	}
}

func (r *remote) giveLocked(a *asking) {
	if a.told {
		return
	}
	a.told = true
	if r.gone {
		return
	}
	if len(r.back) > 0 { // it comes behind what is asked elsewhere
		r.returnLockedTo(a)
		return
	}
	r.given++
	if !r.lost {
		r.roomLocked(int(a.to - a.from))
		r.out = append(r.out, r.text[a.from:a.to]...)
		r.postLocked()
	}
}

var largeReplies = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// roomLocked has out be in a large buffer if there is more than one reply to be put into it.
func (r *remote) roomLocked(more int) {
	several := len(r.out) > 0 || len(r.queue)-r.first > 1
	if r.full == nil && several && len(r.out)+more > cap(r.out) {
		r.full = largeReplies.Get().(*[]byte)
		r.out = append((*r.full)[:0], r.out...)
	}
}

var okLine = bytes.TrimSuffix([]byte(wire.OK), []byte("\n"))

func isBusy(line []byte) bool { return bytes.HasPrefix(line, []byte("0 "+wire.SessionBusy)) }

// isAside tells whether a line answers what was asked behind a wait that goes on. Another node takes claims
// meanwhile, of what comes to it from elsewhere, too, and is told who the session is.
func isAside(line []byte) bool {
	if isBusy(line) || bytes.Equal(line, okLine) {
		return true
	}
	_, text, ok := wire.Number(line)
	for _, of := range [...]string{wire.ClaimSuccess, wire.ClaimFailure, wire.SharedClaimSuccess, wire.SharedClaimFailure, wire.ClaimElsewhere} {
		if ok && bytes.HasPrefix(text, []byte(of)) {
			return true
		}
	}
	return false
}

// noteLocked has the table follow a reply, and passes it on.
func (r *remote) noteLocked(a *asking, line []byte) {
	number, text, _ := wire.Number(line)
	name := r.nameLocked(a)
	if a.probe {
		switch {
		case a.told:
		case a.command.verb == wire.Ping && a.from == a.to:
			r.tellLocked(number, text)
		default:
			r.giveLocked(a)
		}
		return
	}
	if r.guest != nil && number == 0 && (!a.told || a.moved) && (bytes.HasPrefix(text, []byte(wire.Elsewhere)) || bytes.HasPrefix(text, []byte(wire.ClaimElsewhere))) {
		r.elsewhereLocked(a)
		return
	}
	if r.guest != nil && !a.told && !a.silent && (number == 0 && r.isOvertakenLocked(a, name) || isClaim(a.command) && r.hasLeft(a, name)) {
		r.returnLockedTo(a)
		r.postLocked()
		return
	}
	if a.waits() && !a.told {
		r.waits.Add(-1)
		r.stops.Store(false)
	}
	if len(r.undecided) > 0 && !a.told && !a.silent {
		r.decideLocked(a.command, name, number > 0)
	}
	if kind, takes := takenBy(a.command); takes && number > 0 && !a.silent && !a.told {
		r.outOfLimboLocked(kind, name)
	}
	granted := false
	switch a.command.verb {
	case wire.Claim, wire.Claims:
		// Of one that is accepted the table knows, unless the client has been told
		// since that it has released the lock, which comes behind it.
		lost := false
		switch {
		case number == 0 && a.told && (a.silent || r.guest != nil): // it is in doubt
		case number == 0 && a.silent && r.isOvertakenLocked(a, name):
			r.arrivedLocked(kindOf(a.command), name)
			r.straysLocked(name, a.version)
			return
		case number == 0:
			lost = r.holdsLocked(kindOf(a.command), name)
			r.loseLocked(kindOf(a.command), name)
		case a.told && !a.silent:
			r.gotBeforeLocked(kindOf(a.command), name, number)
		case !a.silent && !r.noteHeldLocked(kindOf(a.command), name, number):
			name = bytes.Clone(name)
			r.askReleaseLocked(heldLock{kind: shard.Exclusive, name: name})
			number, text = 0, append([]byte(wire.ClaimFailure), name...)
		}
		r.claimedLocked(a, number, lost)
	case wire.Get, wire.GetWait:
		granted = number > 0
		switch {
		case granted && a.parked:
			r.parked = false
			r.gotBeforeLocked(shard.Exclusive, name, number)
		case granted && a.told:
			if _, held := r.up.locks.Token(r.owner, name); !held {
				r.returnLocked(shard.Exclusive, name)
			}
		case granted:
			r.overtakesLocked(r.up.locks.Note(r.owner, name, number), name)
		}
	case wire.GetShared, wire.GetSharedLimit, wire.GetSharedWait:
		granted = number > 0
		switch {
		case granted && a.parked:
			r.parked = false
			r.gotBeforeLocked(shard.Shared, name, number)
		case granted && a.told:
			if !r.up.locks.Shares(r.owner, name) {
				r.returnLocked(shard.Shared, name)
			}
		case granted:
			r.up.locks.NoteShared(r.owner, name)
		}
	case wire.Release:
		if !a.told {
			r.releasedLocked(name)
			r.outOfLimboLocked(shard.Exclusive, name)
			r.up.locks.Release(r.owner, name)
			if number == 0 && a.again && a.held {
				number, text = 1, append([]byte(wire.ReleaseSuccess), name...)
			}
		}
	case wire.ReleaseShared:
		if !a.told {
			r.outOfLimboLocked(shard.Shared, name)
			r.up.locks.ReleaseShared(r.owner, name)
			if number == 0 && a.again && a.held {
				number, text = 1, append([]byte(wire.SharedReleaseSuccess), name...)
			}
		}
	case wire.IAm:
		if r.naming = false; r.renames {
			r.registerLocked()
		}
	case wire.Quit:
		if !a.silent && !a.told {
			r.quit, r.ended = true, true
			r.given++
			r.postLocked()
			return
		}
	}
	if granted && r.guest != nil {
		r.straysLocked(name, a.version)
	}
	if a.silent || a.told {
		return
	}
	if granted && !r.many && (a.command.verb == wire.Get || a.command.verb == wire.GetWait) {
		number = 1 // protocol 1 has no tokens there
	}
	if r.stopped && a.command.flags&mayWait != 0 && isCanceled(text) {
		text = append([]byte(wire.ShuttingDown), name...)
	}
	r.tellLocked(number, text)
}

func isCanceled(text []byte) bool {
	return bytes.HasPrefix(text, []byte(wire.GetCanceled))
}

// tellLocked gives the client a reply.
func (r *remote) tellLocked(number uint64, text []byte) {
	if len(r.back) > 0 { // it comes behind what is asked elsewhere: claims are answered though others are not
		r.sendBackLocked(put{name: r.appendReply(nil, number, text)})
		return
	}
	r.given++
	if r.lost {
		return
	}
	r.roomLocked(len(text) + 32)
	r.out = r.appendReply(r.out, number, text)
	r.postLocked()
}

func (r *remote) appendReply(out []byte, number uint64, text []byte) []byte {
	if r.many {
		out = append(strconv.AppendUint(out, uint64(r.session.number), 10), ' ')
	}
	out = append(strconv.AppendUint(out, number, 10), ' ')
	return append(append(out, text...), '\n')
}

// postLocked has the stream take what there is.
func (r *remote) postLocked() {
	if !r.posted && !r.gone {
		r.posted = true
		r.session.stream.post(r.session)
	}
}

// returnLocked releases what was granted to a request whose client was told that it was
// not, unless it has asked again since: then that decides.
func (r *remote) returnLocked(kind shard.Kind, name []byte) {
	if name = bytes.Clone(name); !r.asksForLocked(kind, name) {
		r.askReleaseLocked(heldLock{kind: kind, name: name})
	}
}

// asksForLocked tells whether a lock is asked for, and that is not answered.
func (r *remote) asksForLocked(kind shard.Kind, name []byte) bool {
	for i := r.first; i < len(r.queue); i++ {
		a := &r.queue[i]
		if a.literal || a.probe {
			continue
		}
		if of, takes := takenBy(a.command); takes && of == kind && bytes.Equal(r.nameLocked(a), name) {
			return true
		}
	}
	return false
}

// gotBeforeLocked notes what a claim, or a wait, has got that was made over an earlier connection: it is in
// doubt as all else was, and let go if the client has said since that it has named all.
func (r *remote) gotBeforeLocked(kind shard.Kind, name []byte, token uint64) {
	switch {
	case r.holdsLocked(kind, name):
		return
	case !r.anew.Load():
		r.returnLocked(kind, name)
		return
	}
	if r.noteHeldLocked(kind, name, token) {
		r.up.locks.DoubtOne(r.owner, kind, name)
	}
}

// replies appends what upstream has answered. Before that its requests are pending: what
// is answered here comes behind it.
func (r *remote) replies(out []byte) (_ []byte, quit bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.posted = false
	r.owes(-r.given)
	r.given = 0
	if len(r.out) > 0 {
		out = append(out, r.out...)
		r.out = r.out[:0]
		if r.full != nil {
			if cap(r.out) <= 64<<10 { // it may have grown
				*r.full = r.out
				largeReplies.Put(r.full)
			}
			r.full, r.out = nil, nil
		} else if cap(r.out) > keptAsking {
			r.out = nil
		}
		r.weighLocked()
	}
	return out, r.quit
}
