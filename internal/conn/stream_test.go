package conn

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/stress"
)

// What Settles tells is true whenever nobody is within post: else a transport
// would wait for mail that is not there and not listen to its client, or have
// mail that it does not see. Two goroutines post at the same moment while a
// third one settles, on more threads than there are processors, so that the kernel
// stops them at any instruction.
func TestMailAgreesWithItsFlag(t *testing.T) {
	stress.Threads(t)
	h := NewHub(testConfig())
	st := h.NewStream("a:1", new(bell))
	defer st.Close()
	const posters = 2
	var round, posted atomic.Int64
	var all sync.WaitGroup
	defer all.Wait()
	defer round.Store(-1)
	for range posters {
		all.Go(func() {
			for last := int64(0); ; {
				switch now := round.Load(); now {
				case -1:
					return
				case last:
					runtime.Gosched()
				default:
					last = now
					st.post(&st.main)
					posted.Add(1)
				}
			}
		})
	}
	end := time.Now().Add(stress.Time(t))
	for n := int64(1); time.Now().Before(end); n++ {
		posted.Store(0)
		round.Store(n)
		for posted.Load() < posters {
			st.Settle(nil)
		}
		if st.Settles() != (len(st.mail) > 0) {
			t.Fatalf("round %d: Settles is %v with %d in the mail", n, st.Settles(), len(st.mail))
		}
		st.Settle(nil)
	}
}

// All that is told waits for the largest token, of whichever shard.
func TestEarlyIsForAllGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(testConfig())
		st := h.NewStream("a:1", nil)
		now := h.clock.microseconds()
		for _, lead := range []uint64{10, 2_000_000, 1_000_000, 0} {
			st.granted(now + lead)
		}
		if early := st.Early(); early != 2*time.Second {
			t.Errorf("early by %v", early)
		}
		time.Sleep(2 * time.Second)
		if early := st.Early(); early != 0 {
			t.Errorf("early by %v when it is time", early)
		}
		st.Close()
	})
}

// A client whose grant comes too early, here by an hour, is told nothing of it
// and gets no further. It delays nobody else, be they on the same event loop, nor
// the end of the server.
func TestEarlyGrantsDelayNobodyElse(t *testing.T) {
	cfg := testConfig()
	cfg.Table.Start = uint64(time.Now().Add(time.Hour).UnixMicro())
	for _, transport := range []Transport{TCP, Memory} {
		h := NewHub(cfg)
		addr, end := "", func() {}
		dial := func() net.Conn {
			client, server := Pipe()
			go h.ServeLines(server, Memory)
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
		for h.Stats().Locks.Locks[shard.Exclusive] == 0 {
			runtime.Gosched()
		}
		for range 100 {
			io.WriteString(other, "ping\n")
			if _, err := io.ReadFull(other, reply); err != nil {
				t.Fatal(err)
			}
		}
		if n := h.Stats().Locks.Locks[shard.Shared]; n != 0 {
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
