package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// fast are options that reconnect without much ado.
func fast(opts client.Options) client.LockerOptions {
	return client.LockerOptions{Options: opts, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond}
}

// A wire is a way to a server that the test can cut.
type wire struct {
	dial func(context.Context) (net.Conn, error)

	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

var errDown = errors.New("the wire is down")

// wired puts a wire between a client with these options and its server.
func wired(opts client.Options) (*wire, client.Options) {
	w := &wire{dial: opts.Dial}
	if w.dial == nil {
		network, addr := "tcp", opts.Target[strings.LastIndexByte(opts.Target, '/')+1:]
		if path, ok := strings.CutPrefix(opts.Target, "unix://"); ok {
			network, addr = "unix", path
		}
		w.dial = func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, addr) }
	}
	opts.Dial = func(ctx context.Context) (net.Conn, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.down {
			return nil, errDown
		}
		conn, err := w.dial(ctx)
		if err == nil {
			w.conns = append(w.conns, conn)
		}
		return conn, err
	}
	return w, opts
}

// cut cuts the wire, and leaves it cut if it shall stay down.
func (w *wire) cut(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	for _, conn := range w.conns {
		conn.Close()
	}
	w.conns = nil
}

// TestLockerReconnects: what is held when the connection ends is lost and
// said to be, what is waited for is waited for again.
func TestLockerReconnects(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, copts client.Options) {
		ctx := within(t)
		other := start(t, copts)
		must(t, other.Get(ctx, "waited for"))
		w, wopts := wired(copts)
		l := locker(t, fast(wopts))
		for round := range 5 {
			held, err := l.Acquire(ctx, "held")
			must(t, err)
			shared, err := l.AcquireShared(ctx, "held", 1)
			must(t, err)
			waited := make(chan error, 1)
			go func() {
				lock, err := l.Acquire(ctx, "waited for")
				if err == nil {
					err = lock.Release(ctx)
				}
				waited <- err
			}()
			if round%2 == 0 {
				time.Sleep(5 * time.Millisecond) // so that it does wait, most of the time
			}
			w.cut(false)
			<-held.Lost()
			<-shared.Lost()
			mustBe(t, held.Release(ctx), client.ErrLost)
			mustBe(t, shared.Release(ctx), client.ErrLost)
			mustBe(t, held.Release(ctx), client.ErrNotHeld)

			again, err := l.Acquire(ctx, "held")
			must(t, err)
			if again.Token() <= held.Token() {
				t.Errorf("token %d after %d", again.Token(), held.Token())
			}
			must(t, again.Release(ctx))
			must(t, other.Release(ctx, "waited for"))
			for err := range waited {
				must(t, err)
				break
			}
			must(t, other.Get(ctx, "waited for"))
		}
		must(t, other.Release(ctx, "waited for"))
		holdsNothing(t, copts)
	})
}

// TestLockerOutage: without a connection calls wait for one until their
// context ends, or fail fast.
func TestLockerOutage(t *testing.T) {
	ctx := within(t)
	w, opts := wired(transports["memory"](t, server.Options{}))
	patient := locker(t, fast(opts))
	hasty := fast(opts)
	hasty.FailFast = true
	l := locker(t, hasty)
	must(t, l.Ready(ctx))
	must(t, patient.Ready(ctx))
	w.cut(true)

	for {
		_, err := l.TryAcquire(ctx, "x")
		mustBe(t, err, client.ErrLost)
		if errors.Is(err, errDown) {
			break
		}
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := patient.Acquire(short, "x")
	mustBe(t, err, context.DeadlineExceeded)
	mustBe(t, err, errDown)

	got := make(chan error, 1)
	go func() {
		lock, err := patient.Acquire(ctx, "x")
		if err == nil {
			err = lock.Release(ctx)
		}
		got <- err
	}()
	w.cut(false)
	must(t, <-got)
	for l.Ready(ctx) != nil {
	}
}

// TestLockerRestart: a token of the next server is larger than any of the last.
func TestLockerRestart(t *testing.T) {
	ctx := within(t)
	var mu sync.Mutex
	var current *server.Server
	restart := func() {
		next := newServer(t, server.Options{})
		mu.Lock()
		last := current
		current = next
		mu.Unlock()
		if last != nil {
			now, cancel := context.WithCancel(ctx)
			cancel()
			last.Shutdown(now)
		}
	}
	restart()
	l := locker(t, fast(client.Options{Dial: func(context.Context) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		return current.Dial()
	}}))
	last := uint64(0)
	for range 5 {
		lock, err := l.Acquire(ctx, "x")
		must(t, err)
		if lock.Token() <= last {
			t.Errorf("token %d after %d", lock.Token(), last)
		}
		last = lock.Token()
		restart()
		<-lock.Lost()
	}
}

