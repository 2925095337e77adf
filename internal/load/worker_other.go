//go:build !linux || noloop

package load

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A worker serves its connections with a goroutine each, which share a generator.
type worker struct {
	handoff
	run         *run
	mu          sync.Mutex // guards generator
	generator   *generator
	connections []*connection
}

// A connection is a pipeline with its socket.
type connection struct {
	*pipeline
	conn net.Conn
}

// patience is how long a connection waits at most before it looks for orders.
const patience = 10 * time.Millisecond

func newWorker(r *run, number, of, all int) (*worker, error) {
	g, err := newGenerator(r, number, (all-number+of-1)/of)
	if err != nil {
		return nil, err
	}
	w := &worker{run: r, generator: g}
	w.handoff.open()
	return w, nil
}

// adopt takes a connection over; of short ones there is none yet.
func (w *worker) adopt(conn net.Conn) error {
	w.connections = append(w.connections, &connection{pipeline: newPipeline(w.run.opts.Pipeline, len(w.connections)), conn: conn})
	return nil
}

func (w *worker) close() {
	for _, c := range w.connections {
		if c.conn != nil {
			c.conn.Close()
		}
	}
}

// total adds to sum what was not collected.
func (w *worker) total(sum *tally) {
	w.collect(sum)
	sum.add(w.generator.tally)
}

// work is the body of the worker's goroutine.
func (w *worker) work() error {
	var all sync.WaitGroup
	failed := make(chan error, len(w.connections))
	for _, c := range w.connections {
		all.Go(func() {
			loop := w.loop
			if w.run.opts.Short {
				loop = w.short
			}
			if err := loop(c); err != nil {
				failed <- err
				w.run.stop.Store(true)
			}
		})
	}
	all.Wait()
	now := w.run.now()
	if w.endedAt == 0 {
		w.endedAt = min(now, w.run.end)
	}
	for _, c := range w.connections {
		w.generator.lost(c.pipeline, now)
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// over tells whether no more is to be sent. w.mu is held.
func (w *worker) over(now int64) bool {
	if now < w.run.end && w.generator.left > 0 && !w.run.stop.Load() {
		return false
	}
	if w.generator.left > 0 && w.endedAt == 0 {
		w.endedAt = min(now, w.run.end)
	}
	return true
}

func (w *worker) loop(c *connection) error {
	g := w.generator
	in := make([]byte, 16<<10)
	// What is sent, and whether that is more than sockets hold in any case:
	// then a server that waits for its replies to be read may not read, and
	// they have to be read meanwhile.
	var sent []byte
	written := make(chan error, 1)
	writing, more := false, w.run.opts.Pipeline*w.run.opts.NameSize > 32<<10
	over := false
	deadline := int64(0)
	for {
		now := w.run.now()
		until := time.Now().Add(patience)
		w.mu.Lock()
		if !over && w.over(now) {
			over = true
			deadline = now + int64(drainTime)
			if g.plan != nil {
				g.unsent(c.pipeline, now)
			}
			c.out = g.finish(c.out, c.pipeline)
		} else if !over {
			if g.plan != nil {
				next := c.sent + c.owed
				for g.plan.of(c.index, next) <= now {
					next++
				}
				c.owed = next - c.sent
				if due := w.run.began.Add(time.Duration(g.plan.of(c.index, next))); due.Before(until) {
					until = due
				}
			}
			c.out = g.ask(c.out, c.pipeline, now)
		}
		if w.want.Load() {
			g.tally = w.hand(g.tally)
		}
		open := c.outstanding()
		w.mu.Unlock()

		if !writing && len(c.out) > 0 {
			sent, c.out = c.out, sent[:0]
			writing = true
			write := func() {
				_, err := c.conn.Write(sent)
				written <- err
			}
			if more {
				go write() // connections when the connection is closed, at the latest
			} else {
				write()
			}
		}
		if writing {
			select {
			case err := <-written:
				if writing = false; err != nil {
					return fmt.Errorf("lost a connection: %w", reason(err))
				}
			default:
			}
		}
		if over && (open == 0 || now > deadline) {
			return nil
		}
		c.conn.SetReadDeadline(until)
		n, err := c.conn.Read(in)
		if n > 0 {
			w.mu.Lock()
			err := g.take(c.pipeline, in[:n], w.run.now())
			w.replies.Store(g.got)
			w.mu.Unlock()
			if err != nil {
				return err
			}
		}
		switch {
		case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
		case err == io.EOF:
			return errEnded
		default:
			return fmt.Errorf("lost a connection: %w", reason(err))
		}
	}
}
