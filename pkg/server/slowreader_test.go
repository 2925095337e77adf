package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/stress"
	"github.com/nylen/lockd/pkg/server"
)

// A client that sends and does not read: once what may wait for it is full,
// the server stops reading from it. That costs bounded memory, nobody else
// notices, and no reply is lost.
func TestSlowReader(t *testing.T) {
	for _, transport := range streams {
		t.Run(transport, func(t *testing.T) {
			s := start(t, server.Options{})
			c := s.dial(t, transport)
			if c, ok := c.Conn.(*net.TCPConn); ok {
				// So that the kernel keeps less.
				must(t, c.SetReadBuffer(64<<10))
				must(t, c.SetWriteBuffer(64<<10))
			}
			const most = 64 << 20
			// The replies are four times as long as the requests.
			var requests strings.Builder
			for i := range 4000 {
				fmt.Fprintf(&requests, "i %4d\n", i)
			}
			chunk := []byte(requests.String())
			before := stress.Heap()
			var sent atomic.Int64 // whole chunks
			var enough atomic.Bool
			written := make(chan error, 1)
			go func() {
				for !enough.Load() && sent.Load() < most {
					if _, err := c.Write(chunk); err != nil {
						written <- err
						return
					}
					sent.Add(int64(len(chunk)))
				}
				written <- c.Conn.(interface{ CloseWrite() error }).CloseWrite()
			}()
			for last := int64(-1); last != sent.Load(); time.Sleep(time.Second) {
				last = sent.Load()
			}
			if sent.Load() >= most {
				t.Fatalf("the server took %d bytes of requests whose replies nobody read", sent.Load())
			}
			if grown := stress.Heap() - before; grown > 2<<20 {
				t.Errorf("the heap grew by %d bytes", grown)
			}
			// Others are served meanwhile.
			other := s.dial(t, transport)
			other.ask("g foo", "1 Lock Get Success: foo")
			other.ask("r foo", "1 Lock Release Success: foo")

			// Now it reads, and what was under way goes on.
			enough.Store(true)
			in := bufio.NewReaderSize(c, 64<<10)
			replies := int64(0)
			for {
				line, err := in.ReadSlice('\n')
				if err == io.EOF && len(line) == 0 {
					break
				}
				if want := fmt.Sprintf("0 Lock Not Locked: %d\n", replies%4000); string(line) != want {
					t.Fatalf("reply %d is %q, not %q: %v", replies, line, want, err)
				}
				replies++
			}
			must(t, <-written)
			if want := sent.Load() / 7; replies != want {
				t.Errorf("%d replies to %d requests", replies, want)
			}
		})
	}
}

// The replies may be far larger than the requests: a listing is given out as it
// is read, over WebSocket too.
func TestSlowReaderOfListings(t *testing.T) {
	for _, transport := range []string{"tcp", "memory", "websocket"} {
		t.Run(transport, func(t *testing.T) {
			s := start(t, server.Options{})
			const locks, requests = 20_000, 40
			holder := s.dial(t, "memory")
			var gets strings.Builder
			for i := range locks {
				fmt.Fprintf(&gets, "g %s %d\n", strings.Repeat("x", 30), i)
			}
			holder.sendAll(gets.String())
			for range locks {
				holder.line()
			}
			p := s.peer(t, transport)
			before := stress.Heap()
			for range requests {
				p.request("d")
			}
			eventually(t, "a listing", func() bool {
				return metric(t, s.Server, "lockd_commands_total", "command=d") > 0
			})
			holder.ask("g foo", "1 Lock Get Success: foo")
			holder.ask("r foo", "1 Lock Release Success: foo")
			grown := stress.Heap() - before
			if transport != "websocket" {
				for i := range requests {
					for range locks {
						p.line(false)
					}
					if i%10 == 0 {
						grown = max(grown, stress.Heap()-before)
					}
				}
			}
			// All of the replies would be 36 MB. Some garbage is always there, in
			// particular under the race detector, which empties sync.Pools.
			if grown > 8<<20 {
				t.Errorf("the heap grew by %d bytes", grown)
			}
		})
	}
}

// One that never reads again and goes frees its locks.
func TestSlowReaderGoes(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		c := s.dial(t, transport)
		c.ask("g foo", "1 Lock Get Success: foo")
		stuck := make(chan struct{})
		go func() {
			defer close(stuck)
			for {
				if _, err := c.Write([]byte(strings.Repeat("i foo\n", 10000))); err != nil {
					return
				}
			}
		}()
		// The server has much to do with it.
		eventually(t, "requests", func() bool {
			return metric(t, s.Server, "lockd_commands_total", "command=i") > 1000
		})
		other := s.dial(t, transport)
		other.ask("g foo", "0 Lock Get Failure: foo")
		c.Close()
		<-stuck
		waitConnections(t, s.Server, 1)
		other.ask("g foo", "1 Lock Get Success: foo")
	})
}
