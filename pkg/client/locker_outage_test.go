package client_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// newLog returns a logger, and the lines that it is given.
func newLog() (*slog.Logger, <-chan string) {
	lines := make(logLines, 1000)
	return slog.New(slog.NewTextHandler(lines, nil)), lines
}

type logLines chan string

func (l logLines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// TestLockerBusyOrGone: whether a wait was in vain because somebody holds the
// lock, or because there is no server, can be told.
func TestLockerBusyOrGone(t *testing.T) {
	calls := map[string]func(*client.Locker, context.Context) error{
		"Acquire":    func(l *client.Locker, ctx context.Context) error { return second(l.Acquire(ctx, "x")) },
		"TryAcquire": func(l *client.Locker, ctx context.Context) error { return second(l.TryAcquire(ctx, "x")) },
		"Wait": func(l *client.Locker, ctx context.Context) error {
			return l.Limiter("x", 1, time.Second).Wait(ctx)
		},
		"Ready": (*client.Locker).Ready,
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				l := locker(t, client.LockerOptions{Options: client.Options{Dial: func(ctx context.Context) (net.Conn, error) {
					if tries++; tries == 1 {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return nil, errDown
				}}})
				for _, cause := range []error{client.ErrLost /* the first attempt is not over */, errDown} {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					err := call(l, ctx)
					mustBe(t, err, client.ErrLost)
					mustBe(t, err, context.DeadlineExceeded)
					mustBe(t, err, cause)
					cancel()
					time.Sleep(10 * time.Second)
				}
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				late, cancel := context.WithTimeout(t.Context(), 0)
				defer cancel()
				for _, ctx := range []context.Context{ended, late} {
					err := call(l, ctx)
					mustBe(t, err, client.ErrLost)
					mustBe(t, err, ctx.Err())
				}
			})
		})
	}

	ctx := within(t)
	w, opts := wired(transports["memory"](t, server.Options{}))
	l := locker(t, fast(opts))
	_, err := l.Acquire(ctx, "x")
	must(t, err)
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	err = second(l.Acquire(short, "x"))
	mustBe(t, err, context.DeadlineExceeded)
	if errors.Is(err, client.ErrLost) {
		t.Error(err)
	}

	// The server goes away while somebody is in the queue.
	short, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	time.AfterFunc(10*time.Millisecond, func() { w.cut(true) })
	err = second(l.Acquire(short, "x"))
	mustBe(t, err, context.DeadlineExceeded)
	mustBe(t, err, client.ErrLost)
}

// TestLockerBackoff: a fleet that loses its server comes back spread out, and
// gives a server that stays away rest.
func TestLockerBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const fleet = 200
		begun := time.Now()
		tries := make([][]time.Duration, fleet) // since the beginning
		for i := range tries {
			locker(t, client.LockerOptions{Options: client.Options{Dial: func(context.Context) (net.Conn, error) {
				tries[i] = append(tries[i], time.Since(begun))
				return nil, errDown
			}}})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		early, late := 0, 0
		for _, at := range tries {
			switch first := at[1]; {
			case first < 25*time.Millisecond:
				early++
			case first > 100*time.Millisecond:
				t.Errorf("the first pause was %v", first)
			case first > 75*time.Millisecond:
				late++
			}
			// About 6 to get to the bound, then one every 2.5 s.
			if n := len(at); n < 15 || n > 60 {
				t.Errorf("%d tries in a minute", n)
			}
			for i := range at[1:] {
				if pause := at[i+1] - at[i]; pause > 5*time.Second {
					t.Errorf("a pause of %v", pause)
				}
			}
		}
		if early < fleet/10 || late < fleet/10 { // a quarter each, on average
			t.Errorf("%d of %d came back early, %d late", early, fleet, late)
		}
	})
}

