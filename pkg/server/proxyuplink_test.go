package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// A proxy comes by TLS and shows a token, the present one each time that it connects; and
// while it is not let in, those who hold something keep it for as long as it is kept.
func TestProxyOverTLSWithToken(t *testing.T) {
	t.Parallel()
	file := authFile(t, "proxy lock token:first")
	upstream := start(t, server.Options{State: stateOf(t), MaxShare: []string{"off"}, AuthFile: file})
	var token atomic.Pointer[string]
	show := func(text string) { token.Store(&text) }
	show("wrong")
	var conn atomic.Pointer[net.Conn]
	var dialed atomic.Int32
	opts := func() server.Options {
		to := &server.Upstream{
			Target: "the test's",
			Dial: func(ctx context.Context) (net.Conn, error) {
				c, err := (&tls.Dialer{Config: trusting()}).DialContext(ctx, "tcp", upstream.tls)
				if err == nil {
					conn.Store(&c)
					dialed.Add(1)
				}
				return c, err
			},
			Token: func(context.Context) (string, error) { return *token.Load(), nil },
		}
		to.Unhurried(time.Second)
		return server.Options{Upstream: to}
	}
	ctx, stop := context.WithTimeout(context.Background(), giveUp)
	defer stop()
	if err, wrong := newServer(t, opts()).AwaitUpstream(ctx), new(server.UpstreamError); !errors.As(err, &wrong) || !strings.Contains(wrong.Reason, "token") {
		t.Errorf("with a wrong token: %v", err)
	}
	show("first")
	s := start(t, opts())
	must(t, s.AwaitUpstream(ctx))
	a, b := s.dial(t, "tcp"), s.dial(t, "unix")
	a.ask("g x", "1 Lock Get Success: x")
	b.ask("g x", "0 Lock Get Failure: x")
	back := func() {
		t.Helper()
		eventually(t, "it is back", func() bool {
			b.send("g y\n")
			return strings.HasPrefix(b.line(), "1 ")
		})
		b.ask("r y", "1 Lock Release Success: y")
		b.ask("g x", "0 Lock Get Failure: x")
		a.ask("g x", "1 Lock Get Success: x")
	}
	(*conn.Load()).Close()
	back()

	// The token is another one from now on, and the proxy finds out from a reply.
	writeAuth(t, file, "proxy lock token:second")
	must(t, upstream.Reload())
	before := dialed.Load()
	b.ask("g y", "0 Server Recovering: y") // as it was not told that it may not
	eventually(t, "it has tried again", func() bool { return dialed.Load() > before+1 })
	a.ask("g x", "1 Lock Get Success: x")
	show("second")
	back()
	a.ask("r x", "1 Lock Release Success: x")
	b.ask("g x", "1 Lock Get Success: x")
}

// A server that sends the proxy away each time is not asked all the time.
func TestProxyTriesLessOften(t *testing.T) {
	t.Parallel()
	upstream := start(t, server.Options{MaxKeep: -1})
	dialed := make(chan time.Time, 100)
	newServer(t, server.Options{Upstream: &server.Upstream{Target: "the test's", Dial: func(ctx context.Context) (net.Conn, error) {
		dialed <- time.Now()
		return new(net.Dialer).DialContext(ctx, "tcp", upstream.tcp)
	}}})
	first := <-dialed
	for range 5 {
		<-dialed
	}
	if took := time.Since(first); took < time.Second {
		t.Errorf("six connections within %v", took)
	}
}

