// Command cluster measures what a request costs in a cluster: the processor time of all
// nodes together, beside that of a server which is alone, in one run, by turns.
//
//	go run ./bench/cluster
//
// It builds lockd, and starts nodes, three if nothing else is said, and an etcd, which has to be installed. Lockers
// that go by the map ask the node which serves a name, and those that do not any one of
// them. The ratios are what counts: times depend on the machine.
//
// Several servers on one machine are in each other's way, and each has a part of the
// requests only, for most of which it has to be woken: then a request costs more, whatever
// it is. So there is also what as many servers take that know nothing of each other, where
// each client asks each of them for its part of the names: the second line of ratios is to
// that. And in the first load all names are one node's, which has as much to do as the one
// server then, as it would if it had its own machine and clients came with it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/wire"
	"github.com/nylen/lockd/pkg/client"
)

// A load is what clients do: each Locker has a connection, or one to each node, and so many
// goroutines that ask one thing at a time.
type load struct {
	what                string
	lockers, goroutines int
	ofOne               bool // all names are the first node's
}

var loads = []load{
	{"50 clients, one node's names", 50, 1, true},
	{"50 clients, one at a time", 50, 1, false},
	{"1 client, 50 at a time", 1, 50, false},
	{"5 clients, 50 at a time each", 5, 50, false},
}

func main() {
	nodes := flag.Int("nodes", 3, "how many nodes there are")
	rounds := flag.Int("rounds", 5, "measurements of each, of which the least counts")
	each := flag.Duration("for", 2*time.Second, "how long a measurement takes")
	flag.Parse()
	if err := run(*nodes, *rounds, *each); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(nodes, rounds int, each time.Duration) error {
	dir, err := os.MkdirTemp("", "lockd-cluster")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	lockd := filepath.Join(dir, "lockd")
	if out, err := exec.Command("go", "build", "-o", lockd, "./cmd/lockd").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	etcd, url, err := startEtcd(dir)
	if err != nil {
		return err
	}
	defer end(etcd)
	if out, err := exec.Command(lockd, "cluster", "init", "--cluster", url).CombinedOutput(); err != nil {
		return fmt.Errorf("lockd cluster init: %w\n%s", err, out)
	}
	var singles, addrs []string
	var alone, all []*exec.Cmd
	for range nodes {
		addr, server, err := start(lockd)
		if err != nil {
			return err
		}
		defer end(server)
		singles, alone = append(singles, addr), append(alone, server)
	}
	for i := range nodes {
		addr, node, err := start(lockd, "--cluster", url, "--node", fmt.Sprint("node", i))
		if err != nil {
			return err
		}
		defer end(node)
		addrs, all = append(addrs, addr), append(all, node)
	}
	owners, err := balanced(lockd, url, nodes)
	if err != nil {
		return err
	}
	ways := []way{
		{"one server", singles[:1], false, alone[:1]},
		{"servers", singles, false, alone},
		{"by the map", []string{strings.Join(addrs, ",")}, false, all},
		{"any node", []string{strings.Join(addrs, ",")}, true, all},
	}
	fmt.Printf("%-30s", "CPU of a request, us")
	for _, w := range ways {
		fmt.Printf(" %18s", w.name)
	}
	fmt.Println()
	for _, load := range loads {
		least := make([]float64, len(ways))
		for range rounds {
			for i, w := range ways {
				us, err := measure(w, load, owners, each)
				if err != nil {
					return err
				}
				if least[i] == 0 || us < least[i] {
					least[i] = us
				}
			}
		}
		fmt.Printf("%-30s", load.what)
		for _, us := range least {
			fmt.Printf(" %10.3f %4.2f x ", us, us/least[0])
		}
		fmt.Printf("\n%-30s %18s", "", "")
		for _, us := range least[1:] {
			fmt.Printf(" %10s %4.2f x ", "", us/least[1])
		}
		fmt.Println()
	}
	return nil
}

// A way is how clients reach servers, and which processes these are. Where there are several
// targets, each is for a part of the names.
type way struct {
	name    string
	targets []string
	noMap   bool
	of      []*exec.Cmd
}

// dial makes a client.
func (w *way) dial() (all []*client.Locker, err error) {
	for _, target := range w.targets {
		l, err := client.NewLocker(client.LockerOptions{
			NoMap: w.noMap, Logger: slog.New(slog.DiscardHandler), Options: client.Options{Target: target},
		})
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

func free() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func startEtcd(dir string) (*exec.Cmd, string, error) {
	clients, err := free()
	if err != nil {
		return nil, "", err
	}
	peers, err := free()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.Command("etcd", "--name", "e", "--data-dir", filepath.Join(dir, "etcd"), "--log-level", "error",
		"--listen-client-urls", "http://"+clients, "--advertise-client-urls", "http://"+clients,
		"--listen-peer-urls", "http://"+peers, "--initial-advertise-peer-urls", "http://"+peers, "--initial-cluster", "e=http://"+peers)
	if err := listens(cmd, clients); err != nil {
		return nil, "", err
	}
	return cmd, "etcd://" + clients + "/bench", nil
}

// start starts a lockd, without shares.
func start(lockd string, args ...string) (string, *exec.Cmd, error) {
	addr, err := free()
	if err != nil {
		return "", nil, err
	}
	if len(args) > 0 {
		args = append(args, "--advertise", addr)
	}
	args = append([]string{"serve", "--tcp", addr, "--admin", "off", "--max-share", "off"}, args...)
	cmd := exec.Command(lockd, args...)
	return addr, cmd, listens(cmd, addr)
}

// listens starts a program, and waits until it listens.
func listens(cmd *exec.Cmd, addr string) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return nil
		}
	}
	end(cmd)
	return fmt.Errorf("%s does not listen", strings.Join(cmd.Args, " "))
}

