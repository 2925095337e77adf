package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// A proxied is a server that is started again and again, a proxy in front of it, and
// the network between them.
type proxied struct {
	*testServer // the proxy
	opts        server.Options
	socket      string
	server      *server.Server
	away        atomic.Bool // the network is
	hangs       atomic.Bool // and does not say so
	conn        atomic.Pointer[net.Conn]
	cables      sync.WaitGroup
}

// startProxied starts both. own are the options of the proxy.
func startProxied(t *testing.T, opts, own server.Options) *proxied {
	t.Helper()
	p := &proxied{opts: opts, socket: socketPath(t)}
	p.opts.State, p.opts.Unix, p.opts.MaxShare = stateOf(t), []string{p.socket}, []string{"off"}
	p.begin(t)
	t.Cleanup(func() {
		p.server.Shutdown(canceled())
		p.cables.Wait()
	})
	own.Upstream = &server.Upstream{
		Target: "the test's",
		Dial: func(ctx context.Context) (net.Conn, error) {
			if p.away.Load() {
				if p.hangs.Load() {
					<-ctx.Done()
				}
				return nil, errors.New("the network is away")
			}
			return p.cable(ctx)
		},
	}
	own.Upstream.Unhurried(time.Second) // a server that is there may take longer than clients stand
	own.Upstream.LoopCount(2)           // as many as there may be races between
	p.testServer = start(t, own)
	ctx, stop := context.WithTimeout(context.Background(), giveUp)
	defer stop()
	must(t, p.AwaitUpstream(ctx))
	return p
}

// begin starts the server.
func (p *proxied) begin(t *testing.T) {
	t.Helper()
	s, err := server.New(p.opts)
	must(t, err)
	must(t, s.Listen())
	p.server = s
}

// crash ends the server at once: its connections end without a word.
func (p *proxied) crash() {
	p.cut()
	p.server.Shutdown(canceled())
	p.away.Store(false)
}

// cable connects to the server by way of somebody who can cut that.
func (p *proxied) cable(ctx context.Context) (net.Conn, error) {
	there, err := new(net.Dialer).DialContext(ctx, "unix", p.socket)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		there.Close()
		return nil, err
	}
	defer l.Close()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		there.Close()
		return nil, err
	}
	here, err := l.Accept()
	if err != nil {
		c.Close()
		there.Close()
		return nil, err
	}
	p.conn.Store(&here)
	pass := func(to, from net.Conn) {
		io.Copy(to, from)
		to.Close()
		from.Close()
	}
	p.cables.Go(func() { pass(here, there) })
	p.cables.Go(func() { pass(there, here) })
	return c, nil
}

// cut has the network go away, and the connection with it.
func (p *proxied) cut() {
	p.away.Store(true)
	(*p.conn.Load()).Close()
}

// back waits until requests get through again.
func (p *proxied) back(t *testing.T) {
	t.Helper()
	c := p.dial(t, "tcp")
	defer c.Close()
	eventually(t, "the server is back", func() bool {
		c.send("g back\n")
		if !strings.HasPrefix(c.line(), "1 ") {
			return false
		}
		c.ask("r back", "1 Lock Release Success: back")
		return true
	})
}

// held tells who holds a lock, as the server sees it.
func (p *proxied) held(t *testing.T, name string) bool {
	t.Helper()
	c, err := net.Dial("unix", p.socket)
	d := newClient(t, c, err)
	defer d.Close()
	d.send("i " + name + "\n")
	return strings.HasPrefix(d.line(), "1 ")
}

// Clients that know nothing of it have their connection and their locks over a restart of
// the server, are answered meanwhile, and what they released then is free.
func TestProxyOverRestart(t *testing.T) {
	t.Parallel()
	p := startProxied(t, server.Options{}, server.Options{})
	a, b, gone := p.dial(t, "tcp"), p.dial(t, "unix"), p.dial(t, "tcp")
	a.ask("g x", "1 Lock Get Success: x")
	a.ask("g released", "1 Lock Get Success: released")
	a.ask("sg s", "1 Shared Lock Get Success: s")
	b.ask("sg s", "2 Shared Lock Get Success: s")
	gone.ask("g of who leaves", "1 Lock Get Success: of who leaves")
	b.send("gw 60000 x\n")
	p.crash()
	for _, step := range [][2]string{
		{"g new", "0 Server Recovering: new"},
		{"g x", "1 Lock Get Success: x"}, // which is its own
		{"sg s", "2 Shared Lock Get Success: s"},
		{"i x", "1 Lock Is Locked: x"},
		{"i unknown", "1 Lock Is Locked: unknown"},
		{"r released", "1 Lock Release Success: released"},
		{"r nothing", "0 Lock Release Failure: nothing"},
		{"ping", "1 pong"},
		{"me", "1 " + a.LocalAddr().String() + " " + a.LocalAddr().String()},
	} {
		a.ask(step[0], step[1])
	}
	gone.Close()
	waitConnections(t, p.Server, 2)
	p.begin(t)
	p.back(t)
	if p.held(t, "released") || p.held(t, "of who leaves") || !p.held(t, "x") {
		t.Errorf("held: released %v, of who leaves %v, x %v", p.held(t, "released"), p.held(t, "of who leaves"), p.held(t, "x"))
	}
	a.ask("si s", "2 Shared Lock Is Locked: s")
	a.ask("r x", "1 Lock Release Success: x")
	if got := b.line(); got != "1 Lock Get Success: x\n" {
		t.Errorf("who has waited over the restart is told %q", got)
	}
	a.Close()
	eventually(t, "what a held is free", func() bool { return !p.held(t, "s") })
}

