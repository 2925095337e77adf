package load

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// newTestGenerator returns the generator of a single worker and its connections. No socket and
// no clock is in the way: the test is both.
func newTestGenerator(t testing.TB, target string, opts Options) (*generator, []*pipeline) {
	t.Helper()
	opts.Threads = 1
	opts.Target = target
	r, err := newRun(opts)
	if err != nil {
		t.Fatal(err)
	}
	opts = r.opts
	r.warm = int64(opts.Warmup)
	r.end = r.warm + int64(opts.Duration)
	g, err := newGenerator(r, 0, opts.Connections)
	if err != nil {
		t.Fatal(err)
	}
	var pipelines []*pipeline
	for i := range opts.Connections {
		pipelines = append(pipelines, newPipeline(opts.Pipeline, i))
	}
	return g, pipelines
}

func TestRequests(t *testing.T) {
	for _, test := range []struct {
		target string
		mix    Mix
		want   string
	}{
		{"tcp://h:1", Exclusive, "g bench:0000000000\nr bench:0000000000\n"},
		{"tcp://h:1", Shared, "sg bench:0000000000\nsr bench:0000000000\n"},
		{"tcp://h:1", Inspect, "i bench:0000000000\ni bench:0000000000\n"},
		{"redis://h:1", Exclusive, "*4\r\n$3\r\nSET\r\n$16\r\nbench:0000000000\r\n$1\r\n1\r\n$2\r\nNX\r\n*2\r\n$3\r\nDEL\r\n$16\r\nbench:0000000000\r\n"},
		{"redis://h:1", Inspect, "*2\r\n$6\r\nEXISTS\r\n$16\r\nbench:0000000000\r\n*2\r\n$6\r\nEXISTS\r\n$16\r\nbench:0000000000\r\n"},
		{"memcached://h:1", Exclusive, "add bench:0000000000 0 0 1\r\n1\r\ndelete bench:0000000000\r\n"},
		{"memcached://h:1", Inspect, "mg bench:0000000000\r\nmg bench:0000000000\r\n"},
		{"ws://h:1", Exclusive, "\x81\x92\x00\x00\x00\x00g bench:0000000000\x81\x92\x00\x00\x00\x00r bench:0000000000"},
		{"ws://h:1", Shared, "\x81\x93\x00\x00\x00\x00sg bench:0000000000\x81\x93\x00\x00\x00\x00sr bench:0000000000"},
	} {
		g, pipelines := newTestGenerator(t, test.target, Options{Connections: 1, Pipeline: 2, Mix: test.mix, Names: One})
		if got := string(g.ask(nil, pipelines[0], 0)); got != test.want {
			t.Errorf("%s %s: got %q, want %q", test.target, test.mix, got, test.want)
		}
		if more := g.ask(nil, pipelines[0], 0); len(more) > 0 {
			t.Errorf("%s %s: sends %q before the replies are there", test.target, test.mix, more)
		}
	}
}

