package api

import (
	"sync"
	"time"
)

// A sampler takes the figures once a second, whether anybody looks or not: who comes
// wants to see what was before. That costs some ten microseconds. It tells those who
// follow events of each.
type sampler struct {
	api  *API
	stop func()
	loss uint64 // the last loss that was told; used by the one who takes samples

	mu      sync.Mutex // guards what follows
	history history
	last    sampled
	stats   map[string]*reply // of the last sample, by who asks
	all     *reply            // the history, once somebody has asked for it
}

// sampled is a sample with all that it is made of.
type sampled struct {
	at     time.Time
	values values
	lost   map[string]uint64 // how many losses there were, by why
	sample sample
}

// values are what the server says of itself, by name.
type values map[string]uint64

func (s *sampler) init(a *API) {
	s.api, s.stop = a, func() {}
	s.take(time.Now())
}

func (s *sampler) start() {
	over := make(chan struct{})
	var running sync.WaitGroup
	s.stop = sync.OnceFunc(func() {
		close(over)
		running.Wait()
	})
	running.Go(func() {
		tick := time.NewTicker(s.api.cfg.Every)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				s.take(time.Now())
			}
		}
	})
}

// take takes a sample.
func (s *sampler) take(now time.Time) {
	got := sampled{at: now, values: s.measure(), lost: s.api.cfg.Hub.Stats().Losses}
	for _, n := range got.lost {
		got.values["losses"] += n
	}
	got.sample.gauge(got.values)
	s.mu.Lock()
	if took := now.Sub(s.last.at); s.history.n > 0 && took > 0 {
		got.sample.since(s.last.values, got.values, took)
	} else { // since when, nobody knows
		for f := range counts {
			got.sample[f] = unknown
		}
		got.sample[cpuCores], got.sample[cpuPerRequest] = unknown, unknown
	}
	s.history.add(now, got.sample, s.api.cfg.Every)
	s.last, s.stats, s.all = got, make(map[string]*reply), nil
	s.mu.Unlock()
	s.api.viewers.tell(func() []byte { return appendEvent(nil, "sample", sampleEvent{moment(now), got.sample}) })
	if !s.api.cfg.NoNames {
		s.tellLosses()
	}
}

func (s *sampler) measure() values {
	h := s.api.cfg.Hub
	v := make(values)
	for _, f := range h.Figures() {
		v[f.Name] = f.Value
	}
	v["oldest_wait_ms"] = uint64(h.OldestWait().Milliseconds())
	v["heap"] = heap()
	return v
}

// now returns the last sample.
func (s *sampler) now() sampled {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}
