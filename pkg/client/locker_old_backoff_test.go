package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// full is a server that speaks protocol 1. It has room for the first
// connection, which a Locker keeps to see whether it is there, and for as many
// others as the test makes.
type full struct {
	refuse func(near, far net.Conn) (net.Conn, error)
	room   atomic.Int64
	there  atomic.Int64 // of the others
	tries  atomic.Int64
	ends   sync.Map // the server's, of all connections
}

const plenty = 1000

func (f *full) dial(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	first := f.tries.Add(1) == 1
	if !first && f.there.Add(1) > f.room.Load() {
		f.there.Add(-1)
		return f.refuse(near, far)
	}
	f.ends.Store(far, nil)
	go func() {
		lineByLine(far, oldReply)
		if f.ends.Delete(far); !first {
			f.there.Add(-1)
		}
	}()
	return near, nil
}

// cut ends all connections.
func (f *full) cut() {
	f.ends.Range(func(far, _ any) bool {
		far.(net.Conn).Close()
		return true
	})
}

// refusals are how a server can have no room.
var refusals = map[string]func(near, far net.Conn) (net.Conn, error){
	"no connection": func(net.Conn, net.Conn) (net.Conn, error) { return nil, errDown },
	"refusal": func(near, far net.Conn) (net.Conn, error) {
		go func() {
			io.WriteString(far, "0 Too Many Connections\n")
			far.Close()
		}()
		return near, nil
	},
	"hangs up on a lock": func(near, far net.Conn) (net.Conn, error) {
		go lineByLine(far, func(line string) string {
			if strings.HasPrefix(line, "iam ") {
				return oldReply(line)
			}
			far.Close()
			return ""
		})
		return near, nil
	},
	"hangs up on a request": func(near, far net.Conn) (net.Conn, error) {
		go func() {
			bufio.NewReader(far).ReadString('\n')
			far.Close()
		}()
		return near, nil
	},
}

// TestLockerOldServerBackoff: however many callers want locks of a server that
// has no room, it is asked as often as one would, and when there is room, all
// get theirs.
func TestLockerOldServerBackoff(t *testing.T) {
	const callers = 30
	for name, refuse := range refusals {
		for _, failFast := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &full{refuse: refuse}
					l := locker(t, client.LockerOptions{Options: client.Options{Dial: f.dial}, FailFast: failFast})
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
					defer cancel()
					must(t, l.Ready(ctx))
					var wg sync.WaitGroup
					for range callers {
						wg.Go(func() {
							for {
								lock, err := l.TryAcquire(ctx, "x")
								if err == nil {
									must(t, lock.Release(ctx))
									return
								}
								if !failFast || !errors.Is(err, client.ErrLost) {
									t.Error(err)
									return
								}
								time.Sleep(time.Second)
							}
						})
					}
					time.Sleep(time.Hour)
					// Pauses are 2.5 s on average, and half a second longer if
					// nobody waits for them: 1440 or 1200, and a few more for
					// the first ones; 22 is one standard deviation.
					if n := f.tries.Load() - 1; n < 900 || n > 1800+callers {
						t.Errorf("%d attempts in an hour", n)
					}
					f.room.Store(plenty)
					begun := time.Now()
					wg.Wait()
					if took := time.Since(begun); took > 6*time.Second {
						t.Errorf("it took %v to notice that there is room", took)
					}
				})
			})
		}
	}
}

// TestLockerOldServerLog: why there is no connection for a lock can be read, with
// a logger each time, without one now and then.
func TestLockerOldServerLog(t *testing.T) {
	for _, invited := range []bool{true, false} {
		t.Run(fmt.Sprint(invited), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, lines := newLog()
				f := &full{refuse: refusals["refusal"]}
				opts := client.LockerOptions{Options: client.Options{Dial: f.dial}}
				least, most := 1, 2
				if invited {
					opts.Logger = log
					least, most = 10, 100
				} else {
					before := slog.Default()
					slog.SetDefault(log)
					defer slog.SetDefault(before)
				}
				l := locker(t, opts)
				must(t, l.Ready(t.Context()))
				ctx, cancel := context.WithTimeout(t.Context(), 65*time.Second)
				defer cancel()
				mustBe(t, second(l.TryAcquire(ctx, "x")), client.ErrTooManyConnections)
				failures := 0
				for len(lines) > 0 {
					line := <-lines
					switch {
					case strings.Contains(line, "cannot connect") && strings.Contains(line, "too many connections"):
						failures++
					case !invited || !strings.Contains(line, "connected"):
						t.Error(line)
					}
				}
				if failures < least || failures > most {
					t.Errorf("told %d times", failures)
				}
			})
		})
	}
}

