package conn

import (
	"container/list"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// newcomers are the connections whose clients have to say who they are, and have
// not; and those to WebSocket listeners that have not become WebSocket connections
// yet. Whoever can connect can have as many of them as there are places, so they
// are there for a time only; and where all places are taken, the oldest one has to
// go for a client that comes, which has the same chance then: however many
// strangers there are, who means it gets in and stays.
//
// Who was known once, and is not any more as the auth file has changed, is none of
// them: it may hold locks.
type newcomers struct {
	may  time.Duration // how long one may take
	asks bool          // there are clients that are asked

	mu    sync.Mutex // guards what follows
	byAge list.List  // of *newcomer, the oldest first
	all   map[any]*newcomer
	going int // that have to go and have not gone yet
	timer *time.Timer
	late  rarely // those that have had their time
	gone  rarely // those that went for others
}

// A newcomer is a stream with its carrier, or an HTTP connection.
type newcomer struct {
	stream  *session.Stream
	carrier session.Carrier
	http    net.Conn
	since   time.Time
	place   *list.Element // nil: it has to go
}

const (
	// newcomersMay is how long a client may take to say who it is. A person who
	// types a token is one, too.
	newcomersMay = time.Minute
	// newcomerPatience is how old one is at least before it goes for another. A
	// client that means it says who it is within a round trip.
	newcomerPatience = time.Second
	// mostGoing is how many may be about to go for others, which are there already:
	// for so long there are more connections than the bound allows.
	mostGoing = 4
)

var (
	// errNoIdentity ends a connection whose client has not said who it is in time.
	errNoIdentity = errors.New("not authenticated in time")
	// errGivesWay ends one for another.
	errGivesWay = errors.New("not authenticated, and its place is needed")
)

func (n *newcomers) init(asks [Transports]bool) {
	n.may, n.asks = newcomersMay, asks != [Transports]bool{}
	n.all = make(map[any]*newcomer)
}

// meet notes a connection that begins, if its client has to say who it is.
func (s *Server) meet(st *session.Stream, c session.Carrier, asks bool) {
	if !asks || st.Access() != nil {
		return
	}
	s.note(st, &newcomer{stream: st, carrier: c})
}

// met notes that a client has said who it is, or that its connection has ended.
func (s *Server) met(st *session.Stream) {
	if s.newcomers.asks {
		s.newcomers.forget(st)
	}
}

// note notes one by what it is.
func (s *Server) note(what any, one *newcomer) {
	n := &s.newcomers
	n.mu.Lock()
	defer n.mu.Unlock()
	one.since = time.Now()
	one.place = n.byAge.PushBack(one)
	n.all[what] = one
	if n.timer == nil {
		n.timer = time.AfterFunc(n.may, s.endLate)
	}
}

// forget forgets one, by what it is, if it is one.
func (n *newcomers) forget(what any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	one := n.all[what]
	if one == nil {
		return
	}
	delete(n.all, what)
	if one.place == nil {
		n.going--
		return
	}
	n.byAge.Remove(one.place)
	if n.byAge.Len() == 0 && n.timer != nil && n.timer.Stop() {
		n.timer = nil
	}
}

// oldestLocked returns the oldest one, or nil if that is not so old yet.
func (n *newcomers) oldestLocked(now time.Time, old time.Duration) *newcomer {
	for e := n.byAge.Front(); e != nil; e = n.byAge.Front() {
		one := e.Value.(*newcomer)
		if one.stream == nil || one.stream.Access() == nil {
			if now.Sub(one.since) < old {
				return nil
			}
			return one
		}
		n.byAge.Remove(e) // the auth file has got a line for its certificate, or its user
		delete(n.all, one.stream)
	}
	return nil
}

// endLate ends those that have had their time.
func (s *Server) endLate() {
	n := &s.newcomers
	now := time.Now()
	var late []*newcomer
	told := 0
	n.mu.Lock()
	for one := n.oldestLocked(now, n.may); one != nil; one = n.oldestLocked(now, n.may) {
		n.byAge.Remove(one.place)
		if one.stream == nil {
			continue // net/http ends it, and has not yet
		}
		delete(n.all, one.stream)
		late = append(late, one)
		told = max(told, n.late.now())
	}
	if e := n.byAge.Front(); e != nil {
		n.timer.Reset(n.may - now.Sub(e.Value.(*newcomer).since))
	} else {
		n.timer = nil
	}
	n.mu.Unlock()
	if told > 0 {
		s.cfg.Logger.Warn("clients do not say who they are: ending their connections",
			"client", late[0].stream.Address(), "after", n.may, "connections", told)
	}
	for _, one := range late {
		s.refuse(noIdentity)
		s.endFor(one.carrier, errNoIdentity)
	}
}

// makeRoom ends the oldest newcomer for a connection that has come, and tells
// whether there was one that could go.
func (s *Server) makeRoom() bool {
	one, told := s.newcomers.giveWay()
	if one == nil {
		return false
	}
	if told > 0 {
		s.cfg.Logger.Warn("too many connections: ending those whose clients have not said who they are, or what they want",
			"max-connections", s.cfg.MaxConnections, "ended", told)
	}
	if one.http != nil {
		s.refuse(badHandshake)
		socket(one.http).Close()
	} else {
		s.refuse(noIdentity)
		s.endFor(one.carrier, errGivesWay)
	}
	return true
}

// giveWay returns who has to go, or nil, and how many have since the log was told, if
// it is to be told now.
func (n *newcomers) giveWay() (one *newcomer, told int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	one = n.oldestLocked(time.Now(), newcomerPatience)
	if one == nil || n.going >= mostGoing {
		return nil, 0
	}
	n.byAge.Remove(one.place)
	one.place = nil
	n.going++
	return one, n.gone.now()
}