func TestReplies(t *testing.T) {
	const name = "bench:0000000000"
	const got, released = "1 Lock Get Success: " + name + "\n", "1 Lock Release Success: " + name + "\n"
	for _, test := range []struct {
		target  string
		mix     Mix
		replies string // to two requests
		kinds   [2]int
		err     string
	}{
		{"tcp://h:1", Exclusive, "1 Lock Get Success: " + name + "\n1 Lock Release Success: " + name + "\n", [2]int{answered, answered}, ""},
		{"tcp://h:1", Exclusive, "0 Lock Get Failure: " + name + "\n0 Lock Release Failure: " + name + "\n", [2]int{getRefused, releaseRefused}, ""},
		{"tcp://h:1", Exclusive, "0 Too Many Locks: " + name + "\n0 Lock Release Failure: " + name + "\n", [2]int{errorReply, releaseRefused}, ""},
		{"tcp://h:1", Exclusive, "1 Lock Release Success: " + name + "\n", [2]int{}, "out of step: got \"1 Lock Release"},
		{"tcp://h:1", Exclusive, "1 Lock Get Failure: " + name + "\n", [2]int{}, "out of step"},
		{"tcp://h:1", Exclusive, "0 Lock Get Success: " + name + "\n", [2]int{}, "out of step"},
		{"tcp://h:1", Exclusive, "1 Lock Get Success: bench:0000000001\n", [2]int{}, "out of step"},
		{"tcp://h:1", Exclusive, "Lock Get Success: " + name + "\n", [2]int{}, "out of step"},
		{"tcp://h:1", Exclusive, "0 Too Many Connections\n", [2]int{}, "out of step: got \"0 Too Many Connections"},
		{"tcp://h:1", Exclusive, "1 Lock Get Success: " + name + "\n1 Lock Release Success: " + name + "\n1 ok\n", [2]int{}, "nothing was asked"},
		{"tcp://h:1", Shared, "17 Shared Lock Get Success: " + name + "\n1 Shared Lock Release Success: " + name + "\n", [2]int{answered, answered}, ""},
		{"tcp://h:1", Inspect, "0 Lock Not Locked: " + name + "\n1 Lock Is Locked: " + name + "\n", [2]int{answered, answered}, ""},
		{"redis://h:1", Exclusive, "+OK\r\n:1\r\n", [2]int{answered, answered}, ""},
		{"redis://h:1", Exclusive, "$-1\r\n:0\r\n", [2]int{getRefused, releaseRefused}, ""},
		{"redis://h:1", Exclusive, "-OOM command not allowed\r\n:0\r\n", [2]int{errorReply, releaseRefused}, ""},
		{"redis://h:1", Exclusive, ":1\r\n", [2]int{}, "out of step"},
		{"redis://h:1", Inspect, ":1\r\n:0\r\n", [2]int{answered, answered}, ""},
		{"memcached://h:1", Exclusive, "STORED\r\nDELETED\r\n", [2]int{answered, answered}, ""},
		{"memcached://h:1", Exclusive, "NOT_STORED\r\nNOT_FOUND\r\n", [2]int{getRefused, releaseRefused}, ""},
		{"memcached://h:1", Exclusive, "SERVER_ERROR out of memory\r\nNOT_FOUND\r\n", [2]int{errorReply, releaseRefused}, ""},
		{"memcached://h:1", Inspect, "EN\r\nHD\r\n", [2]int{answered, answered}, ""},
		{"ws://h:1", Exclusive, "\x81\x25" + got + "\x82\x29" + released, [2]int{answered, answered}, ""},
		{"ws://h:1", Exclusive, "\x81\x7e\x00\x25" + got + "\x81\x7f\x00\x00\x00\x00\x00\x00\x00\x29" + released, [2]int{answered, answered}, ""},
		{"ws://h:1", Exclusive, "\x89\x00\x81\x25" + got + "\x89\x02hi\x89\x00\x82\x29" + released, [2]int{answered, answered}, ""},
		{"ws://h:1", Exclusive, "\x89\x00\x81\x00", [2]int{}, "out of step"},
		{"ws://h:1", Exclusive, "\x81\x4e" + got + released, [2]int{}, "out of step"}, // in one message
		{"ws://h:1", Exclusive, "\x81\x00", [2]int{}, "out of step"},
		{"ws://h:1", Exclusive, "\x01\x25" + got, [2]int{}, "no whole message"},
		{"ws://h:1", Exclusive, "\x81\xa5\x00\x00\x00\x00" + got, [2]int{}, "with a mask"},
		{"ws://h:1", Exclusive, "\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", [2]int{}, "a frame of 9223372036854775807 bytes"},
		{"ws://h:1", Exclusive, "\x88\x0f\x03\xe9shutting down", [2]int{}, "the server closed it (WebSocket code 1001 shutting down)"},
	} {
		// However the bytes are cut up.
		for piece := 1; piece <= len(test.replies); piece++ {
			g, pipelines := newTestGenerator(t, test.target, Options{Connections: 1, Pipeline: 2, Mix: test.mix, Names: One})
			g.ask(nil, pipelines[0], 0)
			var err error
			for rest := test.replies; rest != "" && err == nil; {
				n := min(piece, len(rest))
				err = g.take(pipelines[0], []byte(rest[:n]), 0)
				rest = rest[n:]
			}
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("%q in pieces of %d: got error %v, want %q", test.replies, piece, err, test.err)
				}
				continue
			}
			var want [kinds]int64
			for _, k := range test.kinds {
				want[k]++
			}
			if err != nil || g.tally.kinds != want || g.open != 0 {
				t.Fatalf("%q in pieces of %d: got %v, %v, %d open, want %v", test.replies, piece, g.tally.kinds, err, g.open, want)
			}
		}
	}
}

