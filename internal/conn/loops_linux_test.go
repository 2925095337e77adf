//go:build linux && !noloop

package conn

import "testing"

// A server has a loop for each processor, and a proxy one for every four, if nobody says
// otherwise.
func TestLoopsWanted(t *testing.T) {
	s := NewServer(testConfig())
	for processors, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 1, 8: 2, 64: 16} {
		s.cfg.Upstream = nil
		if got := s.loopsWanted(processors); got != processors {
			t.Errorf("%d loops of a server on %d processors", got, processors)
		}
		s.cfg.Upstream = new(Upstream)
		if got := s.loopsWanted(processors); got != want {
			t.Errorf("%d loops of a proxy on %d processors, want %d", got, processors, want)
		}
		s.cfg.Upstream.Loops = 3
		if got := s.loopsWanted(processors); got != 3 {
			t.Errorf("%d loops where 3 are asked for", got)
		}
	}
}
