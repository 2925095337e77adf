package conn

import (
	"context"
	"io"
	"net"
	"testing"
)

// Beyond the bound on connections only some may part at a time, but all once
// the server shuts down.
func TestPartingsAreBounded(t *testing.T) {
	h := NewHub(testConfig())
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

// A client that has said goodbye and does not close its side is given some
// time, but not by a server that is told to end at once.
func TestPartingEndsWithTheHub(t *testing.T) {
	h := NewHub(testConfig())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- h.Serve(ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
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
	ln.Close()
	<-served
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h.Drain(ctx)
	if n := h.partings.n.Load(); n != 0 {
		t.Errorf("%d are parting when all is over", n)
	}
}
