package session

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// A clock tells the time to the table, which has none of its own, and wakes
// it when a wait is over. Its goroutine is there while there is anything to
// wake it for.
type clock struct {
	locks *shard.Set
	start time.Time
	began uint64        // start by the machine's clock, in microseconds
	last  atomic.Uint64 // a time since then that somebody has seen, in the same

	floor  *floor // what tokens rest on instead of the time; nil: nothing
	ceiled bool   // a node's: they rest on its ceil, and may be ahead of the time

	wakeAt atomic.Uint64 // when the goroutine wakes by itself; 0: it is not asleep

	mu       sync.Mutex // guards what follows
	running  bool
	stopped  bool
	expected uint64 // the earliest of the due times that came since the last look; 0: none
	kick     chan struct{}
	done     sync.WaitGroup
}

// Every sweepEvery, up to sweepLooks limiters are looked at and dropped when
// they are full: all of them, unless there are very many. That takes a
// hundredth of a processor at most; waits that end meanwhile go on in between.
const (
	sweepEvery        = time.Second
	sweepMilliseconds = uint64(sweepEvery / time.Millisecond)
	sweepLooks        = 1 << 20
	sweepStep         = 1 << 14
)

func (c *clock) init(locks *shard.Set, start time.Time) {
	c.locks, c.start, c.began = locks, start, uint64(start.UnixMicro())
	c.kick = make(chan struct{}, 1)
}

func (c *clock) nanoseconds() uint64 { return uint64(time.Since(c.start)) + 1 }

// milliseconds is the clock of due times: rounded up, so that no wait is cut
// short.
func (c *clock) milliseconds() uint64 {
	return uint64((time.Since(c.start) + time.Millisecond - 1) / time.Millisecond)
}

// passed is the last millisecond that is over.
func (c *clock) passed() uint64 { return uint64(time.Since(c.start) / time.Millisecond) }

// microseconds is the clock of fencing tokens. It starts with the machine's time
// and goes on with the monotonic one, so a step of the former while the server
// runs does not show in it. It is below 2^53 until the year 2255.
func (c *clock) microseconds() uint64 {
	return c.began + uint64(time.Since(c.start)/time.Microsecond)
}

// seen tells whether the time of a fencing token is known to be over.
func (c *clock) seen(token uint64) bool { return token <= c.last.Load() }

// until returns how long it is to the time of a fencing token.
func (c *clock) until(token uint64) time.Duration {
	if c.floor != nil {
		return c.floor.until(token)
	}
	now := c.microseconds()
	if !c.ceiled {
		c.last.Store(now)
	}
	return time.Duration(max(token, now)-now) * time.Microsecond
}

// expect sees to it that the table is woken at a due time.
func (c *clock) expect(due uint64) {
	if at := c.wakeAt.Load(); at != 0 && at <= due {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	if c.expected == 0 || due < c.expected {
		c.expected = due
	}
	if !c.running {
		c.running = true
		c.done.Go(c.run)
		return
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

func (c *clock) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	swept := time.Now()
	for {
		c.mu.Lock()
		c.expected = 0
		c.wakeAt.Store(0)
		c.mu.Unlock()
		next := c.locks.Expire(c.passed())
		limiters := c.locks.Limiters() > 0
		if limiters && time.Since(swept) >= sweepEvery {
			now := c.nanoseconds()
			for looks := 0; looks < sweepLooks && !c.locks.Sweep(now, sweepStep); looks += sweepStep {
				next = c.locks.Expire(c.passed())
			}
			swept = time.Now()
		}
		if sweep := c.milliseconds() + sweepMilliseconds; limiters && (next == 0 || sweep < next) {
			next = sweep
		}
		c.mu.Lock()
		if c.expected != 0 && (next == 0 || c.expected < next) {
			next = c.expected
		}
		if next == 0 || c.stopped {
			c.running = false
			c.mu.Unlock()
			return
		}
		c.wakeAt.Store(next)
		c.mu.Unlock()
		timer.Reset(time.Until(c.start.Add(time.Duration(next) * time.Millisecond)))
		select {
		case <-timer.C:
		case <-c.kick:
		}
	}
}

// stop ends the goroutine and waits for that.
func (c *clock) stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	select {
	case c.kick <- struct{}{}:
	default:
	}
	c.done.Wait()
}
