package conn

import "context"

// Responds tells whether everything that clients depend on moves: it returns when
// each event loop has done something since, and each shard's mutex was free once,
// or, with ctx's error, when ctx is done first.
func (s *Server) Responds(ctx context.Context) error {
	loops := s.askLoops()
	locks := make(chan struct{})
	go func() {
		s.hub.Held()
		close(locks)
	}()
	for _, answer := range append(loops, locks) {
		select {
		case <-answer:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
