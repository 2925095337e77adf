package load

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/tlstest"
	"github.com/nylen/lockd/pkg/server"
)

// serveTLS is serveAll within TLS, and has a plain address to ask what is left.
func serveTLS(t *testing.T) (secure, wss, plain string, config *tls.Config) {
	t.Helper()
	s, err := server.New(server.Options{TCP: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(t.Context()) })
	ca := tlstest.New(t, "test CA")
	listen := func(serve func(net.Listener) error) string {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.Server("127.0.0.1")}})
		if err != nil {
			t.Fatal(err)
		}
		go serve(l)
		return l.Addr().String()
	}
	secure, wss = "tls://"+listen(s.Serve), "wss://"+listen(s.ServeWebSocket)+"/any/path"
	return secure, wss, s.Addrs()[0].String(), &tls.Config{RootCAs: ca.Pool()}
}

// TestTLS: the load is the same within TLS, with a token and without; a server that
// asks for none takes any.
func TestTLS(t *testing.T) {
	secure, wss, plain, config := serveTLS(t)
	for _, opts := range []Options{
		{Target: secure},
		{Target: secure, Pipeline: 64, Threads: 3},
		{Target: secure, Names: New, NameSize: 4000, Mix: Shared, Pipeline: 64},
		{Target: secure, Rate: 20_000, Pipeline: 16},
		{Target: secure, Token: "secret"},
		{Target: secure, Short: true, Token: "secret"},
		{Target: secure, Short: true},
		{Target: wss},
		{Target: wss, Pipeline: 64, Token: "secret"},
		{Target: plain, Token: "secret"},
		{Target: plain, Short: true, Token: "secret"},
	} {
		t.Run(fmt.Sprintf("%+v", opts), func(t *testing.T) {
			opts.TLS = config
			opts.Connections = 10
			opts.Requests = 1003
			got, err := Run(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			if got.Requests != 1003 || len(got.Errors) > 0 || got.Target != strings.Replace(opts.Target, plain, "tcp://"+plain, 1) {
				t.Fatalf("%+v", got)
			}
			idle(t, plain)
		})
	}
	if _, err := Run(t.Context(), Options{Target: secure, Requests: 1}); err == nil || !strings.Contains(err.Error(), "cannot reach "+secure+": tls: failed to verify certificate") {
		t.Errorf("without the CA: %v", err)
	}
}

// TestToken: it comes once, first, on each connection, and a server that does not know
// it ends the run.
func TestToken(t *testing.T) {
	var reply atomic.Value
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in, first := bufio.NewScanner(c), true; in.Scan(); first = false {
					switch verb, rest, _ := strings.Cut(in.Text(), " "); {
					case first && in.Text() == "auth good":
						fmt.Fprint(c, reply.Load())
					case !first && verb == "g":
						fmt.Fprintf(c, "1 Lock Get Success: %s\n", rest)
					case !first && verb == "r":
						fmt.Fprintf(c, "1 Lock Release Success: %s\n", rest)
					default:
						fmt.Fprintf(c, "0 out of step: %q\n", in.Text())
					}
				}
			}()
		}
	}()
	for _, test := range []struct{ reply, err string }{
		{"1 ok\n", ""},
		{"0 Auth Failed\n", "the server does not know the token"},
		{"0 Too Many Connections\n", "too many connections"},
		{"0 good\n", "the server does not say whether it knows the token"},
		{"", "no answer to the token in time"},
	} {
		reply.Store(test.reply)
		for _, short := range []bool{false, true} {
			opts := Options{Target: l.Addr().String(), Token: "good", Connections: 3, Requests: 99, Short: short}
			if test.reply == "" {
				opts.ConnectTimeout = 50 * time.Millisecond
			}
			got, err := Run(t.Context(), opts)
			if test.err == "" && (err != nil || got.Requests != 99 || len(got.Errors) > 0) {
				t.Errorf("short %v: %+v, %v", short, got, err)
			}
			if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "good")) {
				t.Errorf("%q, short %v: %v, want %q", test.reply, short, err, test.err)
			}
		}
	}
}

// TestDenied: what the server does not let us do is said.
func TestDenied(t *testing.T) {
	for reply, want := range map[string]string{
		"0 Not Authenticated\n": "the server asks for a token", "0 Not Allowed: g\n": `the server does not allow that: "0 Not Allowed: g"`,
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					for in := bufio.NewScanner(c); in.Scan(); {
						fmt.Fprint(c, reply)
					}
				}()
			}
		}()
		for _, short := range []bool{false, true} {
			if _, err := Run(t.Context(), Options{Target: l.Addr().String(), Connections: 2, Requests: 9, Short: short}); err == nil || err.Error() != want {
				t.Errorf("%q, short %v: %v", reply, short, err)
			}
		}
		l.Close()
	}
}

// TestTokenIsForLockd: another server is not told.
func TestTokenIsForLockd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		line, _ := bufio.NewReader(c).ReadString('\n')
		first <- line
	}()
	Run(t.Context(), Options{Target: "memcached://" + l.Addr().String(), Token: "secret", Connections: 1, Requests: 1})
	l.Close()
	if line := <-first; !strings.HasPrefix(line, "add ") {
		t.Errorf("the first line was %q", line)
	}
}
