package session

import (
	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// A client that has asked for notices is told what it has not asked for, in lines whose
// number is `!`: that a session of its own has been ended, with each lock that it has
// lost by that, and that the server drains.

// notice appends the beginning of a notice to a session.
func (s *Session) notice(out []byte) []byte {
	return append(s.prefix(out), wire.Notice...)
}

// evict has a session of a client end that has asked for notices. Any goroutine may
// call it.
func (s *Session) evict(why Why, by string) {
	if !s.peer.evicted.CompareAndSwap(nil, &ending{why: why, by: by}) {
		return
	}
	st := s.stream
	if k := st.keeping.Load(); k != nil && s.peer.isAway() {
		s.hub.keeps.start(func() {
			if !k.borrow(func() { st.endEvicted(s) }) {
				st.post(s)
			}
		})
		return
	}
	st.post(s)
}

// endEvicted ends it while nobody carries the stream: the client finds out when it is
// back, as it claims what it held.
func (st *Stream) endEvicted(s *Session) {
	for !s.evictSome(func(shard.Kind, []byte) {}) {
		st.turn.Begin(0)
	}
}

// evictedReply tells the client of each lock that it has lost.
type evictedReply struct{ session *Session }

func (l evictedReply) next(out []byte) ([]byte, bool) {
	s := l.session
	if s.wait != nil && !s.wait.parked {
		out = s.cancelWait(out)
	}
	done := s.evictSome(func(_ shard.Kind, name []byte) {
		out = append(s.notice(out), wire.LockLost...)
		out = append(append(out, name...), '\n')
	})
	return out, !done
}

func (evictedReply) rest()      {}
func (evictedReply) keeps() int { return 0 }
func (evictedReply) close()     {}

// evictSome releases some of what an evicted session holds and calls f for each, and
// tells whether it has ended by that.
func (s *Session) evictSome(f func(shard.Kind, []byte)) bool {
	st := s.stream
	e := s.peer.evicted.Load()
	s.forgetWait()
	lost := losts.Get().(*shard.Lost)
	defer losts.Put(lost)
	lost.Reset(notedStep)
	done := s.owner.Held() == 0 || s.hub.locks.ReleaseSome(s.asks(), 1, lost)
	for i := range lost.Items {
		f(lost.Items[i].Kind, lost.Name(&lost.Items[i]))
	}
	s.noteLost(e, lost)
	if !done {
		return false
	}
	s.closeSome()
	st.forget(s.number)
	return true
}

// tellDraining has a client that wants to know told that the server drains.
func (st *Stream) tellDraining() {
	if st.notices.Load() {
		st.tells = true
		st.post(&st.main)
	}
}
