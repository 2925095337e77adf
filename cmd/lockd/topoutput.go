package main

import (
	"sync"
	"time"

	"github.com/gdamore/tcell/v3"
)

// A topOutput is a terminal whose writes wait for nobody: what cannot be sent yet is
// kept, and as long as there is such, nothing more is drawn. So keys and signals are
// heard also when a line hangs, and a slow one gets the newest picture when it has
// taken the last, not all those between.
type topOutput struct {
	tcell.Tty
	idle chan struct{} // has a value when all is sent

	mu      sync.Mutex // guards what follows
	changed sync.Cond
	pending []byte
	sending bool
	err     error // of the terminal, which gets nothing more
}

func newTopOutput(tty tcell.Tty) *topOutput {
	o := &topOutput{Tty: tty, idle: make(chan struct{}, 1)}
	o.changed.L = &o.mu
	go o.run()
	return o
}

// run sends until the process ends.
func (o *topOutput) run() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for len(o.pending) == 0 {
			o.changed.Wait()
		}
		next := o.pending
		o.pending, o.sending = nil, true
		o.mu.Unlock()
		_, err := o.Tty.Write(next)
		o.mu.Lock()
		o.sending = false
		if o.err == nil {
			o.err = err
		}
		if len(o.pending) == 0 {
			select {
			case o.idle <- struct{}{}:
			default:
			}
		}
		o.changed.Broadcast()
	}
}

// Write implements io.Writer.
func (o *topOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	o.pending = append(o.pending, p...)
	o.changed.Broadcast()
	return len(p), nil
}

// busy tells whether something is not sent yet.
func (o *topOutput) busy() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err == nil && (o.sending || len(o.pending) > 0)
}

// flushFor is how long the last bytes may take.
const flushFor = time.Second

// flush waits until all is sent, if that comes to an end.
func (o *topOutput) flush() {
	late := time.AfterFunc(flushFor, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.pending = nil
		o.changed.Broadcast()
	})
	defer late.Stop()
	end := time.Now().Add(flushFor)
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.err == nil && (o.sending || len(o.pending) > 0) && time.Now().Before(end) {
		o.changed.Wait()
	}
}

// Drain comes before the last that is written.
func (o *topOutput) Drain() error {
	o.flush()
	return o.Tty.Drain()
}

// Stop comes after it.
func (o *topOutput) Stop() error {
	o.flush()
	return o.Tty.Stop()
}
