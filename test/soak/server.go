//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// addresses are where the server listens, and where the files are that its clients
// need.
type addresses struct {
	TCP, Unix, WebSocket, TLS, WSS string
	Admin                          string
	Dir                            string
	Open                           bool // it lets anybody in
}

// file returns where a file is that client and server share.
func (a addresses) file(name string) string { return filepath.Join(a.Dir, name) }

// A report is what the server says of itself.
type report map[string]float64 // by name and labels, `name{label="value"}`

func (r report) goroutines() int  { return int(r["go_goroutines"]) }
func (r report) descriptors() int { return int(r["process_open_fds"]) } // 0: the system does not tell
func (r report) memory() float64  { return r["process_resident_memory_bytes"] / (1 << 20) }

// A process is the server, as it is installed: what is known of it is what it tells
// its administrator.
type process struct {
	addresses
	cmd  *exec.Cmd
	http http.Client
	// ended is closed when it has ended by itself or not, with an error in exit.
	ended chan struct{}
	exit  error
}

// build makes the server's program.
func build(dir string, flags []string) (string, error) {
	path := filepath.Join(dir, "lockd")
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", path, "./cmd/lockd")...)
	cmd.Dir = filepath.Join("..", "..") // the module around this one
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// startServer starts it on all transports with bounds that are soon reached, and
// has it ask for everything that may be asked for, tokens and certificates, if it is
// not to be open.
func startServer(program, dir string, open bool) (*process, error) {
	p := &process{addresses: addresses{Dir: dir, Open: open}, ended: make(chan struct{})}
	p.http = http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	p.cmd = exec.Command(program, "serve",
		"--tcp", "127.0.0.1:0", "--unix", p.file("s"), "--websocket", "127.0.0.1:0", "--tls", "127.0.0.1:0", "--wss", "127.0.0.1:0",
		"--tls-cert", p.file(serverCert), "--tls-key", p.file(serverKey),
		"--admin", "127.0.0.1:0", "--max-locks", "4000", "--max-waiters", "200", "--max-line", "1024", "--max-output", "16384",
		"--log-format", "json")
	if !open {
		p.cmd.Args = append(p.cmd.Args, "--tls-client-ca", p.file(clientCA), "--auth-file", p.file(authFile), "--auth-on", "tcp,unix,websocket,tls,wss", "--share-by", "token")
	}
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "LOCKD_") })
	log, err := os.Create(p.file("log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.exit = p.cmd.Wait()
		close(p.ended)
	}()
	if err := p.await(); err != nil {
		p.cmd.Process.Kill()
		return nil, fmt.Errorf("%w; its log:\n%s", err, p.log())
	}
	text, err := json.Marshal(p.addresses)
	if err == nil {
		err = os.WriteFile(p.file(addressFile), text, 0o600)
	}
	return p, err
}

// addressFile is where clients in processes of their own find the addresses.
const addressFile = "addresses"

// await waits until the log tells where it listens.
func (p *process) await() error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.ended:
			return fmt.Errorf("the server does not start: %w", p.exit)
		default:
		}
		text, err := os.ReadFile(p.file("log"))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			var said struct {
				Message string `json:"msg"`
				addresses
			}
			if json.Unmarshal([]byte(line), &said) == nil && said.Message == "listening" {
				said.Dir, said.Open = p.Dir, p.Open
				p.addresses = said.addresses
				return nil
			}
		}
	}
	return fmt.Errorf("the server does not tell where it listens")
}

// log returns the last lines of its log.
func (p *process) log() string {
	text, _ := os.ReadFile(p.file("log"))
	lines := slices.Collect(strings.Lines(string(text)))
	return strings.Join(lines[max(0, len(lines)-20):], "")
}

func (p *process) report() (report, error) {
	response, err := p.http.Get("http://" + p.Admin + "/metrics")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/metrics is answered %s", response.Status)
	}
	return readReport(response.Body)
}

// readReport reads Prometheus' text format.
func readReport(from io.Reader) (report, error) {
	r := report{}
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		line := lines.Text()
		border := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || border < 0 {
			continue
		}
		n, err := strconv.ParseFloat(line[border+1:], 64)
		if err != nil {
			return nil, err
		}
		r[line[:border]] = n
	}
	return r, lines.Err()
}

// hangUp has it read its files again, which it else does by itself after a while.
func (p *process) hangUp() error { return p.cmd.Process.Signal(syscall.SIGHUP) }

// stop ends the server, which has nobody to wait for.
func (p *process) stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case <-p.ended:
		return p.exit
	case <-ctx.Done():
		return fmt.Errorf("no end: %w", ctx.Err())
	}
}

// mostMemory is by how much the server's memory may be larger at the end than
// before anybody came, in MiB: what buffers and stacks of some dozens of clients
// need, and garbage.
const mostMemory = 128

// left tells what should not be there any more, given what was before anybody came.
func left(before, after report) (all []string) {
	check := func(what string, n, want float64) {
		if n != want {
			all = append(all, fmt.Sprintf("%s: %v, not %v", what, n, want))
		}
	}
	sum := func(family string) (n float64) {
		for key, value := range after {
			if strings.HasPrefix(key, family+"{") {
				n += value
			}
		}
		return n
	}
	for key, n := range after {
		switch name, _, _ := strings.Cut(key, "{"); name {
		case "lockd_connections", "lockd_locks_held", "lockd_shared_holders", "lockd_waiters", "lockd_sessions":
			check(key, n, 0)
		}
	}
	for _, kind := range []string{"exclusive", "shared"} {
		of := fmt.Sprintf("{kind=%q", kind)
		acquired := after["lockd_acquire_total"+of+`,result="acquired"}`]
		gone := after["lockd_released_total"+of+"}"] + after["lockd_orphans_total"+of+"}"]
		check("holds of kind "+kind+" that have ended, of those acquired", gone, acquired)
		if acquired == 0 {
			all = append(all, "nothing "+kind+" was acquired")
		}
	}
	check("waits that took some time, of those that are over", after["lockd_wait_seconds_count"], sum("lockd_wait_total"))
	check("clients whose machine has vanished", after["lockd_dead_clients_total"], 0)
	if after.goroutines() > before.goroutines() {
		check("goroutines", float64(after.goroutines()), float64(before.goroutines()))
	}
	if after.descriptors() > before.descriptors() {
		check("descriptors", float64(after.descriptors()), float64(before.descriptors()))
	}
	if after.memory() > before.memory()+mostMemory {
		check("MiB of memory", after.memory(), before.memory())
	}
	return all
}
