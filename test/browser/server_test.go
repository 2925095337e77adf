package browser

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// A running server.
type running struct {
	*testing.T
	*server.Server
	opts server.Options
	at   map[string]string // where it listens, if it is a process of its own
}

// start starts a server on ports that the kernel picks, until the end of the test.
func start(t *testing.T, opts server.Options) *running {
	t.Helper()
	needBrowser(t)
	opts.TCP, opts.Admin = []string{"127.0.0.1:0"}, "127.0.0.1:0"
	opts.Logger = slog.New(slog.DiscardHandler)
	r := &running{T: t, opts: opts}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *running) start() {
	r.Helper()
	s, err := server.New(r.opts)
	if err != nil {
		r.Fatal(err)
	}
	// The port of one that has just ended may be in use for a moment.
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if err = s.Listen(); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		r.Fatal(err)
	}
	r.Server = s
}

func (r *running) stop() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	r.Shutdown(now)
}

// addr returns where it listens.
func (r *running) addr(transport string) string {
	r.Helper()
	if r.at != nil {
		return r.at[transport]
	}
	for _, a := range r.Addrs() {
		if a.Transport == transport {
			return a.Addr.String()
		}
	}
	r.Fatalf("it does not listen for %s", transport)
	return ""
}

// again ends it, and starts it anew at the same addresses, when it is told.
func (r *running) again() (begin func()) {
	r.opts.TCP, r.opts.Admin = []string{r.addr("tcp")}, r.addr("admin")
	r.stop()
	return r.start
}

func (r *running) url(hash string) string { return "http://" + r.addr("admin") + "/" + hash }

// behind returns the address of a proxy before it, which says that it is one: so
// those who come by it have to show a token.
func (r *running) behind() string {
	to, err := url.Parse(r.url(""))
	if err != nil {
		r.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(to)
		p.SetXForwarded()
	}}
	s := httptest.NewServer(proxy)
	r.Cleanup(s.Close)
	return s.URL + "/"
}

// A client speaks the protocol, a line at a time.
type client struct {
	*testing.T
	net.Conn
	replies *bufio.Reader
}

// client connects one that calls itself so.
func (r *running) client(name string) *client {
	r.Helper()
	return r.clientFrom(nil, name)
}

// clientFrom connects one from an address; nil: from any.
func (r *running) clientFrom(from net.Addr, name string) *client {
	r.Helper()
	dialer := net.Dialer{LocalAddr: from}
	conn, err := dialer.Dial("tcp", r.addr("tcp"))
	for end := time.Now().Add(patience); err != nil && from != nil && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		conn, err = dialer.Dial("tcp", r.addr("tcp")) // the port may be in use for a moment
	}
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { conn.Close() })
	c := &client{r.T, conn, bufio.NewReader(conn)}
	if name != "" {
		c.ask("iam "+name, "1 ok")
	}
	return c
}

// address is what the server calls it.
func (c *client) address() string { return c.LocalAddr().String() }

// send sends a line, and waits for nothing.
func (c *client) send(line string) {
	c.Helper()
	if _, err := fmt.Fprintf(c, "%s\n", line); err != nil {
		c.Fatal(err)
	}
}

// reply returns the next line.
func (c *client) reply() (string, error) {
	c.SetReadDeadline(time.Now().Add(patience))
	line, err := c.replies.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// ask sends a line and wants a reply that begins so.
func (c *client) ask(line, want string) {
	c.Helper()
	c.send(line)
	if got, err := c.reply(); err != nil || !strings.HasPrefix(got, want) {
		c.Fatalf("%s: got %q, %v, want %q", line, got, err, want)
	}
}

// waits waits until so many stand in line for a lock.
func (c *client) waits(name string, n int) {
	c.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		found := 0
		c.send("look " + name)
		for {
			line, err := c.reply()
			if err != nil {
				c.Fatal(err)
			}
			if line == "1 End" {
				break
			}
			if strings.Contains(line, "\twaits\t") {
				found++
			}
		}
		if found == n {
			return
		}
	}
	c.Fatalf("there never were %d who wait for %q", n, name)
}

// aged waits until a lock has been held for so long that the server can tell it from
// those that are taken then.
func (c *client) aged(name string) {
	c.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		c.send("look " + name)
		line, err := c.reply()
		if err != nil {
			c.Fatal(err)
		}
		if _, err := c.reply(); err != nil { // 1 End
			c.Fatal(err)
		}
		if fields := strings.Split(line, "\t"); len(fields) > 3 {
			if ms, err := strconv.Atoi(fields[3]); err == nil && ms > 500 {
				return
			}
		}
	}
	c.Fatalf("%q gets no older", name)
}

// write makes a file for the test.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// hashed is how a token stands in an auth file.
func hashed(token string) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(token)))
}