// balanced waits until the cluster is well, and every node has its part. It returns which
// node has which partition.
func balanced(lockd, url string, nodes int) (owners []int, err error) {
	for until := time.Now().Add(2 * time.Minute); time.Now().Before(until); time.Sleep(time.Second) {
		out, err := exec.Command(lockd, "cluster", "map", "--cluster", url, "--json").Output()
		if err != nil {
			continue
		}
		var doc struct{ Nodes []struct{ Partitions []int } } // in the order of their names
		if err := json.Unmarshal(out, &doc); err != nil {
			return nil, fmt.Errorf("lockd cluster map: %w", err)
		}
		owners = make([]int, wire.Partitions)
		for i, n := range doc.Nodes {
			for _, p := range n.Partitions {
				owners[p] = i
			}
		}
		if len(doc.Nodes) != nodes || slices.ContainsFunc(doc.Nodes, func(n struct{ Partitions []int }) bool { return len(n.Partitions) == 0 }) {
			continue
		}
		if exec.Command(lockd, "cluster", "status", "--cluster", url).Run() == nil {
			return owners, nil
		}
	}
	out, _ := exec.Command(lockd, "cluster", "status", "--cluster", url).CombinedOutput()
	return nil, fmt.Errorf("the cluster is not well:\n%s", out)
}

func end(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

// names is how many names each goroutine goes over.
const names = 64

// measure has Lockers take and release locks, and returns the processor time that the servers
// have used for a request, in microseconds.
func measure(w way, load load, owners []int, d time.Duration) (float64, error) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var running sync.WaitGroup
	var requests atomic.Int64
	failed := make(chan error, load.lockers*load.goroutines)
	for n := range load.lockers {
		all, err := w.dial()
		if err != nil {
			return 0, err
		}
		for _, l := range all {
			defer l.Close()
		}
		for g := range load.goroutines {
			running.Go(func() {
				var own []string
				for i := 0; len(own) < names; i++ {
					name := "bench " + strconv.Itoa(n) + " " + strconv.Itoa(g) + " " + strconv.Itoa(i)
					if !load.ofOne || owners[wire.PartitionOf(name)] == 0 {
						own = append(own, name)
					}
				}
				for i := rand.IntN(names); ctx.Err() == nil; i++ {
					name := own[i%names]
					lock, err := all[owners[wire.PartitionOf(name)]%len(all)].TryAcquire(ctx, name)
					if err == nil {
						err = lock.Release(ctx)
					}
					if err != nil && ctx.Err() == nil {
						failed <- err
						return
					}
					requests.Add(2)
				}
			})
		}
	}
	defer running.Wait()
	defer stop()
	if !sleep(failed, d/4) { // so that all that is needed is connected
		return 0, <-failed
	}
	before, err := used(w.of)
	begun := requests.Load()
	if err != nil {
		return 0, err
	}
	if !sleep(failed, d) {
		return 0, <-failed
	}
	done := requests.Load() - begun
	after, err := used(w.of)
	if err != nil {
		return 0, err
	}
	if done == 0 {
		return 0, errors.New("nothing was answered")
	}
	return float64((after - before).Nanoseconds()) / 1000 / float64(done), nil
}

// sleep returns false if something has failed meanwhile.
func sleep(failed chan error, d time.Duration) bool {
	time.Sleep(d)
	return len(failed) == 0
}

// tick is the unit of a process's times; it is so on all of Linux.
const tick = 10 * time.Millisecond

// used returns how much processor time some processes have used.
func used(of []*exec.Cmd) (sum time.Duration, err error) {
	for _, cmd := range of {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, f := range fields[11:13] { // utime and stime
			n, err := strconv.Atoi(f)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}
