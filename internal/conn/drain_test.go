package conn

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// holders connects n clients, of which number i holds i+1 locks.
func holders(t *testing.T, path string, n int) {
	t.Helper()
	for i := n - 1; i >= 0; i-- {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		in := "hello 2\n"
		for k := range i + 1 {
			in += fmt.Sprintf("%d %s %d-%d\n", k%3, []string{"g", "sg"}[k%2], i, k) // of some sessions, and of both kinds
		}
		if i%2 == 1 { // the name has quotes and a control character
			in += fmt.Sprintf("0 iam number %d \"of\" %d\x01\n", i, n)
		}
		io.WriteString(c, in+"3 ping\n")
		for lines := bufio.NewScanner(c); lines.Scan() && lines.Text() != "3 1 pong"; {
		}
	}
}

// The log names those whom the end of the server waits for and cuts off: ten at
// most, those who hold most, and the number of the others.
func TestDrainNamesClients(t *testing.T) {
	for _, loops := range []bool{true, false} {
		for _, n := range []int{2, namedLeft, namedLeft + 1, namedLeft + 5} {
			cfg := testConfig()
			log := logTo(&cfg)
			h := NewServer(cfg)
			path, end := serveUnix(t, h, loops)
			holders(t, path, n)
			ctx, cut := context.WithCancelCause(context.Background())
			drained := make(chan error, 1)
			go func() { drained <- h.Drain(ctx) }()
			named := min(n, namedLeft)
			check := func(level, one, more string) {
				t.Helper()
				for i, line := range log.await(t, `"msg":"`+one+`"`, named) {
					var e struct {
						Level, Name, Client string
						Locks               int
					}
					if err := json.Unmarshal([]byte(line), &e); err != nil {
						t.Fatal(err)
					}
					number, name := n-1-i, ""
					if number%2 == 1 {
						name = fmt.Sprintf("number %d \"of\" %d\x01", number, n)
					}
					if e.Level != level || e.Locks != number+1 || e.Name != name || !strings.HasPrefix(e.Client, "unix:") || strings.Contains(e.Client, "#") || i >= named {
						t.Errorf("%d clients, line %d: %s", n, i, line)
					}
				}
				if n > named {
					if line := log.await(t, `"msg":"`+more+`"`, 1)[0]; !strings.Contains(line, fmt.Sprintf(`"clients":%d}`, n-named)) || !strings.Contains(line, level) {
						t.Errorf("%d clients: %s", n, line)
					}
				}
			}
			check("INFO", "waiting for a client", "waiting for more clients")
			cut(fmt.Errorf("enough"))
			if err := <-drained; err == nil {
				t.Error("nobody was cut off")
			}
			check("WARN", "cutting a client off", "cutting more clients off")
			if n <= namedLeft && len(log.with("more clients")) > 0 {
				t.Errorf("%d clients: %v", n, log.with("more clients"))
			}
			end()
		}
	}
}

func TestShorten(t *testing.T) {
	for in, want := range map[string]string{
		"":                                    "",
		strings.Repeat("x", 120):              strings.Repeat("x", 120),
		strings.Repeat("x", 121):              strings.Repeat("x", 120) + "...",
		strings.Repeat("x", 119) + "ö" + "yy": strings.Repeat("x", 119) + "...",
	} {
		if got := shorten(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// Who is accepted last is answered, too: nobody is let in and turned away.
func TestDrainAnswersTheLast(t *testing.T) {
	h := NewServer(testConfig())
	stopped := false
	err := h.DrainThen(t.Context(), func() {
		near, far := net.Pipe()
		defer far.Close()
		h.ServeLines(near, TCP)
		far.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(far, "ping\n")
		if got, err := bufio.NewReader(far).ReadString('\n'); got != "1 pong\n" {
			t.Errorf("%q, %v", got, err)
		}
		stopped = true
	})
	if err != nil || !stopped {
		t.Error(err, stopped)
	}
}