// TestLockerDo: the context of the work ends with the lock.
func TestLockerDo(t *testing.T) {
	ctx := within(t)
	w, opts := wired(transports["tcp"](t, server.Options{}))
	l := locker(t, fast(opts))
	mine := errors.New("mine")
	mustBe(t, l.Do(ctx, "x", func(ctx context.Context, lock *client.Lock) error {
		if lock.Token() == 0 || lock.Name() != "x" {
			t.Error(lock.Token(), lock.Name())
		}
		_, err := l.TryAcquire(ctx, "x")
		mustBe(t, err, client.ErrNotAcquired)
		return mine
	}), mine)
	must(t, l.Do(ctx, "x", func(context.Context, *client.Lock) error { return nil })) // it was released

	err := l.Do(ctx, "x", func(ctx context.Context, lock *client.Lock) error {
		w.cut(false)
		<-ctx.Done()
		mustBe(t, context.Cause(ctx), client.ErrLost)
		return mine
	})
	mustBe(t, err, mine)
	mustBe(t, err, client.ErrLost)

	canceled, cancel := context.WithCancel(ctx)
	mustBe(t, l.Do(canceled, "x", func(ctx context.Context, _ *client.Lock) error {
		cancel()
		<-ctx.Done()
		return context.Cause(ctx)
	}), context.Canceled)
	mustBe(t, l.Do(canceled, "x", nil), context.Canceled)

	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		l.Do(ctx, "x", func(context.Context, *client.Lock) error { panic("at work") })
	}()
	lock, err := l.TryAcquire(ctx, "x")
	must(t, err)
	must(t, lock.Release(ctx))
}

// TestLockerReleaseLate: a lock is released though the context has ended.
func TestLockerReleaseLate(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, copts client.Options) {
		ctx, cancel := context.WithCancel(within(t))
		l := locker(t, client.LockerOptions{Options: copts})
		lock, err := l.Acquire(ctx, "x")
		must(t, err)
		cancel()
		if err := lock.Release(ctx); err != nil {
			mustBe(t, err, context.Canceled)
		}
		next, err := l.Acquire(within(t), "x")
		must(t, err)
		must(t, next.Release(within(t)))
	})
}

func TestLockerClose(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, copts client.Options) {
		ctx := within(t)
		l := locker(t, client.LockerOptions{Options: copts, Connections: 3})
		lock, err := l.Acquire(ctx, "x")
		must(t, err)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := l.Acquire(ctx, "x"); !errors.Is(err, client.ErrClosed) {
					t.Error(err)
				}
			})
		}
		l.Close()
		l.Close()
		wg.Wait()
		<-lock.Lost()
		mustBe(t, lock.Release(ctx), client.ErrLost)
		mustBe(t, l.Limiter("r", 1, time.Second).Wait(ctx), client.ErrClosed)
		_, err = l.Missing(ctx)
		mustBe(t, err, client.ErrClosed)
		holdsNothing(t, copts)
	})
}

