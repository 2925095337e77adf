package conn

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

// The log counts what all sessions of a connection have held.
func TestDisconnectedCountsAllSessions(t *testing.T) {
	for _, loops := range []bool{true, false} {
		cfg := testConfig()
		log := logTo(&cfg)
		path, end := serveUnix(t, NewServer(cfg), loops)
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "hello 2\n0 g a\n1 g b\n1 sg b\n2 sg b\n2 g a\n3 g c\n3 r c\n0 ping\n")
		for lines := bufio.NewScanner(c); lines.Scan() && lines.Text() != "0 1 pong"; {
		}
		c.Close()
		if line := log.await(t, `"msg":"disconnected"`, 1)[0]; !strings.Contains(line, `"locks":4`) {
			t.Errorf("%s, want 4 locks", line)
		}
		end()
	}
}

// Who has ended whom is in the log, by address and, where there is one, by name:
// not all of it if that is long.
func TestLogOfKicks(t *testing.T) {
	for _, loops := range []bool{true, false} {
		cfg := testConfig()
		log := logTo(&cfg)
		path, end := serveUnix(t, NewServer(cfg), loops)
		dial := func() (net.Conn, *bufio.Reader, string) {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(c)
			io.WriteString(c, "me\n")
			me, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			return c, in, strings.Fields(me)[1]
		}
		a, inA, addrA := dial()
		b, inB, addrB := dial()
		io.WriteString(b, "iam "+strings.Repeat("n", 4000)+"\n")
		inB.ReadString('\n')
		io.WriteString(a, "kick "+addrB+"\n")
		inA.ReadString('\n')
		line := log.await(t, `"msg":"kicked"`, 1)[0]
		want := `"client":"` + addrB + `","name":"` + strings.Repeat("n", 120) + `...","by":"` + addrA + `"}`
		if !strings.Contains(line, want) {
			t.Errorf("%s, want %s", line, want)
		}
		a.Close()
		b.Close()
		end()
	}
}
