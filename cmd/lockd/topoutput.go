package main

import (
	"os"
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
	stuck   bool  // it has taken nothing for too long
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
	switch {
	case o.err != nil:
		return 0, o.err
	case o.stuck:
		return 0, os.ErrDeadlineExceeded
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

// flush waits until all is sent, and tells whether it is. Once that was in vain, the
// terminal is not waited for again.
func (o *topOutput) flush() bool {
	late := time.AfterFunc(flushFor, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.sending || len(o.pending) > 0 {
			o.stuck, o.pending = true, nil
			o.changed.Broadcast()
		}
	})
	defer late.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.err == nil && !o.stuck && (o.sending || len(o.pending) > 0) {
		o.changed.Wait()
	}
	return o.err == nil && !o.stuck
}

// Drain comes before the last that is written. tcell's own waits for the terminal to
// take what was sent, for ever, and changes its modes when it has: so late that it
// would be the last to do so, when others have set them right.
func (o *topOutput) Drain() error {
	if !o.flush() {
		return nil
	}
	return o.Tty.Drain()
}

// Stop comes after it.
func (o *topOutput) Stop() error {
	o.flush()
	return o.Tty.Stop()
}

// Start takes the terminal, perhaps anew.
func (o *topOutput) Start() error {
	o.mu.Lock()
	o.stuck = false
	o.mu.Unlock()
	return o.Tty.Start()
}
