package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/state"
	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// A keepServer is a server that can be restarted, and a wire to it. It keeps what is
// held over that.
type keepServer struct {
	t    *testing.T
	opts server.Options

	mu      sync.Mutex // guards addr
	addr    string
	current *server.Server
	*wire
}

func newKeepServer(t *testing.T, opts server.Options) (*keepServer, client.Options) {
	t.Helper()
	if opts.State == "" {
		opts.State = filepath.Join(t.TempDir(), "state")
		must(t, state.New(opts.State))
	}
	s := &keepServer{t: t, opts: opts}
	s.start()
	t.Cleanup(s.stop)
	var copts client.Options
	s.wire, copts = wired(client.Options{Dial: func(ctx context.Context) (net.Conn, error) {
		s.mu.Lock()
		addr := s.addr
		s.mu.Unlock()
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}})
	return s, copts
}

func (s *keepServer) start() {
	s.t.Helper()
	current, err := server.New(s.opts)
	must(s.t, err)
	l := listen(s.t)
	go current.Serve(l)
	s.mu.Lock()
	s.addr = l.Addr().String()
	s.mu.Unlock()
	s.current = current
}

func (s *keepServer) stop() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	s.current.Shutdown(now)
}

// restart ends the server at once, and begins another one.
func (s *keepServer) restart() {
	s.stop()
	s.start()
}

// A work is goroutines that take locks, and count who is inside.
type work struct {
	inside [4]atomic.Int64 // who is inside of each exclusive lock, and at last of the shared one
	done   atomic.Int64
}

// run takes locks by turns and gives them back, until ctx ends. If they are kept, none is
// lost, and nobody else is inside.
func (w *work) run(t *testing.T, ctx context.Context, l *client.Locker, kept bool) {
	for ctx.Err() == nil {
		i := rand.IntN(len(w.inside))
		most, isShared := int64(1), i == len(w.inside)-1
		var lock *client.Lock
		var err error
		patience, cancel := context.WithTimeout(ctx, time.Duration(1+rand.IntN(200))*time.Millisecond)
		switch name := fmt.Sprint("door ", i); {
		case isShared:
			most = 2
			lock, err = l.AcquireShared(patience, name, int(most))
		case rand.IntN(3) == 0:
			lock, err = l.TryAcquire(patience, name)
		default:
			lock, err = l.Acquire(patience, name)
		}
		cancel()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, client.ErrNotAcquired) && kept {
				t.Error(err)
				return
			}
			continue
		}
		if kept {
			if n := w.inside[i].Add(1); n > most {
				t.Errorf("%d inside of %d", n, i)
			}
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
			if err := lock.Err(); err != nil {
				t.Errorf("lost: %v", err)
			}
			w.inside[i].Add(-1)
		} else {
			n := w.inside[i].Load()
			if err := lock.Release(context.WithoutCancel(ctx)); err == nil && n >= most {
				t.Errorf("%d inside of %d, which somebody else had got", n, i)
			}
			continue
		}
		switch late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(rand.IntN(100))*time.Millisecond); {
		case rand.IntN(2) == 0:
			cancel()
			fallthrough
		default:
			if err := lock.Release(late); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				t.Errorf("released: %v", err)
			}
			cancel()
		}
		w.done.Add(1)
	}
}

// TestKeepServerBlips: whatever the moment at which connections are lost, no lock is,
// none is held twice, and none is forgotten.
func TestKeepServerBlips(t *testing.T) {
	testKeepServer(t, 20, func(s *keepServer) { s.cut(false) })
}

// TestKeepServerRestarts: the same when the server is restarted.
func TestKeepServerRestarts(t *testing.T) {
	testKeepServer(t, 6, func(s *keepServer) { s.restart() })
}

// TestKeepServerChaos: the same when there is hardly time to come back, so that the
// connection is lost while that is under way, and the server restarts while it recovers.
func TestKeepServerChaos(t *testing.T) {
	testKeepServer(t, 5, func(s *keepServer) {
		for range 20 {
			time.Sleep(time.Duration(rand.IntN(8000)) * time.Microsecond)
			if rand.IntN(5) == 0 {
				s.restart()
			} else {
				s.cut(false)
			}
		}
	})
}

