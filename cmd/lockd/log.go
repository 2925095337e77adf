package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// A lineQueue writes lines from a goroutine of its own, so that nobody who
// says something, an event loop above all, waits for who reads it. What does
// not fit is dropped and counted.
type lineQueue struct {
	lines   chan []byte // nil: all that came before is to be written
	dropped atomic.Int64
	written chan struct{}
}

// queuedLines is how many lines may wait.
const queuedLines = 4096

// newLineQueue makes a queue. When it has caught up, tell writes how many
// lines were dropped.
func newLineQueue(to io.Writer, tell func(to io.Writer, dropped int64)) *lineQueue {
	q := &lineQueue{lines: make(chan []byte, queuedLines), written: make(chan struct{})}
	go func() {
		for line := range q.lines {
			to.Write(line)
			if len(q.lines) == 0 {
				if n := q.dropped.Swap(0); n > 0 {
					tell(to, n)
				}
			}
			if line == nil {
				close(q.written)
				return
			}
		}
	}()
	return q
}

// Write implements io.Writer, for one line. It never waits and never fails.
func (q *lineQueue) Write(line []byte) (int, error) {
	select {
	case q.lines <- bytes.Clone(line):
	default:
		q.dropped.Add(1)
	}
	return len(line), nil
}

// flush waits until all is written, for a second at most. It is the queue's
// end.
func (q *lineQueue) flush() {
	late := time.After(time.Second)
	select {
	case q.lines <- nil:
	case <-late:
		return
	}
	select {
	case <-q.written:
	case <-late:
	}
}

// logger writes to stderr, through a queue that is to be flushed at the end.
func (c *serving) logger() (*slog.Logger, *lineQueue) {
	queue := newLineQueue(os.Stderr, func(to io.Writer, dropped int64) {
		slog.New(c.logHandler(to)).Warn("log lines were dropped: nobody read them in time", "count", dropped)
	})
	return slog.New(c.logHandler(queue)), queue
}

func (c *serving) logHandler(to io.Writer) slog.Handler {
	opts := &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: inWords}
	if c.Verbose {
		opts.Level = slog.LevelDebug
	}
	if c.LogFormat == "json" {
		return slog.NewJSONHandler(to, opts)
	}
	return slog.NewTextHandler(to, opts)
}

// inWords has durations, addresses and signals written in JSON as in text,
// where they would be numbers and objects.
func inWords(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case slog.Level, time.Time:
	case fmt.Stringer:
		a.Value = slog.StringValue(v.String())
	}
	return a
}

// survivePipes keeps the process alive when who reads its stderr is gone: Go
// dies of SIGPIPE then, and with it every lock. Caught rather than ignored:
// what lockd run starts would inherit that, as it does from who ignores it.
func survivePipes() {
	if !signal.Ignored(syscall.SIGPIPE) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	}
}
