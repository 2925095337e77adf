package session

import "time"

// OldestWait returns for how long the one has waited who has waited for longest; 0 if
// nobody waits. It looks at all who wait.
func (h *Hub) OldestWait() time.Duration {
	return milliseconds(h.locks.Queues(h.clock.nanoseconds()).Oldest)
}
