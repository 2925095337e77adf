package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// newServer returns a lockd server that is shut down after the clients which
// the test starts after it.
func newServer(t *testing.T, opts server.Options) *server.Server {
	t.Helper()
	s, err := server.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(within(t)); err != nil {
			t.Error(err)
		}
	})
	return s
}

// transports are the ways to a server. Each returns a client's options.
var transports = map[string]func(*testing.T, server.Options) client.Options{
	"tcp": func(t *testing.T, opts server.Options) client.Options {
		l := listen(t)
		go newServer(t, opts).Serve(l)
		return client.Options{Target: l.Addr().String()}
	},
	"unix": func(t *testing.T, opts server.Options) client.Options {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		go newServer(t, opts).Serve(l)
		return client.Options{Target: "unix://" + path}
	},
	"ws": func(t *testing.T, opts server.Options) client.Options {
		l := listen(t)
		go newServer(t, opts).ServeWebSocket(l)
		return client.Options{Target: "ws://" + l.Addr().String()}
	},
	"memory": func(t *testing.T, opts server.Options) client.Options {
		s := newServer(t, opts)
		return client.Options{Dial: func(context.Context) (net.Conn, error) { return s.Dial() }}
	},
	"pipe":    overPipes,
	"pipe ws": webSocketOverPipes,
}

func overTransports(t *testing.T, sopts server.Options, f func(t *testing.T, copts client.Options)) {
	for name, connect := range transports {
		t.Run(name, func(t *testing.T) { f(t, connect(t, sopts)) })
	}
}

func TestServerMethods(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, opts client.Options) {
		testMethods(t, opts, false)
	})
}

func TestServerRegistrationOrder(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, opts client.Options) {
		ctx := within(t)
		for i := range 5 {
			if err := start(t, opts).SetName(ctx, fmt.Sprint("client ", 5-i)); err != nil {
				t.Fatal(err)
			}
		}
		peers, err := start(t, opts).Clients(ctx, "")
		if err != nil || len(peers) != 5 || peers[0].Name != "client 5" || peers[4].Name != "client 1" {
			t.Fatal(peers, err)
		}
	})
}

func TestServerRefusals(t *testing.T) {
	sopts := server.Options{DisableDump: true, DisableRegistry: true, MaxLocksPerConnection: 2, MaxLine: 100}
	overTransports(t, sopts, func(t *testing.T, opts client.Options) {
		ctx := within(t)
		c := start(t, opts)
		if _, err := c.DumpAll(ctx); !errors.Is(err, client.ErrDisabled) {
			t.Error(err)
		}
		if _, err := c.Clients(ctx, "x"); !errors.Is(err, client.ErrDisabled) {
			t.Error(err)
		}
		if err := c.SetName(ctx, "x"); !errors.Is(err, client.ErrDisabled) {
			t.Error(err)
		}
		if err := c.Get(ctx, strings.Repeat("x", 200)); !errors.Is(err, client.ErrLineTooLong) {
			t.Error(err)
		}
		if err := c.Get(ctx, "1"); err != nil {
			t.Error(err)
		}
		if _, err := c.GetShared(ctx, "2"); err != nil {
			t.Error(err)
		}
		if err := c.Get(ctx, "3"); !errors.Is(err, client.ErrTooManyLocks) {
			t.Error(err)
		}
		if _, err := c.GetShared(ctx, "4"); !errors.Is(err, client.ErrTooManyLocks) {
			t.Error(err)
		}
		if err := c.Release(ctx, "1"); err != nil {
			t.Error(err)
		}
	})
}

func TestServerTooManyConnections(t *testing.T) {
	overTransports(t, server.Options{MaxConnections: 1}, func(t *testing.T, opts client.Options) {
		ctx := within(t)
		first := start(t, opts)
		if err := first.Get(ctx, "x"); err != nil {
			t.Fatal(err)
		}
		cause := client.ErrTooManyConnections
		if strings.HasPrefix(opts.Target, "ws:") {
			cause = client.ErrLost // a full server may hang up on a handshake without a word
		}
		second := start(t, opts)
		mustBeLost(t, second, second.Get(ctx, "x"), cause)
	})
}

// TestServerExclusion: of clients that go for one lock, one has it at a time.
func TestServerExclusion(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, opts client.Options) {
		ctx := within(t)
		inside := 0 // guarded by the lock, as the race detector can see
		var wg sync.WaitGroup
		for range 4 {
			c := start(t, opts)
			wg.Go(func() {
				for won := 0; won < 20; {
					switch err := c.Get(ctx, "door"); {
					case errors.Is(err, client.ErrNotAcquired):
						continue
					case err != nil:
						t.Error(err)
						return
					}
					if inside++; inside != 1 {
						t.Errorf("%d inside", inside)
					}
					inside--
					won++
					if err := c.Release(ctx, "door"); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

// TestServerShutdown: a server that goes away closes Lost.
func TestServerShutdown(t *testing.T) {
	over := func(name string, dial func(*server.Server) client.Options) {
		t.Run(name, func(t *testing.T) {
			s, err := server.New(server.Options{})
			if err != nil {
				t.Fatal(err)
			}
			c := start(t, dial(s))
			if err := c.Get(within(t), "x"); err != nil {
				t.Fatal(err)
			}
			now, cancel := context.WithCancel(context.Background())
			cancel()
			s.Shutdown(now)
			mustBeLost(t, c, c.Get(within(t), "x"), client.ErrLost)
		})
	}
	over("memory", func(s *server.Server) client.Options {
		return client.Options{Dial: func(context.Context) (net.Conn, error) { return s.Dial() }}
	})
	over("tcp", func(s *server.Server) client.Options {
		l := listen(t)
		go s.Serve(l)
		return client.Options{Target: l.Addr().String()}
	})
	over("ws", func(s *server.Server) client.Options {
		l := listen(t)
		go s.ServeWebSocket(l)
		return client.Options{Target: "ws://" + l.Addr().String()}
	})
}
