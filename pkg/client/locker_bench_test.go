package client_test

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// benchmarkLocker has many goroutines get and give back locks of their own, on
// a server in this process. bench/peers has the server in another one.
func benchmarkLocker(b *testing.B, goroutines int) {
	s, err := server.New(server.Options{})
	if err != nil {
		b.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go s.Serve(listener)
	defer s.Shutdown(b.Context())
	l, err := client.NewLocker(client.LockerOptions{Options: client.Options{Target: listener.Addr().String()}})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(goroutines)
	b.RunParallel(func(pb *testing.PB) {
		name := fmt.Sprint("lock ", n.Add(1))
		for pb.Next() {
			lock, err := l.Acquire(b.Context(), name)
			if err != nil {
				b.Error(err)
				return
			}
			if err := lock.Release(b.Context()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkLocker1(b *testing.B)   { benchmarkLocker(b, 1) }
func BenchmarkLocker500(b *testing.B) { benchmarkLocker(b, 500) }
