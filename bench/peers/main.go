// Command peers compares lockd and this project's client with Redis and the
// two clients for it that Go programs use most, at what a lock service is for:
// many goroutines of one program, each getting and giving back locks.
//
// Every side does what its users would do: lockd's client Acquire and Release
// over four connections; the others SET NX PX with a random value, and the
// script that deletes the key if it has that value, by EVALSHA. go-redis has
// its default pool, rueidis its defaults.
//
// The servers are processes of their own, started here. Rounds are taken in
// turns, so what disturbs the machine disturbs all; the table has medians.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/nylen/lockd/pkg/client"
)

var (
	goroutines = flag.Int("goroutines", 1000, "goroutines, each with names of its own")
	rounds     = flag.Int("rounds", 5, "rounds")
	span       = flag.Duration("time", 2*time.Second, "how long a round of one side takes")
	conns      = flag.Int("connections", 4, "lockd's connections")
	only       = flag.String("only", "", "lockd, go-redis or rueidis alone")
	profile    = flag.String("cpuprofile", "", "write a CPU profile of this process here")
)

// A peer is one client library with its server. Pair gets and gives back a
// lock.
type peer struct {
	name  string
	pair  func(ctx context.Context, name string) error
	close func()

	rates, allocs []float64
}

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "lockd-peers")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var peers []*peer
	defer func() {
		for _, p := range peers {
			p.close()
		}
	}()
	for _, begin := range []func(string) ([]*peer, error){beginLockd, beginRedis} {
		more, err := begin(dir)
		if err != nil {
			return err
		}
		peers = append(peers, more...)
	}
	if *only != "" {
		peers = slices.DeleteFunc(peers, func(p *peer) bool {
			if p.name == *only {
				return false
			}
			p.close()
			return true
		})
	}
	defer startProfile()()
	for _, p := range peers { // warm up: connections, sessions, scripts
		if err := p.round(200 * time.Millisecond); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		p.rates, p.allocs = nil, nil
	}
	for range *rounds {
		for _, p := range peers {
			if err := p.round(*span); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	fmt.Printf("%d goroutines, GOMAXPROCS %d, median of %d rounds of %v\n\n", *goroutines, runtime.GOMAXPROCS(0), *rounds, *span)
	fmt.Println("| client | pairs/s | least to most | allocs/pair | lockd is |")
	fmt.Println("|---|---|---|---|---|")
	for _, p := range peers {
		fmt.Printf("| %s | %.0f | %.0f to %.0f | %.1f | %.2fx |\n", p.name, median(p.rates),
			slices.Min(p.rates), slices.Max(p.rates), median(p.allocs), median(peers[0].rates)/median(p.rates))
	}
	return nil
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

func (p *peer) round(d time.Duration) error {
	var (
		wg     sync.WaitGroup
		stop   atomic.Bool
		pairs  atomic.Int64
		failed atomic.Pointer[error]
	)
	ctx := context.Background()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := time.Now()
	time.AfterFunc(d, func() { stop.Store(true) })
	for i := range *goroutines {
		wg.Go(func() {
			name := "lock:" + strconv.Itoa(i)
			n := int64(0)
			for ; !stop.Load(); n++ {
				if err := p.pair(ctx, name); err != nil {
					first := err // allocated only here
					failed.CompareAndSwap(nil, &first)
					return
				}
			}
			pairs.Add(n)
		})
	}
	wg.Wait()
	took := time.Since(begin)
	runtime.ReadMemStats(&after)
	if err := failed.Load(); err != nil {
		return *err
	}
	n := float64(pairs.Load())
	p.rates = append(p.rates, n/took.Seconds())
	p.allocs = append(p.allocs, float64(after.Mallocs-before.Mallocs)/n)
	return nil
}

// spawn starts a server and returns what ends it.
func spawn(cmd *exec.Cmd) (func(), error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	}), nil
}

func beginLockd(dir string) ([]*peer, error) {
	if *only != "" && *only != "lockd" {
		return nil, nil
	}
	bin := filepath.Join(dir, "lockd")
	build := exec.Command("go", "build", "-o", bin, "./cmd/lockd")
	build.Dir = sourceDir()
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building lockd: %w\n%s", err, out)
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	end, err := spawn(exec.Command(bin, "-t", addr, "--admin", "off"))
	if err != nil {
		return nil, err
	}
	if err := answers(addr); err != nil {
		end()
		return nil, err
	}
	l, err := client.NewLocker(client.LockerOptions{Options: client.Options{Target: addr}, Connections: *conns})
	if err != nil {
		end()
		return nil, err
	}
	return []*peer{{
		name: "lockd",
		pair: func(ctx context.Context, name string) error {
			lock, err := l.Acquire(ctx, name)
			if err != nil {
				return err
			}
			return lock.Release(ctx)
		},
		close: func() { l.Close(); end() },
	}}, nil
}

// unlock deletes the key if it has the owner's value.
const unlock = `if redis.call("get",KEYS[1])==ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end`

const expiry = 30 * time.Second

var errHeld = errors.New("held by another")

func beginRedis(dir string) ([]*peer, error) {
	if *only == "lockd" {
		return nil, nil
	}
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		fmt.Println("redis-server is not installed; its rows are left out")
		return nil, nil
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	end, err := spawn(exec.Command(bin, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir))
	if err != nil {
		return nil, err
	}
	if err := answers(addr); err != nil {
		end()
		return nil, err
	}
	gr := redis.NewClient(&redis.Options{Addr: addr})
	script := redis.NewScript(unlock)
	ru, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true})
	if err != nil {
		end()
		return nil, err
	}
	lua := rueidis.NewLuaScript(unlock)
	ms := strconv.FormatInt(expiry.Milliseconds(), 10)
	return []*peer{{
		name: "go-redis",
		pair: func(ctx context.Context, name string) error {
			value := owner()
			if ok, err := gr.SetNX(ctx, name, value, expiry).Result(); err != nil || !ok {
				return errors.Join(err, errHeld)
			}
			n, err := script.Run(ctx, gr, []string{name}, value).Int()
			if err != nil || n != 1 {
				return errors.Join(err, errHeld)
			}
			return nil
		},
		close: func() { gr.Close(); end() },
	}, {
		name: "rueidis",
		pair: func(ctx context.Context, name string) error {
			value := owner()
			set := ru.B().Arbitrary("SET").Keys(name).Args(value, "NX", "PX", ms).Build()
			if err := ru.Do(ctx, set).Error(); err != nil {
				return err
			}
			n, err := lua.Exec(ctx, ru, []string{name}, []string{value}).AsInt64()
			if err != nil || n != 1 {
				return errors.Join(err, errHeld)
			}
			return nil
		},
		close: func() { ru.Close(); end() },
	}}, nil
}

var owners atomic.Uint64

// owner returns a value that no other owner has. It is cheaper than the random
// one that a program would need, in the others' favor.
func owner() string { return strconv.FormatUint(owners.Add(1), 36) }

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// answers waits until a server listens.
func answers(addr string) error {
	for range 200 {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("nothing listens on %s", addr)
}

// sourceDir returns where lockd's source is, wherever in this module the
// benchmark was started.
func sourceDir() string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/nylen/lockd").Output()
	if dir := strings.TrimSpace(string(out)); err == nil && dir != "" {
		return dir
	}
	return filepath.Join("..", "..")
}
