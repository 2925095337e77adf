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

// Goroutines serve the connections of a worker, one each. They share its generator.
type goroutines struct {
	job
	mu      sync.Mutex // guards the job's generator
	streams []*stream
}

// A stream is a pipeline with its connection.
type stream struct {
	*pipeline
	conn net.Conn
}

// lookEvery is how long a goroutine waits at most before it looks for orders.
const lookEvery = 10 * time.Millisecond

func newGoroutines(r *run, number, of, all int) (worker, error) {
	w := new(goroutines)
	return w, w.begin(r, number, of, all)
}

func (w *goroutines) adopt(conn net.Conn) error {
	w.streams = append(w.streams, &stream{pipeline: newPipeline(w.run.opts.Pipeline, len(w.streams)), conn: conn})
	return nil
}

func (w *goroutines) close() {
	for _, c := range w.streams {
		if c.conn != nil {
			c.conn.Close()
		}
	}
}

// work is the body of the worker's goroutine.
func (w *goroutines) work() error {
	var all sync.WaitGroup
	failed := make(chan error, len(w.streams))
	for _, c := range w.streams {
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
	for _, c := range w.streams {
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
func (w *goroutines) over(now int64) bool {
	if now < w.run.end && w.generator.left > 0 && !w.run.stop.Load() {
		return false
	}
	if w.generator.left > 0 && w.endedAt == 0 {
		w.endedAt = min(now, w.run.end)
	}
	return true
}

func (w *goroutines) loop(c *stream) error {
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
		until := time.Now().Add(lookEvery)
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