// TestLockerSessions: the bounds of both sides on sessions are kept, and a
// session is used again.
func TestLockerSessions(t *testing.T) {
	test := func(t *testing.T, sopts server.Options, lopts client.LockerOptions) {
		ctx := within(t)
		lopts.Options = transports["tcp"](t, sopts)
		l := locker(t, lopts)
		for range 3 {
			var held []*client.Lock
			for i := range 4 {
				lock, err := l.Acquire(ctx, fmt.Sprint(i))
				must(t, err)
				held = append(held, lock)
			}
			for range 5 {
				_, err := l.Acquire(ctx, "one more")
				mustBe(t, err, client.ErrTooManySessions)
			}
			for _, lock := range held {
				must(t, lock.Release(ctx))
			}
		}
	}
	t.Run("client", func(t *testing.T) {
		test(t, server.Options{}, client.LockerOptions{Sessions: 4})
	})
	t.Run("server", func(t *testing.T) {
		test(t, server.Options{MaxSessions: 5}, client.LockerOptions{})
	})
	t.Run("waiters", func(t *testing.T) {
		ctx := within(t)
		l := locker(t, client.LockerOptions{Options: transports["tcp"](t, server.Options{MaxWaiters: 1})})
		lock, err := l.Acquire(ctx, "x")
		must(t, err)
		waiting, cancel := context.WithCancel(ctx)
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- second(l.Acquire(waiting, "x")) }()
		}
		mustBe(t, <-errs, client.ErrTooManyWaiters)
		cancel()
		mustBe(t, <-errs, context.Canceled)
		must(t, lock.Release(ctx))
	})
}

func TestLockerOptions(t *testing.T) {
	bad := []client.LockerOptions{
		{Connections: -1}, {Sessions: -1}, {OldConnections: -1}, {Options: client.Options{Target: "ftp://x"}},
		{MinBackoff: -1}, {MaxBackoff: -1}, {MaxOutage: -1}, {Options: client.Options{Target: "tcp://h:99999"}},
	}
	if math.MaxInt > math.MaxInt32 {
		bad = append(bad, client.LockerOptions{Sessions: math.MaxInt})
	}
	for _, opts := range bad {
		if l, err := client.NewLocker(opts); err == nil {
			l.Close()
			t.Errorf("%+v was taken", opts)
		}
	}
}

func TestLimiter(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, copts client.Options) {
		ctx := within(t)
		l := locker(t, client.LockerOptions{Options: copts})
		r := l.Limiter("a  rate", 3, time.Hour)
		open, err := r.Open(ctx)
		if err != nil || open != 3 {
			t.Fatal(open, err)
		}
		d, err := r.Allow(ctx)
		if err != nil || d != (client.Decision{Allowed: true, Open: 3}) {
			t.Fatal(d, err)
		}
		d, err = r.AllowN(ctx, 2)
		if err != nil || d != (client.Decision{Allowed: true, Open: 2}) {
			t.Fatal(d, err)
		}
		d, err = r.Allow(ctx)
		if err != nil || d.Allowed || d.Open != 0 || d.RetryAfter <= 0 || d.RetryAfter > 20*time.Minute {
			t.Fatal(d, err)
		}
		soon, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		mustBe(t, r.Wait(soon), context.DeadlineExceeded)
		must(t, soon.Err()) // it did not wait for that

		canceled, stop := context.WithCancel(context.Background())
		time.AfterFunc(10*time.Millisecond, stop)
		mustBe(t, r.Wait(canceled), context.Canceled)

		quick := l.Limiter("quick", 2, 20*time.Millisecond)
		for range 6 {
			must(t, quick.Wait(ctx))
		}
		must(t, quick.WaitN(ctx, 2))

		for _, r := range []*client.Limiter{
			l.Limiter("x", 0, time.Second), l.Limiter("x", 1, 0), l.Limiter("x", 1, 25*time.Hour), l.Limiter("x", -1, time.Second),
		} {
			_, err := r.Allow(ctx)
			mustBe(t, err, client.ErrBadArgument)
			mustBe(t, r.Wait(ctx), client.ErrBadArgument)
			_, err = r.Open(ctx)
			mustBe(t, err, client.ErrBadArgument)
		}
		_, err = r.AllowN(ctx, 4)
		mustBe(t, err, client.ErrBadArgument)
		_, err = l.Limiter("a\nb", 1, time.Second).Allow(ctx)
		mustBe(t, err, client.ErrBadName)
	})
}

