package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Hold takes locks on one connection, named from on upwards, and returns the
// connection, which keeps them. It is for measuring what they cost.
func Hold(ctx context.Context, target string, from, count, nameSize int) (net.Conn, error) {
	t, err := ParseTarget(target)
	if err != nil {
		return nil, err
	}
	conns, err := t.dialAll(ctx, 1)
	if err != nil {
		return nil, err
	}
	return conns[0], t.hold(ctx, conns[0], from, count, nameSize)
}

// HoldMore takes more locks on a connection that Hold returned.
func HoldMore(ctx context.Context, target string, c net.Conn, from, count, nameSize int) error {
	t, err := ParseTarget(target)
	if err != nil {
		return err
	}
	return t.hold(ctx, c, from, count, nameSize)
}

// holdBatch is how many locks are asked for at a time.
const holdBatch = 256

func (t Target) hold(ctx context.Context, c net.Conn, from, count, nameSize int) error {
	opts := Options{Names: Uniform, NameCount: from + count, NameSize: nameSize, Pipeline: holdBatch}
	if err := opts.complete(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	q := dialects[t.Server].mixes[Exclusive][0]
	names, err := newNamer(&opts, 0)
	if err != nil {
		return err
	}
	head := []byte(q.head)
	if dialects[t.Server].headLength {
		head = fmt.Appendf(head, "%d\r\n", nameSize)
	}
	yes := []byte(q.yes)
	if q.counted {
		yes = append([]byte("1 "), yes...)
	}
	in := make([]byte, 0, 64<<10)
	var out []byte
	for number, end := from, from+count; number < end; {
		out = out[:0]
		open := min(holdBatch, end-number)
		for range open {
			out = append(out, head...)
			out = names.append(out, uint64(number))
			out = append(out, q.tail...)
			number++
		}
		if _, err := c.Write(out); err != nil {
			return fmt.Errorf("lost a connection: %w", reason(err))
		}
		for in = in[:0]; open > 0; {
			n, err := c.Read(in[len(in):cap(in)])
			if err != nil {
				if err == io.EOF {
					err = errors.New("the server closed it")
				}
				return fmt.Errorf("lost a connection: %w", reason(err))
			}
			in = in[:len(in)+n]
			left := in
			for reply := line(left); len(reply) > 0; reply = line(left) {
				if !bytes.HasPrefix(reply, yes) {
					return fmt.Errorf("got %q to %s", bytes.TrimSpace(reply), q.verb)
				}
				left = left[len(reply):]
				open--
			}
			in = append(in[:0], left...)
		}
	}
	return nil
}

// Idle opens connections, which the caller closes. It is for measuring what
// they cost.
func Idle(ctx context.Context, target string, count int) ([]net.Conn, error) {
	t, err := ParseTarget(target)
	if err != nil {
		return nil, err
	}
	return t.dialAll(ctx, count)
}

// Touch has each connection ask once whether a lock is held.
func Touch(ctx context.Context, target string, conns []net.Conn) error {
	t, err := ParseTarget(target)
	if err != nil {
		return err
	}
	q := dialects[t.Server].mixes[Inspect][0]
	ask := []byte(q.head)
	if dialects[t.Server].headLength {
		ask = append(ask, "1\r\n"...)
	}
	ask = append(append(ask, 'x'), q.tail...)
	in := make([]byte, 256)
	for _, c := range conns {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(ask); err != nil {
			return fmt.Errorf("lost a connection: %w", reason(err))
		}
		if _, err := c.Read(in); err != nil {
			return fmt.Errorf("lost a connection: %w", reason(err))
		}
	}
	return nil
}
