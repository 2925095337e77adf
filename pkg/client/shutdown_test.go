package client_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// A service is an address at which one server follows another.
type service struct{ now atomic.Pointer[server.Server] }

func newService(t *testing.T) (*service, client.Options) {
	s := new(service)
	s.now.Store(newServer(t, server.Options{}))
	return s, client.Options{Dial: func(context.Context) (net.Conn, error) { return s.now.Load().Dial() }}
}

// drain begins to shut the server down, and waits until it refuses.
func (s *service) drain(t *testing.T) (old *server.Server, done <-chan error) {
	t.Helper()
	old = s.now.Load()
	ended := make(chan error, 1)
	go func() { ended <- old.Shutdown(context.Background()) }()
	for {
		c := start(t, client.Options{Dial: func(context.Context) (net.Conn, error) { return old.Dial() }})
		err := c.Get(within(t), "is it so?")
		c.Close()
		if err != nil {
			mustBe(t, err, client.ErrShuttingDown)
			return old, ended
		}
	}
}

// TestLockerShutdown: a server that grants nothing new is away, for those who want
// something; the others have their locks until it is.
func TestLockerShutdown(t *testing.T) {
	ctx := within(t)
	s, opts := newService(t)
	log, lines := newLog()
	o := fast(opts)
	o.Logger = log
	l := locker(t, o)
	held, err := l.Acquire(ctx, "x")
	must(t, err)
	type result struct {
		lock *client.Lock
		err  error
	}
	waited := make(chan result, 1)
	go func() {
		lock, err := l.Acquire(ctx, "x")
		waited <- result{lock, err}
	}()
	for {
		if entries, err := l.Look(ctx, "x"); err != nil {
			t.Fatal(err)
		} else if len(entries) == 2 {
			break
		}
	}
	_, done := s.drain(t)
	// A busy server may take longer to say that it grants nothing.
	for d := 20 * time.Millisecond; ; d *= 2 {
		short, cancel := context.WithTimeout(ctx, d)
		err = second(l.TryAcquire(short, "y"))
		cancel()
		mustBe(t, err, context.DeadlineExceeded)
		if errors.Is(err, client.ErrLost) {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("it is not told that the server is away: %v", err)
		}
	}
	s.now.Store(newServer(t, server.Options{}))
	// Who waited has it from the next server, though it is held here: each of them
	// grants what it knows.
	r := <-waited
	must(t, r.err)
	must(t, r.lock.Release(ctx))
	shared, err := l.AcquireShared(ctx, "z", 1)
	must(t, err)
	if d, err := l.Limiter("r", 1, time.Hour).Allow(ctx); err != nil || !d.Allowed || d.Open != 1 {
		t.Errorf("the next server's rate: %+v, %v", d, err)
	}
	must(t, shared.Release(ctx))
	if err := held.Err(); err != nil {
		t.Errorf("the lock was lost: %v", err)
	}
	select {
	case err := <-done:
		t.Errorf("the server has ended under a holder: %v", err)
	default:
	}
	must(t, held.Release(ctx))
	must(t, <-done)
	must(t, l.Close())
	told := false
	for len(lines) > 0 {
		told = strings.Contains(<-lines, "server is shutting down, looking for the next one") || told
	}
	if !told {
		t.Error("the log says nothing of it")
	}
}

// TestLockerShutdownFailFast: whoever does not wait for a server is told at once.
func TestLockerShutdownFailFast(t *testing.T) {
	ctx := within(t)
	s, opts := newService(t)
	for _, o := range []client.LockerOptions{
		{Options: opts, FailFast: true},
		{Options: opts, MaxOutage: 20 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond},
	} {
		s.now.Store(newServer(t, server.Options{}))
		l := locker(t, o)
		held, err := l.Acquire(ctx, "x")
		must(t, err)
		_, done := s.drain(t)
		for name, err := range map[string]error{
			"TryAcquire": second(l.TryAcquire(ctx, "y")),
			"Acquire":    second(l.Acquire(ctx, "x")),
			"Wait":       l.Limiter("r", 1, time.Second).Wait(ctx),
		} {
			t.Log(name, err)
			mustBe(t, err, client.ErrLost)
		}
		if err := held.Err(); err != nil {
			t.Errorf("the lock was lost: %v", err)
		}
		must(t, held.Release(ctx))
		must(t, <-done)
		l.Close()
	}
}

// TestClientShutdown: a Client's locks are well, and it is told why it gets no more.
func TestClientShutdown(t *testing.T) {
	ctx := within(t)
	s, opts := newService(t)
	c := start(t, opts)
	must(t, c.Get(ctx, "x"))
	_, done := s.drain(t)
	mustBe(t, c.Get(ctx, "y"), client.ErrShuttingDown)
	_, err := c.GetShared(ctx, "y")
	mustBe(t, err, client.ErrShuttingDown)
	must(t, c.Get(ctx, "x")) // it has it
	must(t, c.Err())
	must(t, c.Release(ctx, "x"))
	must(t, <-done)
}