func testKeepServer(t *testing.T, times int, trouble func(*keepServer)) {
	t.Parallel()
	// So long that nothing is free in time that the server is not told of.
	s, copts := newKeepServer(t, server.Options{MaxKeep: time.Hour})
	opts := fast(copts)
	opts.Keep = 30 * time.Minute
	var lockers []*client.Locker
	for range 3 {
		lockers = append(lockers, locker(t, opts))
	}
	missing, err := lockers[0].Missing(within(t))
	must(t, err)
	must(t, errors.Join(missing...))
	ctx, stop := context.WithCancel(within(t))
	var w work
	var workers sync.WaitGroup
	for _, l := range lockers {
		for range 8 {
			workers.Go(func() { w.run(t, ctx, l, true) })
		}
	}
	plain := locker(t, fast(copts))
	for range 4 {
		workers.Go(func() { w.run(t, ctx, plain, false) })
	}
	held, err := lockers[0].Acquire(ctx, "held")
	must(t, err)
	for range times {
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		trouble(s)
		for n := w.done.Load(); w.done.Load() < n+3 && !t.Failed(); {
			must(t, ctx.Err())
			time.Sleep(time.Millisecond)
		}
		must(t, held.Err())
	}
	must(t, held.Release(ctx))
	stop()
	workers.Wait()
	for _, l := range append(lockers, plain) {
		l.Close()
	}
	holdsNothing(t, copts)
}

// TestKeepServerMany: a connection with thousands of locks has them all after a blip and
// after a restart, and not one more.
func TestKeepServerMany(t *testing.T) {
	t.Parallel()
	const many = 5000
	ctx := within(t)
	s, copts := newKeepServer(t, server.Options{MaxKeep: time.Hour})
	opts := fast(copts)
	opts.Keep = 30 * time.Minute
	l := locker(t, opts)
	var locks []*client.Lock
	for i := range many {
		lock, err := l.TryAcquire(ctx, fmt.Sprint(i))
		must(t, err)
		locks = append(locks, lock)
	}
	for _, trouble := range []func(){func() { s.cut(false) }, s.restart, func() { s.cut(false) }, s.restart} {
		trouble()
		gone := len(locks) / 2
		for _, lock := range locks[:gone] {
			must(t, lock.Release(ctx))
		}
		other := locker(t, fast(copts))
		for i, lock := range locks {
			if i >= gone {
				must(t, lock.Err())
			}
			if i%100 == 99 || i >= gone && i%100 == 0 {
				n, err := other.Inspect(ctx, lock.Name())
				must(t, err)
				if n != (i >= gone) {
					t.Fatalf("lock %d of %d, of which %d are released: held: %v", i, len(locks), gone, n)
				}
			}
		}
		locks = locks[gone:]
		other.Close()
	}
	for _, lock := range locks {
		must(t, lock.Release(ctx))
	}
	l.Close()
	holdsNothing(t, copts)
}

// TestKeepServerKick: a lock whose owner is ended is lost alone, and with the client all
// are. The Locker goes on.
func TestKeepServerKick(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	_, copts := newKeepServer(t, server.Options{})
	opts := fast(copts)
	opts.Keep = 10 * time.Second
	l, other := locker(t, opts), locker(t, fast(copts))
	get := func(name string) (lock *client.Lock, addr string) {
		t.Helper()
		lock, err := l.Acquire(ctx, name)
		must(t, err)
		entries, err := other.Look(ctx, name)
		must(t, err)
		return lock, entries[0].Addr
	}
	x, addr := get("x")
	y, _ := get("y")
	must(t, other.Kick(ctx, addr))
	<-x.Lost()
	mustBe(t, x.Err(), client.ErrRevoked)
	mustBe(t, x.Release(ctx), client.ErrLost)
	must(t, y.Err())
	x, addr = get("x")
	addr, _, _ = strings.Cut(addr, "#")
	must(t, other.Kick(ctx, addr))
	for _, lock := range []*client.Lock{x, y} {
		<-lock.Lost()
		mustBe(t, lock.Err(), client.ErrForgotten)
	}
	x, _ = get("x")
	must(t, x.Release(ctx))
}

