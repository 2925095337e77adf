// Command proxy measures what `lockd proxy` costs: the processor time of proxy and
// server together for a request, beside that of a server which is asked directly, in
// one run, by turns.
//
//	go run ./bench/proxy
//
// It builds lockd, and needs nothing else. Where HAProxy is installed that is measured,
// too, with a connection to the server for each client: it copies bytes, and knows
// nothing of what they say. The ratios are what counts: times depend on the machine.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// loads are what clients do.
var loads = []struct {
	what                  string
	connections, pipeline int
}{
	{"one at a time, 50 clients", 50, 1},
	{"one at a time, 500 clients", 500, 1},
	{"64 at a time, 50 clients", 50, 64},
}

func main() {
	rounds := flag.Int("rounds", 5, "measurements of each, of which the least counts")
	each := flag.Duration("for", time.Second, "how long a measurement takes")
	flag.Parse()
	if err := run(*rounds, *each); err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		os.Exit(1)
	}
}

func run(rounds int, each time.Duration) error {
	dir, err := os.MkdirTemp("", "lockd-proxy")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	lockd := filepath.Join(dir, "lockd")
	if out, err := exec.Command("go", "build", "-o", lockd, "./cmd/lockd").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	state := filepath.Join(dir, "state")
	if out, err := exec.Command(lockd, "state", "new", state).CombinedOutput(); err != nil {
		return fmt.Errorf("lockd state new: %w\n%s", err, out)
	}
	direct, through := filepath.Join(dir, "server"), filepath.Join(dir, "proxy")
	server, err := start(lockd, direct, "serve", "--state", state)
	if err != nil {
		return err
	}
	defer end(server)
	proxy, err := start(lockd, through, "proxy", "-s", "unix://"+direct)
	if err != nil {
		return err
	}
	defer end(proxy)
	ways := []way{{"direct", direct, server}, {"lockd proxy", through, proxy}}
	peer, err := copier(dir, direct)
	switch {
	case err == nil:
		defer end(peer.process)
		ways = append(ways, peer)
	case !errors.Is(err, exec.ErrNotFound):
		return err
	}
	fmt.Printf("%-28s", "CPU of a request, us")
	for _, w := range ways {
		fmt.Printf(" %18s", w.name)
	}
	fmt.Println()
	for _, load := range loads {
		least := make([]float64, len(ways))
		for range rounds {
			for i, w := range ways {
				us, err := measure(lockd, w.socket, load.connections, load.pipeline, each, server, w.process)
				if err != nil {
					return err
				}
				if least[i] == 0 || us < least[i] {
					least[i] = us
				}
			}
		}
		fmt.Printf("%-28s", load.what)
		for _, us := range least {
			fmt.Printf(" %10.3f %4.2f x ", us, us/least[0])
		}
		fmt.Println()
	}
	return nil
}

// A way is how clients reach the server.
type way struct {
	name, socket string
	process      *exec.Cmd // what they reach, which may be the server
}

// copier starts HAProxy in front of a server's socket.
func copier(dir, socket string) (way, error) {
	program, err := exec.LookPath("haproxy")
	if err != nil {
		return way{}, err
	}
	w := way{name: "HAProxy", socket: filepath.Join(dir, "haproxy")}
	config := filepath.Join(dir, "haproxy.cfg")
	text := "defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n" +
		"listen lockd\n bind unix@" + w.socket + "\n server one unix@" + socket + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return way{}, err
	}
	w.process = exec.Command(program, "-q", "-db", "-f", config)
	return w, listens(w.process, w.socket)
}

// start starts a lockd that listens on a socket alone, without shares.
func start(lockd, socket, command string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(lockd, append([]string{command, "--unix", socket, "--admin", "off", "--max-share", "off"}, args...)...)
	return cmd, listens(cmd, socket)
}

// listens starts a program, and waits until it listens.
func listens(cmd *exec.Cmd, socket string) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return nil
		}
	}
	end(cmd)
	return fmt.Errorf("%s does not listen", strings.Join(cmd.Args, " "))
}

func end(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

// measure puts load on a socket, and returns the processor time that some processes
// have used for a request, in microseconds.
func measure(lockd, socket string, connections, pipeline int, d time.Duration, of ...*exec.Cmd) (float64, error) {
	before, err := used(of)
	if err != nil {
		return 0, err
	}
	out, err := exec.Command(lockd, "bench", "-s", "unix://"+socket, "-c", strconv.Itoa(connections), "-P", strconv.Itoa(pipeline),
		"-d", d.String(), "--warmup", "0s", "--json").Output()
	if err != nil {
		return 0, fmt.Errorf("lockd bench: %w", err)
	}
	var done struct {
		Requests float64 `json:"requests"`
	}
	if err := json.Unmarshal(out, &done); err != nil {
		return 0, err
	}
	after, err := used(of)
	if err != nil {
		return 0, err
	}
	return float64((after - before).Microseconds()) / done.Requests, nil
}

// tick is the unit of a process's times; it is so on all of Linux.
const tick = 10 * time.Millisecond

// used returns how much processor time some processes have used.
func used(of []*exec.Cmd) (sum time.Duration, err error) {
	for i, cmd := range of {
		if slices.Contains(of[:i], cmd) {
			continue
		}
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
