package conn

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// A client whose grant comes too early, here by an hour, is told nothing of it
// and gets no further. It delays nobody else, be they on the same event loop, nor
// the end of the server.
func TestEarlyGrantsDelayNobodyElse(t *testing.T) {
	cfg := testConfig()
	cfg.Session.Table.Start = uint64(time.Now().Add(time.Hour).UnixMicro())
	for _, transport := range []Transport{TCP, Memory} {
		h := NewServer(cfg)
		addr, end := "", func() {}
		dial := func() net.Conn {
			client, server := Pipe()
			h.ServeLines(server, Memory)
			return client
		}
		if transport == TCP {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // one loop
			addr, end = serveTCP(t, h)
			dial = func() net.Conn {
				client, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				return client
			}
		}
		first, other := dial(), dial()
		defer first.Close()
		defer other.Close()
		io.WriteString(first, "ping\ng foo\nsg foo\n")
		reply := make([]byte, len("1 pong\n"))
		for h.hub.Stats().Locks.Locks[shard.Exclusive] == 0 {
			runtime.Gosched()
		}
		for range 100 {
			io.WriteString(other, "ping\n")
			if _, err := io.ReadFull(other, reply); err != nil {
				t.Fatal(err)
			}
		}
		if n := h.hub.Stats().Locks.Locks[shard.Shared]; n != 0 {
			t.Errorf("%v: a request behind an early grant was executed", transport)
		}
		end()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := h.Drain(ctx); err == nil {
			t.Errorf("%v: nobody was cut off", transport)
		}
		if got, _ := io.ReadAll(first); strings.Contains(string(got), "Lock") {
			t.Errorf("%v: %q was told an hour before its time", transport, got)
		}
	}
}
