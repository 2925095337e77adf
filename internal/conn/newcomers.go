package conn

import (
	"container/list"
	"errors"
	"sync"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// newcomers are the connections whose clients have to say who they are, and have
// not. Whoever can connect can have as many of them as there are places, so they
// are there for a time only; and where all places are taken, the oldest one has to
// go for a client that comes, which has the same chance then: however many
// strangers there are, who is known gets in and stays.
//
// Who was known once, and is not any more as the auth file has changed, is none of
// them: it may hold locks.
type newcomers struct {
	may  time.Duration // how long one may take
	none bool          // nobody is asked

	mu      sync.Mutex // guards what follows
	byAge   list.List  // of *newcomer, the oldest first
	streams map[*session.Stream]*newcomer
	going   int // that have to go and have not gone yet
	timer   *time.Timer
	late    rarely
}

type newcomer struct {
	stream  *session.Stream
	carrier session.Carrier
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
	n.may, n.none = newcomersMay, asks == [Transports]bool{}
	n.streams = make(map[*session.Stream]*newcomer)
}

// meet notes a connection that begins, if its client has to say who it is.
func (s *Server) meet(st *session.Stream, c session.Carrier, asks bool) {
	if !asks || st.Access() != nil {
		return
	}
	n := &s.newcomers
	n.mu.Lock()
	defer n.mu.Unlock()
	one := &newcomer{stream: st, carrier: c, since: time.Now()}
	one.place = n.byAge.PushBack(one)
	n.streams[st] = one
	if n.timer == nil {
		n.timer = time.AfterFunc(n.may, s.endLate)
	}
}

// forget notes that a client has said who it is, or that its connection has ended.
func (n *newcomers) forget(st *session.Stream) {
	if n.none {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	one := n.streams[st]
	if one == nil {
		return
	}
	delete(n.streams, st)
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
		if one.stream.Access() == nil {
			if now.Sub(one.since) < old {
				return nil
			}
			return one
		}
		n.byAge.Remove(e) // the auth file has got a line for its certificate, or its user
		delete(n.streams, one.stream)
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
		delete(n.streams, one.stream)
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
	one := s.newcomers.giveWay()
	if one == nil {
		return false
	}
	s.refuse(noIdentity)
	s.endFor(one.carrier, errGivesWay)
	return true
}

func (n *newcomers) giveWay() *newcomer {
	n.mu.Lock()
	defer n.mu.Unlock()
	one := n.oldestLocked(time.Now(), newcomerPatience)
	if one == nil || n.going >= mostGoing {
		return nil
	}
	n.byAge.Remove(one.place)
	one.place = nil
	n.going++
	return one
}