func TestClosedLoopLatency(t *testing.T) {
	g, pipelines := newTestGenerator(t, "redis://h:1", Options{Connections: 1, Warmup: time.Second, Duration: time.Second})
	p := pipelines[0]
	at := int64(0)
	step := func(latency time.Duration, reply string) {
		g.ask(nil, p, at)
		at += int64(latency)
		if err := g.take(p, []byte(reply), at); err != nil {
			t.Fatal(err)
		}
	}
	step(time.Second, "+OK\r\n") // sent while warming up
	step(3*time.Millisecond, ":1\r\n")
	step(5*time.Millisecond, "+OK\r\n")
	if n := g.tally.requests; n != 2 {
		t.Fatalf("measured %d requests, want the 2 after the warm-up", n)
	}
	if low, high := g.tally.latency.Min(), g.tally.latency.Max(); !near(low, 3*time.Millisecond) || !near(high, 5*time.Millisecond) {
		t.Fatalf("measured latencies of %d to %d ns", low, high)
	}
	if g.tally.bytesOut != int64(len("*2\r\n$3\r\nDEL\r\n$16\r\n\r\n*4\r\n$3\r\nSET\r\n$16\r\n\r\n$1\r\n1\r\n$2\r\nNX\r\n")+2*16) ||
		g.tally.bytesIn != int64(len(":1\r\n+OK\r\n")) {
		t.Fatalf("counted %d bytes out and %d in", g.tally.bytesOut, g.tally.bytesIn)
	}
}

// near allows for the histogram's three digits.
func near(got int64, want time.Duration) bool {
	return got >= int64(want)-int64(want)/500 && got <= int64(want)+int64(want)/500
}

// A server that stalls is charged for what it kept from being sent.
func TestOpenLoopStall(t *testing.T) {
	const ms = int64(time.Millisecond)
	g, pipelines := newTestGenerator(t, "redis://h:1", Options{Connections: 1, Rate: 100, Duration: time.Second})
	p := pipelines[0]
	for now := int64(0); now <= 100*ms; now += ms {
		for {
			if _, ok := g.plan.take(now); !ok {
				break
			}
			p.owed++
		}
		g.ask(nil, p, now)
	}
	// One is sent and eleven are due by now, at 0, 10, ... 100 ms.
	if p.outstanding() != 1 || p.owed != 10 {
		t.Fatalf("%d sent, %d owed", p.outstanding(), p.owed)
	}
	now := 100 * ms
	for i := 0; p.outstanding() > 0; i++ {
		if err := g.take(p, []byte([]string{"+OK\r\n", ":1\r\n"}[i%2]), now); err != nil {
			t.Fatal(err)
		}
		g.ask(nil, p, now)
	}
	// Their latencies are 100, 90, ... 0 ms, not 100 and ten times 0.
	if n := g.tally.requests; n != 11 {
		t.Fatalf("%d replies", n)
	}
	if got := g.tally.latency.Mean(); got < 49e6 || got > 51e6 {
		t.Fatalf("the mean latency is %v ns, want 50 ms", got)
	}
}

func TestOpenLoopUnsent(t *testing.T) {
	const ms = int64(time.Millisecond)
	g, pipelines := newTestGenerator(t, "redis://h:1", Options{Connections: 1, Rate: 100, Duration: time.Second})
	p := pipelines[0]
	p.owed = 3 // due at 0, 10 and 20 ms
	g.ask(nil, p, 20*ms)
	g.unsent(p, 100*ms)
	g.lost(p, 100*ms)
	if g.tally.unsent != 2 || g.tally.kinds[unanswered] != 1 || g.open != 0 || g.tally.requests != 0 {
		t.Fatalf("%+v, %d open", g.tally, g.open)
	}
	// They have waited 80, 90 and 100 ms.
	if got := g.tally.latency.Mean(); got < 89e6 || got > 91e6 {
		t.Fatalf("the mean latency is %v ns, want 90 ms", got)
	}
}

