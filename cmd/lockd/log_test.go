package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// slowWriter writes when it may.
type slowWriter struct {
	may chan struct{}
	bytes.Buffer
}

func (w *slowWriter) Write(b []byte) (int, error) {
	<-w.may
	return w.Buffer.Write(b)
}

func TestQueueDropsWhatDoesNotFit(t *testing.T) {
	w := &slowWriter{may: make(chan struct{})}
	q := newLineQueue(w, func(to io.Writer, n int64) { fmt.Fprintln(to, "dropped", n) })
	const extra = 100
	for i := range queuedLines + extra {
		fmt.Fprintf(q, "line %d\n", i) // and none waits
	}
	close(w.may)
	q.flush()
	out := w.String()
	dropped := extra
	if strings.Contains(out, fmt.Sprintf("line %d\n", queuedLines)) {
		dropped-- // one was being written already
	}
	if want := fmt.Sprintf("dropped %d\n", dropped); !strings.HasSuffix(out, want) ||
		strings.Count(out, "line ") != queuedLines+extra-dropped || !strings.HasPrefix(out, "line 0\nline 1\n") {
		t.Errorf("want %q at the end of %d lines: ... %s", want, strings.Count(out, "\n"), out[max(0, len(out)-100):])
	}
}

// A reader that stalls does not keep the process from ending.
func TestQueueFlushEnds(t *testing.T) {
	w := &slowWriter{may: make(chan struct{})}
	q := newLineQueue(w, func(io.Writer, int64) {})
	for i := range 2 * queuedLines {
		fmt.Fprintf(q, "line %d\n", i)
	}
	q.flush()
	close(w.may)
}
