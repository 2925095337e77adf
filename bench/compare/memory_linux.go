package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/load"
)

// memory is resident bytes, a connection or a lock.
type memory struct {
	kind    *kind
	fresh   float64 // a connection that was never used
	used    float64 // one that asked once
	held    []float64
	resting int64       // of the server that just started
	load    load.Report // with all of these held
	garbage garbage
}

// garbage is what Go's garbage collector did in a server since it started.
type garbage struct {
	cycles  int
	longest float64 // pause, in milliseconds
	percent float64 // of the processor's time
}

const nameSize = 16

func (c *compare) memory() ([]*memory, error) {
	var all []*memory
	for _, k := range c.kinds {
		if k.floor {
			continue
		}
		m := &memory{kind: k}
		if err := c.idleMemory(m); err != nil {
			return nil, err
		}
		if err := c.heldMemory(m); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

func (c *compare) idleMemory(m *memory) error {
	s, err := c.start(m.kind)
	if err != nil {
		return err
	}
	defer s.kill()
	m.resting = c.settled(s)
	conns, err := connect(c.ctx, s.addr, c.idle)
	defer disconnect(conns)
	if err != nil {
		return fmt.Errorf("%s: %v", s.name, err)
	}
	m.fresh = float64(c.settled(s)-m.resting) / float64(c.idle)
	if err := s.touch(c.ctx, conns); err != nil {
		return fmt.Errorf("%s: %v", s.name, err)
	}
	m.used = float64(c.settled(s)-m.resting) / float64(c.idle)
	c.say("%s: %.0f bytes an idle connection, %.0f once it was used", m.kind.name, m.fresh, m.used)
	return nil
}

func (c *compare) heldMemory(m *memory) error {
	s, err := c.start(m.kind)
	if err != nil {
		return err
	}
	defer s.kill()
	before := c.settled(s)
	conns, err := connect(c.ctx, s.addr, 1)
	defer disconnect(conns)
	if err != nil {
		return fmt.Errorf("%s: %v", s.name, err)
	}
	have := 0
	for _, n := range c.held {
		if err := s.hold(c.ctx, conns[0], have, n-have); err != nil {
			return fmt.Errorf("%s: %v", s.name, err)
		}
		have = n
		each := float64(c.settled(s)-before) / float64(n)
		m.held = append(m.held, each)
		c.say("%s: %.1f bytes a lock, %d held", m.kind.name, each, n)
	}
	if m.kind.scheme != "tcp" {
		return nil // not written in Go
	}
	if m.load, err = c.measure(s, shapes[2], 0); err != nil {
		return err
	}
	m.garbage, err = collected(s)
	return err
}

// collected reads what a Go program says with GODEBUG=gctrace=1, see package
// runtime: `gc 1 @0.017s 2%: 0.01+0.5+0.003 ms clock, ...`, the first and the
// last of the three being pauses.
func collected(s *server) (g garbage, err error) {
	log, err := os.ReadFile(s.log)
	if err != nil {
		return g, err
	}
	for line := range strings.Lines(string(log)) {
		var n int
		var at, percent, first, between, last float64
		if k, _ := fmt.Sscanf(line, "gc %d @%fs %f%%: %f+%f+%f ms clock", &n, &at, &percent, &first, &between, &last); k == 6 {
			g.cycles, g.percent = n, percent
			g.longest = max(g.longest, first, last)
		}
	}
	return g, nil
}

// settled returns the resident bytes of a server once they do not change any
// more.
func (c *compare) settled(s *server) int64 {
	last, same := int64(0), 0
	for range 50 {
		select {
		case <-c.ctx.Done():
			return last
		case <-time.After(200 * time.Millisecond):
		}
		now := load.RSS(s.pid())
		if diff := now - last; diff > -64<<10 && diff < 64<<10 {
			if same++; same == 4 {
				return now
			}
		} else {
			same = 0
		}
		last = now
	}
	return last
}
