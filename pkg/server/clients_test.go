package server_test

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// TestClients plays testdata/clients/*.txt, what existing clients send and
// expect byte by byte, over TCP and a unix socket, each file to a server of
// its own.
//
//	A> "g foo\n"   A sends these bytes
//	A< "1 ok\n"    A gets exactly these, {A} being A's address
//	A.             nothing else has come so far
//	A!             A closes, and the server has counted it out
func TestClients(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/clients/*.txt")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no clients")
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		// These clients read a reply with one call: it has to leave in one write.
		oneRead := name == "python" || name == "glockd-tester"
		for _, transport := range []string{"tcp", "unix"} {
			t.Run(name+"/"+transport, func(t *testing.T) {
				t.Parallel()
				play(t, file, transport, oneRead, start)
			})
		}
	}
}

func play(t *testing.T, file, transport string, oneRead bool, start func(testing.TB, server.Options) *testServer) {
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	s := start(t, server.Options{})
	clients := make(map[byte]*client)
	addrs := make(addresses)
	if s.upstream != nil {
		addrs[throughProxy] = "?"
	}
	steps := 0
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		line := in.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		if len(line) < 2 || line[0] < 'A' || line[0] > 'Z' {
			t.Fatalf("%s:%d: no step: %s", file, n, line)
		}
		steps++
		who, op, text := line[0], line[1], ""
		if op == '<' || op == '>' {
			if text, err = strconv.Unquote(strings.TrimSpace(line[2:])); err != nil || text == "" {
				t.Fatalf("%s:%d: no text in quotes: %s", file, n, line)
			}
		}
		c := clients[who]
		if c == nil {
			c = s.dial(t, transport)
			clients[who] = c
			addrs[who] = localAddr(c.Conn)
			waitConnections(t, s.Server, len(clients))
		}
		switch op {
		case '>':
			c.send(text)
		case '<':
			got := c.reply(text, oneRead)
			if err := addrs.match(got, text); err != nil {
				t.Fatalf("%s:%d: %s\n%v", file, n, line, err)
			}
		case '.':
			c.nothing()
		case '!':
			c.closeWrite()
			c.end()
			c.Close()
			delete(clients, who)
			waitConnections(t, s.Server, len(clients))
		default:
			t.Fatalf("%s:%d: no step: %s", file, n, line)
		}
	}
	must(t, in.Err())
	if steps == 0 {
		t.Fatalf("%s: no steps", file)
	}
	for _, c := range clients {
		c.closeWrite()
		c.end()
	}
}

// nothing expects that all that was sent is answered, and nothing of it left
// unread. A line that is too long is the one request that q does not count.
func (c *client) nothing() {
	c.tb.Helper()
	c.send(strings.Repeat("x", server.DefaultMaxLine+1) + "\n")
	if got := c.line(); got != "0 Line Too Long\n" || c.in.Buffered() > 0 {
		c.tb.Fatalf("got %q, where nothing was to come", got)
	}
}

// reply reads as many lines as want has, or what one call of Read returns.
func (c *client) reply(want string, oneRead bool) string {
	c.tb.Helper()
	if oneRead {
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if err != nil && err != io.EOF {
			c.tb.Fatal(err)
		}
		return string(buf[:n])
	}
	got := ""
	for range strings.Count(want, "\n") {
		got += c.line()
	}
	return got
}