// TestKeepServerTransports: over whatever way to a server a blip costs nothing.
func TestKeepServerTransports(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, copts client.Options) {
		ctx := within(t)
		w, copts := wired(copts)
		opts := fast(copts)
		opts.Keep, opts.Connections = 10*time.Second, 2
		l := locker(t, opts)
		missing, err := l.Missing(ctx)
		must(t, err)
		if len(missing) != 1 {
			t.Error(missing)
		}
		mustBe(t, errors.Join(missing...), client.ErrBlipsOnly)
		x, err := l.Acquire(ctx, "x")
		must(t, err)
		y, err := l.AcquireShared(ctx, "y", 1)
		must(t, err)
		for range 3 {
			got := make(chan error, 1)
			go func() {
				lock, err := l.Acquire(ctx, "z")
				if err == nil {
					err = lock.Release(ctx)
				}
				got <- err
			}()
			w.cut(false)
			mustBe(t, second(l.TryAcquire(ctx, "x")), client.ErrNotAcquired)
			mustBe(t, second(l.TryAcquireShared(ctx, "y", 1)), client.ErrNotAcquired)
			must(t, <-got)
			must(t, x.Err())
			must(t, y.Err())
		}
		must(t, x.Release(ctx))
		must(t, y.Release(ctx))
		l.Close()
		holdsNothing(t, copts)
	})
}

// TestKeepServerToken: a client that has to say who it is does so before it asks to be
// kept, and over each connection; who does not is told so.
func TestKeepServerToken(t *testing.T) {
	ctx := within(t)
	g := newGate(t)
	g.keeps = server.DefaultMaxKeep
	w, wopts := wired(client.Options{Dial: g.dial, Token: tell(goodToken)})
	opts := fast(wopts)
	opts.Keep = 10 * time.Second
	l := locker(t, opts)
	x, err := l.Acquire(ctx, "x")
	must(t, err)
	w.cut(false)
	mustBe(t, second(l.TryAcquire(ctx, "x")), client.ErrNotAcquired)
	must(t, x.Err())
	must(t, x.Release(ctx))

	opts.Token = nil
	mustBe(t, second(locker(t, opts).TryAcquire(ctx, "x")), client.ErrNotAuthenticated)
}

// TestRecovering: while a server recovers who asks once is told so, or waits for the end
// of that; who stands in line may do so.
func TestRecovering(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	s, copts := newKeepServer(t, server.Options{MaxKeep: time.Hour})
	s.opts.Grace = time.Hour
	s.restart()
	hasty := fast(copts)
	hasty.FailFast = true
	err := second(locker(t, hasty).TryAcquire(ctx, "x"))
	mustBe(t, err, client.ErrRecovering)
	if errors.Is(err, client.ErrLost) {
		t.Error(err)
	}
	mustBe(t, start(t, copts).Get(ctx, "x"), client.ErrRecovering)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	err = second(locker(t, fast(copts)).TryAcquire(short, "x"))
	mustBe(t, err, client.ErrRecovering)
	mustBe(t, err, context.DeadlineExceeded)
	bounded := fast(copts)
	bounded.MaxOutage = 100 * time.Millisecond
	mustBe(t, second(locker(t, bounded).TryAcquire(ctx, "x")), client.ErrRecovering)

	l := locker(t, fast(copts))
	got := make(chan error, 3)
	go func() { got <- second(l.TryAcquire(ctx, "x")) }()
	go func() { got <- second(l.AcquireShared(ctx, "x", 0)) }()
	go func() { got <- second(l.Acquire(ctx, "y")) }()
	time.Sleep(100 * time.Millisecond)
	select {
	case err := <-got:
		t.Fatal(err)
	default:
	}
	s.opts.Grace = -1
	s.restart()
	for range 3 {
		must(t, <-got)
	}
}

// TestKeepServerKnowsFirst: who cannot come back knows that the lock is lost before
// somebody else has it, also when the server was restarted meanwhile.
func TestKeepServerKnowsFirst(t *testing.T) {
	t.Parallel()
	for _, restarts := range []bool{false, true} {
		for range 3 {
			ctx := within(t)
			s, copts := newKeepServer(t, server.Options{})
			opts := fast(copts)
			opts.Keep = 500 * time.Millisecond
			lock, err := locker(t, opts).Acquire(ctx, "x")
			must(t, err)
			time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
			must(t, lock.Err())
			s.cut(true)
			if restarts {
				s.restart()
			}
			other := locker(t, fast(client.Options{Dial: s.dial}))
			next, err := other.Acquire(ctx, "x")
			must(t, err)
			mustBe(t, lock.Err(), client.ErrLost)
			<-lock.Lost()
			if next.Token() <= lock.Token() {
				t.Errorf("token %d after %d", next.Token(), lock.Token())
			}
			must(t, next.Release(ctx))
		}
	}
}
