package session

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/internal/stress"
)

// What Settles tells is true whenever nobody is within post: else a carrier would
// wait for a session that is not ready and not listen to its client, or not see
// one that is. Two goroutines post at the same moment while a
// third one settles, on more threads than there are processors, so that the kernel
// stops them at any instruction.
func TestReadyAgreesWithItsFlag(t *testing.T) {
	stress.Threads(t)
	h := newHub(testConfig())
	st := newStream(h, "a:1", new(bell))
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
		if st.Settles() != (len(st.ready) > 0) {
			t.Fatalf("round %d: Settles is %v with %d that are ready", n, st.Settles(), len(st.ready))
		}
		st.Settle(nil)
	}
}

// All that is told waits for the largest token, of whichever shard.
func TestEarlyIsForAllGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(testConfig())
		st := newStream(h, "a:1", nil)
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

// A flag that says that somebody can settle when nobody can, which must not be,
// does not hang the connection: the next turn puts it right.
func TestWrongFlagIsPutRight(t *testing.T) {
	h := newHub(testConfig())
	st := newStream(h, "a:1", new(bell))
	defer st.Close()
	st.woken.Store(true)
	if _, out, next := st.Advance([]byte("ping\n"), nil); string(out) != "1 pong\n" || next != Idle || st.Settles() {
		t.Errorf("%q, next is %d, Settles is %v", out, next, st.Settles())
	}
}
