package conn

import (
	"context"
	"log/slog"
	"strings"
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

// namedLeft is how many of those who are left the log names.
const namedLeft = 10

// logLeft logs how many clients are left and what becomes of them, and then those
// who hold most, each by address and name, unless nobody is left.
func (s *Server) logLeft(level slog.Level, all, one, more string, attrs ...any) {
	n := s.Connections()
	if n == 0 || !s.cfg.Logger.Enabled(context.Background(), level) {
		return
	}
	log := func(msg string, attrs ...any) { s.cfg.Logger.Log(context.Background(), level, msg, attrs...) }
	locks, waiters := s.hub.Held()
	log(all, append([]any{"connections", n, "locks", locks, "waiters", waiters}, attrs...)...)
	clients, others := s.hub.Clients(namedLeft)
	for _, c := range clients {
		attrs := appendName([]any{"client", c.Address}, "name", c.Name, c.Address)
		log(one, appendProcess(append(attrs, "locks", c.Locks), c.Process)...)
	}
	if others > 0 {
		log(more, "clients", others)
	}
}

// appendName appends a client's name to a log line's attributes, if it has one
// besides its address.
func appendName(attrs []any, key, name, addr string) []any {
	if name == "" || name == addr {
		return attrs
	}
	return append(attrs, key, shorten(name))
}

// shorten bounds a name for the log, which is as long as a request may be.
func shorten(name string) string {
	const most = 120
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "..."
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

	var told sync.WaitGroup // nothing is logged once it returns
	told.Add(2)
	waiting := time.AfterFunc(4*drainGrace, func() {
		defer told.Done()
		s.logLeft(slog.LevelInfo, "waiting for clients to release their locks", "waiting for a client", "waiting for more clients")
	})
	endWaiting := sync.OnceFunc(func() {
		if waiting.Stop() {
			told.Done()
		}
	})
	var cut atomic.Bool
	stop := context.AfterFunc(ctx, func() {
		defer told.Done()
		endWaiting()
		s.logLeft(slog.LevelWarn, "cutting clients off", "cutting a client off", "cutting more clients off",
			"reason", context.Cause(ctx).Error())
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
	endWaiting()
	if stop() {
		told.Done()
	}
	told.Wait()
	s.ended.Do(func() {
		s.endLoops()
		s.watched.stop()
		s.hub.Close()
	})
	if cut.Load() {
		return ctx.Err()
	}
	return nil
}
