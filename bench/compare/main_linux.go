// Command compare measures lockd beside the bare echo of bench/floor, Redis
// and memcached, and prints Markdown for docs/performance.md:
//
//	go run ./bench/compare [-quick] [-rounds N] [-duration TIME] [-only short|bystanders]
//
// Every server has one thread for requests and one core of its own, the load
// generator (`lockd bench`) another core. One server runs at a time, the
// others are stopped by SIGSTOP; they take turns in every round, so that
// whatever else the machine does falls on all of them, and the medians over
// the rounds count.
//
// A missing Redis or memcached is installed by apt-get where that can be
// done, else left out. All servers listen on free ports of 127.0.0.1 and are
// gone when the program is, however it ends.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/load"
)

// compare is one comparison.
type compare struct {
	ctx      context.Context
	dir      string // for programs and logs
	rounds   int
	duration time.Duration
	warmup   time.Duration
	idle     int   // connections
	held     []int // locks
	cores    [2]string
	kinds    []*kind
	began    time.Time
	noise    []float64 // see noise
}

// A load shape, a row of the first table.
type shape struct {
	label       string
	connections int
	pipeline    int
	mix         load.Mix
	short       bool
}

var shapes = []shape{
	{"50 connections, one request at a time", 50, 1, load.Exclusive, false},
	{"500 connections, one request at a time", 500, 1, load.Exclusive, false},
	{"50 connections, 64 requests at a time", 50, 64, load.Exclusive, false},
	{"shared locks, 50 connections, one at a time", 50, 1, load.Shared, false},
	{"shared locks, 500 connections, one at a time", 500, 1, load.Shared, false},
	{"shared locks, 50 connections, 64 at a time", 50, 64, load.Shared, false},
	{"short connections, 50 at a time", 50, 1, load.Exclusive, true},
}

// unit is what is counted.
func (s shape) unit() string {
	if s.short {
		return "connection"
	}
	return "request"
}

func main() {
	rounds := flag.Int("rounds", 3, "rounds; medians over them are reported")
	duration := flag.Duration("duration", 3*time.Second, "how long one measurement takes")
	quick := flag.Bool("quick", false, "one short round")
	only := flag.String("only", "", "measure nothing but this: short (connections) or bystanders")
	disturbs := flag.Int("disturb", -1, "used by the program itself: be the client that disturbs others")
	target := flag.String("target", "", "used by the program itself: whom it disturbs")
	flag.Parse()
	if *disturbs >= 0 {
		if err := disturb(*disturbs, *target); err != nil {
			fmt.Fprintln(os.Stderr, "compare:", err)
			os.Exit(1)
		}
		return
	}
	// Children are killed when the thread that started them ends; this one
	// ends with the program.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	c := &compare{
		ctx: ctx, rounds: max(1, *rounds), duration: *duration, warmup: 500 * time.Millisecond,
		idle: 10_000, held: []int{1_000_000, 5_000_000}, began: time.Now(),
	}
	if *quick {
		c.rounds, c.duration, c.warmup = 1, time.Second, 200*time.Millisecond
		c.held = c.held[:1]
	}
	err := c.run(*only)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func (c *compare) run(only string) (err error) {
	if c.dir, err = os.MkdirTemp("", "lockd-compare"); err != nil {
		return err
	}
	defer os.RemoveAll(c.dir)
	c.raiseFiles()
	c.cores = [2]string{"0", "1"}
	if runtime.NumCPU() < 2 {
		c.cores[1] = "0"
	}
	c.say("building lockd and the bare echo")
	for _, p := range []string{"cmd/lockd", "bench/floor"} {
		build := exec.CommandContext(c.ctx, "go", "build", "-o", c.dir, "github.com/nylen/lockd/"+p)
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot build %s: %v\n%s", p, err, bytes.TrimSpace(out))
		}
	}
	if _, err := exec.LookPath("taskset"); err != nil {
		return errors.New("taskset is missing: install util-linux")
	}
	switch only {
	case "":
	case "short":
		shapes = slices.DeleteFunc(shapes, func(s shape) bool { return !s.short })
	case "bystanders":
		c.kinds = kinds[:1]
		fmt.Println(c.machine())
		all, err := c.bystanders()
		if err == nil {
			c.printBystanders(all)
		}
		return err
	default:
		return fmt.Errorf("-only: %q is neither short nor bystanders", only)
	}
	c.kinds = c.available()

	servers := map[*kind]*server{}
	for _, k := range c.kinds {
		s, err := c.start(k)
		if err != nil {
			return err
		}
		defer s.kill()
		servers[k] = s
		s.pause()
	}
	results := map[cell][]load.Report{}
	for round := range c.rounds {
		for i := range shapes {
			for _, k := range c.kinds {
				if shapes[i].mix == load.Shared && !k.shared {
					continue
				}
				r, err := c.measure(servers[k], shapes[i], 0)
				if err != nil {
					return err
				}
				c.say("round %d of %d: %s, %s: %.0f %ss/s, %.3f us CPU/%[6]s", round+1, c.rounds, k.name, shapes[i].label, r.Throughput, shapes[i].unit(), r.ServerCPU)
				results[cell{k, i, 0}] = append(results[cell{k, i, 0}], r)
			}
		}
	}
	if only == "short" {
		fmt.Println(c.machine())
		c.printClosed(results)
		return nil
	}
	open, err := c.openLoop(servers, results)
	if err != nil {
		return err
	}
	for _, s := range servers {
		s.kill()
	}
	memory, err := c.memory()
	if err != nil {
		return err
	}
	bystanders, err := c.bystanders()
	if err != nil {
		return err
	}
	fmt.Println(c.machine())
	c.printClosed(results)
	c.printOpen(open)
	c.printMemory(memory)
	c.printBystanders(bystanders)
	return nil
}

