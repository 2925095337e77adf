package conn

import (
	"container/list"
	"net"
	"runtime"
	"sync"
	"time"
)

// handshakes are the TLS handshakes under way. Whoever can connect can begin one
// and leave it there, so they have places of their own, beside the bound on
// connections: those that hang take none from clients. When all are taken the
// next one waits, in its listener's queue, until one is over or the oldest has
// had its time, which goes then. So however many hang, others get through.
type handshakes struct {
	places    chan struct{} // one for each handshake
	computing chan struct{} // one for each that computes
	failures  rarelyAnywhere
	mu        sync.Mutex // guards what follows
	byAge     list.List  // of *handshake, the oldest first
}

// MaxHandshakes is how many there are at a time. Each takes some 20 KiB, and 80 at
// most: half a message, as long as crypto/tls takes one.
const MaxHandshakes = 1024

// handshakePatience is how old one is at least before it goes for another one. A
// client that means it answers within a round trip.
const handshakePatience = time.Second

// init makes room for n handshakes. One processor in two may compute for them, lest
// a crowd that connects at once delays the requests of those that are there: a
// handshake takes as long as a hundred requests.
func (h *handshakes) init(n int) {
	h.places = make(chan struct{}, n)
	h.computing = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
}

// begin waits for a place for a handshake, and for nothing else once stop is
// closed: then it returns false.
func (h *handshakes) begin(s *handshake, stop <-chan struct{}) bool {
	select {
	case h.places <- struct{}{}:
	default:
		patience := time.NewTimer(h.patience())
		defer patience.Stop()
		select {
		case h.places <- struct{}{}:
		case <-stop:
			return false
		case <-patience.C:
			h.dropOldest()
			select {
			case h.places <- struct{}{}: // its place, or another's
			case <-stop:
				return false
			}
		}
	}
	h.mu.Lock()
	s.began, s.place = time.Now(), h.byAge.PushBack(s)
	h.mu.Unlock()
	return true
}

// patience is how long the oldest may still take.
func (h *handshakes) patience() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if oldest := h.byAge.Front(); oldest != nil {
		return handshakePatience - time.Since(oldest.Value.(*handshake).began)
	}
	return handshakePatience
}

// dropOldest closes the oldest one's connection, so it ends.
func (h *handshakes) dropOldest() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if oldest := h.byAge.Front(); oldest != nil {
		h.byAge.Remove(oldest)
		oldest.Value.(*handshake).Conn.Close()
	}
}

// end gives a place back.
func (h *handshakes) end(s *handshake) {
	h.mu.Lock()
	h.byAge.Remove(s.place) // does nothing if it is out of the list already
	h.mu.Unlock()
	<-h.places
}

// closeThose closes the connections of one listener's.
func (h *handshakes) closeThose(of *Secure) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for e := h.byAge.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*handshake); s.listener == of {
			s.Conn.Close()
		}
	}
}

// A handshake is a connection below TLS. Until it is over, it computes only where
// handshakes may, and lets others do so while it waits for its client.
type handshake struct {
	net.Conn
	listener  *Secure
	place     *list.Element
	began     time.Time
	computing chan struct{} // nil: it is over
	holds     bool          // it is one that computes
}

// NetConn returns the connection that it wraps.
func (s *handshake) NetConn() net.Conn { return s.Conn }

func (s *handshake) Read(p []byte) (int, error) {
	if s.computing != nil {
		s.pause()
		defer s.resume()
	}
	return s.Conn.Read(p)
}

func (s *handshake) Write(p []byte) (int, error) {
	if s.computing != nil {
		s.pause()
		defer s.resume()
	}
	return s.Conn.Write(p)
}

func (s *handshake) pause() {
	if s.holds {
		s.holds = false
		<-s.computing
	}
}

func (s *handshake) resume() {
	s.computing <- struct{}{}
	s.holds = true
}

// over ends its being a handshake.
func (s *handshake) over() {
	s.pause()
	s.computing = nil
}
