package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A Result is what a run has found.
type Result struct {
	States, Steps int
	Depth         int
	Took          time.Duration
	Cut           bool // there are more states
	Wrong         string
	Trace         []string       // the shortest way to what is wrong
	Count         map[string]int // how often each kind of step was taken, of a part of the states
}

// first is the state to begin with: all nodes run and are registered, owners serve.
func (c *Config) first() State {
	s := State{crashes: c.Crashes, changes: c.Changes, moves: c.Moves, resumes: c.Resumes}
	for p := range c.Parts {
		s.vers[0].of[p].owner = uint8(c.Owners[p])
	}
	for i := range c.Nodes {
		n := &s.nodes[i]
		n.up, n.reg, n.in, n.right = 1, 1, 1, c.W
		if c.Tokens {
			s.vers[0].base = 1
			n.ceil, n.regCeil = 1+c.Reserve, 1+c.Reserve
		}
		for p := range c.Parts {
			if c.Owners[p] == i {
				n.parts[p].phase = serving
				if c.Tokens {
					n.parts[p].next = 1
				}
			}
		}
	}
	for k := range c.Clients {
		s.clients[k].home = uint8(c.Homes[k])
	}
	return s
}

// An explorer goes through all states, breadth first: each level by as many workers as there
// are cores. So the first violation is one with the shortest trace.
type explorer struct {
	*Config
	begun   time.Time
	seen    seen
	states  atomic.Int64
	steps   atomic.Int64
	cut     atomic.Bool // it has stopped before the end
	mu      sync.Mutex  // guards what follows
	wrong   string
	last    label
	lastAt  uint64 // the state before what is wrong
	counted map[string]int
}

// chunk is how many packed states a worker takes at once, in bytes.
const chunk = 1 << 20

func explore(c *Config) Result {
	e := &explorer{Config: c, begun: time.Now(), counted: map[string]int{}}
	s := c.first()
	b := c.canonical(&s, nil)
	e.seen.add(fingerprint(b), 0)
	e.states.Store(1)
	level := [][]byte{b}
	r := Result{}
	for len(level) > 0 && e.wrong == "" && !e.cut.Load() {
		level = e.level(level)
		r.Depth++
	}
	r.Cut = e.cut.Load() && e.wrong == ""
	r.States, r.Steps, r.Wrong, r.Count = int(e.states.Load()), int(e.steps.Load()), e.wrong, e.counted
	if r.Wrong != "" {
		r.Trace = e.trace()
	}
	r.Took = time.Since(e.begun)
	return r
}

func (e *explorer) full() bool {
	return e.Max > 0 && int(e.states.Load()) >= e.Max || e.For > 0 && time.Since(e.begun) >= e.For
}

// level takes all steps from the states of a level, and returns the next.
func (e *explorer) level(from [][]byte) [][]byte {
	var next [][]byte
	var taken atomic.Int64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			w := newWorker(e)
			for !e.cut.Load() {
				i := int(taken.Add(1)) - 1
				if i >= len(from) {
					break
				}
				w.take(from[i])
				from[i] = nil
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			next = append(next, w.next...)
			if len(w.buf) > 0 {
				next = append(next, w.buf)
			}
			for k, n := range w.count {
				e.counted[k] += n
			}
		})
	}
	all.Wait()
	return next
}

// A worker is one core's.
type worker struct {
	e       *explorer
	x       stepper
	s       State
	at      uint64 // fingerprint of s
	pack    []byte
	buf     []byte
	next    [][]byte
	count   map[string]int
	counts  bool
	steps   int
	visited int
}

func newWorker(e *explorer) *worker {
	w := &worker{e: e, count: map[string]int{}}
	w.x = stepper{Config: e.Config, s: &w.s, out: w.out}
	return w
}

func (w *worker) take(b []byte) {
	w.steps = 0
	for len(b) > 0 {
		if w.e.full() {
			w.e.cut.Store(true)
			break
		}
		rest := w.x.unpack(b, &w.s)
		w.at = fingerprint(b[:len(b)-len(rest)])
		b = rest
		w.visited++
		w.counts = w.visited%16 == 1
		w.x.steps()
	}
	w.e.steps.Add(int64(w.steps))
}

func (w *worker) out(t *State, l label, wrong string) {
	w.steps++
	if w.counts {
		w.count[l.text]++
	}
	if wrong != "" {
		w.e.mu.Lock()
		if w.e.wrong == "" {
			w.e.wrong, w.e.last, w.e.lastAt = wrong, l, w.at
		}
		w.e.mu.Unlock()
		return
	}
	w.pack = w.x.canonical(t, w.pack)
	if !w.e.seen.add(fingerprint(w.pack), w.at) {
		return
	}
	w.e.states.Add(1)
	if w.buf = append(w.buf, w.pack...); len(w.buf) >= chunk {
		w.next = append(w.next, w.buf)
		w.buf = make([]byte, 0, chunk+512)
	}
}
