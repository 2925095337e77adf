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

// A worker serves its links with a goroutine each, which share a book.
type worker struct {
	desk
	run  *run
	mu   sync.Mutex // guards book
	book *book
	ends []*end
}

// An end is a link with its connection.
type end struct {
	*link
	conn net.Conn
}

// patience is how long an end waits at most before it looks for orders.
const patience = 10 * time.Millisecond

func newWorker(r *run, number, of, all int) (*worker, error) {
	b, err := newBook(r, number, (all-number+of-1)/of)
	if err != nil {
		return nil, err
	}
	w := &worker{run: r, book: b}
	w.desk.open()
	return w, nil
}

// adopt takes a connection over.
func (w *worker) adopt(c net.Conn) error {
	w.ends = append(w.ends, &end{link: newLink(w.run.opts.Pipeline, len(w.ends)), conn: c})
	return nil
}

func (w *worker) close() {
	for _, e := range w.ends {
		e.conn.Close()
	}
}

// total adds to sum what was not collected.
func (w *worker) total(sum *tally) {
	w.collect(sum)
	sum.add(w.book.tally)
}

// work is the body of the worker's goroutine.
func (w *worker) work() error {
	var all sync.WaitGroup
	failed := make(chan error, len(w.ends))
	for _, e := range w.ends {
		all.Go(func() {
			if err := w.loop(e); err != nil {
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
	for _, e := range w.ends {
		w.book.lost(e.link, now)
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (w *worker) loop(e *end) error {
	b := w.book
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
		if !over && (now >= w.run.end || b.left == 0 || w.run.stop.Load()) {
			over = true
			deadline = now + int64(drainTime)
			if b.left > 0 && w.endedAt == 0 {
				w.endedAt = min(now, w.run.end)
			}
			if b.plan != nil {
				b.unsent(e.link, now)
			}
			e.out = b.finish(e.out, e.link)
		} else if !over {
			if b.plan != nil {
				next := e.sent + e.owed
				for b.plan.of(e.index, next) <= now {
					next++
				}
				e.owed = next - e.sent
				if due := w.run.began.Add(time.Duration(b.plan.of(e.index, next))); due.Before(until) {
					until = due
				}
			}
			e.out = b.ask(e.out, e.link, now)
		}
		if w.want.Load() {
			b.tally = w.hand(b.tally)
		}
		open := e.outstanding()
		w.mu.Unlock()

		if !writing && len(e.out) > 0 {
			sent, e.out = e.out, sent[:0]
			writing = true
			write := func() {
				_, err := e.conn.Write(sent)
				written <- err
			}
			if more {
				go write() // ends when the connection is closed, at the latest
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
		e.conn.SetReadDeadline(until)
		n, err := e.conn.Read(in)
		if n > 0 {
			w.mu.Lock()
			err := b.take(e.link, in[:n], w.run.now())
			w.replies.Store(b.got)
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
