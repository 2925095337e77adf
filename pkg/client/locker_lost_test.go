package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/internal/netlab"
	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// TestLockErr: a lock knows whether it is held, and else why not.
func TestLockErr(t *testing.T) {
	test := func(t *testing.T, copts client.Options) {
		ctx := within(t)
		w, opts := wired(copts)
		l := locker(t, fast(opts))
		lock, err := l.TryAcquire(ctx, "x")
		must(t, err)
		must(t, lock.Err())
		w.cut(false)
		<-lock.Lost()
		mustBe(t, lock.Err(), client.ErrLost)
		if errors.Is(lock.Err(), client.ErrUnreachable) {
			t.Error(lock.Err())
		}
		mustBe(t, lock.Release(ctx), client.ErrLost)
		mustBe(t, lock.Err(), client.ErrNotHeld)

		for lock = nil; lock == nil; { // an old server may believe that it is held
			lock, _ = l.TryAcquire(ctx, "x")
		}
		must(t, lock.Release(ctx))
		mustBe(t, lock.Err(), client.ErrNotHeld)

		lock, err = l.TryAcquire(ctx, "x")
		must(t, err)
		must(t, lock.Err())
		l.Close()
		<-lock.Lost()
		mustBe(t, lock.Err(), client.ErrLost)
		mustBe(t, lock.Err(), client.ErrClosed)
	}
	overTransports(t, server.Options{}, test)
	t.Run("protocol 1", func(t *testing.T) { test(t, client.Options{Target: newFake(t, nodejs).addr}) })
}

// TestLockErrCause: the server's end and its silence can be told apart.
func TestLockErrCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, accept := pipedLocker(t, client.LockerOptions{})
		for _, end := range []struct {
			do   func(*script)
			want error
		}{
			{func(s *script) { s.conn.Close() }, io.EOF},
			{func(s *script) { s.reply("7 1 ok\n") }, client.ErrProtocol},
			{func(s *script) { s.expect("0 ping") }, client.ErrTimeout},
		} {
			s := accept()
			go func() {
				s.expect("1 g x")
				s.reply("1 9 Lock Get Success: x\n")
				end.do(s)
			}()
			lock, err := l.TryAcquire(t.Context(), "x")
			must(t, err)
			<-lock.Lost()
			mustBe(t, lock.Err(), client.ErrLost)
			mustBe(t, lock.Err(), end.want)
		}
	})
}

// TestLockSilence: how long ago the server was heard is known, be it about this
// lock or not.
func TestLockSilence(t *testing.T) {
	silent := func(t *testing.T, lock *client.Lock, want time.Duration) {
		t.Helper()
		synctest.Wait()
		if got := lock.Silence(); got.Round(time.Microsecond) != want {
			t.Errorf("silent for %v, want %v", got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		l, accept := pipedLocker(t, client.LockerOptions{Options: client.Options{ReadTimeout: 60 * time.Second}})
		s := accept()
		get := func(session, name string) *client.Lock {
			go func() {
				s.expect(session + " g " + name)
				s.reply(session + " 9 Lock Get Success: " + name + "\n")
			}()
			lock, err := l.TryAcquire(t.Context(), name)
			must(t, err)
			return lock
		}
		lock := get("1", "x")
		silent(t, lock, 0)
		time.Sleep(3 * time.Second)
		silent(t, lock, 3*time.Second)
		get("2", "y")
		silent(t, lock, 0)
		time.Sleep(12 * time.Second) // and the server is asked
		silent(t, lock, 12*time.Second)
		s.expect("0 ping")
		s.reply("0 1 pong\n")
		silent(t, lock, 0)
		s.conn.Close()
		<-lock.Lost()
		time.Sleep(3 * time.Second)
		silent(t, lock, 3*time.Second)
	})
	t.Run("protocol 1", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := locker(t, client.LockerOptions{Options: client.Options{Dial: new(oldServer).dial}})
			lock, err := l.TryAcquire(t.Context(), "x")
			must(t, err)
			silent(t, lock, 0)
			time.Sleep(3 * time.Second)
			silent(t, lock, 3*time.Second)
			time.Sleep(time.Hour - 3*time.Second) // it is asked
			synctest.Wait()
			if got := lock.Silence(); got > 7500*time.Millisecond {
				t.Errorf("silent for %v", got)
			}
		})
	})
}

