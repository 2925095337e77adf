package conn

import (
	"bufio"
	"context"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// Who is not on an event loop and has looked at others keeps nobody, or each would
// keep all who came before it: here each ends by a reset when the next one has
// looked at it.
func TestLinksKeepNobody(t *testing.T) {
	h := NewServer(testConfig())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const n = 50
	var freed atomic.Int32
	var last *net.TCPConn
	for range n {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		served, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		h.admit(TCP)
		l := h.newLink(struct{ net.Conn }{served}, TCP)
		runtime.AddCleanup(l, func(int) { freed.Add(1) }, 0)
		go func() { l.end(l.serve(nil)) }()
		io.WriteString(c, "sg x\n")
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if last != nil {
			last.SetLinger(0)
			last.Close()
		}
		last = c.(*net.TCPConn)
	}
	for began := time.Now(); freed.Load() < n/2 && time.Since(began) < 10*time.Second; {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	if got := freed.Load(); got < n/2 {
		t.Errorf("%d of %d are forgotten", got, n)
	}
	last.Close()
	ln.Close()
	if err := h.Drain(context.Background()); err != nil {
		t.Error(err)
	}
}

// Who is kicked executes nothing any more, whatever it has sent already.
func TestKickedLinkExecutesNothing(t *testing.T) {
	h := NewServer(testConfig())
	client, conn := Pipe()
	h.admit(Memory)
	l := h.newLink(conn, Memory)
	go io.WriteString(client, "g x\n")
	l.endFor(errKicked)
	if _, err := l.advance([]byte("g y\n")); err != errKicked {
		t.Errorf("it goes on: %v", err)
	}
	err := l.serve([]byte("g z\n"))
	if locks, _ := h.hub.Held(); err != errKicked || locks > 0 {
		t.Errorf("%v, and %d locks", err, locks)
	}
	client.Close()
	l.end(err)
	drainNow(h)
}
