// Command pgo makes the profile for profile-guided optimization: it puts a
// server under the kinds of load that lockd is for, one after the other, and
// writes what the server's processor did.
//
//	go run ./bench/pgo [-duration TIME] [-o cmd/lockd/default.pgo]
//
// The go command uses a file default.pgo beside a main package by itself.
// docs/performance.md says what it brings and when to make it anew.
//
// The server is a process of its own, so that the load generator, which is
// part of the same program, is not what is optimized.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/nylen/lockd/internal/load"
	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// loads are what a fleet asks, all for as long: at depth 1 the time goes into
// the kernel, deep pipelines show the code of lockd.
var loads = []load.Options{
	{Connections: 50},
	{Connections: 500},
	{Connections: 50, Pipeline: 64},
	{Connections: 50, Pipeline: 64, Names: load.New},
	{Connections: 50, Pipeline: 64, Names: load.One},
	{Connections: 50, Pipeline: 64, Mix: load.Shared},
	{Connections: 50, Mix: load.Shared},
	{Connections: 50, Pipeline: 64, Mix: load.Inspect},
	{Connections: 50, Names: load.New, Short: true},
}

// through are what it asks through a proxy.
var through = []load.Options{
	{Connections: 50},
	{Connections: 50, Pipeline: 64},
	{Connections: 50, Pipeline: 64, Names: load.New},
	{Connections: 50, Pipeline: 64, Mix: load.Shared},
}

func main() {
	to := flag.String("o", "cmd/lockd/default.pgo", "the file to write")
	duration := flag.Duration("duration", 4*time.Second, "how long each load goes on")
	profile := flag.String("serve", "", "used by the program itself: be the server, and write the profile here")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := func() error {
		if *profile != "" {
			return serve(*profile)
		}
		return record(ctx, *to, *duration)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgo:", err)
		os.Exit(1)
	}
}

// serve says where it listens and serves until its input ends.
func serve(profile string) error {
	s, err := server.New(server.Options{TCP: []string{"127.0.0.1:0"}, WebSocket: []string{"127.0.0.1:0"}})
	if err != nil {
		return err
	}
	if err := s.Listen(); err != nil {
		return err
	}
	tcp := s.Addrs()[0].String()
	dial := func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", tcp) }
	p, err := server.New(server.Options{TCP: []string{"127.0.0.1:0"}, MaxKeep: -1, Upstream: &server.Upstream{Target: tcp, Dial: dial}})
	if err != nil {
		return err
	}
	if err := p.Listen(); err != nil {
		return err
	}
	out, err := os.Create(profile)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	fmt.Println(tcp, s.Addrs()[1], p.Addrs()[0])
	io.Copy(io.Discard, os.Stdin)
	pprof.StopCPUProfile()
	return out.Close()
}

// record has a child serve, and puts it under all loads.
func record(ctx context.Context, to string, duration time.Duration) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	part := to + ".part"
	defer os.Remove(part)
	child := exec.Command(self, "-serve", part)
	child.Stderr = os.Stderr
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
	line, _ := bufio.NewReader(said).ReadString('\n')
	at := strings.Fields(line)
	if len(at) != 3 {
		return errors.New("the server does not start")
	}
	tcp, ws, proxy := at[0], at[1], at[2]
	if err := put(ctx, loads, tcp, duration); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "through a proxy:")
	if err := put(ctx, through, proxy, duration); err != nil {
		return err
	}
	for _, target := range []string{"tcp://" + tcp, "ws://" + ws} {
		if err := wait(ctx, target, duration); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "waiting in line over", target)
	}
	steer.Close()
	if err := child.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return os.Rename(part, to)
}

// put puts loads on a target, one after the other.
func put(ctx context.Context, loads []load.Options, target string, duration time.Duration) error {
	for _, o := range loads {
		o.Target, o.Duration = target, duration
		r, err := load.Run(ctx, o)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s locks, %s names, %d connections, %d deep, short %v: %.0f/s\n", r.Mix, r.Names, r.Connections, r.Pipeline, r.Short, r.Throughput)
	}
	return nil
}

// wait has many wait for few locks, over protocol 2.
func wait(ctx context.Context, target string, duration time.Duration) error {
	l, err := client.NewLocker(client.LockerOptions{Options: client.Options{Target: target}})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Ready(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	var all sync.WaitGroup
	failed := make(chan error, 1)
	for i := range 64 {
		all.Go(func() {
			name := fmt.Sprintf("pgo:line %d", i%8)
			for ctx.Err() == nil {
				lock, err := l.Acquire(ctx, name)
				if err == nil {
					err = lock.Release(context.Background())
				}
				if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
					select {
					case failed <- err:
					default:
					}
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}
