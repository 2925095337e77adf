//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// probes asks a node again and again for a lock that nobody else wants, in any partition,
// and notes when it was granted.
func (l *load) probes(ctx context.Context, w *witness, home int) {
	for ctx.Err() == nil {
		conn, err := net.DialTimeout("tcp", l.Nodes[home].Addr, 300*time.Millisecond)
		if err != nil {
			wait(ctx, 50*time.Millisecond)
			continue
		}
		in := bufio.NewReader(conn)
		for err == nil && ctx.Err() == nil {
			err = l.probe(w, home, conn, in)
			wait(ctx, 25*time.Millisecond)
		}
		conn.Close()
	}
}

func (l *load) probe(w *witness, home int, conn net.Conn, in *bufio.Reader) error {
	p := probe{Name: fmt.Sprintf("probe%016x", rand.Uint64()), Home: l.Nodes[home].Name, Sent: now()}
	conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
	fmt.Fprintf(conn, "g %s\n", p.Name)
	line, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "1 ") {
		return nil
	}
	p.At = now()
	w.note(note{Probe: &p})
	fmt.Fprintf(conn, "r %s\n", p.Name)
	_, err = in.ReadString('\n')
	return err
}
