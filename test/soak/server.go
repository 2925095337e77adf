//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/nylen/lockd/pkg/server"
	"github.com/prometheus/client_golang/prometheus"
)

// addresses are where the server listens.
type addresses struct{ TCP, Unix, WebSocket string }

// A report is what the server says of itself.
type report struct {
	Goroutines  int
	Descriptors int                // -1: nobody knows
	Memory      uint64             // bytes of heap in use, after a collection
	Metrics     map[string]float64 // by name and labels, `name{label="value"}`
}

// serve is the server's process: for each line that it reads it writes a report.
func serve(dir string) error {
	s, err := server.New(server.Options{
		TCP: []string{"127.0.0.1:0"}, Unix: []string{filepath.Join(dir, "s")}, WebSocket: []string{"127.0.0.1:0"},
		MaxLocks: 4000, MaxWaiters: 200, MaxLine: 1024, MaxOutput: 16 << 10,
	})
	if err != nil {
		return err
	}
	if err := s.Listen(); err != nil {
		return err
	}
	var at addresses
	for _, a := range s.Addrs() {
		switch a.Transport {
		case "tcp":
			at.TCP = a.String()
		case "unix":
			at.Unix = a.String()
		case "websocket":
			at.WebSocket = a.String()
		}
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(at); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.Collector())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		r, err := look(registry)
		if err == nil {
			err = out.Encode(r)
		}
		if err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return s.Shutdown(ctx)
}

func look(registry *prometheus.Registry) (report, error) {
	debug.FreeOSMemory()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	r := report{Goroutines: runtime.NumGoroutine(), Descriptors: -1, Memory: memory.HeapInuse, Metrics: make(map[string]float64)}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		r.Descriptors = len(fds)
	}
	families, err := registry.Gather()
	for _, f := range families {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				key += fmt.Sprintf(" %s=%s", l.GetName(), l.GetValue())
			}
			r.Metrics[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return r, err
}

// A process is the server as seen from outside.
type process struct {
	addresses
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func startServer(dir string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self, "serve", dir)}
	p.cmd.Env = append(os.Environ(), "LOCKD_SOAK=1")
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, p.out.Decode(&p.addresses)
}

func (p *process) report() (r report, err error) {
	if _, err = io.WriteString(p.in, "report\n"); err == nil {
		err = p.out.Decode(&r)
	}
	return r, err
}

// stop ends the server, which has nobody to wait for.
func (p *process) stop() error {
	p.in.Close()
	return p.cmd.Wait()
}

// left tells what should not be there any more, given what was before anybody came.
func left(before, after report) (all []string) {
	check := func(what string, n, want float64) {
		if n != want {
			all = append(all, fmt.Sprintf("%s: %v, not %v", what, n, want))
		}
	}
	m := after.Metrics
	for key, n := range m {
		switch name, _, _ := strings.Cut(key, " "); name {
		case "lockd_connections", "lockd_locks_held", "lockd_shared_holders", "lockd_waiters", "lockd_sessions":
			check(key, n, 0)
		}
	}
	for _, kind := range []string{"exclusive", "shared"} {
		acquired := m["lockd_acquire_total kind="+kind+" result=acquired"]
		gone := m["lockd_released_total kind="+kind] + m["lockd_orphans_total kind="+kind]
		check("holds of kind "+kind+" that have ended, of those acquired", gone, acquired)
		if acquired == 0 {
			all = append(all, "nothing "+kind+" was acquired")
		}
	}
	if after.Goroutines > before.Goroutines {
		check("goroutines", float64(after.Goroutines), float64(before.Goroutines))
	}
	if after.Descriptors > before.Descriptors {
		check("descriptors", float64(after.Descriptors), float64(before.Descriptors))
	}
	return all
}