// A holder that asks again while the server says nothing has its lock, and it stays so.
func TestProxyHolderAsksAgain(t *testing.T) {
	t.Parallel()
	p := startProxied(t, server.Options{}, server.Options{})
	a := p.dial(t, "tcp")
	two := p.two(t, "tcp")
	a.ask("g x", "1 Lock Get Success: x")
	token := two.ask("5 g y", `5 \d+ Lock Get Success: y`)
	for range 3 {
		p.crash()
		a.ask("g x", "1 Lock Get Success: x")
		a.ask("r x", "1 Lock Release Success: x")
		a.ask("g x", "0 Server Recovering: x") // it has given it back
		p.begin(t)
		p.back(t)
		eventually(t, "x is free", func() bool { return !p.held(t, "x") })
		a.ask("g x", "1 Lock Get Success: x")
		two.ask("5 g y", token)
	}
	a.Close()
	two.Close()
}

// When the time is over, whoever holds or waits is ended, and nobody else.
func TestProxyGivesUp(t *testing.T) {
	t.Parallel()
	p := startProxied(t, server.Options{MaxKeep: 3 * time.Second}, server.Options{DeadPeerTimeout: 2 * time.Second})
	holder, waiter, idle := p.dial(t, "tcp"), p.dial(t, "unix"), p.dial(t, "tcp")
	holder.ask("g x", "1 Lock Get Success: x")
	waiter.send("gw 60000 x\n")
	idle.ask("g z", "1 Lock Get Success: z")
	idle.ask("r z", "1 Lock Release Success: z")
	p.cut()
	holder.end()
	waiter.end()
	idle.ask("g y", "0 Server Recovering: y")
	p.away.Store(false)
	eventually(t, "the proxy is back", func() bool {
		idle.send("g y\n")
		return strings.HasPrefix(idle.line(), "1 ")
	})
	eventually(t, "who was ended holds nothing", func() bool { return !p.held(t, "x") })
}

// A proxy keeps nobody itself, and needs a server that keeps for long enough.
func TestProxyNeeds(t *testing.T) {
	t.Parallel()
	p := startProxied(t, server.Options{}, server.Options{})
	two := p.two(t, "tcp")
	two.ask("0 keep 1000", "0 0 Keep Disabled")
	two.Close()
	for what, opts := range map[string]server.Options{
		"no state file": {},
		"too short":     {MaxKeep: time.Second, State: stateOf(t)},
		"nobody":        {MaxKeep: -1},
	} {
		upstream := start(t, opts)
		s := start(t, server.Options{Upstream: &server.Upstream{Target: "the test's", Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", upstream.tcp)
		}}})
		ctx, stop := context.WithTimeout(context.Background(), giveUp)
		err := s.AwaitUpstream(ctx)
		stop()
		if wrong := new(server.UpstreamError); what != "no state file" && !errors.As(err, &wrong) || what == "no state file" && err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// An idle client of a proxy is nothing to the server.
func TestProxyIdleClients(t *testing.T) {
	t.Parallel()
	p := startProxied(t, server.Options{}, server.Options{})
	before := metric(t, p.server, "lockd_sessions")
	var all []*client
	for range 50 {
		all = append(all, p.dial(t, "tcp"))
	}
	all[0].ask("ping", "1 pong")
	if n := metric(t, p.server, "lockd_sessions"); n != before {
		t.Errorf("%d sessions for clients that have asked for nothing", n-before)
	}
	for _, c := range all {
		c.ask("i x", "0 Lock Not Locked: x")
	}
	if n := metric(t, p.server, "lockd_sessions"); n < before+len(all) {
		t.Errorf("%d sessions for %d clients", n-before, len(all))
	}
	for _, c := range all {
		c.Close()
	}
	eventually(t, "their sessions have ended", func() bool { return metric(t, p.server, "lockd_sessions") == before })
	if n := metric(t, p.server, "lockd_connections"); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// Any number of a client's sessions may wait for what another one of it holds.
func TestProxySessionsWaitForEachOther(t *testing.T) {
	t.Parallel()
	p := startProxied(t, server.Options{}, server.Options{})
	two := p.two(t, "tcp")
	name := strings.Repeat("x", 100)
	two.ask("0 g "+name, `0 \d+ Lock Get Success: x*`)
	const sessions = 1000
	for i := range sessions {
		two.request(fmt.Sprintf("%d gw 86400000 %s", 1+i, name))
	}
	waitWaiters(t, p.server, sessions)
	two.request("0 r " + name)
	for granted, released := 0, 0; granted < sessions || released <= sessions; {
		got := two.expect(`\d+ \d+ Lock (Get|Release) Success: x*`) // in any order
		if strings.Contains(got, "Release") {
			released++
			continue
		}
		granted++
		session, _, _ := strings.Cut(got, " ")
		two.request(session + " r " + name)
	}
	two.Close()
}
