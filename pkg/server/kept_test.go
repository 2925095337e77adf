package server_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/state"
	"github.com/nylen/lockd/pkg/server"
)

// A keptPeer is a client of protocol 2 that asks to be kept.
type keptPeer struct {
	peer
	tb  testing.TB
	key string
}

// ask sends a request and expects a reply, a regular expression.
func (p *keptPeer) ask(request, want string) string {
	p.tb.Helper()
	p.request(request)
	return p.expect(want)
}

func (p *keptPeer) expect(want string) string {
	p.tb.Helper()
	got := strings.TrimSuffix(p.line(true), "\n")
	if !regexp.MustCompile("^(?:" + want + ")$").MatchString(got) {
		p.tb.Fatalf("got %q, want %q", got, want)
	}
	return got
}

// two begins protocol 2.
func (s *testServer) two(tb testing.TB, transport string) *keptPeer {
	tb.Helper()
	p := &keptPeer{peer: s.peer(tb, transport), tb: tb}
	p.ask("hello 2 notices", "2 lockd .*")
	return p
}

func (p *keptPeer) keep(ms int) *keptPeer {
	p.tb.Helper()
	got := p.ask(fmt.Sprintf("0 keep %d", ms), fmt.Sprintf(`0 %d Kept(?: Blips Only)?: [0-9a-f]{32}`, ms))
	p.key = got[len(got)-32:]
	return p
}

// stateOf returns a file for a server that starts for the first time.
func stateOf(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "state")
	must(tb, state.New(path))
	return path
}

// What is kept passes from a connection to any other, of whatever kind, however the
// first one ends.
func TestKeptOverTransports(t *testing.T) {
	for i, from := range transports {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			s := start(t, server.Options{})
			to := transports[(i+3)%len(transports)]
			for how, end := range map[string]func(p *keptPeer){
				"closed":   func(p *keptPeer) { p.Close() },
				"reset":    func(p *keptPeer) { p.reset(); p.Close() },
				"half":     func(p *keptPeer) { p.closeWrite() },
				"it stays": func(*keptPeer) {},
			} {
				if how == "half" && strings.HasPrefix(from, "w") {
					continue // there is no such thing
				}
				a := s.two(t, from).keep(20_000)
				a.ask("1 g x", `1 \d+ Lock Get Success: x`)
				a.ask("7 sg s", "7 1 Shared Lock Get Success: s")
				a.request("9 gw 60000 x")
				waitWaiters(t, s.Server, 1)
				end(a)
				b := s.two(t, to)
				b.ask("0 resume "+a.key, "0 4 Resumed: "+a.key)
				token := strings.Fields(b.ask("1 t x", `1 \d+ Lock Token: x`))[1]
				b.ask("1 claim "+token+" x", "1 "+token+" Lock Claim Success: x")
				b.ask("7 claims 1 s", "7 1 Shared Lock Claim Success: s")
				b.request("9 gw 60000 x")
				b.ask("0 claimed", "0 1 ok")
				b.ask("1 r x", "1 1 Lock Release Success: x")
				b.expect(`9 \d+ Lock Get Success: x`)
				b.ask("0 bye", "0 1 bye")
				b.Close()
				if how == "it stays" {
					a.ended(true)
				}
				a.Close()
				waitConnections(t, s.Server, 0)
			}
			if n := metric(t, s.Server, "lockd_locks_held", "kind=exclusive"); n != 0 {
				t.Errorf("%d locks are left", n)
			}
			if n := metric(t, s.Server, "lockd_kept_clients", "state=away"); n != 0 {
				t.Errorf("%d clients are kept still", n)
			}
		})
	}
}

