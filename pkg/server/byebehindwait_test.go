package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// A connection that ends with a request that stood behind a wait is not
// watched any more: to try is an error, which would be logged.
func TestByeBehindAWait(t *testing.T) {
	var log bytes.Buffer
	s, err := server.New(server.Options{TCP: []string{"127.0.0.1:0"}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	dial := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", s.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		return c, bufio.NewReader(c)
	}
	a, fromA := dial()
	defer a.Close()
	ask := func(request string) {
		fmt.Fprintln(a, request)
		if line, err := fromA.ReadString('\n'); err != nil {
			t.Fatalf("%s: %q, %v", request, line, err)
		}
	}
	for range 20 {
		ask("g x")
		b, fromB := dial()
		fmt.Fprint(b, "g y\ngw 60000 x\nbye\n")
		fromB.ReadString('\n') // now it waits
		fmt.Fprint(b, "i behind\n")
		for range 20 {
			ask("i x") // meanwhile the server sees that there is more
		}
		ask("r x")
		if rest, err := io.ReadAll(fromB); err != nil || string(rest) != "1 Lock Get Success: x\n1 bye\n" {
			t.Fatalf("got %q, %v", rest, err)
		}
		b.Close()
	}
	a.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if log.Len() > 0 {
		t.Errorf("logged %s", log.String())
	}
}