// TestLockerMaxOutage: a server that is away for a while is waited for, and for
// no longer than the options say.
func TestLockerMaxOutage(t *testing.T) {
	const most = 20 * time.Second
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		srv := newServer(t, server.Options{})
		w, opts := wired(client.Options{Dial: func(context.Context) (net.Conn, error) { return srv.Dial() }})
		var l *client.Locker
		for name, call := range map[string]func() error{
			"Acquire":       func() error { return second(l.Acquire(ctx, "x")) },
			"AcquireShared": func() error { return second(l.AcquireShared(ctx, "x", 1)) },
			"TryAcquire":    func() error { return second(l.TryAcquire(ctx, "x")) },
			"Wait":          func() error { return l.Limiter("x", 1, time.Second).Wait(ctx) },
			"Ready":         func() error { return l.Ready(ctx) },
		} {
			fails := func(after time.Duration) {
				t.Helper()
				begun := time.Now()
				err := call()
				mustBe(t, err, client.ErrLost)
				mustBe(t, err, errDown)
				mustBe(t, err, client.ErrUnreachable)
				if took := time.Since(begun); took != after {
					t.Errorf("%s gave up after %v, want %v", name, took, after)
				}
			}
			w.cut(true)
			l = locker(t, client.LockerOptions{Options: opts, MaxOutage: most, Connections: 2})
			fails(most) // since it was made
			fails(0)
			w.cut(false)
			time.Sleep(10 * time.Second) // it has connected, twice
			lock, err := l.Acquire(ctx, "x")
			must(t, err)
			w.cut(true)
			<-lock.Lost()
			time.Sleep(most / 2)
			fails(most / 2) // since the last connection's end
			time.Sleep(time.Hour)
			fails(0)
			l.Close()
		}
	})
}

// TestLockerMaxOutageFailFast: who fails fast waits for the first attempt all
// the same, and for no other.
func TestLockerMaxOutageFailFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := locker(t, client.LockerOptions{FailFast: true, MaxOutage: time.Second, Options: client.Options{
			Dial: func(ctx context.Context) (net.Conn, error) {
				time.Sleep(3 * time.Second)
				return nil, errDown
			},
		}})
		for _, want := range []time.Duration{3 * time.Second, 0} {
			begun := time.Now()
			mustBe(t, second(l.Acquire(t.Context(), "x")), errDown)
			if took := time.Since(begun); took != want {
				t.Errorf("failed after %v, want %v", took, want)
			}
		}
	})
}

// TestLockerMaxOutageWait: a wait goes on when the server is away for less, and
// ends when it is for more.
func TestLockerMaxOutageWait(t *testing.T) {
	const most = 20 * time.Second
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		srv := newServer(t, server.Options{})
		other := start(t, client.Options{Dial: func(context.Context) (net.Conn, error) { return srv.Dial() }})
		must(t, other.Get(ctx, "x"))
		w, opts := wired(client.Options{Dial: func(context.Context) (net.Conn, error) { return srv.Dial() }})
		l := locker(t, client.LockerOptions{Options: opts, MaxOutage: most})
		errs := make(chan error, 1)
		wait := func() { errs <- second(l.Acquire(ctx, "x")) }
		go wait()
		for range 10 { // more than that in all
			time.Sleep(time.Hour)
			w.cut(true)
			time.Sleep(most - 6*time.Second)
			w.cut(false)
			time.Sleep(6 * time.Second) // it has connected
		}
		select {
		case err := <-errs:
			t.Fatal(err)
		default:
		}
		w.cut(true)
		begun := time.Now()
		mustBe(t, <-errs, client.ErrLost)
		if took := time.Since(begun); took != most {
			t.Errorf("gave up after %v", took)
		}
	})
}