// A server that starts again gives nobody anything before those who were kept are back,
// and them what they had. One that ends does not wait for them.
func TestKeptOverRestarts(t *testing.T) {
	for _, transport := range []string{"tcp", "tls", "websocket"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			opts := server.Options{State: stateOf(t)}
			first := start(t, opts)
			a := first.two(t, transport).keep(20_000)
			token := strings.Fields(a.ask("1 g x", `1 \d+ Lock Get Success: x`))[1]
			a.ask("2 sg s", "2 1 Shared Lock Get Success: s")
			ctx, cancel := context.WithTimeout(context.Background(), giveUp)
			defer cancel()
			must(t, first.Shutdown(ctx)) // and not that its time was over
			a.expect("0 ! Draining")
			a.Close()

			second := start(t, opts)
			if n := metric(t, second.Server, "lockd_recovering"); n != 1 {
				t.Error("it does not recover")
			}
			b := second.two(t, "tcp")
			b.ask("1 g x", "1 0 Server Recovering: x")
			b.ask("1 g new", "1 0 Server Recovering: new")
			b.ask("1 i new", "1 1 Lock Is Locked: new")
			b.ask("1 si new", "1 1 Shared Lock Is Locked: new")
			b.ask("1 rl 5 1000 1 r", "1 5 Rate Allowed: r")
			b.request("1 gw 60000 new")
			b.request("2 sgw 1 60000 s")
			waitWaiters(t, second.Server, 2)
			key := a.key
			a = second.two(t, transport)
			wrong := strings.Repeat("0", 32)
			a.ask("0 resume "+wrong, "0 0 Unknown Key: "+wrong)
			a.ask("0 resume "+key, `0 0 Claims Open \d+: `+key)
			a.ask("1 claim "+token+" x", "1 "+token+" Lock Claim Success: x")
			a.ask("2 claims 1 s", "2 1 Shared Lock Claim Success: s")
			a.ask("0 claimed", "0 1 ok")
			b.expect(`1 \d+ Lock Get Success: new`)
			b.ask("3 g x", "3 0 Lock Get Failure: x")
			a.ask("2 sr s", "2 1 Shared Lock Release Success: s")
			b.expect("2 1 Shared Lock Get Success: s")
			if n := metric(t, second.Server, "lockd_recovering"); n != 0 {
				t.Error("it recovers still")
			}
			a.ask("0 bye", "0 1 bye")
			a.Close()
			b.ask("3 g x", `3 \d+ Lock Get Success: x`)
			b.Close()
		})
	}
}

// Places are kept for those who are to come back.
func TestPlacesForKeptClients(t *testing.T) {
	s := start(t, server.Options{MaxConnections: 3})
	a := s.two(t, "tcp").keep(30_000)
	a.ask("1 g x", `1 \d+ Lock Get Success: x`)
	a.reset()
	a.Close()
	eventually(t, "a is away", func() bool { return metric(t, s.Server, "lockd_kept_clients", "state=away") == 1 })
	b, c := s.two(t, "tcp"), s.two(t, "unix")
	b.ask("1 ping", "1 1 pong")
	c.ask("1 g y", `1 \d+ Lock Get Success: y`)
	d := s.two(t, "tcp")
	d.ask("0 ping", "0 1 pong")
	d.ask("1 g z", "1 0 Too Many Connections")
	d.ended(false)
	d.Close()
	waitConnections(t, s.Server, 2)
	a2 := s.two(t, "websocket")
	a2.ask("0 resume "+a.key, "0 2 Resumed: "+a.key)
	a2.ask("1 g x", `1 \d+ Lock Get Success: x`)
	for _, p := range []*keptPeer{a2, b, c} {
		p.Close()
	}
}

// Whoever kicks a session ends that one alone, if its client can be told, and else the
// client, though it is kept.
func TestKickOfKeptClients(t *testing.T) {
	s := start(t, server.Options{})
	admin := s.two(t, "unix")
	a := s.two(t, "tcp").keep(30_000)
	a.ask("1 g x", `1 \d+ Lock Get Success: x`)
	a.ask("1 sg s", "1 1 Shared Lock Get Success: s")
	a.ask("2 g y", `2 \d+ Lock Get Success: y`)
	admin.ask("1 kick "+a.addr()+"#1", "1 1 Kicked: "+regexp.QuoteMeta(a.addr())+"#1")
	got := a.expect("1 ! Lock Lost: (x|s)") + a.expect("1 ! Lock Lost: (x|s)")
	if !strings.Contains(got, "Lost: x") || !strings.Contains(got, "Lost: s") {
		t.Errorf("told %q", got)
	}
	admin.ask("1 g x", `1 \d+ Lock Get Success: x`)
	a.ask("2 t y", `2 \d+ Lock Token: y`)
	a.ask("1 g z", `1 \d+ Lock Get Success: z`) // its number is free
	addr := a.addr()
	a.Close()
	eventually(t, "a is away", func() bool { return metric(t, s.Server, "lockd_kept_clients", "state=away") == 1 })
	admin.ask("1 kick "+addr, "1 1 Kicked: "+regexp.QuoteMeta(addr))
	admin.ask("1 g y", `1 \d+ Lock Get Success: y`)
	a = s.two(t, "tcp")
	a.ask("0 resume "+strings.Repeat("0", 32), "0 0 Unknown Key: .*")
	a.Close()
	admin.Close()
}

