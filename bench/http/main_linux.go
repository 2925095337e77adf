// Command http measures what it costs a server to give units of rates over HTTP, beside
// the line protocol. It prints Markdown for docs/rate-limiting.md:
//
//	go run ./bench/http [-rounds N] [-duration TIME] [-connections N]
//
// What counts is the server's processor time, user and system, by the number of requests,
// one at a time on each connection. The ways take turns in every round, so that whatever
// else the machine does falls on all of them; the medians count.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds; medians over them are reported")
	duration := flag.Duration("duration", 2*time.Second, "how long one measurement takes")
	connections := flag.Int("connections", 50, "connections, each with one request at a time")
	flag.Parse()
	// The server is killed when the thread that started it ends; this one ends with the
	// program.
	runtime.LockOSThread()
	if err := run(max(1, *rounds), *duration, *connections); err != nil {
		fmt.Fprintln(os.Stderr, "http:", err)
		os.Exit(1)
	}
}

// A way is how units are taken: a request, and what its answer ends with.
type way struct {
	name    string
	request string
	end     string
	http    bool
	short   bool // a connection for each request
	micros  []float64
	rates   []float64
}

const target = "/api/v1/rates/login:192.0.2.7/take"

// Of so many units none is ever refused: an answer is as long as the other.
var ways = []*way{
	{name: "`rl` over TCP", request: "rl 4000000000 1000 1 login:192.0.2.7\n", end: "\n"},
	{name: "GET", http: true, request: "GET " + target + "?limit=4000000000&window=1s HTTP/1.1\r\nHost: localhost\r\n\r\n", end: "}\n"},
	{name: "POST with JSON", http: true, request: post, end: "}\n"},
	{name: "GET, a connection for each", http: true, short: true,
		request: "GET " + target + "?limit=4000000000&window=1s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", end: "}\n"},
}

const body = `{"limit": 4000000000, "window": "1s"}`

var post = fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", target, len(body), body)

func run(rounds int, duration time.Duration, connections int) error {
	dir, err := os.MkdirTemp("", "lockd-http")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if out, err := exec.Command("go", "build", "-o", dir, "github.com/nylen/lockd/cmd/lockd").CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build lockd: %v\n%s", err, out)
	}
	server := exec.Command(filepath.Join(dir, "lockd"), "--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "off")
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := server.StderrPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Wait()
	defer server.Process.Kill()
	line, err := bufio.NewReader(log).ReadString('\n')
	if err != nil {
		return err
	}
	m := regexp.MustCompile(`tcp=(\S+) http=(\S+)`).FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("the server says %q", line)
	}
	for round := range rounds {
		for _, w := range ways {
			addr := m[1]
			if w.http {
				addr = m[2]
			}
			if err := w.measure(server.Process.Pid, addr, duration, connections); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			fmt.Fprintf(os.Stderr, "round %d of %d: %s: %.1f us CPU/request, %.0f requests/s\n", round+1, rounds, w.name, w.micros[round], w.rates[round])
		}
	}
	fmt.Printf("| %d connections, one request at a time | server CPU, us/request | as a multiple of `rl` | requests/s |\n|---|---:|---:|---:|\n", connections)
	own := median(ways[0].micros)
	for _, w := range ways {
		fmt.Printf("| %s | %.1f | %.1f | %.0f |\n", w.name, median(w.micros), median(w.micros)/own, median(w.rates))
	}
	return nil
}

// measure asks as fast as answers come.
func (w *way) measure(pid int, addr string, duration time.Duration, connections int) error {
	var requests atomic.Int64
	failed := make(chan error, connections)
	before, err := cpu(pid)
	if err != nil {
		return err
	}
	began := time.Now()
	var asking sync.WaitGroup
	for range connections {
		asking.Go(func() {
			for time.Since(began) < duration {
				n, err := w.ask(addr, began.Add(duration))
				requests.Add(n)
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	asking.Wait()
	took := time.Since(began)
	after, err := cpu(pid)
	if err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
	}
	n := float64(requests.Load())
	w.micros = append(w.micros, (after-before).Seconds()*1e6/n)
	w.rates = append(w.rates, n/took.Seconds())
	return nil
}

// ask asks over a connection, once or until some time, and returns how often it has.
func (w *way) ask(addr string, until time.Time) (n int64, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	answer := make([]byte, 4096)
	for time.Now().Before(until) {
		if _, err := io.WriteString(c, w.request); err != nil {
			return n, err
		}
		got := 0
		for !bytes.HasSuffix(answer[:got], []byte(w.end)) {
			k, err := c.Read(answer[got:])
			if err != nil {
				return n, err
			}
			got += k
		}
		if w.http && !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) || !w.http && !bytes.Contains(answer[:got], []byte(" Rate Allowed: ")) {
			return n, errors.New("it answers " + string(answer[:got]))
		}
		if n++; w.short {
			return n, nil
		}
	}
	return n, nil
}

// cpu returns the processor time that a process has used, in ticks of 10 ms.
func cpu(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, err := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err, err2)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
