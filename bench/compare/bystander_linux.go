package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/load"
)

// A bystander is what others notice of a disturbance: the latencies of clients
// that get and release locks, 1,000 requests a second, and the memory that the
// server has taken. One of each round.
type bystander struct {
	took    []float64 // seconds
	latency []load.Latency
	grown   []float64 // bytes of resident memory
}

// Requests a second, on so many connections that none has to wait for the reply
// to the one before.
const (
	bystanderRate        = 1000
	bystanderConnections = 50
)

// bystanders measures what others notice of each disturbance, with a server
// of its own for each.
func (c *compare) bystanders() ([]bystander, error) {
	all := make([]bystander, len(disturbances))
	for round := range c.rounds {
		for i := range disturbances {
			if err := c.bystander(i, &all[i]); err != nil {
				return nil, fmt.Errorf("while %s: %v", disturbances[i].label, err)
			}
			b := &all[i]
			c.say("round %d of %d: %s: slowest reply to others %.1f ms", round+1, c.rounds, disturbances[i].label, b.latency[round].Max/1e3)
		}
	}
	return all, nil
}

func (c *compare) bystander(number int, b *bystander) error {
	socket := filepath.Join(c.dir, "socket")
	k := *c.kinds[0]
	k.args = func(c *compare, port string) []string {
		// Before other programs on its core, where that is allowed: what they
		// take shall not count.
		args := append([]string{"nice", "-n", "-20"}, c.kinds[0].args(c, port)...)
		args = append(args, "--unix", socket)
		if most := disturbances[number].most; most > 0 {
			args = append(args, "--max-connections", strconv.Itoa(most))
		}
		return args
	}
	s, err := c.start(&k)
	if err != nil {
		return err
	}
	defer s.kill()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.CommandContext(c.ctx, "taskset", "-c", c.cores[1], self, "-disturb", strconv.Itoa(number), "-target", s.addr)
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	steer, err := child.StdinPipe()
	if err != nil {
		return err
	}
	said, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	defer child.Wait()
	defer steer.Close()
	lines := bufio.NewReader(said)
	if _, err := lines.ReadString('\n'); err != nil {
		return errors.New("the disturbing client failed")
	}
	before := c.settled(s)
	probe, err := c.startProbe("unix://" + socket)
	if err != nil {
		return err
	}
	began := time.Now()
	io.WriteString(steer, "\n")
	_, failed := lines.ReadString('\n')
	took := time.Since(began)
	time.Sleep(200 * time.Millisecond) // what comes after it counts, too
	r, err := probe()
	if failed != nil {
		return errors.New("the disturbing client failed")
	}
	if err != nil {
		return err
	}
	b.took = append(b.took, took.Seconds())
	b.latency = append(b.latency, r.Latency)
	b.grown = append(b.grown, float64(load.RSS(s.pid())-before))
	return nil
}

// startProbe starts the clients whose latencies are the figure, and returns
// what ends them. They are to wait for the server alone: where that is allowed,
// they run before anything else on their core, and they have a unix socket, as
// the kernel passes packets on loopback on in the time of whoever has the core,
// which is the disturbing client.
func (c *compare) startProbe(target string) (end func() (load.Report, error), err error) {
	const warmup = 300 * time.Millisecond
	args := []string{
		"-c", c.cores[1], filepath.Join(c.dir, "lockd"), "bench", "-s", target, "--json", "--threads", "1", "-c", strconv.Itoa(bystanderConnections),
		"--rate", strconv.Itoa(bystanderRate), "-d", "10m", "--warmup", warmup.String(),
	}
	if c.realtime() {
		args = append([]string{"-c", c.cores[1], "chrt", "-f", "1"}, args[2:]...)
	}
	probe := exec.CommandContext(c.ctx, "taskset", args...)
	probe.Env = append(os.Environ(), "GOMAXPROCS=1")
	probe.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, stderr strings.Builder
	probe.Stdout, probe.Stderr = &out, &stderr
	if err := probe.Start(); err != nil {
		return nil, err
	}
	time.Sleep(warmup + 200*time.Millisecond)
	return func() (r load.Report, err error) {
		probe.Process.Signal(os.Interrupt)
		if err := probe.Wait(); err != nil {
			return r, fmt.Errorf("lockd bench: %v: %s", err, stderr.String())
		}
		return r, json.Unmarshal([]byte(out.String()), &r)
	}, nil
}

// realtime tells whether a process may be put before all others.
func (c *compare) realtime() bool { return exec.Command("chrt", "-f", "1", "true").Run() == nil }

func (c *compare) printBystanders(all []bystander) {
	fmt.Printf("\nWhat %d clients that get and release locks, %s requests a second in all, notice of others; medians of %s.\n",
		bystanderConnections, group(bystanderRate), load.Plural(c.rounds, "round"))
	if c.realtime() {
		fmt.Println("They have a unix socket, and their core before all other programs (chrt), as the server has its own (nice); the\ndisturbing client has TCP.")
	} else {
		fmt.Println("They share their core with the disturbing client, and wait for it: there was no right to come first (chrt).")
	}
	fmt.Println()
	fmt.Println("| meanwhile | for, s | p99, ms | slowest reply, ms | worst round, ms | resident memory, MB |")
	fmt.Println("|---|---:|---:|---:|---:|---:|")
	for i, b := range all {
		of := func(figure func(load.Latency) float64) (all []float64) {
			for _, l := range b.latency {
				all = append(all, figure(l)/1e3)
			}
			return all
		}
		slowest := of(func(l load.Latency) float64 { return l.Max })
		fmt.Printf("| %s | %.2f | %.1f | %.1f | %.1f | %+.1f |\n", disturbances[i].label, middle(b.took),
			middle(of(func(l load.Latency) float64 { return l.P99 })), middle(slowest), slices.Max(slowest), middle(b.grown)/1e6)
	}
}
