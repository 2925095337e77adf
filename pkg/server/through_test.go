package server_test

import (
	"cmp"
	"context"
	"errors"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// startThrough starts a server, and a proxy for it that listens in all ways. Both have
// the same options.
func startThrough(tb testing.TB, opts server.Options) *testServer {
	tb.Helper()
	own := opts
	own.MaxShare = []string{"off"} // all of the proxy's clients are one there
	own.MaxSessions = 0
	own.MaxLine = cmp.Or(own.MaxLine, server.DefaultMaxLine) + len("4294967295 ")
	upstream := start(tb, own)
	return startThroughOf(tb, upstream, opts)
}

func startThroughOf(tb testing.TB, upstream *testServer, opts server.Options) *testServer {
	tb.Helper()
	opts.State, opts.Grace = "", 0
	opts.Upstream = &server.Upstream{
		Target: "the test's",
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", upstream.tcp)
		},
	}
	opts.Upstream.Unhurried(giveUp)
	opts.Upstream.LoopCount(2)
	s := start(tb, opts)
	s.upstream = upstream
	ctx, stop := context.WithTimeout(context.Background(), giveUp)
	defer stop()
	must(tb, s.AwaitUpstream(ctx))
	return s
}

// throughProxy stands among the addresses of a script where lists come from a proxy's
// upstream: there clients are sessions of the proxy.
const throughProxy = 0

var (
	upstreamsAddress = regexp.MustCompile(`[0-9.]+:[0-9]+#[0-9]+`)
	scriptsAddress   = regexp.MustCompile(`{[A-Z]}(#[0-9]+)?`)
)

// Existing clients see no difference.
func TestThroughClients(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/clients/*.txt")
	must(t, err)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		oneRead := name == "python" || name == "glockd-tester"
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, file, "unix", oneRead, startThrough)
		})
	}
}

// notThrough are scripts that are about the server that clients are connected to.
var notThrough = map[string]string{
	"share-locks":              "shares are one client's of the server, and all of a proxy's are one",
	"share-others":             "the same",
	"two-share-sessions":       "the same",
	"two-waiting":              "replies of different sessions come in another order",
	"two-pipelined":            "the same",
	"two-invalid":              "the same",
	"two-too-many-sessions":    "the same",
	"two-line-too-long":        "the same",
	"two-line-too-long-blanks": "the same",
	"two-look":                 "sessions that are shown by the name of session 0 are registered by that upstream",
	"two-many-lines":           "the same",
	"two-end":                  "the same",
	"two-too-many-waiters":     "replies of two sessions share a message of WebSocket",
	"wait-half-close":          "behind a request that may wait, the closing of a side is known earlier",
	"extension-stats":          "counters are the proxy's own",
	"stats":                    "the same",
}

// Nor do the scripts, but for what is about the server itself.
func TestThroughScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/scripts/*.txt")
	must(t, err)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if notThrough[name] != "" || strings.HasPrefix(name, "kept") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sc := readScript(t, file)
			for _, transport := range sc.transports {
				for _, features := range sc.features {
					t.Run(transport+"/"+features, func(t *testing.T) {
						t.Parallel()
						sc.run(t, transport, features, startThrough)
					})
				}
			}
		})
	}
}

// A wait that its client gives up while upstream cannot be reached ends when it can.
func TestThroughWaitGivenUpMeanwhile(t *testing.T) {
	t.Parallel()
	upstream := start(t, server.Options{})
	holder := upstream.dial(t, "tcp")
	holder.ask("g foo", "1 Lock Get Success: foo")
	var mu sync.Mutex // guards the two
	var away bool
	var conns []net.Conn
	through := start(t, server.Options{Upstream: &server.Upstream{
		Target: "the test's",
		Dial: func(ctx context.Context) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			if away {
				return nil, errors.New("the cable is out")
			}
			c, err := new(net.Dialer).DialContext(ctx, "tcp", upstream.tcp)
			if err != nil {
				return nil, err
			}
			c = &bareConn{c} // nobody takes its descriptor
			conns = append(conns, c)
			return c, nil
		},
		Patience: giveUp,
	}})
	ctx, stop := context.WithTimeout(context.Background(), giveUp)
	defer stop()
	must(t, through.AwaitUpstream(ctx))
	c := through.dial(t, "tcp")
	c.send("gw 86400000 foo\n")
	waitWaiters(t, upstream.Server, 1)
	mu.Lock()
	away = true
	for _, conn := range conns {
		conn.Close()
	}
	mu.Unlock()
	eventually(t, "upstream has lost the proxy", func() bool { return metric(t, upstream.Server, "lockd_connections") == 1 })
	c.closeWrite()
	time.Sleep(50 * time.Millisecond) // the proxy knows that it is to be given up; if not yet, the test says less
	mu.Lock()
	away = false
	mu.Unlock()
	if got := c.line(); got != "0 Lock Get Canceled: foo\n" {
		t.Fatalf("got %q", got)
	}
	c.end()
	waitWaiters(t, upstream.Server, 0)
}

// bareConn hides what kind of connection it is.
type bareConn struct{ net.Conn }
