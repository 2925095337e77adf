package conn

import (
	"context"
	"sync"
	"sync/atomic"
)

// roster is the connections that a hub serves, for shutting down.
type roster struct {
	draining atomic.Bool
	mu       sync.Mutex
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

// Drain serves no new connections and ends those that hold no lock, each
// after the requests that were under way, and the others as soon as they hold
// none. When ctx is done it cuts off what is left. It returns once all
// connections have ended: nil when all ended by themselves, else ctx's error.
// It may be called again, to cut off earlier.
func (h *Hub) Drain(ctx context.Context) error {
	h.mu.Lock()
	h.draining.Store(true)
	for l := range h.links {
		l.drain()
	}
	h.mu.Unlock()
	h.drainLoops()

	var cut atomic.Bool
	stop := context.AfterFunc(ctx, func() {
		h.mu.Lock()
		cut.Store(len(h.links)+h.looped > 0)
		for l := range h.links {
			l.kill()
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
