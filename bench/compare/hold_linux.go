package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// What connections and locks cost is measured while somebody has them.

// holdBatch is how many locks are asked for at a time.
const holdBatch = 256

// hold takes locks over a connection, numbered from on upwards.
func (k *kind) hold(ctx context.Context, c net.Conn, from, count int) error {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	in := make([]byte, 0, 64<<10)
	var out []byte
	for number, end := from, from+count; number < end; {
		out = out[:0]
		open := min(holdBatch, end-number)
		for range open {
			out = fmt.Appendf(out, k.get, fmt.Sprintf("held:%0*d", nameSize-len("held:"), number))
			number++
		}
		if _, err := c.Write(out); err != nil {
			return err
		}
		for in = in[:0]; open > 0; {
			n, err := c.Read(in[len(in):cap(in)])
			if err != nil {
				return err
			}
			in = in[:len(in)+n]
			left := in
			for i := bytes.IndexByte(left, '\n'); i >= 0; i = bytes.IndexByte(left, '\n') {
				if !bytes.HasPrefix(left, []byte(k.got)) {
					return fmt.Errorf("got %q for a lock", left[:i])
				}
				left = left[i+1:]
				open--
			}
			in = append(in[:0], left...)
		}
	}
	return nil
}

// connect opens connections, which the caller closes, also after an error.
func connect(ctx context.Context, addr string, count int) (conns []net.Conn, err error) {
	for range count {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func disconnect(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// touch has each connection ask once.
func (k *kind) touch(ctx context.Context, conns []net.Conn) error {
	in := make([]byte, 256)
	for _, c := range conns {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, k.ask); err != nil {
			return err
		}
		if _, err := c.Read(in); err != nil {
			return err
		}
	}
	return nil
}
