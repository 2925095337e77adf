package cluster

import "time"

// silences are for how long which nodes have not been heard, by one member's own
// eyes: a node's time runs while reads of the store succeed and show its value as it
// was. After a read that failed, or a time without reads, all begin anew: it may have
// been the store that was away, or we, and then nobody could say that he lives.
type silences struct {
	gap      time.Duration // between two reads: more is an interruption
	running  bool
	last     time.Duration // when the last read was answered
	of       map[string]witness
	restarts uint64
}

type witness struct {
	value string
	since time.Duration
}

func newSilences(c Conf) *silences {
	return &silences{gap: c.Beat() * 3 / 2, of: make(map[string]witness)}
}

// interrupt notes that a read failed.
func (s *silences) interrupt() { s.running = false }

// saw notes what a read that was answered now has shown: a value for each who may be
// silent.
func (s *silences) saw(now time.Duration, values map[string]string) {
	if !s.running || now-s.last > s.gap {
		if len(s.of) > 0 {
			s.restarts++
		}
		clear(s.of)
	}
	s.running, s.last = true, now
	for id, value := range values {
		if w, ok := s.of[id]; !ok || w.value != value {
			s.of[id] = witness{value, now}
		}
	}
	for id := range s.of {
		if _, ok := values[id]; !ok {
			delete(s.of, id)
		}
	}
}

// silent returns for how long one was silent when a read was sent. Since is when its
// last value was received, and the read's own answer may have been on its way for long:
// both make it less than it was.
func (s *silences) silent(id string, sent time.Duration) time.Duration {
	w, ok := s.of[id]
	if !ok || !s.running {
		return 0
	}
	return max(0, sent-w.since)
}