// TestLockerLog: what becomes of the connection can be read.
func TestLockerLog(t *testing.T) {
	next := func(lines <-chan string, parts ...string) {
		t.Helper()
		line := <-lines
		for _, part := range parts {
			if !strings.Contains(line, part) {
				t.Errorf("no %q in %q", part, line)
			}
		}
	}
	w, opts := wired(transports["tcp"](t, server.Options{}))
	log, lines := newLog()
	lopts := fast(opts)
	lopts.Logger = log
	l := locker(t, lopts)
	next(lines, "level=INFO", "lockd: connected", "target=tcp://127.0.0.1:", "protocol=2")
	w.cut(true)
	next(lines, "level=WARN", "lockd: connection lost", "target=", "err=", "retry_in=")
	next(lines, "level=WARN", "lockd: cannot connect", errDown.Error())
	w.cut(false)
	for !strings.Contains(<-lines, "lockd: connected") {
	}
	l.Close()
	select {
	case line := <-lines:
		t.Errorf("Close logged %q", line)
	default:
	}
}

// TestLockerLogUninvited: where calls would wait in silence, slog's default logger
// is told why, and not often.
func TestLockerLogUninvited(t *testing.T) {
	opts := map[string]client.LockerOptions{
		"waits":      {},
		"FailFast":   {FailFast: true},
		"MaxOutage":  {MaxOutage: time.Hour},
		"has Logger": {Logger: slog.New(slog.DiscardHandler)},
	}
	for name, opts := range opts {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, lines := newLog()
				before := slog.Default()
				slog.SetDefault(log)
				defer slog.SetDefault(before)
				expect := func(want ...string) {
					t.Helper()
					synctest.Wait()
					if name != "waits" {
						want = nil
					}
					for _, want := range want {
						select {
						case line := <-lines:
							if !strings.Contains(line, want) {
								t.Errorf("no %q in %q", want, line)
							}
						default:
							t.Errorf("nothing about %q", want)
						}
					}
					select {
					case line := <-lines:
						t.Errorf("it was told %q", line)
					default:
					}
				}
				var down atomic.Bool
				down.Store(true)
				conns := make(chan net.Conn, 1)
				opts.Dial = func(context.Context) (net.Conn, error) {
					if down.Load() {
						return nil, errDown
					}
					near, far := net.Pipe()
					conns <- far
					return near, nil
				}
				l := locker(t, opts)
				time.Sleep(900 * time.Millisecond)
				expect()
				time.Sleep(6 * time.Second)
				expect("cannot connect, and calls wait until it can\" target=Options.Dial err=\"" + errDown.Error())
				time.Sleep(50 * time.Second)
				expect()
				time.Sleep(15 * time.Second)
				expect("cannot connect")
				down.Store(false)
				time.Sleep(5 * time.Second)
				begin(t, <-conns).conn.Close() // and it connects again at once
				s := begin(t, <-conns)
				expect("level=INFO msg=\"lockd: connected\" target=Options.Dial protocol=2")
				down.Store(true)
				s.conn.Close()
				time.Sleep(10 * time.Second)
				expect("cannot connect")
				l.Close()
				expect()
			})
		})
	}
}

// TestErrorTexts: each error says where it comes from, once.
func TestErrorTexts(t *testing.T) {
	for _, err := range []error{
		client.ErrNotAcquired, client.ErrNotHeld, client.ErrLost, client.ErrClosed, client.ErrTimeout,
		client.ErrTooManyConnections, client.ErrProtocol, client.ErrNoTokens,
	} {
		if !strings.HasPrefix(err.Error(), "lockd: ") {
			t.Error(err)
		}
	}
	c := start(t, client.Options{Target: listen(t).Addr().String(), ReadTimeout: time.Millisecond})
	err := c.Get(within(t), "x")
	if text := err.Error(); text != "lockd: connection lost: no reply within 1ms: if the server speaks TLS here, use tls://" || !errors.Is(err, client.ErrTimeout) {
		t.Error(text)
	}
}
