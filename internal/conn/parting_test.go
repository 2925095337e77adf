package conn

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Beyond the bound on connections only some may part at a time, but all once
// the server shuts down.
func TestPartingsAreBounded(t *testing.T) {
	h := NewServer(testConfig())
	for i := range maxPartings {
		if !h.mayPart() {
			t.Fatalf("%d may part", i)
		}
	}
	if h.mayPart() {
		t.Error("one too many may part")
	}
	h.parted()
	if !h.mayPart() {
		t.Error("nobody may part when another has")
	}
	if err := h.Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !h.mayPart() {
		t.Error("while the server shuts down, one may not part")
	}
}

// serveTCP serves a hub at an address of its own, until end is called.
func serveTCP(t *testing.T, h *Server) (addr string, end func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- h.Serve(ln) }()
	return ln.Addr().String(), func() {
		ln.Close()
		<-served
	}
}

// A client that has said goodbye and does not close its side is given some
// time, but not by a server that is told to end at once.
func TestPartingEndsWithTheHub(t *testing.T) {
	h := NewServer(testConfig())
	addr, end := serveTCP(t, h)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// What it has sent behind it is passed over, and does not reset the
	// connection.
	io.WriteString(c, "g foo\nbye\ni foo\ni foo\n")
	if got, err := io.ReadAll(c); string(got) != "1 Lock Get Success: foo\n1 bye\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	io.WriteString(c, "i foo\n")
	if n := h.partings.n.Load(); n != 1 {
		t.Errorf("%d are parting", n)
	}
	end()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h.Drain(ctx)
	if n := h.partings.n.Load(); n != 0 {
		t.Errorf("%d are parting when all is over", n)
	}
}

// A latecomer is a connection that somebody comes to wake while it parts: who
// released a lock that it waited for, and looked it up just before it ended.
type latecomer struct {
	net.Conn
	link    *link
	parting bool
	passed  time.Time // a deadline that was over when it was set
}

func (c *latecomer) CloseWrite() error {
	c.parting = true
	return c.Conn.(*pipeEnd).CloseWrite()
}

func (c *latecomer) Read(p []byte) (int, error) {
	if c.parting {
		c.link.Wake()
		c.link.Wake()
	}
	return c.Conn.Read(p)
}

func (c *latecomer) SetReadDeadline(at time.Time) error {
	if c.parting && time.Until(at) < partingWait/2 {
		c.passed = at
	}
	return c.Conn.SetReadDeadline(at)
}

// A parting is not cut short by whom it does not concern any more: what the
// client has not read would be lost with it.
func TestPartingIsNotInterrupted(t *testing.T) {
	h := NewServer(testConfig())
	client, server := Pipe()
	c := &latecomer{Conn: server}
	h.admit(Memory)
	c.link = h.newLink(c, Memory)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.link.end(errClosing)
	}()
	if got, err := io.ReadAll(client); len(got) > 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	client.Close()
	<-ended
	if !c.passed.IsZero() {
		t.Error("the connection's parting was cut short")
	}
}

// A slowCloser is a connection whose Close takes until all others are closed,
// as that of a TLS connection may take long, whose client does not read.
type slowCloser struct {
	net.Conn
	all  *sync.WaitGroup
	once sync.Once
}

func (c *slowCloser) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.all.Done)
	c.all.Wait()
	return err
}

type outerConn struct{ *slowCloser }

func (c outerConn) NetConn() net.Conn { return c.Conn }

// Connections are cut off all at once, and not one after another.
func TestCutDoesNotWait(t *testing.T) {
	h := NewServer(testConfig())
	var all sync.WaitGroup
	var served sync.WaitGroup
	for i := range 10 {
		client, server := Pipe()
		defer client.Close()
		all.Add(1)
		conn := net.Conn(&slowCloser{Conn: server, all: &all})
		if i%2 == 0 {
			conn = outerConn{conn.(*slowCloser)}
		}
		h.admit(TCP)
		served.Go(func() { h.serveLines(conn, TCP) })
		io.WriteString(client, "g "+string(rune('a'+i))+"\n")
		if _, err := io.ReadFull(client, make([]byte, len("1 Lock Get Success: a\n"))); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.Drain(ctx); err == nil {
		t.Error("nobody was cut off")
	}
	served.Wait()
}

// Requests that are under way when the server shuts down are answered, also when
// somebody wakes the connection in vain.
func TestLastTurnIsNotCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewServer(testConfig())
		client, server := Pipe()
		h.ServeLines(server, Memory)
		ask := func() {
			t.Helper()
			io.WriteString(client, "ping\n")
			reply := make([]byte, len("1 pong\n"))
			if _, err := io.ReadFull(client, reply); err != nil {
				t.Fatal(err)
			}
		}
		ask()
		drained := make(chan error)
		go func() { drained <- h.Drain(context.Background()) }()
		synctest.Wait()
		for range 3 {
			h.mu.Lock()
			for l := range h.links {
				l.Wake()
			}
			h.mu.Unlock()
			synctest.Wait()
		}
		ask()
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
}
