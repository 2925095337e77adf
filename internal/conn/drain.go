package conn

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// roster is the connections that a hub serves, for shutting down.
type roster struct {
	draining atomic.Bool
	mu       sync.Mutex         // guards what follows, and which loop is next
	links    map[*link]struct{} // with a goroutine each
	looped   int                // on event loops
	ended    sync.Once
	gone     sync.Cond // a connection ended
}

func (r *roster) init() {
	r.links = make(map[*link]struct{})
	r.gone.L = &r.mu
}

// track notes a connection, unless the server is shutting down.
func (r *roster) track(l *link) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining.Load() {
		return false
	}
	r.links[l] = struct{}{}
	return true
}

func (r *roster) untrack(l *link) {
	r.mu.Lock()
	delete(r.links, l)
	r.gone.Broadcast()
	r.mu.Unlock()
}

// left is who is there, for the log; nil if nobody is.
func (s *Server) left() []any {
	n := s.Connections()
	if n == 0 {
		return nil
	}
	locks, waiters := s.hub.Held()
	return []any{"connections", n, "locks", locks, "waiters", waiters}
}

// Drain serves no new connections and ends those that hold no lock, each
// after the requests that were under way, and the others as soon as they hold
// none. When ctx is done it cuts off what is left. It returns once all
// connections have ended: nil when all ended by themselves, else ctx's error.
// It may be called again, to cut off earlier. It logs whom it waits for, when
// those that hold nothing are gone, and whom it cuts off, ctx's cause being why.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining.Store(true)
	s.hub.Drain()
	for l := range s.links {
		l.Wake()
	}
	s.mu.Unlock()
	s.drainLoops()

	waiting := time.AfterFunc(4*drainGrace, func() {
		if left := s.left(); left != nil {
			s.cfg.Logger.Info("waiting for clients to release their locks", left...)
		}
	})
	defer waiting.Stop()
	var cut atomic.Bool
	stop := context.AfterFunc(ctx, func() {
		waiting.Stop()
		if left := s.left(); left != nil {
			s.cfg.Logger.Warn("cutting clients off", append(left, "reason", context.Cause(ctx).Error())...)
		}
		s.mu.Lock()
		cut.Store(len(s.links)+s.looped > 0)
		for l := range s.links {
			go l.kill() // a caller's own kind of connection may take its time
		}
		s.mu.Unlock()
		s.cutLoops()
	})
	s.mu.Lock()
	for len(s.links)+s.looped > 0 {
		s.gone.Wait()
	}
	s.mu.Unlock()
	stop()
	s.ended.Do(func() {
		s.endLoops()
		s.hub.Close()
	})
	if cut.Load() {
		return ctx.Err()
	}
	return nil
}
