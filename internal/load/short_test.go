package load

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/netlab"
	"github.com/nylen/lockd/pkg/server"
)

func TestShort(t *testing.T) {
	tcp, unix := serve(t)
	for _, opts := range []Options{
		{Names: New},
		{Target: unix, Names: New},
		{Names: New, Threads: 3},
		{Mix: Shared, Names: One},
		{Mix: Inspect},
		{Connections: 200, Names: New},
	} {
		t.Run(fmt.Sprintf("%+v", opts), func(t *testing.T) {
			if opts.Target == "" {
				opts.Target = tcp
			}
			setDefault(&opts.Connections, 10)
			opts.Short = true
			opts.Requests = 1003
			opts.Warmup = 10 * time.Millisecond
			got, err := Run(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			l := got.Latency
			if got.Requests != 1003 || len(got.Refusals) > 0 || len(got.Errors) > 0 || got.Throughput <= 0 || l.P50 <= 0 || l.P50 > l.Max {
				t.Fatalf("%+v", got)
			}
			idle(t, tcp)
		})
	}
}

// A server may know its socket by a name that is none here.
func TestShortRelative(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	s, err := server.New(server.Options{Unix: []string{"s"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(t.Context()) })
	t.Chdir(t.TempDir())
	got, err := Run(t.Context(), Options{Target: "unix://" + filepath.Join(dir, "s"), Short: true, Connections: 1, Requests: 10})
	if err != nil || got.Requests != 10 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Each connection asks once and ends; the first one of all only looks whether
// there is a server.
func TestShortAsksOnce(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		addr := "127.0.0.1:0"
		if network == "unix" {
			addr = filepath.Join(t.TempDir(), "s")
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		var heard []string
		var all sync.WaitGroup
		all.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				in := bufio.NewReader(c)
				line, _ := in.ReadString('\n')
				if line != "" {
					fmt.Fprintf(c, "1 Lock Get Success: %s", line[2:])
				}
				rest, _ := io.ReadAll(in)
				heard = append(heard, line+string(rest))
				c.Close()
			}
		})
		got, err := Run(t.Context(), Options{Target: network + "://" + l.Addr().String(), Short: true, Connections: 3, Requests: 20, Names: One})
		l.Close()
		all.Wait()
		want := append([]string{""}, strings.Split(strings.Repeat("g bench:0000000000\n,", 20), ",")[:20]...)
		if err != nil || got.Requests != 20 || fmt.Sprint(heard) != fmt.Sprint(want) {
			t.Errorf("%s: %+v, %v; the server heard %q", network, got, err, heard)
		}
	}
}

// A server that is full says so: that is a refusal, also if a few do not get
// to hear it.
func TestShortRefused(t *testing.T) {
	s, err := server.New(server.Options{TCP: []string{"127.0.0.1:0"}, MaxConnections: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown(t.Context())
	addr := s.Addrs()[0].String()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "ping\n")
	if reply, err := bufio.NewReader(c).ReadString('\n'); reply != "1 pong\n" {
		t.Fatal(reply, err)
	}
	got, err := Run(t.Context(), Options{Target: addr, Short: true, Connections: 2, Requests: 100})
	if n := got.Refusals["too many connections"]; err != nil || n == 0 || n+got.Errors["connection lost"] != 100 || got.Requests != n {
		t.Errorf("%+v, %v", got, err)
	}
}

// Others say it in other words.
func TestShortOthers(t *testing.T) {
	for _, test := range []struct {
		target  func(t *testing.T, reply string) string
		replies map[string]string // to the refusal in the report
	}{
		{func(t *testing.T, reply string) string {
			return "redis://" + fakeRedis(t, func([]string) string { return reply })
		}, map[string]string{"+OK\r\n": "", "$-1\r\n": "get refused", "-ERR max number of clients reached\r\n": "too many connections"}},
		{func(t *testing.T, reply string) string {
			return "memcached://" + fake(t, func(line string) string {
				if line == "1" { // the value
					return reply[2:]
				}
				return reply[:2]
			})
		}, map[string]string{"STORED\r\n": "", "NOT_STORED\r\n": "get refused", "ERROR Too many open connections\r\n": "too many connections"}},
	} {
		for reply, refusal := range test.replies {
			got, err := Run(t.Context(), Options{Target: test.target(t, reply), Short: true, Names: New, Requests: 100})
			if err != nil || got.Requests != 100 || len(got.Errors) > 0 || refusal != "" && got.Refusals[refusal] != 100 || refusal == "" && len(got.Refusals) > 0 {
				t.Errorf("%q: %+v, %v", reply, got, err)
			}
		}
	}
}

// A connection that ends without a reply is an error in the report, and no end
// of the run unless that is all there is.
func TestShortLost(t *testing.T) {
	var n atomic.Int64
	addr := fake(t, func(line string) string {
		if n.Add(1)%2 == 0 {
			return ""
		}
		return "1 Lock Get Success: " + line[2:] + "\n"
	})
	got, err := Run(t.Context(), Options{Target: addr, Short: true, Connections: 5, Requests: 100})
	if err != nil || got.Requests != 50 || got.Errors["connection lost"] != 50 {
		t.Errorf("%+v, %v", got, err)
	}
	var text bytes.Buffer
	got.WriteText(&text)
	for _, want := range []string{", 5 short connections at a time, ", "connections  50 in ", " connections/s\n", "from connecting to the reply", "50 connection lost (50 %)"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

func TestShortFailures(t *testing.T) {
	for _, test := range []struct {
		opts Options
		want string
	}{
		{Options{Pipeline: 2}, "short connections make one request each: pipeline must be 1"},
		{Options{Rate: 1}, "short connections have no open loop: rate must be 0"},
		{Options{Target: "redis://h:1"}, "redis keeps a lock when its connection ends: short connections need new names"},
		{Options{Target: "memcached://h:1", Names: Zipf}, "memcached keeps a lock"},
		{Options{Target: netlab.Nobody}, "cannot reach tcp://" + netlab.Nobody + ": connection refused"},
		{Options{Target: fake(t, func(string) string { return "" }), Requests: 10}, " ended 10 connections without a reply: is it a lockd server?"},
		{Options{Target: fake(t, func(string) string { return "1 pong\n" })}, `reply out of step: got "1 pong" to g ...`},
	} {
		test.opts.Short = true
		_, err := Run(t.Context(), test.opts)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: got %v, want %q", test.opts, err, test.want)
		}
	}
}

// The server goes: the next connection is refused, which ends the run.
func TestShortServerGone(t *testing.T) {
	var l net.Listener
	l, err := net.Listen("tcp", netlab.OwnHost()+":0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range 5 {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if line, _ := bufio.NewReader(c).ReadString('\n'); line != "" {
				fmt.Fprintf(c, "1 Lock Get Success: %s", line[2:])
			}
			c.Close()
		}
		l.Close()
	}()
	got, err := Run(t.Context(), Options{Target: l.Addr().String(), Short: true, Connections: 1, Duration: time.Hour})
	if err == nil || !strings.HasSuffix(err.Error(), ": connection refused") || got.Requests == 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestShortSilence(t *testing.T) {
	hurry(t)
	tcp, _ := serve(t)
	got, err := Run(t.Context(), Options{Target: "redis://" + tcp, Short: true, Names: New, Connections: 3, Duration: 20 * time.Millisecond})
	if want := " replied to nothing for 200ms: is it a redis server?"; err == nil || !strings.HasSuffix(err.Error(), want) || got.Errors["no reply"] != 3 {
		t.Errorf("got %v, want %s; %+v", err, want, got)
	}
}
