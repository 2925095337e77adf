package main

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestWatchdogHearsNothingOfAServerThatHangs: not only a timer has to run.
func TestWatchdogHearsNothingOfAServerThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skip("no sockets of this kind: ", err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "10000")
	t.Setenv("WATCHDOG_PID", "")
	var log lines
	m := newManager(slog.New(slog.NewTextHandler(&log, nil)))
	if m.every != 5*time.Millisecond {
		t.Fatalf("it is told every %v", m.every)
	}
	var hangs atomic.Bool
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.watch(ctx, func(ctx context.Context) error {
			if !hangs.Load() {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	hear := func() string {
		t.Helper()
		c.SetReadDeadline(time.Now().Add(30 * time.Second))
		b := make([]byte, 100)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	for range 3 {
		if got := hear(); got != "WATCHDOG=1" {
			t.Errorf("it hears %q", got)
		}
	}
	hangs.Store(true)
	for log.count("does not respond") < 3 {
		time.Sleep(time.Millisecond)
	}
	c.SetReadDeadline(time.Now()) // what it has heard before
	for b := make([]byte, 100); ; {
		if _, err := c.Read(b); err != nil {
			break
		}
	}
	for before := log.count("does not respond"); log.count("does not respond") < before+10; {
		time.Sleep(time.Millisecond)
	}
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := c.Read(make([]byte, 100)); err == nil {
		t.Errorf("it heard something of a server that hangs, %d bytes", n)
	}
	hangs.Store(false)
	if got := hear(); got != "WATCHDOG=1" {
		t.Errorf("when it goes on it hears %q", got)
	}
	stop()
	<-ended
}

// lines counts lines of a log.
type lines struct {
	text atomic.Pointer[string]
}

func (l *lines) Write(p []byte) (int, error) { // slog writes one at a time
	text := string(p)
	if old := l.text.Load(); old != nil {
		text = *old + text
	}
	l.text.Store(&text)
	return len(p), nil
}

func (l *lines) count(what string) int {
	if text := l.text.Load(); text != nil {
		return strings.Count(*text, what)
	}
	return 0
}
