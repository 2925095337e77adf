package server

import (
	"net"
	"time"
)

// Listener returns one of those that Listen opened for clients.
func (s *Server) Listener(network string) net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		if l.Addr().Network() == network {
			return l
		}
	}
	return nil
}

// OpenFiles is how many connections there may be here.
func OpenFiles() int { return openFiles(false) }

// SampleEvery has the admin address take samples more often than once a second.
func (o *Options) SampleEvery(d time.Duration) { o.samples = d }

// Unhurried has a proxy wait that long, too, for the answer to a request that may not wait:
// on a busy machine a server that is there may need more time than clients stand.
func (u *Upstream) Unhurried(d time.Duration) { u.prompt = d }

// LoopCount has a proxy serve its clients on so many event loops, whatever the machine has.
func (u *Upstream) LoopCount(n int) { u.loops = n }
