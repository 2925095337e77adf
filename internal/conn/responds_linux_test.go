//go:build linux && !noloop

package conn

import (
	"context"
	"log/slog"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A gate is a log whose writer waits.
type gate struct {
	slog.Handler
	entered, open chan struct{}
	once          sync.Once
}

func (g *gate) Enabled(context.Context, slog.Level) bool { return true }

func (g *gate) Handle(context.Context, slog.Record) error {
	g.once.Do(func() { close(g.entered) })
	<-g.open
	return nil
}

// A server whose loop is blocked does not respond.
func TestResponds(t *testing.T) {
	cfg := testConfig()
	log := &gate{Handler: slog.DiscardHandler, entered: make(chan struct{}), open: make(chan struct{})}
	cfg.Logger = slog.New(log)
	h := NewServer(cfg)
	if err := h.Responds(t.Context()); err != nil {
		t.Errorf("a server without loops: %v", err)
	}
	h.loops.start.Do(func() { h.startLoops(3) })
	if err := h.Responds(t.Context()); err != nil {
		t.Errorf("a server with loops that idle: %v", err)
	}
	h.admit(Unix)
	l, _ := h.enlist(h.loops.all[1], true)
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fds[1])
	l.post(task{what: takeClient, fd: fds[0], transport: Unix})
	<-log.entered
	soon, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	if err := h.Responds(soon); err != context.DeadlineExceeded {
		t.Errorf("with a loop that is blocked: %v", err)
	}
	close(log.open)
	if err := h.Responds(t.Context()); err != nil {
		t.Errorf("when it goes on: %v", err)
	}
	if err := h.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := h.Responds(t.Context()); err != nil {
		t.Errorf("when the loops have ended: %v", err)
	}
}
