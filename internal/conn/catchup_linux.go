//go:build linux && !noloop

package conn

import (
	"sync"
	"sync/atomic"
	"time"
)

// Catching up is to learn of all connections that have been made and of all that
// have ended so far, for `q`. The kernel knows of them at once; the loops do when
// they had a turn. So each is asked for turns until epoll has nothing more to
// tell of that kind, and then each once more, since the first may have given
// connections to others, which have ended already. Loops never wait for each
// other: the one that is done last begins the second round, or tells those who
// have asked.
type catchUp struct {
	mu    sync.Mutex // guards what follows
	busy  bool       // there are rounds under way
	asked []func()   // to be told after the next ones
}

// catchUpTurns is after how many turns a loop counts as having caught up in any
// case: clients may come and go faster than it takes them.
const catchUpTurns = 256

// acceptGrace is how long connections of those listeners may take that have
// goroutines: nobody can tell whether such a goroutine has one in its hands.
const acceptGrace = time.Millisecond

// rounds are those of all who have asked before they began.
type rounds struct {
	server *Server
	loops  []*loop
	more   int          // rounds to come
	left   atomic.Int32 // loops that have not caught up in this one
	tell   []func()
}

// CatchUp implements session.Network.
func (s *Server) CatchUp(f func()) bool {
	all := s.loops.running.Load()
	if all == nil {
		return false
	}
	c := &s.loops.catchUp
	c.mu.Lock()
	c.asked = append(c.asked, f)
	busy := c.busy
	c.busy = true
	c.mu.Unlock()
	if !busy {
		s.nextRounds(*all)
	}
	return true
}

// nextRounds begins the rounds of those who have asked meanwhile, if any.
func (s *Server) nextRounds(all []*loop) {
	c := &s.loops.catchUp
	c.mu.Lock()
	r := &rounds{server: s, loops: all, more: 2, tell: c.asked}
	c.asked = nil
	c.busy = len(r.tell) > 0
	c.mu.Unlock()
	if len(r.tell) == 0 {
		return
	}
	if len(all) == 1 {
		r.more = 1 // there is nobody to give connections to
	}
	if s.accepting.Load() > 0 {
		time.AfterFunc(acceptGrace, r.begin)
	} else {
		r.begin()
	}
}

func (r *rounds) begin() {
	r.more--
	r.left.Store(int32(len(r.loops)))
	for _, l := range r.loops {
		if !l.post(task{what: askLoop, rounds: r}) {
			r.caughtUp() // it has ended, and so have all connections
		}
	}
}

// caughtUp is called when a loop has caught up.
func (r *rounds) caughtUp() {
	switch {
	case r.left.Add(-1) > 0:
	case r.more > 0:
		r.begin()
	default:
		for _, f := range r.tell {
			f()
		}
		r.server.nextRounds(r.loops)
	}
}

// answer ends a turn of a loop that has been asked to catch up before it began.
// behind tells whether epoll may know more.
func (l *loop) answer(behind bool) {
	l.askedTurns++
	if behind && l.askedTurns < catchUpTurns {
		return
	}
	r := l.asked
	l.asked, l.askedTurns = nil, 0
	r.caughtUp()
}