// TestLockerMaxOutageOldServer: the same with the connection that a lock takes
// where the server speaks protocol 1 only, though another one stands.
func TestLockerMaxOutageOldServer(t *testing.T) {
	const most = 20 * time.Second
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var s oldServer
		l := locker(t, client.LockerOptions{Options: client.Options{Dial: s.dial}, MaxOutage: most})
		must(t, l.Ready(ctx))
		s.down.Store(true)
		for _, want := range []time.Duration{most, 0, most} {
			if want > 0 {
				time.Sleep(time.Hour) // in which nobody tries
			}
			begun := time.Now()
			err := second(l.TryAcquire(ctx, "x"))
			mustBe(t, err, client.ErrLost)
			mustBe(t, err, errDown)
			if took := time.Since(begun); took != want {
				t.Errorf("gave up after %v, want %v", took, want)
			}
		}
		s.down.Store(false)
		time.Sleep(10 * time.Second)
		must(t, second(l.TryAcquire(ctx, "x")))
	})
}

// TestLockerMaxOutageSlowly: so it is when each attempt takes longer to fail
// than the pause between them.
func TestLockerMaxOutageSlowly(t *testing.T) {
	const most, each = 20 * time.Second, 6 * time.Second
	synctest.Test(t, func(t *testing.T) {
		var s oldServer
		l := locker(t, client.LockerOptions{MaxOutage: most, Options: client.Options{
			ConnectTimeout: time.Hour,
			Dial: func(ctx context.Context) (net.Conn, error) {
				if s.down.Load() {
					time.Sleep(each)
				}
				return s.dial(ctx)
			},
		}})
		must(t, l.Ready(t.Context()))
		s.down.Store(true)
		begun := time.Now()
		mustBe(t, second(l.TryAcquire(t.Context(), "x")), errDown)
		// Since the first attempt failed, and to the end of the last one.
		if took := time.Since(begun); took < most+each || took > most+2*each {
			t.Errorf("gave up after %v", took)
		}
	})
}

// TestUnreachable: a server that is not there can be told from one that went
// away or does not speak lockd's language.
func TestUnreachable(t *testing.T) {
	ctx := within(t)
	for name, get := range map[string]func(client.Options) error{
		"Client": func(opts client.Options) error { return start(t, opts).Get(ctx, "x") },
		"Locker": func(opts client.Options) error {
			return second(locker(t, client.LockerOptions{Options: opts, FailFast: true}).TryAcquire(ctx, "x"))
		},
	} {
		l := listenAt(t, netlab.OwnHost())
		rude := client.Options{Target: l.Addr().String()}
		go func() {
			conn, err := l.Accept()
			if err == nil {
				conn.Close()
			}
		}()
		err := get(rude)
		mustBe(t, err, client.ErrLost)
		if errors.Is(err, client.ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
		l.Close()
		err = get(rude) // it is gone
		mustBe(t, err, client.ErrLost)
		mustBe(t, err, client.ErrUnreachable)
		mustBe(t, err, syscall.ECONNREFUSED)
		err = get(client.Options{ConnectTimeout: time.Millisecond, Dial: func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		mustBe(t, err, client.ErrUnreachable)
		mustBe(t, err, client.ErrTimeout)
	}
}

// TestValidate: options that make no sense are known without a client.
func TestValidate(t *testing.T) {
	for _, opts := range []client.Options{{Target: "ftp://x"}, {Target: "localhost"}, {MaxLine: -1}} {
		_, want := client.New(opts)
		if err := opts.Validate(); err == nil || err.Error() != want.Error() {
			t.Errorf("%+v: %v, want %v", opts, err, want)
		}
	}
	for _, opts := range []client.LockerOptions{{Options: client.Options{Target: "ftp://x"}}, {Connections: -1}} {
		_, want := client.NewLocker(opts)
		if err := opts.Validate(); err == nil || err.Error() != want.Error() {
			t.Errorf("%+v: %v, want %v", opts, err, want)
		}
	}
	must(t, client.Options{}.Validate())
	must(t, client.LockerOptions{}.Validate())
}
