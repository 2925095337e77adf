package shard

// served is who has got a lock that a request let go, or whose wait is over, and is
// to be told when the shard's mutex is free. Most often it is nobody, and seldom more
// than a few: those are on the stack of who makes the request.
type served struct {
	few  [3]uint32 // IDs of owners
	n    uint32    // how many of few there are
	more []uint32
}

func (v *served) add(owner uint32) {
	if int(v.n) < len(v.few) {
		v.few[v.n] = owner
		v.n++
		return
	}
	v.more = append(v.more, owner)
}

func (v *served) len() int { return int(v.n) + len(v.more) }

// serveBatch is how many are served under one hold of a shard's mutex.
const serveBatch = 256

// tell tells those whom a request at s has served, and forgets them. Where there
// were more to be served than that request did, a goroutine serves the rest.
func (t *Set) tell(s *Shard, now Moment, v *served) {
	if v.n > 0 {
		t.tellAll(s, now, v)
	}
}

func (t *Set) tellAll(s *Shard, now Moment, v *served) {
	for _, id := range v.few[:v.n] {
		t.notify(id)
	}
	for _, id := range v.more {
		t.notify(id)
	}
	n := v.len()
	v.n, v.more = 0, v.more[:0]
	if n >= serveBatch {
		v.more = nil
		go t.serveBehind(s, now)
	}
}

// serveBehind goes on with the queues of a shard that were left, for one batch;
// tell sees to the next. A lock that is another one meanwhile does not mind: it
// has been served all that it may.
func (t *Set) serveBehind(s *Shard, now Moment) {
	var v served
	s.mu.Lock()
	for len(s.behind) > 0 && v.len() < serveBatch {
		last := len(s.behind) - 1
		lock := s.behind[last]
		if s.behind = s.behind[:last]; last == 0 {
			s.behind = nil
		}
		if s.shared.chunkOf(lock) {
			s.serveSharedLocked(lock, now, &v)
		}
	}
	s.mu.Unlock()
	t.tell(s, now, &v)
}
