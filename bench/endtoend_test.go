package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// serve starts a server and returns where it listens, by transport.
func serve(b *testing.B) map[string]string {
	b.Helper()
	s, err := server.New(server.Options{
		TCP:       []string{"127.0.0.1:0"},
		Unix:      []string{filepath.Join(b.TempDir(), "sock")},
		WebSocket: []string{"127.0.0.1:0"},
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // cut off what is left
		s.Shutdown(ctx)
	})
	addrs := map[string]string{}
	for _, a := range s.Addrs() {
		addrs[a.Transport] = a.Addr.String()
	}
	return addrs
}

func dial(b *testing.B, transport, addr string) net.Conn {
	b.Helper()
	var c net.Conn
	var err error
	if transport == "websocket" {
		c, _, _, err = ws.Dial(context.Background(), "ws://"+addr+"/")
	} else {
		c, err = net.Dial(transport, addr)
	}
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// batch makes depth requests, gets and releases taking turns, and the replies
// to them.
func batch(transport, name string, depth int) (requests, replies []byte) {
	for i := range depth {
		request, reply := "g "+name, "1 Lock Get Success: "+name+"\n"
		// One request at a time: the same again and again.
		if i%2 == 1 {
			request, reply = "r "+name, "1 Lock Release Success: "+name+"\n"
		}
		if transport != "websocket" {
			requests = append(requests, request+"\n"...)
			replies = append(replies, reply...)
			continue
		}
		frame := ws.MaskFrameWith(ws.NewTextFrame([]byte(request)), [4]byte{1, 2, 3, 4})
		requests = append(requests, ws.MustCompileFrame(frame)...)
		replies = append(replies, ws.MustCompileFrame(ws.NewTextFrame([]byte(reply)))...)
	}
	return requests, replies
}

// roundTrip sends requests and reads as much as their replies are.
func roundTrip(c net.Conn, requests, buf []byte) error {
	if _, err := c.Write(requests); err != nil {
		return err
	}
	_, err := io.ReadFull(c, buf)
	return err
}

func BenchmarkEndToEnd(b *testing.B) {
	for _, transport := range []string{"tcp", "unix", "websocket"} {
		for _, depth := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/depth=%d", transport, depth), func(b *testing.B) {
				c := dial(b, transport, serve(b)[transport])
				defer c.Close()
				requests, replies := batch(transport, "locks/orders/0123456789", depth)
				buf := make([]byte, len(replies))
				for range 100 {
					if err := roundTrip(c, requests, buf); err != nil {
						b.Fatal(err)
					}
				}
				if !bytes.Equal(buf, replies) {
					b.Fatalf("%q, want %q", buf, replies)
				}
				b.ReportAllocs()
				for b.Loop() {
					if err := roundTrip(c, requests, buf); err != nil {
						b.Fatal(err)
					}
				}
				perRequest(b, depth)
			})
		}
	}
}

// EndToEndParallel is the same on 64 connections at a time for each processor,
// each with a lock of its own.
func BenchmarkEndToEndParallel(b *testing.B) {
	for _, transport := range []string{"tcp", "unix", "websocket"} {
		for _, depth := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/depth=%d", transport, depth), func(b *testing.B) {
				addr := serve(b)[transport]
				type client struct {
					net.Conn
					requests, buf []byte
				}
				const perProc = 64
				clients := make([]client, perProc*runtime.GOMAXPROCS(0))
				for i := range clients {
					requests, replies := batch(transport, fmt.Sprintf("locks/orders/%010d", i), depth)
					clients[i] = client{dial(b, transport, addr), requests, make([]byte, len(replies))}
					defer clients[i].Close()
				}
				var next atomic.Int64
				b.SetParallelism(perProc)
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					c := &clients[next.Add(1)-1]
					for pb.Next() {
						if err := roundTrip(c.Conn, c.requests, c.buf); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.StopTimer()
				perRequest(b, depth)
			})
		}
	}
}

// Connect is a connection for one lock: connect, get, disconnect.
func BenchmarkConnect(b *testing.B) {
	requests, replies := batch("tcp", "locks/orders/0123456789", 2)
	for _, transport := range []string{"tcp", "unix"} {
		b.Run(transport, func(b *testing.B) {
			addr := serve(b)[transport]
			buf := make([]byte, len(replies))
			b.ReportAllocs()
			for b.Loop() {
				c := dial(b, transport, addr)
				if err := roundTrip(c, requests, buf); err != nil {
					b.Fatal(err)
				}
				if c, ok := c.(*net.TCPConn); ok {
					// Without this the ports would not last.
					c.SetLinger(0)
				}
				c.Close()
			}
		})
	}
	b.Run("memory", func(b *testing.B) {
		s, err := server.New(server.Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Shutdown(context.Background())
		buf := make([]byte, len(replies))
		b.ReportAllocs()
		for b.Loop() {
			c, err := s.Dial()
			if err != nil {
				b.Fatal(err)
			}
			if err := roundTrip(c, requests, buf); err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
}

// Grant is how long it takes from a release to the word of the next in line, a
// client on another connection: its median and 99th percentile, in
// microseconds.
func BenchmarkGrant(b *testing.B) {
	const inLine = 300 * time.Microsecond // until the next one stands there
	wait, release := []byte("gw 60000 lock\n"), []byte("r lock\n")
	granted, released := "1 Lock Get Success: lock\n", "1 Lock Release Success: lock\n"
	for _, transport := range []string{"tcp", "unix"} {
		b.Run(transport, func(b *testing.B) {
			addr := serve(b)[transport]
			holder, next := dial(b, transport, addr), dial(b, transport, addr)
			defer holder.Close()
			defer next.Close()
			buf := make([]byte, len(released))
			expect := func(c net.Conn, want string) {
				if _, err := io.ReadFull(c, buf[:len(want)]); err != nil || string(buf[:len(want)]) != want {
					b.Fatalf("%q, %v, want %q", buf, err, want)
				}
			}
			send := func(c net.Conn, request []byte) {
				if _, err := c.Write(request); err != nil {
					b.Fatal(err)
				}
			}
			send(holder, wait)
			expect(holder, granted)
			var took []time.Duration
			for b.Loop() {
				send(next, wait)
				time.Sleep(inLine)
				began := time.Now()
				send(holder, release)
				expect(next, granted)
				took = append(took, time.Since(began))
				expect(holder, released)
				holder, next = next, holder
			}
			slices.Sort(took)
			b.ReportMetric(0, "ns/op") // most of it is waiting to stand in line
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-us")
		})
	}
}