// cell is where results belong; rate is 0 in a closed loop.
type cell struct {
	kind  *kind
	shape int
	rate  float64
}

// openRow is a row of the second table.
type openRow struct {
	kind *kind
	what string
	rate float64
	all  []load.Report
}

// openLoop measures latencies at half the rate that a server reached.
func (c *compare) openLoop(servers map[*kind]*server, results map[cell][]load.Report) ([]*openRow, error) {
	var rows []*openRow
	half := func(k *kind) float64 {
		return float64(int(median(results[cell{k, 0, 0}], throughput)/2000) * 1000)
	}
	lockd := c.kinds[0]
	rows = append(rows, &openRow{kind: lockd, what: "half of its peak", rate: half(lockd)})
	for _, k := range c.kinds {
		if k.name == "Redis" {
			rows = append(rows,
				&openRow{kind: k, what: "half of its peak", rate: half(k)},
				&openRow{kind: lockd, what: "half of Redis's peak", rate: half(k)})
		}
	}
	for round := range c.rounds {
		for _, row := range rows {
			r, err := c.measure(servers[row.kind], shapes[0], row.rate)
			if err != nil {
				return nil, err
			}
			c.say("round %d of %d: %s at %.0f requests/s: p99 %.0f us", round+1, c.rounds, row.kind.name, row.rate, r.Latency.P99)
			row.all = append(row.all, r)
		}
	}
	return rows, nil
}

// measure lets one server run under load. A disturbed measurement, in which
// requests went without a reply, is taken again, twice at most.
func (c *compare) measure(s *server, sh shape, rate float64) (load.Report, error) {
	for range 2 {
		r, err := c.measureOnce(s, sh, rate)
		if err != nil || len(r.Errors) == 0 {
			return r, err
		}
		c.say("again: %s, %s: errors: %v %s", s.name, sh.label, r.Errors, r.FirstError)
	}
	r, err := c.measureOnce(s, sh, rate)
	if err == nil && len(r.Errors) > 0 {
		err = fmt.Errorf("lockd bench %s: errors: %v %s", s.target(), r.Errors, r.FirstError)
	}
	return r, err
}

func (c *compare) measureOnce(s *server, sh shape, rate float64) (r load.Report, err error) {
	s.resume()
	defer s.pause()
	before, beforeAll := ownTicks(s.pid()), allTicks()
	args := []string{
		"-c", c.cores[1], filepath.Join(c.dir, "lockd"), "bench", "-s", s.target(), "--json", "--threads", "1",
		"-c", strconv.Itoa(sh.connections), "-P", strconv.Itoa(sh.pipeline), "--mix", string(sh.mix),
		"-d", c.duration.String(), "--warmup", c.warmup.String(), "--server-pid", strconv.Itoa(s.pid()),
		"--rate", strconv.FormatFloat(rate, 'f', -1, 64),
	}
	if sh.short {
		args = append(args, "--short", "--names", string(load.New)) // which Redis and memcached keep
	}
	var stderr bytes.Buffer
	bench := exec.CommandContext(c.ctx, "taskset", args...)
	bench.Env = append(os.Environ(), "GOMAXPROCS=1")
	bench.Stderr = &stderr
	bench.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := bench.Output()
	if err != nil {
		return r, fmt.Errorf("lockd bench %s: %v: %s", s.target(), err, bytes.TrimSpace(stderr.Bytes()))
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("lockd bench %s: %v", s.target(), err)
	}
	busy, total := allTicks().since(beforeAll)
	client := bench.ProcessState.UserTime() + bench.ProcessState.SystemTime()
	ours := float64(ownTicks(s.pid())-before) + client.Seconds()*ticks
	if total > 0 {
		c.noise = append(c.noise, 100*max(0, busy-ours)/total)
	}
	return r, nil
}

// raiseFiles raises the limit on open files, for itself and the servers.
func (c *compare) raiseFiles() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return
	}
	want := uint64(c.idle + 4096)
	if l.Max < want {
		raised := syscall.Rlimit{Cur: want, Max: want}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			l = raised
		}
	}
	l.Cur = l.Max
	// Also to have children inherit it: Go gives them what it found.
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	if room := int(min(l.Cur, 1<<30)) - 1000; room < c.idle {
		c.idle = max(100, room)
		c.say("only %d idle connections: the limit on open files is %d", c.idle, l.Cur)
	}
}

func (c *compare) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "[%3.0f s] %s\n", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}
