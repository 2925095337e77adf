package server_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// Of a client on a unix socket one sees which process it is, in protocol 2 of each
// of its sessions.
func TestLookShowsProcesses(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.dial(t, "unix")
	c.send("g x\n")
	wantLine(t, c, "1 Lock Get Success: x\n")
	c.send("iam a name\n")
	wantLine(t, c, "1 ok\n")
	want := fmt.Sprintf("a name\tpid=%d uid=%d program=", os.Getpid(), os.Getuid())
	tcp := s.dial(t, "tcp")
	tcp.send("look x\n")
	if line := tcp.line(); !strings.HasPrefix(line, "x\texclusive\theld\t") || !strings.Contains(line, want) || strings.HasSuffix(line, "=\n") {
		t.Errorf("%q, want %q", line, want)
	}
	wantLine(t, tcp, "1 End\n")
	tcp.send("g y\n")
	wantLine(t, tcp, "1 Lock Get Success: y\n")
	tcp.send("look y\n")
	if line := tcp.line(); strings.Count(line, "\t") != 6 {
		t.Errorf("%q, want 7 fields", line)
	}
	wantLine(t, tcp, "1 End\n")
	c.send("hello 2\n8 g z\n")
	c.line()
	c.line()
	tcp.send("look z\n")
	if line := tcp.line(); !strings.Contains(line, strings.Replace(want, "a name", "a name#8", 1)) {
		t.Errorf("%q", line)
	}
	wantLine(t, tcp, "1 End\n")
}

func wantLine(t *testing.T, c *client, want string) {
	t.Helper()
	if got := c.line(); got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}
