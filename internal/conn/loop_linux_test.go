//go:build linux && !noloop

package conn

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"
)

// A connection that a loop learns of when it has cut off the others is cut off
// too, whatever it holds: exactly adopt's steps, with the whole of Drain's
// orders between two of them.
func TestConnectionComesAfterTheCut(t *testing.T) {
	h := NewServer(testConfig())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	io.WriteString(client, "g foo\n")
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	h.loops.start.Do(func() { h.startLoops(1) })
	h.admit(TCP)
	fd, err := duplicate(c.(syscall.Conn))
	if err != nil {
		t.Fatal(err)
	}
	l, _ := h.enlist(nil, false)
	h.draining.Store(true)
	l.post(task{what: drainLoop})
	l.post(task{what: cutLoop})
	l.post(task{fd: fd, transport: TCP, addr: address(c, TCP)})
	c.Close()
	if err := h.Drain(context.Background()); err != nil {
		t.Error(err)
	}
	if n, st := h.Connections(), h.hub.Stats(); n != 0 || st.Sessions != 0 {
		t.Errorf("%d connections, %d sessions are left", n, st.Sessions)
	}
}

// However many connections cannot be watched, they end, and the log tells of it
// once a second.
func TestConnectionsThatCannotBeWatched(t *testing.T) {
	log := newTold()
	cfg := testConfig()
	cfg.Logger = slog.New(log)
	h := NewServer(cfg)
	l := still(t, h, 1)[0]
	l.epoll = -1
	for range 100 {
		l.letIn(left(t), Unix)
	}
	if n := h.Connections(); n != 0 || h.timely != 0 {
		t.Errorf("%d connections, %d on loops", n, h.timely)
	}
	if len(log.at) != 1 {
		t.Errorf("the log has %d lines", len(log.at))
	}
}

// A connection that was ending when the others were cut off is not waited for,
// either.
func TestNobodyPartsAfterTheCut(t *testing.T) {
	h := NewServer(testConfig())
	l := still(t, h, 1)[0]
	all, ends := clients(t, l, 1)
	c := all[0]
	defer syscall.Close(ends[0])
	const some = 1500 // takes more than one turn to release
	var in []byte
	for i := range some {
		in = fmt.Appendf(in, "g %d\n", i)
	}
	write(ends[0], in)
	for c.stream.Held() < some {
		l.turn()
	}
	if c.end(true); c.parting != nil || c.gone {
		t.Fatal("it has ended in one turn")
	}
	l.post(task{what: cutLoop})
	for range 10 {
		l.turn()
	}
	if !c.gone || h.timely != 0 {
		t.Error("it is waited for")
	}
}
