package client_test

import (
	"bytes"
	"net"
	"testing"

	"github.com/nylen/lockd/pkg/client"
)

// constantServer answers everything that it reads with the same line, and
// costs no allocation by itself.
func constantServer(tb testing.TB, reply string) client.Options {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf, line := make([]byte, 4096), []byte(reply)
		for {
			n, err := conn.Read(buf)
			if err != nil || !bytes.HasSuffix(buf[:n], []byte("\n")) {
				return
			}
			if _, err := conn.Write(line); err != nil {
				return
			}
		}
	}()
	tb.Cleanup(func() { l.Close(); <-done })
	return client.Options{Target: l.Addr().String(), ReadTimeout: -1}
}

func benchmarkGet(b *testing.B, opts client.Options) {
	c, err := client.New(opts)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	ctx := b.Context()
	if err := c.Get(ctx, "a lock"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Get(ctx, "a lock"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	benchmarkGet(b, constantServer(b, "1 Lock Get Success: a lock\n"))
}

func BenchmarkGetParallel(b *testing.B) {
	c, err := client.New(constantServer(b, "1 Lock Get Success: a lock\n"))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := c.Get(b.Context(), "a lock"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkBare is the floor: the same bytes without a client.
func BenchmarkBare(b *testing.B) {
	conn, err := net.Dial("tcp", constantServer(b, "1 Lock Get Success: a lock\n").Target)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	request, buf := []byte("g a lock\n"), make([]byte, 4096)
	for b.Loop() {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
