//go:build linux && !noloop

package conn

import (
	"context"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// A connection that a loop learns of when it has cut off the others is cut off
// too, whatever it holds: exactly adopt's steps, with the whole of Drain's
// orders between two of them.
func TestConnectionComesAfterTheCut(t *testing.T) {
	h := NewHub(testConfig())
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
	l := h.enlist()
	h.draining.Store(true)
	l.post(letter{what: drainLoop})
	l.post(letter{what: cutLoop})
	l.post(letter{fd: fd, transport: TCP, addr: address(c, TCP)})
	c.Close()
	if err := h.Drain(context.Background()); err != nil {
		t.Error(err)
	}
	if st := h.Stats(); st.Connections != 0 || st.Sessions != 0 {
		t.Errorf("%d connections, %d sessions are left", st.Connections, st.Sessions)
	}
}

// The end of a connection is noticed whatever its loop believes that it waits
// for, such as mail that is not there.
func TestEndIsNoticedInAnyCase(t *testing.T) {
	h := NewHub(testConfig())
	addr, stop := serveTCP(t, h)
	for _, end := range []func(*net.TCPConn) error{(*net.TCPConn).Close, (*net.TCPConn).CloseWrite} {
		client, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		const replies = "1 Lock Get Success: foo\n2 lockd \n"
		io.WriteString(client, "g foo\nhello 2\n")
		if _, err := io.ReadFull(client, make([]byte, len(replies))); err != nil {
			t.Fatal(err)
		}
		st := h.directory.session(h.locks.Holder([]byte("foo"))).stream
		st.mailed.Store(true)
		if err := end(client.(*net.TCPConn)); err != nil {
			t.Fatal(err)
		}
		for giveUp := time.Now().Add(time.Minute); h.Stats().Connections > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(giveUp) {
				t.Fatal("a connection that has ended is still served")
			}
		}
	}
	stop()
	if err := h.Drain(context.Background()); err != nil {
		t.Error(err)
	}
}
