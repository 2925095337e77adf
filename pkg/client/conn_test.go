package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nylen/lockd/internal/netlab"
	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// readLine returns a whole line.
func readLine(t *testing.T, c *client.Conn) string {
	t.Helper()
	var line strings.Builder
	for {
		part, end, err := c.Read()
		if err != nil {
			t.Fatalf("after %q: %v", line.String(), err)
		}
		line.Write(part)
		if end {
			return line.String()
		}
	}
}

// marked sends a request and returns all lines of its reply.
func marked(t *testing.T, c *client.Conn, request string) (lines []string) {
	t.Helper()
	isMark, err := c.SendMarked(request)
	if err != nil {
		t.Fatal(err)
	}
	for {
		line := readLine(t, c)
		if isMark([]byte(line)) {
			return lines
		}
		lines = append(lines, line)
	}
}

func dialConn(t *testing.T, opts client.Options, newest int) *client.Conn {
	t.Helper()
	c, err := client.Dial(within(t), opts, newest)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestConnProtocol2(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, opts client.Options) {
		c := dialConn(t, opts, 2)
		if c.Protocol() != 2 || !c.Pipelines() {
			t.Errorf("protocol %d, pipelines %v", c.Protocol(), c.Pipelines())
		}
		for _, request := range []string{"0 sg a\xff", "0 nonsense", "7 sg a\xff"} {
			if err := c.Send(request); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []string{"0 1 Shared Lock Get Success: a\xff", "0 0 Invalid Command: nonsense", "7 2 Shared Lock Get Success: a\xff"} {
			if got := readLine(t, c); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		if err := c.Send("0 g a\n0 g b"); !errors.Is(err, client.ErrBadName) {
			t.Errorf("two lines: %v", err)
		}
	})
}

func TestConnProtocol1(t *testing.T) {
	overTransports(t, server.Options{MaxLine: 300 << 10, MaxMessage: 1 << 20}, func(t *testing.T, opts client.Options) {
		testConnProtocol1(t, opts, true)
		c := dialConn(t, opts, 1)
		if got := fmt.Sprint(marked(t, c, " ping"), marked(t, c, "gw 0 b")); got != "[1 pong] [1 Lock Get Success: b]" {
			t.Error(got)
		}
		// A line comes in parts if it is long, and whole.
		long := strings.Repeat("x", 250<<10)
		if got := marked(t, c, "i "+long); len(got) != 1 || got[0] != "0 Lock Not Locked: "+long {
			t.Errorf("%d lines, %d bytes", len(got), len(strings.Join(got, "")))
		}
	})
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) { testConnProtocol1(t, client.Options{Target: newFake(t, f).addr}, !f.oneReader) })
		t.Run(f.name+" ws", func(t *testing.T) {
			testConnProtocol1(t, client.Options{Target: "ws://" + newFakeWebSocket(t, f).addr}, true)
		})
	}
}

func testConnProtocol1(t *testing.T, opts client.Options, pipelines bool) {
	t.Helper()
	newest := 1
	if opts.Target != "" && !pipelines {
		newest = 2 // which an old server has not
	}
	c := dialConn(t, opts, newest)
	if c.Protocol() != 1 || c.Pipelines() != pipelines {
		t.Errorf("protocol %d, pipelines %v, want 1, %v", c.Protocol(), c.Pipelines(), pipelines)
	}
	if err := c.Send("sg a"); err != nil {
		t.Fatal(err)
	}
	if got := readLine(t, c); got != "1 Shared Lock Get Success: a" {
		t.Errorf("got %q", got)
	}
	for _, test := range []struct {
		request string
		lines   int
	}{{"d", 0}, {"sd", 1}, {"g b", 1}, {"nonsense", 0}, {"d", 1}, {"r b", 1}} {
		if got := marked(t, c, test.request); len(got) != test.lines {
			t.Errorf("%s: %q, want %d lines", test.request, got, test.lines)
		}
	}
	c.Close()
	if part, _, err := c.Read(); err == nil {
		t.Errorf("read %q after Close", part)
	}
}

// TestConnLine: glockd and lockd for Node.js read a line that is longer than
// theirs as several requests.
func TestConnLine(t *testing.T) {
	long := "i " + strings.Repeat("x", 5000)
	c := dialConn(t, client.Options{Target: newFake(t, glockd).addr}, 1)
	if err := c.Send(long); !errors.Is(err, client.ErrLineTooLong) {
		t.Errorf("glockd: %v", err)
	}
	c = dialConn(t, transports["tcp"](t, server.Options{}), 1)
	if err := c.Send(long); err != nil {
		t.Error(err)
	}
	if got := readLine(t, c); got != "0 Line Too Long" {
		t.Errorf("got %q", got)
	}
}

func TestConnUnreachable(t *testing.T) {
	if _, err := client.Dial(within(t), client.Options{Target: netlab.Nobody}, 2); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("nobody listens: %v", err)
	}
	if _, err := client.Dial(within(t), client.Options{Target: "http://x"}, 2); err == nil || errors.Is(err, client.ErrUnreachable) {
		t.Errorf("no target: %v", err)
	}
	silent := listen(t)
	go func() {
		for {
			if c, err := silent.Accept(); err != nil {
				return
			} else {
				t.Cleanup(func() { c.Close() })
			}
		}
	}()
	_, err := client.Dial(within(t), client.Options{Target: silent.Addr().String(), ConnectTimeout: 1}, 2)
	if !errors.Is(err, client.ErrUnreachable) || !errors.Is(err, client.ErrTimeout) {
		t.Errorf("no answer: %v", err)
	}
}