// TestLockerOldServer: with a server that speaks protocol 1 only, a Locker
// does what can be done and tells what cannot.
func TestLockerOldServer(t *testing.T) {
	for _, f := range flavors {
		for name, target := range map[string]func() (*fake, string){
			"tcp": func() (*fake, string) { s := newFake(t, f); return s, s.addr },
			"ws":  func() (*fake, string) { s := newFakeWebSocket(t, f); return s, "ws://" + s.addr },
		} {
			t.Run(f.name+"/"+name, func(t *testing.T) {
				ctx := within(t)
				srv, target := target()
				opts := fast(client.Options{Target: target})
				opts.OldConnections = 3
				l := locker(t, opts)
				missing, err := l.Missing(ctx)
				must(t, err)
				for _, err := range []error{client.ErrNoWaiting, client.ErrNoSharedLimits, client.ErrNoRates, client.ErrNoTokens, client.ErrNoLook, client.ErrNoKick, client.ErrNoDropRate, client.ErrNoLosses} {
					mustBe(t, errors.Join(missing...), err)
					mustBe(t, err, client.ErrUnsupported)
				}
				mustBe(t, second(l.Acquire(ctx, "x")), client.ErrNoWaiting)
				mustBe(t, second(l.AcquireShared(ctx, "x", 1)), client.ErrNoWaiting)
				mustBe(t, second(l.TryAcquireShared(ctx, "x", 1)), client.ErrNoSharedLimits)
				mustBe(t, l.Do(ctx, "x", nil), client.ErrNoWaiting)
				_, err = l.Limiter("x", 1, time.Second).Allow(ctx)
				mustBe(t, err, client.ErrNoRates)

				for range 3 {
					a, err := l.TryAcquire(ctx, "x")
					must(t, err)
					if a.Token() != 0 || a.Count() != 1 {
						t.Error(a.Token(), a.Count())
					}
					mustBe(t, second(l.TryAcquire(ctx, "x")), client.ErrNotAcquired)
					b, err := l.TryAcquireShared(ctx, "x", 0)
					must(t, err)
					c, err := l.AcquireShared(ctx, "x", 0)
					must(t, err)
					if c.Count() != 2 {
						t.Error(c.Count())
					}
					mustBe(t, second(l.TryAcquire(ctx, "y")), client.ErrTooManySessions)
					for _, lock := range []*client.Lock{a, b, c} {
						must(t, lock.Release(ctx))
						mustBe(t, lock.Release(ctx), client.ErrNotHeld)
					}
				}
				if n := srv.locks(); n != 0 {
					t.Errorf("%d locks", n)
				}

				ended, cancel := context.WithCancel(ctx)
				a, err := l.TryAcquire(ctx, "x")
				must(t, err)
				cancel()
				if err := a.Release(ended); err != nil {
					mustBe(t, err, context.Canceled)
				}
				for srv.locks() > 0 {
					time.Sleep(time.Millisecond)
				}

				a, err = l.TryAcquire(ctx, "x")
				must(t, err)
				srv.hangUp()
				<-a.Lost()
				mustBe(t, a.Release(ctx), client.ErrLost)
				for { // the other connections may have to be found lost, too
					a, err = l.TryAcquire(ctx, "x")
					if err == nil {
						break
					}
					if !errors.Is(err, client.ErrLost) && !errors.Is(err, client.ErrNotAcquired) {
						t.Fatal(err)
					}
				}
				l.Close()
				<-a.Lost()
				mustBe(t, second(l.TryAcquire(ctx, "x")), client.ErrClosed)
			})
		}
	}
}

// scriptedLocker returns a Locker and a function that plays the server's end
// of its next connection, up to protocol 2.
func scriptedLocker(t *testing.T, opts client.LockerOptions) (*client.Locker, func() *script) {
	t.Helper()
	listener := listen(t)
	opts.Target = listener.Addr().String()
	opts.Anonymous = opts.Name == ""
	l := locker(t, opts)
	return l, func() *script {
		t.Helper()
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return begin(t, conn)
	}
}

