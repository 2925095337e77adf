// Command tls measures what TLS costs a server: lockd's own beside that of HAProxy
// and of stunnel in front of a plain port of lockd. It prints Markdown for
// docs/performance.md:
//
//	go run ./bench/tls [-rounds N] [-duration TIME] [-connections N] [-idle N]
//
// What counts is the processor time of all processes of a way, by the number of
// requests, one at a time on each connection. The ways take turns in every round,
// so that whatever else the machine does falls on all of them; the medians count.
// One that is not installed is left out. All of it is TLS 1.3, with the same
// certificate, over 127.0.0.1.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/certs"
	"github.com/nylen/lockd/internal/load"
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds; medians over them are reported")
	duration := flag.Duration("duration", 2*time.Second, "how long one measurement takes")
	connections := flag.Int("connections", 50, "connections, each with one request at a time")
	idle := flag.Int("idle", 10_000, "idle connections, whose memory is measured")
	flag.Parse()
	// Children are killed when the thread that started them ends; this one ends with
	// the program.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, max(1, *rounds), *duration, *connections, *idle); err != nil {
		fmt.Fprintln(os.Stderr, "tls:", err)
		os.Exit(1)
	}
}

// A way is how requests come to lockd.
type way struct {
	name      string
	program   string                                    // in front of it; empty: none
	config    func(b *bench, plain, port string) string // for that
	processes []*exec.Cmd
	addr      string
	plain     bool // without TLS
	micros    []float64
	rates     []float64
}

var ways = []*way{
	{name: "lockd, without TLS", plain: true},
	{name: "lockd, `--tls`"},
	{name: "HAProxy before it", program: "haproxy", config: haproxy},
	{name: "stunnel before it", program: "stunnel4", config: stunnel},
}

func haproxy(b *bench, plain, port string) string {
	return fmt.Sprintf(`global
	nbthread 2
	maxconn 2000
defaults
	mode tcp
	timeout connect 5s
	timeout client 1h
	timeout server 1h
frontend tls
	bind 127.0.0.1:%s ssl crt %s ssl-min-ver TLSv1.3
	default_backend lockd
backend lockd
	server lockd %s
`, port, b.both, plain)
}

func stunnel(b *bench, plain, port string) string {
	return fmt.Sprintf(`foreground = yes
pid =
sslVersionMin = TLSv1.3
[lockd]
accept = 127.0.0.1:%s
connect = %s
cert = %s
`, port, plain, b.both)
}

// bench is a run.
type bench struct {
	ctx       context.Context
	dir       string
	cert, key string
	both      string // the two in one file
	client    *tls.Config
}

func run(ctx context.Context, rounds int, duration time.Duration, connections, idle int) (err error) {
	b := &bench{ctx: ctx}
	if b.dir, err = os.MkdirTemp("", "lockd-tls"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := b.prepare(); err != nil {
		return err
	}
	measured := slices.DeleteFunc(slices.Clone(ways), func(w *way) bool {
		if w.program == "" {
			return false
		}
		_, err := exec.LookPath(w.program)
		if err != nil {
			say("without %s: it is not installed", w.program)
		}
		return err != nil
	})
	for _, w := range measured {
		defer w.kill()
		if err := b.start(w); err != nil {
			return err
		}
	}
	for round := range rounds {
		for _, w := range measured {
			if err := b.measure(w, duration, connections); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			say("round %d of %d: %s: %.2f us CPU/request, %.0f requests/s", round+1, rounds, w.name, w.micros[round], w.rates[round])
		}
	}
	own := median(measured[1].micros)
	fmt.Printf("| %d connections, one request at a time | CPU, us/request, all processes | as a multiple of lockd's TLS | requests/s |\n|---|---:|---:|---:|\n", connections)
	for _, w := range measured {
		fmt.Printf("| %s | %.1f | %.2f | %.0f |\n", w.name, median(w.micros), median(w.micros)/own, median(w.rates))
	}
	for _, w := range measured {
		w.kill()
	}
	return b.memory(idle)
}

// prepare builds lockd and makes a certificate.
func (b *bench) prepare() error {
	build := exec.CommandContext(b.ctx, "go", "build", "-o", b.dir, "github.com/nylen/lockd/cmd/lockd")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build lockd: %v\n%s", err, out)
	}
	now := time.Now()
	ca, err := certs.NewAuthority("bench/tls", now, now.Add(24*time.Hour))
	if err != nil {
		return err
	}
	pair, err := ca.Server([]string{"localhost"}, now, now.Add(24*time.Hour))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Cert)
	b.client = &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS13}
	b.cert, b.key, b.both = filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem"), filepath.Join(b.dir, "both.pem")
	return errors.Join(os.WriteFile(b.cert, pair.Cert, 0o600), os.WriteFile(b.key, pair.Key, 0o600),
		os.WriteFile(b.both, append(pair.Key, pair.Cert...), 0o600))
}

// start starts a way's processes, each of which listens when it returns.
func (b *bench) start(w *way) error {
	plain, err := freePort()
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	args := []string{filepath.Join(b.dir, "lockd"), "--admin", "off", "--tcp", "127.0.0.1:" + plain}
	if w.program == "" && !w.plain {
		args = append(args, "--tls", "127.0.0.1:"+port, "--tls-cert", b.cert, "--tls-key", b.key)
	}
	if err := b.launch(w, "127.0.0.1:"+plain, args...); err != nil {
		return err
	}
	w.addr = "127.0.0.1:" + plain
	if w.plain {
		return nil
	}
	w.addr = "127.0.0.1:" + port
	if w.program == "" {
		return awaitPort(w.addr)
	}
	config := filepath.Join(b.dir, w.program+".conf")
	if err := os.WriteFile(config, []byte(w.config(b, "127.0.0.1:"+plain, port)), 0o600); err != nil {
		return err
	}
	args = []string{w.program, config}
	if w.program == "haproxy" {
		args = []string{w.program, "-db", "-f", config}
	}
	return b.launch(w, w.addr, args...)
}