// TestLockerOldServerBackoffEnds: who waits for the next attempt can be told
// not to, and why there was none before.
func TestLockerOldServerBackoffEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &full{refuse: refusals["refusal"]}
		opts := client.LockerOptions{Options: client.Options{Dial: f.dial}, MinBackoff: time.Hour}
		l := locker(t, opts)
		must(t, l.Ready(t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := second(l.TryAcquire(ctx, "x"))
		mustBe(t, err, client.ErrLost)
		mustBe(t, err, client.ErrTooManyConnections)
		mustBe(t, err, context.DeadlineExceeded)

		errs := make(chan error, 1)
		go func() { errs <- second(l.TryAcquire(t.Context(), "x")) }()
		synctest.Wait()
		l.Close()
		mustBe(t, <-errs, client.ErrClosed)

		f.tries.Store(0)
		opts.FailFast = true
		l = locker(t, opts)
		must(t, l.Ready(t.Context()))
		begun := time.Now()
		for range 10 {
			mustBe(t, second(l.TryAcquire(t.Context(), "x")), client.ErrTooManyConnections)
		}
		if n := f.tries.Load(); n != 2 || time.Since(begun) > 0 {
			t.Errorf("%d attempts in %v", n, time.Since(begun))
		}
	})
}

// TestLockerOldServerShares: a connection that comes free serves those that
// wait for another one to be made.
func TestLockerOldServerShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &full{refuse: refusals["refusal"]}
		f.room.Store(plenty)
		l := locker(t, client.LockerOptions{Options: client.Options{Dial: f.dial}, MinBackoff: time.Hour})
		lock, err := l.TryAcquire(t.Context(), "x")
		must(t, err)
		f.room.Store(0)
		errs := make(chan error, 1)
		begun := time.Now()
		go func() { errs <- second(l.TryAcquire(t.Context(), "x")) }()
		synctest.Wait()
		must(t, lock.Release(t.Context()))
		must(t, <-errs)
		if took := time.Since(begun); took > 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// TestLockerOldServerSlowStart: when there is room for one, not all ask.
func TestLockerOldServerSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers, places = 60, 8
		f := &full{refuse: refusals["refusal"]}
		l := locker(t, client.LockerOptions{Options: client.Options{Dial: f.dial}})
		ctx, cancel := context.WithCancel(t.Context())
		must(t, l.Ready(ctx))
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() { l.TryAcquire(ctx, "x") }) // and holds it
		}
		time.Sleep(time.Minute)
		for place := range places {
			before := f.tries.Load()
			f.room.Add(1)
			time.Sleep(10 * time.Second)
			if there := int(f.there.Load()); there != place+1 {
				t.Errorf("%d of %d places are taken", there, place+1)
			}
			// One that succeeds, two that do not, and one after each pause of
			// 2.5 s on average.
			if n := f.tries.Load() - before; n > 20 {
				t.Errorf("%d attempts for one place", n)
			}
		}
		cancel()
		wg.Wait()
	})
}

// TestLockerOldServerLost: locks that are lost need not be released for others
// to have their places.
func TestLockerOldServerLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const places = 4
		f := &full{refuse: refusals["refusal"]}
		f.room.Store(plenty)
		l := locker(t, client.LockerOptions{Options: client.Options{Dial: f.dial}, OldConnections: places})
		for range 3 {
			must(t, l.Ready(t.Context()))
			for range places {
				lock, err := l.TryAcquire(t.Context(), "x")
				must(t, err)
				defer func() { <-lock.Lost() }()
			}
			mustBe(t, second(l.TryAcquire(t.Context(), "x")), client.ErrTooManySessions)
			f.cut()
			time.Sleep(time.Minute)
		}
	})
}

// TestLockerOldServerKeepsOthers: connections that are good stay when another
// one cannot be made.
func TestLockerOldServerKeepsOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const others = 9
		f := &full{}
		f.room.Store(plenty)
		var slow atomic.Bool
		dial := func(ctx context.Context) (net.Conn, error) {
			if slow.Load() {
				time.Sleep(3 * time.Second)
				return nil, errDown
			}
			return f.dial(ctx)
		}
		l := locker(t, client.LockerOptions{Options: client.Options{Dial: dial}})
		must(t, l.Ready(t.Context()))
		take := func() (locks []*client.Lock) {
			for range others {
				lock, err := l.TryAcquire(t.Context(), "x")
				must(t, err)
				locks = append(locks, lock)
			}
			return locks
		}
		release := func(locks []*client.Lock) {
			for _, lock := range locks {
				must(t, lock.Release(t.Context()))
			}
		}
		locks := take()
		slow.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		mustBe(t, second(l.TryAcquire(ctx, "x")), context.DeadlineExceeded)
		// What it began to connect is the next one's, when the good ones are
		// in use.
		release(locks)
		locks = take()
		failed := make(chan error, 1)
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go func() { failed <- second(l.TryAcquire(ctx, "x")) }()
		synctest.Wait()
		release(locks)
		must(t, <-failed) // with one of them, that is free by then
		if n := f.there.Load(); n != others {
			t.Errorf("%d of %d good connections are left", n, others)
		}
	})
}
