package conn

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/shard"
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
func (h *Hub) left() []any {
	st := h.Stats()
	if st.Connections == 0 {
		return nil
	}
	return []any{"connections", st.Connections, "locks", st.Locks.Locks[shard.Exclusive] + st.Locks.Holders, "waiters", st.Locks.Waiters}
}

// Drain serves no new connections and ends those that hold no lock, each
// after the requests that were under way, and the others as soon as they hold
// none. When ctx is done it cuts off what is left. It returns once all
// connections have ended: nil when all ended by themselves, else ctx's error.
// It may be called again, to cut off earlier. It logs whom it waits for, when
// those that hold nothing are gone, and whom it cuts off, ctx's cause being why.
func (h *Hub) Drain(ctx context.Context) error {
	h.mu.Lock()
	h.draining.Store(true)
	for l := range h.links {
		l.drain()
	}
	h.mu.Unlock()
	h.drainLoops()

	waiting := time.AfterFunc(4*drainGrace, func() {
		if left := h.left(); left != nil {
			h.cfg.Logger.Info("waiting for clients to release their locks", left...)
		}
	})
	defer waiting.Stop()
	var cut atomic.Bool
	stop := context.AfterFunc(ctx, func() {
		waiting.Stop()
		if left := h.left(); left != nil {
			h.cfg.Logger.Warn("cutting clients off", append(left, "reason", context.Cause(ctx).Error())...)
		}
		h.mu.Lock()
		cut.Store(len(h.links)+h.looped > 0)
		for l := range h.links {
			go l.kill() // a caller's own kind of connection may take its time
		}
		h.mu.Unlock()
		h.cutLoops()
	})
	h.mu.Lock()
	for len(h.links)+h.looped > 0 {
		h.gone.Wait()
	}
	h.mu.Unlock()
	stop()
	h.ended.Do(func() {
		h.endLoops()
		h.clock.stop()
	})
	if cut.Load() {
		return ctx.Err()
	}
	return nil
}