func (b *bench) launch(w *way, addr string, args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	log, err := os.Create(filepath.Join(b.dir, filepath.Base(args[0])+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	w.processes = append(w.processes, cmd)
	if err := awaitPort(addr); err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%s: %w: %s", args[0], err, said)
	}
	return nil
}

func (w *way) kill() {
	for _, cmd := range w.processes {
		cmd.Process.Kill()
		cmd.Wait()
	}
	w.processes = nil
}

// measure lets connections ask for a while.
func (b *bench) measure(w *way, duration time.Duration, n int) error {
	conns, err := b.connect(w, n)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	if err != nil {
		return err
	}
	var requests atomic.Int64
	var over atomic.Bool
	var asking sync.WaitGroup
	failed := make(chan error, n)
	for i, c := range conns {
		asking.Go(func() {
			in := bufio.NewReader(c)
			get, release := fmt.Appendf(nil, "g name %d\n", i), fmt.Appendf(nil, "r name %d\n", i)
			for !over.Load() {
				for _, request := range [][]byte{get, release} {
					c.Write(request)
					line, err := in.ReadSlice('\n')
					if err != nil || line[0] != '1' {
						failed <- fmt.Errorf("%q, %v", line, err)
						return
					}
				}
				requests.Add(2)
			}
		})
	}
	time.Sleep(duration / 4)
	before, asked, began := w.ticks(), requests.Load(), time.Now()
	select {
	case err := <-failed:
		return err
	case <-b.ctx.Done():
		return errors.New("interrupted")
	case <-time.After(duration):
	}
	used, got, took := w.ticks()-before, requests.Load()-asked, time.Since(began)
	over.Store(true)
	asking.Wait()
	w.micros = append(w.micros, float64(used)*1e6/ticksASecond/float64(got))
	w.rates = append(w.rates, float64(got)/took.Seconds())
	return nil
}

// connect opens connections, some at a time.
func (b *bench) connect(w *way, n int) ([]net.Conn, error) {
	var mu sync.Mutex
	var conns []net.Conn
	var first error
	var dialing sync.WaitGroup
	const at = 20
	for i := range at {
		dialing.Go(func() {
			for j := i; j < n && b.ctx.Err() == nil; j += at {
				c, err := net.Dial("tcp", w.addr)
				if err == nil && !w.plain {
					secure := tls.Client(c, b.client)
					c, err = secure, secure.Handshake()
				}
				mu.Lock()
				if err == nil {
					conns = append(conns, c)
				} else if first == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	dialing.Wait()
	return conns, first
}

// memory prints what an idle connection takes, when it has shaken hands and when it
// has been used, and what it takes to get there.
func (b *bench) memory(n int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // lockd inherits it
	if room := int(min(limit.Cur, 1<<30)) * 3 / 4; room < n {
		n = room
		say("only %d idle connections: the limit on open files is %d", n, limit.Cur)
	}
	fmt.Printf("\n| %d idle connections | bytes each, fresh | once used | CPU to connect, us each |\n|---|---:|---:|---:|\n", n)
	for _, w := range []*way{ways[0], ways[1]} {
		if err := b.start(w); err != nil {
			return err
		}
		defer w.kill()
		pid := w.processes[0].Process.Pid
		resting := settled(b.ctx, pid)
		before := w.ticks()
		conns, err := b.connect(w, n)
		if err != nil {
			return err
		}
		shaking := float64(w.ticks()-before) * 1e6 / ticksASecond / float64(n)
		fresh := settled(b.ctx, pid) - resting
		for _, c := range conns {
			line := make([]byte, 100)
			io.WriteString(c, "ping\n")
			if k, err := c.Read(line); string(line[:k]) != "1 pong\n" {
				return fmt.Errorf("%q, %v", line[:k], err)
			}
		}
		used := settled(b.ctx, pid) - resting
		fmt.Printf("| %s | %d | %d | %.0f |\n", w.name, fresh/int64(n), used/int64(n), shaking)
		for _, c := range conns {
			c.Close()
		}
		w.kill()
	}
	return nil
}

// settled returns the resident bytes of a server once they do not change any more.
// Go gives memory back when it has collected garbage, which an idle server does
// every two minutes.
func settled(ctx context.Context, pid int) int64 {
	last, same := int64(0), 0
	for range 150 {
		select {
		case <-ctx.Done():
			return last
		case <-time.After(time.Second):
		}
		now := load.RSS(pid)
		if diff := now - last; diff > -64<<10 && diff < 64<<10 {
			if same++; same == 8 {
				break
			}
		} else {
			same = 0
		}
		last = now
	}
	return last
}

// ticksASecond is what the kernel counts processor time in, on all systems that
// Go knows.
const ticksASecond = 100

// ticks is the processor time of all processes, those included that they started.
func (w *way) ticks() (sum int64) {
	for _, cmd := range w.processes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil {
			continue
		}
		// The second field, in brackets, may hold anything; utime and stime are the 12th
		// and 13th behind it.
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		var user, system int64
		if len(f) > 12 {
			fmt.Sscan(f[11], &user)
			fmt.Sscan(f[12], &system)
		}
		sum += user + system
	}
	return sum
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

func awaitPort(addr string) error {
	var err error
	for range 200 {
		var c net.Conn
		if c, err = net.Dial("tcp", addr); err == nil {
			return c.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
