package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/netlab"
	"github.com/nylen/lockd/pkg/server"
)

// serve starts a lockd in this process and returns its targets.
func serve(t *testing.T) (tcp, unix string) {
	t.Helper()
	tcp, unix, _ = serveAll(t)
	return tcp, unix
}

func serveAll(t *testing.T) (tcp, unix, ws string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	s, err := server.New(server.Options{TCP: []string{"127.0.0.1:0"}, Unix: []string{path}, WebSocket: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(t.Context()) })
	for _, a := range s.Addrs() {
		switch a.Transport {
		case "tcp":
			tcp = a.String()
		case "websocket":
			ws = "ws://" + a.String() + "/any/path"
		}
	}
	return tcp, "unix://" + path, ws
}

func TestLockd(t *testing.T) {
	tcp, unix, ws := serveAll(t)
	for _, opts := range []Options{
		{},
		{Target: unix},
		{Target: ws},
		{Target: ws, Pipeline: 64},
		{Target: ws, Pipeline: 7, NameSize: 300, Threads: 3},
		{Target: ws, Names: New, NameSize: 4000, Mix: Shared},
		{Target: ws, Rate: 50_000, Pipeline: 16},
		{Pipeline: 64},
		{Pipeline: 7, Threads: 3},
		{Mix: Shared, Names: One},
		{Mix: Inspect, Names: Zipf},
		{Names: New, NameSize: 100, Pipeline: 1000},
		{Rate: 50_000},
		{Rate: 50_000, Pipeline: 16, Threads: 2},
	} {
		t.Run(fmt.Sprintf("%+v", opts), func(t *testing.T) {
			if opts.Target == "" {
				opts.Target = tcp
			}
			opts.Connections = 10
			opts.Requests = 5003
			opts.Warmup = 10 * time.Millisecond
			got, err := Run(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			if got.Requests != 5003 || len(got.Errors) > 0 || got.Throughput <= 0 || got.BytesIn == 0 || got.BytesOut == 0 {
				t.Fatalf("%+v", got)
			}
			l := got.Latency
			if l.P50 <= 0 || l.P50 > l.P90 || l.P90 > l.P99 || l.P99 > l.P999 || l.P999 > l.Max {
				t.Fatalf("%+v", l)
			}
			// Nothing is left behind.
			idle(t, tcp)
		})
	}
}

// TestMoreThanFits: a batch may be more than the sockets and the server hold.
func TestMoreThanFits(t *testing.T) {
	tcp, _ := serve(t)
	got, err := Run(t.Context(), Options{Target: tcp, Connections: 1, Pipeline: 1 << 15, NameSize: 1000, Requests: 1 << 15})
	if err != nil || got.Requests != 1<<15 || len(got.Errors) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// idle checks that the server holds no locks.
func idle(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for in := bufio.NewScanner(c); ; {
		fmt.Fprintf(c, "q\n")
		done, locks := false, false
		for !done && in.Scan() {
			k, v, _ := strings.Cut(in.Text(), ": ")
			locks = locks || (k == "locks" || k == "shared_locks") && v != "0"
			done = k == "shared_orphans"
		}
		if !locks {
			return
		}
	}
}

func TestHotNameIsRefused(t *testing.T) {
	tcp, _ := serve(t)
	// A holder that is not the load generator: all gets are refused.
	c, err := net.Dial("tcp", tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "g bench:0000000000\n")
	bufio.NewReader(c).ReadString('\n')
	got, err := Run(t.Context(), Options{Target: tcp, Names: One, Connections: 1, Requests: 100})
	if err != nil {
		t.Fatal(err)
	}
	if n := got.Refusals["get refused"] + got.Refusals["release refused"]; n != 100 || len(got.Errors) > 0 {
		t.Fatalf("%+v", got)
	}
	var text bytes.Buffer
	got.WriteText(&text)
	for _, want := range []string{"50 get refused (50 %)", "errors      none", "requests    100 in "} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

// fake is a server that answers lines as the test wants; an empty answer ends
// the connection.
func fake(t *testing.T, answer func(line string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { l.Close() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				in := bufio.NewScanner(c)
				out := bufio.NewWriter(c)
				for in.Scan() {
					reply := answer(in.Text())
					if reply == "" {
						return
					}
					out.WriteString(reply)
					out.Flush()
				}
			})
		}
	})
	return l.Addr().String()
}

func TestRedis(t *testing.T) {
	var mu sync.Mutex
	held := map[string]bool{}
	l := fakeRedis(t, func(args []string) string {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case args[0] == "SET" && len(args) == 4 && args[3] == "NX" && !held[args[1]]:
			held[args[1]] = true
			return "+OK\r\n"
		case args[0] == "SET":
			return "$-1\r\n"
		case args[0] == "DEL" && held[args[1]]:
			delete(held, args[1])
			return ":1\r\n"
		}
		return ":0\r\n"
	})
	for _, opts := range []Options{{}, {Pipeline: 9}, {Mix: Inspect}, {Names: One}} {
		opts.Target = "redis://" + l
		opts.Requests = 500
		got, err := Run(t.Context(), opts)
		if err != nil || got.Requests != 500 || len(got.Errors) > 0 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(held) > 0 {
		t.Errorf("left behind %v", held)
	}
}

