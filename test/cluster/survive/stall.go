//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// A stall is that a process did not get to run, though it wanted to: others had the
// processors, or the machine stood still. For clients it is as if somebody had stopped
// them, and where the lab itself stalls nobody knows who else does.
type stall struct {
	Client   string // the machine that clients are on; "": it is the lab
	From, To time.Duration
}

// stalls notes stalls of its own process, of those that are longer than some time.
func stalls(ctx context.Context, w *witness, client string, most time.Duration) {
	const tick = 20 * time.Millisecond
	for last := now(); ctx.Err() == nil; {
		time.Sleep(tick)
		t := now()
		if t-last > most+tick {
			w.note(note{Stall: &stall{client, last, t}})
		}
		last = t
	}
}

// tooLong is for how long a process may stall without that anybody can lose anything.
func tooLong(w time.Duration) time.Duration { return w / 2 }

// noteStalls makes troubles of them.
func (b *lab) noteStalls() {
	b.w.mu.Lock()
	all := b.w.stalls
	b.w.stalls = nil
	b.w.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range all {
		t := &trouble{From: s.From, To: s.To, What: fmt.Sprintf("the machine stands still for %v", (s.To - s.From).Round(time.Millisecond)), all: s.Client == ""}
		if s.Client != "" {
			t.clients = []string{s.Client}
			t.What = "for clients on " + s.Client + " " + t.What
		} else {
			b.stalled = append(b.stalled, s.To-s.From)
		}
		b.troubles = append(b.troubles, t)
		b.logf("%s, at %.3f", t.What, s.From.Seconds())
	}
}
