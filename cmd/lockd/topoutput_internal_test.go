package main

import (
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/gdamore/tcell/v3"
)

// A stuckTty takes nothing until it is told to.
type stuckTty struct {
	tcell.Tty
	free chan struct{}
	mu   sync.Mutex
	got  strings.Builder
	err  error

	drained bool
}

func (s *stuckTty) Write(p []byte) (int, error) {
	<-s.free
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got.Write(p)
	return len(p), s.err
}

func (s *stuckTty) Stop() error { return nil }

func (s *stuckTty) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.String()
}

func (s *stuckTty) Drain() error {
	s.drained = true
	return nil
}

// TestTopOutputWaitsForNobody: a write returns at once, what was written comes in its
// order, and it is told when all of it is sent.
func TestTopOutputWaitsForNobody(t *testing.T) {
	tty := &stuckTty{free: make(chan struct{})}
	out := newTopOutput(tty)
	if out.busy() {
		t.Error("it is busy with nothing")
	}
	var want strings.Builder
	for _, text := range []string{"one ", "two ", "three "} {
		want.WriteString(text)
		if n, err := io.WriteString(out, text); n != len(text) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if !out.busy() {
		t.Error("it is not busy")
	}
	select {
	case <-out.idle:
		t.Error("it says that all is sent")
	default:
	}
	close(tty.free)
	<-out.idle
	if out.busy() || tty.text() != want.String() {
		t.Errorf("busy: %v, sent: %q", out.busy(), tty.text())
	}
}

// TestTopOutputIsGivenUp: with a terminal that takes nothing, the end does not wait for
// ever; with one that is gone, it does not wait at all, and nothing is kept for it.
func TestTopOutputIsGivenUp(t *testing.T) {
	tty := &stuckTty{free: make(chan struct{})}
	out := newTopOutput(tty)
	io.WriteString(out, "last words")
	if out.flush() { // or the test hangs
		t.Error("it says that all is sent")
	}
	for range 1000 { // it does not wait again, or the test hangs
		out.Drain()
		out.Stop()
	}
	if tty.drained {
		t.Error("it has the terminal wait")
	}
	if _, err := io.WriteString(out, "more"); err == nil {
		t.Error("it takes more")
	}
	close(tty.free)

	tty = &stuckTty{free: make(chan struct{}), err: io.ErrClosedPipe}
	close(tty.free)
	out = newTopOutput(tty)
	io.WriteString(out, "one")
	out.flush()
	if _, err := io.WriteString(out, "two"); err != io.ErrClosedPipe || out.busy() {
		t.Errorf("%v, busy: %v", err, out.busy())
	}
	out.flush() // or the test hangs
}
