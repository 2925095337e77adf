package server_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// A server that is stopped as it should be, and started again, is nothing that clients
// behind a proxy hear of: while it drains they take new locks, and who waits then has what
// it waited for when the next one is there.
func TestRestartBehindAProxy(t *testing.T) {
	t.Parallel()
	p := startProxied(t, server.Options{}, server.Options{})
	holder, waiter, newcomer := p.dial(t, "tcp"), p.dial(t, "tcp"), p.dial(t, "unix")
	holder.ask("g x", "1 Lock Get Success: x")
	waiter.send("gw 60000 x\n")
	conn, err := net.Dial("unix", p.socket)
	direct := newClient(t, conn, err)
	defer direct.Close()
	direct.ask("g p", "1 Lock Get Success: p") // the server waits for it
	eventually(t, "the proxy's client waits", func() bool {
		direct.send("look x\n")
		waits := false
		for line := direct.line(); line != "1 End\n"; line = direct.line() {
			waits = waits || strings.Contains(line, "\twaits\t")
		}
		return waits
	})

	ctx, stop := context.WithTimeout(context.Background(), giveUp)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- p.server.Shutdown(ctx) }()
	eventually(t, "the server drains", func() bool {
		direct.send("g q\nr q\n")
		got := direct.line()
		direct.line()
		return got == "0 Shutting Down: q\n"
	})
	newcomer.ask("g y", "1 Lock Get Success: y")
	newcomer.ask("rl 5 1000 1 y", "5 Rate Allowed: y")
	direct.ask("r p", "1 Lock Release Success: p")
	must(t, <-ended)

	p.begin(t)
	p.back(t)
	if !p.held(t, "y") {
		t.Error("what was taken while the server drained is free")
	}
	holder.ask("r x", "1 Lock Release Success: x")
	if got := waiter.line(); got != "1 Lock Get Success: x\n" {
		t.Errorf("who has waited is told %q", got)
	}
	newcomer.ask("r y", "1 Lock Release Success: y")
}

// A proxy's metrics tell how it reaches its server, and whom that costs something.
func TestUpstreamMetrics(t *testing.T) {
	t.Parallel()
	p := startProxied(t, server.Options{MaxKeep: 6 * time.Second}, server.Options{DeadPeerTimeout: 2 * time.Second})
	is := func(name string, want int) bool { return metric(t, p.Server, "lockd_upstream_"+name) == want }
	holder, waiter, asker := p.dial(t, "tcp"), p.dial(t, "tcp"), p.dial(t, "tcp")
	holder.ask("g x", "1 Lock Get Success: x")
	waiter.send("gw 60000 x\n")
	eventually(t, "somebody waits", func() bool { return metric(t, p.Server, "lockd_waiters") == 1 })
	if left := metric(t, p.Server, "lockd_upstream_lease_seconds"); !is("up", 1) || !is("connections_total", 1) || left < 1 || left > 6 {
		t.Errorf("it is up: %v, and what is held is so for %v s", is("up", 1), left)
	}
	p.cut()
	asker.ask("g y", "0 Server Recovering: y")
	eventually(t, "it is known to be away", func() bool { return is("up", 0) })
	if !is("unanswered_total", 1) || !is("lost_clients_total", 0) {
		t.Error("what is answered there is not counted")
	}
	eventually(t, "its time is over", func() bool { return is("lost_clients_total", 2) && is("lease_seconds", 0) })
	holder.end()
	p.away.Store(false)
	eventually(t, "it is back", func() bool { return is("up", 1) && is("connections_total", 2) })
}
