package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// short makes short connections, one after the other.
func (w *goroutines) short(c *stream) error {
	g := w.generator
	in := make([]byte, 16<<10)
	for {
		w.mu.Lock()
		now := w.run.now()
		c.out = c.out[:0]
		if !w.over(now) {
			c.out = g.ask(c.out, c.pipeline, now)
		}
		w.mu.Unlock()
		if len(c.out) == 0 {
			return nil
		}
		conn, err := w.run.dial(context.Background(), w.run.peer.Network(), w.run.peer.String())
		if err != nil {
			return fmt.Errorf("cannot reach %s: %w", w.run.target, reason(err))
		}
		conn.Write(c.out) // if it fails, reading tells why, or what the server says to one connection too many
		err = w.reply(c, conn, in)
		conn.Close()
		c.in = c.in[:0]
		if err != nil {
			return err
		}
	}
}

// reply reads the reply to a short connection's request, for as long as
// others have time for theirs after the end.
func (w *goroutines) reply(c *stream, conn net.Conn, in []byte) error {
	deadline := int64(1<<63 - 1)
	for {
		conn.SetReadDeadline(time.Now().Add(lookEvery))
		n, err := conn.Read(in)
		w.mu.Lock()
		now := w.run.now()
		if deadline > now+int64(drainTime) && w.over(now) {
			deadline = now + int64(drainTime)
		}
		var failed error
		if n > 0 {
			failed = w.generator.take(c.pipeline, in[:n], now)
		} else if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			w.generator.cut(c.pipeline)
		}
		w.replies.Store(w.generator.got)
		if w.want.Load() {
			w.generator.tally = w.hand(w.generator.tally)
		}
		open := c.outstanding()
		w.mu.Unlock()
		if failed != nil || open == 0 || now > deadline {
			return failed
		}
	}
}
