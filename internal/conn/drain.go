package conn

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// roster is the connections that a hub serves, for shutting down.
//
// Those that come while the server drains are late: they may ask, and nobody
// waits for them. Nor for those whose clients are kept beyond the server's end. The drain is over when those that were there before are gone;
// then nobody is let in any more.
type roster struct {
	draining atomic.Bool        // set under mu
	mu       sync.Mutex         // guards what follows, and which loop is next
	links    map[*link]struct{} // with a goroutine each
	timely   int                // connections of both kinds
	late     int
	closed   bool
	shaking  map[net.Conn]struct{} // that have not begun yet, as their clients have not said what comes first
	ended    sync.Once
	gone     sync.Cond // a connection ended
}

func (r *roster) init() {
	r.links = make(map[*link]struct{})
	r.shaking = make(map[net.Conn]struct{})
	r.gone.L = &r.mu
}

// over tells whether nobody is let in any more.
func (r *roster) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// enterLocked counts a connection in, unless the server's end has come.
func (r *roster) enterLocked() (late, ok bool) {
	switch {
	case r.closed:
		return false, false
	case r.draining.Load():
		r.late++
		return true, true
	}
	r.timely++
	return false, true
}

func (r *roster) leaveLocked(late bool) {
	if late {
		r.late--
	} else {
		r.timely--
	}
	r.gone.Broadcast()
}

// track counts a link in, unless the server's end has come.
func (r *roster) track(l *link) (ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.late, ok = r.enterLocked(); ok {
		r.links[l] = struct{}{}
	}
	return ok
}

// release has nobody wait for a connection when the server drains. late is whether
// that is so already.
func (r *roster) release(late *bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !*late {
		*late = true
		r.late++
		r.timely--
		r.gone.Broadcast()
	}
}

func (r *roster) untrack(l *link) {
	r.mu.Lock()
	delete(r.links, l)
	r.leaveLocked(l.late)
	r.mu.Unlock()
}

// shake notes a connection that is to begin, unless the server's end has come;
// shaken takes it out.
func (r *roster) shake(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.shaking[c] = struct{}{}
	return true
}

func (r *roster) shaken(c net.Conn) {
	r.mu.Lock()
	delete(r.shaking, c)
	r.gone.Broadcast()
	r.mu.Unlock()
}

// namedLeft is how many of those who are left the log names.
const namedLeft = 10

// logLeft logs how many clients are left and what becomes of them, and then those
// who hold most, each by address and name, unless nobody is left. Who has come late
// holds nothing and is not waited for.
func (s *Server) logLeft(level slog.Level, all, one, more string, attrs ...any) {
	if !s.cfg.Logger.Enabled(context.Background(), level) {
		return
	}
	clients, others := s.hub.Clients(namedLeft)
	n := len(clients) + others
	if n == 0 {
		return
	}
	log := func(msg string, attrs ...any) { s.cfg.Logger.Log(context.Background(), level, msg, attrs...) }
	locks, waiters := s.hub.Held()
	log(all, append([]any{"connections", n, "locks", locks, "waiters", waiters}, attrs...)...)
	for _, c := range clients {
		attrs := appendName([]any{"client", c.Address()}, "name", c.Name(), c.Address())
		attrs = appendAccess(attrs, "as", c.Access())
		log(one, appendProcess(append(attrs, "locks", c.Locks), c.Process())...)
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
func shorten(name string) string { return cut(name, 120) }

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// Drain has nobody take anything new. It ends the connections that hold no lock,
// each after the requests that were under way, and the others as soon as they hold
// none; those that come meanwhile are answered. When ctx is done it cuts off what
// is left. When all that were there before have ended, nobody is let in any more,
// and the rest is ended. It returns once all connections have ended: nil when all
// ended by themselves, else ctx's error.
//
// It may be called again, to cut off earlier. It logs whom it waits for, when
// those that hold nothing are gone, and whom it cuts off, ctx's cause being why.
func (s *Server) Drain(ctx context.Context) error { return s.DrainThen(ctx, func() {}) }

// DrainThen calls stop, besides, when nobody is let in any more: before, as who was
// accepted would get no answer, where the next server, which has the same socket, would
// give one.
func (s *Server) DrainThen(ctx context.Context, stop func()) error {
	err := s.drain(ctx)
	stop()
	s.close()
	return cmp.Or(err, s.end(ctx))
}

// drain waits for those that were there.
func (s *Server) drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining.Store(true)
	s.hub.Drain()
	s.wakeLinksLocked()
	s.mu.Unlock()
	s.drainLoops()

	var told sync.WaitGroup // nothing is logged once it returns
	told.Add(1)
	waiting := time.AfterFunc(4*drainGrace, func() {
		defer told.Done()
		s.logLeft(slog.LevelInfo, "waiting for clients to release their locks", "waiting for a client", "waiting for more clients")
	})
	endWaiting := sync.OnceFunc(func() {
		if waiting.Stop() {
			told.Done()
		}
	})
	defer told.Wait()
	defer endWaiting()
	return s.wait(ctx, func() int { return s.timely }, func() {
		endWaiting()
		s.logLeft(slog.LevelWarn, "cutting clients off", "cutting a client off", "cutting more clients off",
			"reason", context.Cause(ctx).Error())
	})
}

// lateGrace is how long those that came late may take to read what they were
// answered.
const lateGrace = time.Second

// close lets nobody in any more, and has those told that are left: they have come
// late and hold nothing.
func (s *Server) close() {
	s.mu.Lock()
	s.closed = true
	s.hub.End()
	s.wakeLinksLocked()
	for c := range s.shaking {
		c.Close() // its client has said nothing yet
	}
	s.mu.Unlock()
	s.drainLoops()
}

// end waits for them, and ends all else that the server does.
func (s *Server) end(ctx context.Context) error {
	short, stop := context.WithTimeout(ctx, lateGrace)
	defer stop()
	err := s.wait(short, func() int { return s.timely + s.late + len(s.shaking) }, func() {})
	s.ended.Do(func() {
		s.uplinks.stop()
		s.endLoops()
		s.watched.stop()
		s.losses.stop()
		s.hub.Close()
	})
	if ctx.Err() == nil {
		return nil // who does not read is nobody to tell of
	}
	return err
}

func (s *Server) wakeLinksLocked() {
	for l := range s.links {
		l.Wake()
	}
}

// wait waits until none of the connections that count are left. When ctx is done it
// cuts all off, having told of it, and returns ctx's error unless there were none.
func (s *Server) wait(ctx context.Context, countLocked func() int, tell func()) error {
	var cut atomic.Bool
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		tell()
		s.mu.Lock()
		cut.Store(countLocked() > 0)
		s.closed = true // or there would be more to cut off
		for l := range s.links {
			l.look(func(st *session.Stream) { st.EndsFor(session.WhyShutdown) })
			go l.kill() // a caller's own kind of connection may take its time
		}
		s.mu.Unlock()
		s.cutLoops()
	})
	s.mu.Lock()
	for countLocked() > 0 {
		s.gone.Wait()
	}
	s.mu.Unlock()
	if !stop() {
		<-over
	}
	if cut.Load() {
		return ctx.Err()
	}
	return nil
}