func TestSchedule(t *testing.T) {
	const workers, all, rate = 3, 10, 1000.0
	// However many workers share it, requests are due at even distances and
	// each connection in turn.
	total := 0
	for w := range workers {
		pipelines := (all - w + workers - 1) / workers
		s := newSchedule(rate, w, workers, pipelines, all)
		last := make([]int64, pipelines)
		sent := make([]int64, pipelines)
		for now := int64(0); now < 1e9; now += 1e5 {
			for {
				i, ok := s.take(now)
				if !ok {
					break
				}
				due := s.of(i, sent[i])
				if due > now || due < now-1e5-1e4 {
					t.Fatalf("worker %d, connection %d: request %d was due at %d, taken at %d", w, i, sent[i], due, now)
				}
				if gap := due - last[i]; sent[i] > 0 && (gap < 9_999_990 || gap > 10_000_010) {
					t.Fatalf("worker %d, connection %d: %d ns between two requests", w, i, gap)
				}
				last[i] = due
				sent[i]++
				total++
			}
		}
	}
	if total < 999 || total > 1003 {
		t.Fatalf("%d requests in a second", total)
	}
}

func TestNames(t *testing.T) {
	for _, size := range []int{1, 5, 15, 16, 22, 23, 300} {
		for _, names := range []Names{One, Uniform, Zipf, New} {
			n, err := newNamer(&Options{Names: names, NameSize: size, NameCount: 16, Threads: 1}, 0)
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]int{}
			for range 1000 {
				number := n.choose()
				name := n.append(nil, number)
				if len(name) != size {
					t.Fatalf("%s name of %d bytes: %q", names, size, name)
				}
				if !n.ends(name, uint32(number)) || n.ends(name, uint32(number+1)) {
					t.Fatalf("%q does not end in %x", name, number)
				}
				seen[string(name)]++
			}
			want := map[Names]int{One: 1, Uniform: 16, Zipf: 16, New: 1000}[names]
			if size > 2 && len(seen) != want {
				t.Errorf("%d %s names of %d bytes, want %d", len(seen), names, size, want)
			}
		}
	}
	if _, err := newNamer(&Options{Names: Uniform, NameSize: 4, NameCount: 100_000}, 0); err == nil {
		t.Error("100,000 names of 4 hexadecimal digits")
	}
	// Workers never use each other's new names.
	seen := map[uint64]bool{}
	for w := range 3 {
		n, _ := newNamer(&Options{Names: New, NameSize: 16, Threads: 3}, w)
		if n.choose()%3 != uint64(w) {
			// The classes wrap around only after 2^64 names.
			t.Errorf("worker %d uses names of another", w)
		}
		seen[n.next] = true
	}
	if len(seen) != 3 {
		t.Error("workers share names")
	}
}

func TestNoAllocations(t *testing.T) {
	for target, replies := range map[string]string{
		"tcp://h:1":       "1 Lock Get Success: bench:0000000000\n1 Lock Release Success: bench:0000000000\n",
		"redis://h:1":     "+OK\r\n:1\r\n",
		"memcached://h:1": "STORED\r\nDELETED\r\n",
	} {
		g, pipelines := newTestGenerator(t, target, Options{Connections: 1, Pipeline: 2, Names: One})
		out := make([]byte, 0, 1000)
		in := []byte(replies)
		allocs := testing.AllocsPerRun(100, func() {
			g.ask(out, pipelines[0], 0)
			if err := g.take(pipelines[0], in, 1000); err != nil {
				t.Fatal(err)
			}
		})
		if allocs > 0 {
			t.Errorf("%s: %v allocations", target, allocs)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	g, pipelines := newTestGenerator(b, "tcp://h:1", Options{Connections: 1, Pipeline: 2, Names: One})
	in := []byte("1 Lock Get Success: bench:0000000000\n1 Lock Release Success: bench:0000000000\n")
	out := make([]byte, 0, 1000)
	for b.Loop() {
		g.ask(out, pipelines[0], 0)
		if err := g.take(pipelines[0], in, 1000); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleProgress() {
	fmt.Println(Progress{Warmup: true, Rate: 1234})
	fmt.Println(Progress{Elapsed: 2 * time.Second, Requests: 2469000, Rate: 1234567, P99: 1500 * time.Microsecond})
	// Output:
	// warming up: 1,234 requests/s
	// 2 s: 1,234,567 requests/s, 2,469,000 so far, p99 1.50 ms
}