// pipedLocker is like scriptedLocker, with connections in memory: so the test
// may be in a bubble, with its own time.
func pipedLocker(t *testing.T, opts client.LockerOptions) (*client.Locker, func() *script) {
	t.Helper()
	conns := make(chan net.Conn, 1)
	opts.Dial = func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		conns <- far
		return near, nil
	}
	opts.Anonymous = opts.Name == ""
	l := locker(t, opts)
	return l, func() *script {
		t.Helper()
		return begin(t, <-conns)
	}
}

// begin plays the server's end of a connection up to protocol 2.
func begin(t *testing.T, conn net.Conn) *script {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	s := &script{t: t, conn: conn, r: bufio.NewReader(conn)}
	s.reply("0 Lock Not Locked: " + s.expectMark() + "\n")
	s.expect("ping")
	s.expect("limits")
	mark := s.expectMark()
	s.expect("hello 2")
	s.reply("1 pong\n0 Lock Not Locked: " + mark + "\n2 lockd test\n")
	return s
}

// TestLockerCancelMeetsGrant: what is granted when nobody wants it any more is
// released, and its session used again only then.
func TestLockerCancelMeetsGrant(t *testing.T) {
	opts := fast(client.Options{})
	l, accept := scriptedLocker(t, opts)
	s := accept()
	wait := func(ctx context.Context, errs chan<- error) { errs <- second(l.Acquire(ctx, "x")) }
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error, 1)
	go wait(ctx, errs)
	s.expect("1 gw 86400000 x")
	cancel()
	mustBe(t, <-errs, context.Canceled) // though the server has not answered
	s.expect("1 cancel")

	ctx, cancel = context.WithCancel(context.Background())
	go wait(ctx, errs)
	s.expect("2 gw 86400000 x") // the first session is not free yet
	s.reply("1 77 Lock Get Success: x\n1 1 ok\n")
	s.expect("1 r x")
	s.reply("1 1 Lock Release Success: x\n")
	cancel()
	mustBe(t, <-errs, context.Canceled)
	s.expect("2 cancel")
	s.reply("2 0 Lock Get Canceled: x\n2 1 ok\n")

	// The server's wait is over before the deadline: ask again.
	ctx, cancel = context.WithTimeout(context.Background(), 100*time.Hour)
	go func() {
		lock, err := l.AcquireShared(ctx, "x", 9)
		if err == nil && lock.Count() != 5 {
			err = fmt.Errorf("count %d", lock.Count())
		}
		errs <- err
	}()
	for _, reply := range []string{"0 Shared Lock Get Timeout: x\n", "5 Shared Lock Get Success: x\n"} {
		line, err := s.r.ReadString('\n')
		number, ok := strings.CutSuffix(line, "sgw 9 86400000 x\n")
		if err != nil || !ok {
			t.Fatalf("server got %q, %v", line, err)
		}
		s.reply(number + reply)
	}
	must(t, <-errs)
	cancel()
}

// TestLockerProtocolErrors: a reply that nobody asked for ends the connection,
// and another one is made.
func TestLockerProtocolErrors(t *testing.T) {
	opts := fast(client.Options{})
	l, accept := scriptedLocker(t, opts)
	errs := make(chan error, 1)
	go func() {
		lock, err := l.Acquire(within(t), "x")
		if err == nil && lock.Token() != 9 {
			err = fmt.Errorf("token %d", lock.Token())
		}
		errs <- err
	}()
	for _, reply := range []string{
		"? 0 Invalid Request\n", "7 1 ok\n", "x\n", "1\n", "1 x\n", "0 1 pong\n", "1 9 Lock Get Success: y\n", "1 1 ok\n",
		"99999999999999999999 1 ok\n", "1 5 Shared Lock Get Success: x\n",
	} {
		s := accept()
		s.expect("1 gw " + s.waitOf() + " x")
		s.reply(reply)
		if _, err := s.r.ReadByte(); err != io.EOF && !strings.Contains(fmt.Sprint(err), "reset") {
			t.Errorf("after %q: %v", reply, err)
		}
	}
	s := accept()
	s.expect("1 gw " + s.waitOf() + " x")
	s.reply("1 9 Lock Get Success: x\n")
	must(t, <-errs)
}