// Whoever looks sees that a client is away.
func TestAwayIsShown(t *testing.T) {
	s := start(t, server.Options{Admin: "127.0.0.1:0"})
	api := newAPIClient(t, adminAddr(s))
	a := s.two(t, "tcp").keep(30_000)
	a.ask("1 g x", `1 \d+ Lock Get Success: x`)
	if away := api.get("locks/x", "exclusive", "holder", "away"); away == true {
		t.Error("it is away before it is")
	}
	a.Close()
	eventually(t, "a is away", func() bool { return metric(t, s.Server, "lockd_kept_clients", "state=away") == 1 })
	if away := api.get("locks/x", "exclusive", "holder", "away"); away != true {
		t.Errorf("away is %v", away)
	}
	if away := api.get("clients?sort=locks", "clients", 0, "away"); away != true {
		t.Errorf("the client's away is %v", away)
	}
	b := s.peer(t, "tcp")
	b.request("look x")
	if got := b.next(); !strings.HasPrefix(got, "x\texclusive\tkept\t") {
		t.Errorf("look: %q", got)
	}
	b.Close()
}

// adminAddr is where a server's page is.
func adminAddr(s *testServer) string {
	for _, a := range s.Addrs() {
		if a.Transport == "admin" {
			return a.String()
		}
	}
	return ""
}

// The bounds of what is kept.
func TestKeepBounds(t *testing.T) {
	s := start(t, server.Options{MaxKeep: 50 * time.Millisecond, MaxConnections: 4, MaxShare: []string{"off"}})
	a := s.two(t, "tcp")
	a.ask("0 keep 60000", "0 50 Kept Blips Only: [0-9a-f]{32}")
	a.ask("1 g x", `1 \d+ Lock Get Success: x`)
	a.Close()
	b := s.two(t, "tcp")
	eventually(t, "a's time is over", func() bool {
		b.request("1 g x")
		return strings.Contains(b.line(true), "Success")
	})
	b.Close()
	for _, opts := range []server.Options{
		{MaxKeep: 2 * time.Hour}, {Grace: 2 * time.Hour}, {MaxKeep: -1, State: "x"}, {State: t.TempDir()},
	} {
		if _, err := server.New(opts); err == nil {
			t.Errorf("%+v is taken", opts)
		}
	}
	off := start(t, server.Options{MaxKeep: -1})
	c := off.two(t, "tcp")
	c.ask("0 keep 1000", "0 0 Keep Disabled")
	c.ask("0 limits", `0 1 dead_peer_ms=20000 max_keep_ms=0`)
	c.Close()
}

// Locks are not written anywhere: the state file is the same after any number of them.
func TestLocksAreNotWritten(t *testing.T) {
	opts := server.Options{State: stateOf(t)}
	s := start(t, opts)
	a := s.two(t, "tcp").keep(30_000)
	before, err := os.ReadFile(opts.State)
	must(t, err)
	for range 500 {
		a.ask("1 g x", `1 \d+ Lock Get Success: x`)
		a.ask("2 sg s", "2 1 Shared Lock Get Success: s")
		a.ask("1 r x", "1 1 Lock Release Success: x")
		a.ask("2 sr s", "2 1 Shared Lock Release Success: s")
	}
	after, err := os.ReadFile(opts.State)
	must(t, err)
	if string(before) != string(after) {
		t.Errorf("the file has changed:\n%s\n%s", before, after)
	}
	a.ask("0 bye", "0 1 bye")
	a.Close()
}