// The log tells of each connection that has ended, and of what comes again and again once.
func TestProxyLogs(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	p := startProxied(t, server.Options{}, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for n := 1; n <= 2; n++ {
		(*p.conn.Load()).Close()
		eventually(t, "the log tells of it", func() bool { return strings.Count(log.String(), "cannot reach upstream") >= n })
		p.back(t)
	}
	p.cut()
	eventually(t, "the log tells of it", func() bool { return strings.Contains(log.String(), "the network is away") })
	p.away.Store(false)
	p.back(t)
	if n := strings.Count(log.String(), "the network is away"); n != 1 {
		t.Errorf("it tells %d times of the same", n)
	}
}

// A proxy whose server has no state file gives up when there is none any more.
func TestProxyOfServerWithoutState(t *testing.T) {
	t.Parallel()
	for what, gone := range map[string]*net.OpError{"tcp": errRefused, "unix": errNoSocket} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			upstream := start(t, server.Options{MaxShare: []string{"off"}, MaxKeep: time.Hour})
			var away atomic.Bool
			var conn atomic.Pointer[net.Conn]
			to := &server.Upstream{Target: "the test's", Dial: func(ctx context.Context) (net.Conn, error) {
				if away.Load() {
					return nil, gone
				}
				c, err := new(net.Dialer).DialContext(ctx, "tcp", upstream.tcp)
				if err == nil {
					c = &bareConn{c}
					conn.Store(&c)
				}
				return c, err
			}}
			to.Unhurried(time.Second)
			s := start(t, server.Options{Upstream: to})
			ctx, stop := context.WithTimeout(context.Background(), giveUp)
			defer stop()
			must(t, s.AwaitUpstream(ctx))
			holder, other := s.dial(t, "tcp"), s.dial(t, "tcp")
			holder.ask("g x", "1 Lock Get Success: x")
			away.Store(true)
			(*conn.Load()).Close()
			holder.end()
			other.ask("g x", "0 Server Recovering: x")
		})
	}
}

var (
	errRefused  = &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	errNoSocket = &net.OpError{Op: "dial", Err: syscall.ENOENT}
)

// Clients that do not read their lists are in nobody's way.
func TestProxyListsNobodyReads(t *testing.T) {
	t.Parallel()
	p := startProxied(t, server.Options{}, server.Options{})
	p.hold(t, 20_000)
	for n := range 10 {
		p.dial(t, "unix").send("d\n") // 800 kB
		eventually(t, "it is asked for", func() bool { return metric(t, p.Server, "lockd_commands_total", "command=d") == n+1 })
	}
	c := p.dial(t, "tcp")
	c.send("d 00000007\n")
	if got := c.line(); !strings.HasPrefix(got, "00000007: ") {
		t.Errorf("got %q", got)
	}
}

// A list is not waited for while the server is away, by clients that take a late line for
// the next reply.
func TestProxyListsWhileAway(t *testing.T) {
	t.Parallel()
	p := startProxied(t, server.Options{}, server.Options{})
	c := p.dial(t, "tcp")
	p.hangs.Store(true)
	p.cut()
	for _, request := range []string{"d", "d x", "sd", "dump", "who", "look x", "losses 1"} {
		verb, _, _ := strings.Cut(request, " ")
		c.ask(request, "0 Unavailable: "+verb)
	}
}

// A server that starts again in another way is believed as far as it knows the proxy.
func TestProxyOverRestartOfAnotherKind(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change func(o *server.Options)
		keeps  bool
	}{
		"it keeps for a shorter time from now on": {func(o *server.Options) { o.MaxKeep = 5 * time.Second }, true},
		"for a longer one":                        {func(o *server.Options) { o.MaxKeep = time.Hour }, true},
		"its file is lost":                        {func(o *server.Options) { o.State = stateOf(t) }, false},
		"it has none any more":                    {func(o *server.Options) { o.State = "" }, false},
		"it keeps nobody any more":                {func(o *server.Options) { o.State, o.MaxKeep = "", -1 }, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := startProxied(t, server.Options{MaxKeep: 10 * time.Minute}, server.Options{DeadPeerTimeout: 5 * time.Second})
			holder, other := p.dial(t, "tcp"), p.dial(t, "tcp")
			holder.ask("g x", "1 Lock Get Success: x")
			other.ask("i x", "1 Lock Is Locked: x")
			p.crash()
			before := p.opts
			c.change(&p.opts)
			p.begin(t)
			if !c.keeps {
				holder.end()
			}
			if p.opts.MaxKeep < 0 {
				other.ask("g x", "0 Server Recovering: x")
				p.crash()
				p.opts = before
				p.opts.State = stateOf(t)
				p.begin(t)
			}
			p.back(t)
			if c.keeps {
				other.ask("g x", "0 Lock Get Failure: x")
				holder.ask("g x", "1 Lock Get Success: x")
				holder.ask("r x", "1 Lock Release Success: x")
			}
			other.ask("g x", "1 Lock Get Success: x")
		})
	}
}