// fakeRedis reads RESP arrays.
func fakeRedis(t *testing.T, answer func(args []string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { l.Close() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					var n, size int
					if _, err := fmt.Fscanf(in, "*%d\r\n", &n); err != nil {
						return
					}
					args := make([]string, n)
					for i := range args {
						fmt.Fscanf(in, "$%d\r\n", &size)
						fmt.Fscanf(in, "%s\r\n", &args[i])
						if len(args[i]) != size {
							fmt.Fprintf(c, "-ERR bad length\r\n")
						}
					}
					fmt.Fprint(c, answer(args))
				}
			})
		}
	})
	return l.Addr().String()
}

func TestMemcached(t *testing.T) {
	addr := fake(t, func(line string) string {
		verb, _, _ := strings.Cut(line, " ")
		switch {
		case verb == "add" && strings.HasSuffix(line, " 0 0 1"):
			return "STO"
		case verb == "1": // the value
			return "RED\r\n"
		case verb == "delete":
			return "DELETED\r\n"
		case verb == "mg":
			return "EN\r\n"
		}
		return "ERROR\r\n"
	})
	for _, opts := range []Options{{}, {Pipeline: 9}, {Mix: Inspect}} {
		opts.Target = "memcached://" + addr
		opts.Requests = 500
		got, err := Run(t.Context(), opts)
		if err != nil || got.Requests != 500 || len(got.Errors) > 0 || len(got.Refusals) > 0 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

func TestFailures(t *testing.T) {
	full := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	defer full.Close()
	for _, test := range []struct {
		opts Options
		want string
	}{
		{Options{Target: netlab.Nobody}, "cannot reach tcp://" + netlab.Nobody + ": connection refused"},
		{Options{Target: "unix:///nowhere"}, "cannot reach unix:///nowhere: no such file or directory"},
		{Options{Target: "http://h:1"}, "not tcp://"},
		{Options{Target: "here"}, "not HOST:PORT"},
		{Options{Target: "here:"}, "not HOST:PORT"},
		{Options{Rate: math.NaN()}, "rate must be"},
		{Options{Target: "redis://h:1", Mix: Shared}, "redis has no shared locks"},
		{Options{Connections: -1}, "connections must be between"},
		{Options{Mix: "x"}, "mix must be"},
		{Options{Target: "ws://" + netlab.Nobody}, "cannot reach ws://" + netlab.Nobody + ": connection refused"},
		{Options{Target: "ws://" + fake(t, func(string) string { return "" })}, "the server closed the connection"},
		{Options{Target: "ws://" + full.Listener.Addr().String()}, ": too many connections"},
		{Options{Target: "ws://"}, "not ws://HOST:PORT/PATH"},
		{Options{Target: "ws://h:1", Short: true}, "not over WebSocket"},
		{Options{Names: "x"}, "names must be"},
		{Options{NameSize: 2}, "100000 names do not fit in names of 2 bytes"},
		{Options{Target: fake(t, func(string) string { return "" })}, "lost a connection: "},
		{Options{Target: fake(t, func(string) string { return "1 pong\n" })}, `reply out of step: got "1 pong" to g ...`},
		{Options{Target: fake(t, func(string) string { return "0 Too Many Connections\n" })}, `got "0 Too Many Connections"`},
		{Options{Target: "redis://" + fake(t, func(string) string { return "1 Lock Get Success: x\n" })}, "out of step"},
	} {
		_, err := Run(t.Context(), test.opts)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: got %v, want %q", test.opts, err, test.want)
		}
	}
}

func TestErrorReplies(t *testing.T) {
	addr := fake(t, func(string) string { return "SERVER_ERROR out of memory\r\n" })
	got, err := Run(t.Context(), Options{Target: "memcached://" + addr, Mix: Inspect, Requests: 100})
	if err != nil || got.Errors["error reply"] != 100 || got.FirstError != `mg: "SERVER_ERROR out of memory"` {
		t.Fatalf("%+v, %v", got, err)
	}
}

func hurry(t *testing.T) {
	before := drainTime
	drainTime = 200 * time.Millisecond
	t.Cleanup(func() { drainTime = before })
}

// A server that replies to nothing is none, also when all was sent before
// measuring began.
func TestSilence(t *testing.T) {
	hurry(t)
	tcp, _ := serve(t)
	for _, warmup := range []time.Duration{0, 20 * time.Millisecond} {
		got, err := Run(t.Context(), Options{Target: "redis://" + tcp, Connections: 3, Warmup: warmup, Duration: 20 * time.Millisecond})
		want := "redis://" + tcp + " replied to nothing for 200ms: is it a redis server?"
		if err == nil || err.Error() != want || got.Requests != 0 || got.Errors["no reply"] != 3 {
			t.Errorf("got %v, want %s; %+v", err, want, got)
		}
	}
}

// One that falls silent is an error, too. The requests are those of the load,
// without the last release.
func TestFallsSilent(t *testing.T) {
	hurry(t)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var mu sync.Mutex
	var n int
	addr := fake(t, func(line string) string {
		mu.Lock()
		defer mu.Unlock()
		switch n++; {
		case n == 40: // each connection waits for a reply
			end()
			fallthrough
		case n > 30:
			return "\x00" // the beginning of a reply
		}
		return "1 Lock " + map[byte]string{'g': "Get", 'r': "Release"}[line[0]] + " Success: " + line[2:] + "\n"
	})
	got, err := Run(ctx, Options{Target: addr, Connections: 10, Duration: time.Minute})
	if err == nil || !strings.HasSuffix(err.Error(), " left 10 requests without a reply for 200ms") {
		t.Errorf("got %v", err)
	}
	var text bytes.Buffer
	got.WriteText(&text)
	if !strings.Contains(text.String(), "errors      10 no reply (25 %)") || got.Requests != 30 {
		t.Errorf("%d requests\n%s", got.Requests, text.String())
	}
}

// The first progress after the warm-up does not count the warm-up's requests.
func TestProgressAfterWarmup(t *testing.T) {
	hurry(t)
	var mu sync.Mutex
	n, asked := 0, sync.NewCond(&mu)
	addr := fake(t, func(line string) string {
		mu.Lock()
		defer mu.Unlock()
		for n++; n > 100 && n < 1e6; {
			asked.Wait()
		}
		return "0 Lock Not Locked: " + line[2:] + "\n"
	})
	var first *Progress
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Run(ctx, Options{Target: addr, Mix: Inspect, Warmup: 900 * time.Millisecond, Duration: time.Hour,
		OnProgress: func(p Progress) {
			if p.Warmup || first != nil {
				return
			}
			first = &p
			cancel()
			mu.Lock()
			n = 1e6
			asked.Broadcast()
			mu.Unlock()
		}})
	if err != nil || first == nil || first.Rate != 0 {
		t.Errorf("got %+v, %v", first, err)
	}
}

func TestTargets(t *testing.T) {
	for text, want := range map[string]string{
		"": "tcp://127.0.0.1:9999", "9999": "tcp://localhost:9999", "h:1": "tcp://h:1", "tcp://h:1/": "tcp://h:1",
		"redis://h:1/": "redis://h:1", "memcached://11211": "memcached://localhost:11211",
		"ws://h/": "ws://h/", "ws://h:1": "ws://h:1", "ws://h:1/a?b": "ws://h:1/a", "unix:///a/": "unix:///a/",
	} {
		if got, err := parseTarget(text); err != nil || got.String() != want {
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
	}
}

// TestReportAsJSON: all keys always, and no more digits than mean something.
func TestReportAsJSON(t *testing.T) {
	tcp, _ := serve(t)
	keys := func(o Options) (all []string) {
		o.Target, o.Requests = tcp, 1000
		report, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		if digits := regexp.MustCompile(`\.\d{4,}|[\d.]e[-+]|null`).Find(text); digits != nil {
			t.Errorf("%s in %s", digits, text)
		}
		var document map[string]any
		if err := json.Unmarshal(text, &document); err != nil {
			t.Fatal(err)
		}
		for quantile, us := range document["latency_us"].(map[string]any) {
			if tenths := us.(float64) * 10; math.Abs(tenths-math.Round(tenths)) > 1e-6 {
				t.Errorf("%s is %v", quantile, us)
			}
		}
		if rate := document["requests_per_second"].(float64); rate != math.Round(rate) {
			t.Errorf("%v requests a second", rate)
		}
		return slices.Sorted(maps.Keys(document))
	}
	bare := keys(Options{Names: New, Short: true})
	full := keys(Options{Rate: 1e5, ServerPID: os.Getpid()})
	if !slices.Equal(bare, full) || len(bare) != 25 {
		t.Errorf("%d keys %q and %d keys %q", len(bare), bare, len(full), full)
	}
}

func TestRateText(t *testing.T) {
	for rate, want := range map[float64]string{0.5: "0.5", 1: "1", 1234.25: "1,234.25", 1e8: "100,000,000"} {
		if got := rateText(rate); got != want {
			t.Errorf("%v: got %s, want %s", rate, got, want)
		}
	}
}

// Ctrl-C: what was measured until then is reported.
func TestCancel(t *testing.T) {
	tcp, _ := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	got, err := Run(ctx, Options{Target: tcp, Duration: time.Hour, OnProgress: func(p Progress) {
		if p.Requests > 0 {
			cancel()
		}
	}})
	if err != nil || got.Requests == 0 || got.Seconds <= 0 || got.Seconds > 1000 {
		t.Fatalf("%+v, %v", got, err)
	}
}