// waitOf peeks at the milliseconds of the request that comes next.
func (s *script) waitOf() string {
	s.t.Helper()
	if _, err := s.r.Peek(len("1 gw 0")); err != nil {
		s.t.Fatal(err)
	}
	b, _ := s.r.Peek(s.r.Buffered())
	words := strings.Fields(string(b))
	if len(words) < 3 {
		s.t.Fatalf("got %q", b)
	}
	return words[2]
}

// TestLockerHeartbeat: a server that says nothing is asked, and left.
func TestLockerHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, accept := pipedLocker(t, client.LockerOptions{})
		s := accept()
		begun := time.Now()
		for range 3 {
			s.expect("0 ping")
			s.reply("0 1 pong\n")
		}
		// Asked in each look, whatever else was heard.
		if took := time.Since(begun); took != 3*3750*time.Millisecond {
			t.Errorf("three pings in %v", took)
		}
		go func() {
			s.expect("1 g x")
			s.reply("1 9 Lock Get Success: x\n")
			s.expect("0 ping") // and it is silent
		}()
		lock, err := l.TryAcquire(t.Context(), "x")
		must(t, err)
		begun = time.Now()
		<-lock.Lost()
		// From when the last one was sent that was answered.
		if took := time.Since(begun); took != 15*time.Second {
			t.Errorf("lost after %v", took)
		}
		err = lock.Release(t.Context())
		mustBe(t, err, client.ErrLost)
		mustBe(t, err, client.ErrTimeout)
		accept() // it connects again
	})
}

// TestLockerHeartbeatIsPatient: a server that stands still for less than three
// quarters of the timeout loses no lock, whenever that begins.
func TestLockerHeartbeatIsPatient(t *testing.T) {
	for phase := range 16 {
		synctest.Test(t, func(t *testing.T) {
			l, accept := pipedLocker(t, client.LockerOptions{})
			s := accept()
			go func() {
				s.expect("1 g x")
				s.reply("1 9 Lock Get Success: x\n")
			}()
			lock, err := l.TryAcquire(t.Context(), "x")
			must(t, err)
			still := time.Now().Add(time.Duration(phase)*time.Second + time.Millisecond)
			go func() {
				for range 5 {
					s.expect("0 ping")
					if since := time.Since(still); since >= 0 && since < 11200*time.Millisecond {
						time.Sleep(11200*time.Millisecond - since)
					}
					s.reply("0 1 pong\n")
				}
				s.conn.Close()
			}()
			<-lock.Lost()
			mustBe(t, lock.Err(), io.EOF)
		})
	}
}

// TestLockerHandshakeFails: why there is no connection can be read.
func TestLockerHandshakeFails(t *testing.T) {
	for reply, want := range map[string]error{
		"0 Too Many Connections\n": client.ErrTooManyConnections,
		"hello\n":                  client.ErrProtocol,
		"0 disabled\n":             client.ErrDisabled,
		"":                         client.ErrTimeout,
	} {
		listener := listen(t)
		opts := fast(client.Options{Target: listener.Addr().String(), ConnectTimeout: 30 * time.Millisecond})
		if want != client.ErrTimeout {
			opts.ConnectTimeout = time.Minute
		}
		opts.FailFast = true
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				bufio.NewReader(conn).ReadString('\n')
				io.WriteString(conn, reply)
				t.Cleanup(func() { conn.Close() })
			}
		}()
		l := locker(t, opts)
		mustBe(t, l.Ready(within(t)), want)
		mustBe(t, second(l.Acquire(within(t), "x")), client.ErrLost)
		l.Close()
		listener.Close()
		<-done
	}
}
