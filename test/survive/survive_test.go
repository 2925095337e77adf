//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lockd is the program that all tests use.
var lockd string

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		exit(child())
	}
	dir, err := os.MkdirTemp("", "lockd-survive")
	if err == nil {
		lockd, err = build(dir, nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func hasProxy(t *testing.T) bool {
	t.Helper()
	return exec.Command(lockd, "proxy", "--help").Run() == nil
}

// The whole thing, in small.
func TestSurvives(t *testing.T) {
	o := options{kills: 6, kept: 40, plain: 40, keep: 6 * time.Second, cable: true, lockd: lockd, dir: t.TempDir()}
	if testing.Short() {
		o.kills, o.kept, o.plain = 2, 16, 8
	}
	if !hasProxy(t) {
		o.plain = 0
	}
	if err := survive(t.Context(), t.Output(), o); err != nil {
		t.Error(err)
	}
}

// What servers do that scene has.
const (
	keeps   = iota
	plainly // it keeps nobody
	early   // it keeps for a shorter time than it is made to say
	forgets // it finds a new file at each start
)

// scene is kept clients, a server, and somebody between them who may lie.
func scene(t *testing.T, serves int, twist func(client, server net.Conn), kills, cuts int) (*witness, error) {
	t.Helper()
	o := options{kept: 12, keep: 4 * time.Second, lockd: lockd, names: 3}
	b := newLab(o, t.Output())
	var err error
	dir := t.TempDir()
	switch serves {
	case keeps, forgets:
		b.server, err = newServer(o, dir, nil)
	case early:
		short := o
		short.keep = o.keep / 100
		b.server, err = newServer(short, dir, nil)
	default:
		b.server, err = newProcess(lockd, dir, "serve", "--max-keep", "0", "--dead-peer-timeout", silence.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := b.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { b.server.kill() }()
	r, err := (&relay{dial: b.server.dial, twist: twist}).open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	for range o.kept {
		all.Go(func() { b.load.keepers(ctx, b.w, "kept", r.addr(), 2) })
	}
	for range cuts {
		time.Sleep(300 * time.Millisecond)
		for _, p := range r.some(3) {
			p.reset()
		}
	}
	if serves == early { // whoever resumes at once has lost nothing
		for range 3 {
			r.outage(300 * time.Millisecond)
			time.Sleep(time.Second)
		}
	}
	for range kills {
		time.Sleep(800 * time.Millisecond)
		b.server.kill()
		if serves == forgets {
			if err := os.Remove(filepath.Join(dir, "state")); err != nil {
				t.Fatal(err)
			}
			if text, err := exec.Command(lockd, "state", "new", filepath.Join(dir, "state")).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
		}
		if err := b.start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	stop()
	all.Wait()
	if n := len(b.w.holds); n < 20 {
		t.Errorf("only %d locks were held", n)
	}
	return b.w, errors.Join(b.w.findings()...)
}

// What is wrong is seen, by each of those who look for it.
func TestWrongServersAreCaught(t *testing.T) {
	success := regexp.MustCompile(`^(\d+) (\d+) Lock Get Success: `)
	allowed := regexp.MustCompile(`^(\d+) \d+ Rate Allowed: `)
	limited := regexp.MustCompile(`^(\d+) 0 Rate Limited \d+ ms: `)
	takes := regexp.MustCompile(`^(\d+) rl 20 1000 (\d) (.*)`)
	for _, c := range []struct {
		what  string
		does  int
		kills int
		cuts  int
		make  func() (twist func(client, server net.Conn), lies func() int32)
		want  []string // all of these
	}{
		{"nothing but the truth", keeps, 2, 4, func() (func(net.Conn, net.Conn), func() int32) {
			e := &editor{}
			return e.twist, func() int32 { return 1 }
		}, nil},
		{"it frees at once when a connection is lost", plainly, 0, 8, func() (func(net.Conn, net.Conn), func() int32) {
			y := &yesman{keep: 4000}
			return y.twist, y.lies.Load
		}, []string{"holders at once", "porcupine"}},
		{"it grants while it recovers", plainly, 3, 0, func() (func(net.Conn, net.Conn), func() int32) {
			y := &yesman{keep: 4000, claims: true}
			return y.twist, y.lies.Load
		}, []string{"holders at once", "porcupine"}},
		{"it grants to who does not wait, while it recovers", keeps, 4, 0, func() (func(net.Conn, net.Conn), func() int32) {
			e := &editor{}
			e.reply = func(line string) string {
				if number, name, ok := strings.Cut(line, " 0 Server Recovering: lock"); ok {
					return number + " 9000000000000000 Lock Get Success: lock" + name
				}
				return line
			}
			return e.twist, e.lies.Load
		}, []string{"porcupine"}},
		{"an old token is accepted", keeps, 0, 0, func() (func(net.Conn, net.Conn), func() int32) {
			e := &editor{}
			e.reply = func(line string) string { return success.ReplaceAllString(line, "$1 17 Lock Get Success: ") }
			return e.twist, e.lies.Load
		}, []string{"token 17 follows token 17", "porcupine"}},
		{"it forgets whom it keeps", keeps, 1, 0, func() (func(net.Conn, net.Conn), func() int32) {
			e := &editor{}
			e.reply = func(line string) string {
				if _, key, ok := strings.Cut(line, " Claims Open "); ok {
					_, key, _ = strings.Cut(key, ": ")
					return "0 0 Unknown Key: " + key
				}
				return line
			}
			return e.twist, e.lies.Load
		}, []string{"before its deadline"}},
		{"it keeps for a shorter time than it says", early, 0, 0, func() (func(net.Conn, net.Conn), func() int32) {
			e := &editor{}
			kept := regexp.MustCompile(`^0 40 Kept: `)
			e.reply = func(line string) string { return kept.ReplaceAllString(line, "0 4000 Kept: ") }
			return e.twist, e.lies.Load
		}, []string{"before its deadline"}},
		{"it does not know after a start whom it has kept", forgets, 2, 0, func() (func(net.Conn, net.Conn), func() int32) {
			e := &editor{}
			return e.twist, func() int32 { return 1 }
		}, []string{"before its deadline"}},
		{"it refuses claims", keeps, 1, 0, func() (func(net.Conn, net.Conn), func() int32) {
			e := &editor{}
			claim := regexp.MustCompile(`^(\d+) (\d+) Lock Claim Success`)
			e.reply = func(line string) string { return claim.ReplaceAllString(line, "$1 0 Lock Claim Failure") }
			return e.twist, e.lies.Load
		}, []string{"before its deadline"}},
		{"units come back too soon", keeps, 1, 0, func() (func(net.Conn, net.Conn), func() int32) {
			e := &editor{}
			e.request = func(line string) string { return takes.ReplaceAllString(line, "$1 rl 20 800 $2 $3") }
			return e.twist, e.lies.Load
		}, []string{"bursts of 20"}},
		{"each connection has a rate of its own", keeps, 0, 4, func() (func(net.Conn, net.Conn), func() int32) {
			e := &editor{}
			var connections atomic.Int32
			return func(client, server net.Conn) {
				own := fmt.Sprintf("$1 rl 20 1000 $2 $3 of connection %d", connections.Add(1))
				mine := &editor{request: func(line string) string { return takes.ReplaceAllString(line, own) }}
				mine.twist(client, server)
				e.lies.Add(mine.lies.Load())
			}, e.lies.Load
		}, []string{"units are taken"}},
		{"it allows what it should refuse", keeps, 0, 0, func() (func(net.Conn, net.Conn), func() int32) {
			e := &editor{}
			e.reply = func(line string) string { return limited.ReplaceAllString(line, "$1 1 Rate Allowed: ") }
			return e.twist, e.lies.Load
		}, []string{"units are taken"}},
		{"all units are said to be open", keeps, 0, 0, func() (func(net.Conn, net.Conn), func() int32) {
			e := &editor{}
			e.reply = func(line string) string { return allowed.ReplaceAllString(line, "$1 20 Rate Allowed: ") }
			return e.twist, e.lies.Load
		}, []string{"units are said to be open"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			for try := 1; ; try++ {
				twist, lies := c.make()
				w, err := scene(t, c.does, twist, c.kills, c.cuts)
				if c.want == nil {
					if err != nil {
						t.Error(err)
					}
					return
				}
				// Porcupine comes last, behind what may be a lot.
				text := fmt.Sprint(err, errors.Join(w.histories()...))
				unseen := slices.DeleteFunc(slices.Clone(c.want), func(want string) bool { return strings.Contains(text, want) })
				if lies() > 0 && len(unseen) == 0 {
					return
				}
				if try == 6 { // on a busy machine it may have had no occasion before
					t.Fatalf("%d lies, and nobody has seen %q: %.2000s", lies(), unseen, text)
				}
			}
		})
	}
}

// The witness by itself.
func TestWitness(t *testing.T) {
	t.Parallel()
	one := func(owner int, asked, from, to, left time.Duration, token uint64) hold {
		return hold{Name: "g x", Owner: owner, Asked: asked, From: from, To: to, Left: left, Token: token, Limit: 1}
	}
	many := func(owner int, from, to time.Duration) hold {
		return hold{Name: "s x", Owner: owner, Asked: from - 1, From: from, To: to, Left: to + 1, Limit: 2}
	}
	for _, c := range []struct {
		what      string
		holds     []hold
		overlaps  int
		porcupine int
	}{
		{"one after another", []hold{one(1, 0, 10, 20, 30, 5), one(2, 5, 25, 40, 50, 6)}, 0, 0},
		{"two at once", []hold{one(1, 0, 10, 20, 30, 5), one(2, 5, 15, 40, 50, 6)}, 1, 1},
		{"the same token again", []hold{one(1, 0, 10, 20, 30, 5), one(2, 35, 40, 50, 60, 5)}, 1, 1},
		{"a token goes back", []hold{one(1, 0, 10, 20, 30, 5), one(2, 35, 40, 50, 60, 4)}, 1, 1},
		{"one gives up", []hold{one(1, 0, 10, 20, 0, 5), one(2, 5, 25, 40, 50, 6)}, 0, 0},
		{"one gives up too late", []hold{one(1, 0, 10, 30, 0, 5), one(2, 5, 25, 40, 50, 6)}, 1, 1},
		{"a release on its way", []hold{one(1, 0, 10, 20, 100, 5), one(2, 5, 25, 40, 50, 6)}, 0, 0},
		{"a limit", []hold{many(1, 10, 30), many(2, 15, 40), many(3, 31, 50)}, 0, 0},
		{"beyond a limit", []hold{many(1, 10, 30), many(2, 15, 40), many(3, 20, 50)}, 1, 1},
	} {
		w := newWitness()
		w.holds = c.holds
		if got := w.overlaps(); len(got) != c.overlaps {
			t.Errorf("%s: %v", c.what, got)
		}
		if got := w.histories(); len(got) != c.porcupine {
			t.Errorf("%s: porcupine says %v", c.what, got)
		}
	}
}

// The rule of rates by itself.
func TestOverdrawn(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	// Of 10 units a second; each call takes a while.
	one := func(call, return_ time.Duration, units, open int) taking {
		return taking{Name: "r", Call: call, Return: return_, Units: units, Open: open, Limit: 10, Interval: time.Second}
	}
	takings := func(n int, every, takes time.Duration) (all []taking) {
		for i := range n {
			at := time.Duration(i) * every
			all = append(all, one(at, at+takes, 1, 1))
		}
		return all
	}
	full := func(takings []taking, open int) []taking {
		takings[len(takings)-1].Open = open
		return takings
	}
	for _, c := range []struct {
		what    string
		takings []taking
		starts  []time.Duration
		want    bool
	}{
		{"as much as there is", takings(100, 100*ms, 1), nil, false},
		{"a burst", takings(10, ms, 1), nil, false},
		{"a burst and a unit", takings(11, ms, 1), nil, true},
		{"a burst, and a unit that may have come back", takings(11, ms, 90*ms), nil, false},
		{"a burst, and a unit that cannot have come back", takings(11, ms, 90*ms-1), nil, true},
		{"two bursts", takings(20, ms, 1), nil, true},
		{"two bursts, and a start between them", takings(20, ms, 1), []time.Duration{10 * ms}, false},
		{"two bursts before a start", takings(20, ms, 1), []time.Duration{20 * ms}, true},
		{"two bursts, and two units more after a start", takings(22, ms, 1), []time.Duration{20 * ms}, true},
		{"three bursts, and a start", takings(30, ms, 1), []time.Duration{10 * ms}, true},
		{"a tenth too fast", takings(200, 90*ms, 1), nil, true},
		{"a tenth too fast, by calls that all take as long", takings(100, 90*ms, time.Second), nil, false},
		{"too much behind a long call that began first", append(takings(11, ms, 1), one(-time.Hour, 5*ms, 1, 1)), nil, true},
		{"many units at once", []taking{one(0, 1, 7, 10), one(2, 3, 4, 4)}, nil, true},
		{"all are open when they are not", full(takings(5, ms, 1), 10), nil, true},
		{"what is open", full(takings(5, ms, 1), 6), nil, false},
		{"what was open before others, it seems", []taking{one(0, 5, 1, 10), one(1, 2, 1, 9), one(3, 4, 1, 8)}, nil, false},
		{"more than a burst", full(takings(1, ms, time.Second), 11), nil, true},
		{"all are open after a start", full(takings(5, ms, 1), 10), []time.Duration{4 * ms}, false},
	} {
		w := newWitness()
		w.takings, w.starts = c.takings, c.starts
		if got := w.overdrawn(); (len(got) > 0) != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

// Clients that know nothing of all this, as PHP's and Node's, through the proxy: their
// connections and their locks are there when the server has been killed.
func TestOldClientsSurvive(t *testing.T) {
	if !hasProxy(t) {
		t.Skip("this lockd has no proxy")
	}
	t.Parallel()
	o := options{keep: 6 * time.Second, lockd: lockd}
	dir := t.TempDir()
	server, err := newServer(o, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.start(); err != nil {
		t.Fatal(err)
	}
	defer func() { server.kill() }()
	if err := server.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	proxy, err := newProcess(lockd, dir, "proxy", "--unix", socket, "--server", "tcp://"+server.addr, "--dead-peer-timeout", silence.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := proxy.start(); err != nil {
		t.Fatal(err)
	}
	defer func() { proxy.kill() }()
	if err := proxy.await(t.Context(), dialTo("unix", socket)); err != nil {
		t.Fatal(err)
	}
	type old struct {
		name string
		end  string // of its lines
		net.Conn
		in *bufio.Reader
	}
	dial := func(name, end, network, addr string) *old {
		c, err := net.Dial(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return &old{name, end, c, bufio.NewReader(c)}
	}
	say := func(c *old, line string) string {
		t.Helper()
		c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, line+c.end); err != nil {
			t.Fatalf("%s: %s: %v; the proxy's log:\n%s", c.name, line, err, proxy.tail(20))
		}
		got, err := c.in.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %s: %v; the proxy's log:\n%s", c.name, line, err, proxy.tail(20))
		}
		return strings.TrimSuffix(got, "\n")
	}
	// PHP's sends CRLF and waits for each reply, Node's a bare newline.
	php, node := dial("PHP's", "\r\n", "tcp", proxy.addr), dial("Node's", "\n", "unix", socket)
	other := dial("another", "\n", "tcp", proxy.addr)
	want := func(c *old, line, want string) {
		t.Helper()
		got := say(c, line)
		// On a busy machine a server that is there may need more time than such a client has.
		const recovering = "0 Server Recovering: "
		for end := time.Now().Add(patience); strings.HasPrefix(got, recovering) && !strings.HasPrefix(want, recovering) && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
			got = say(c, line)
		}
		if got != want {
			t.Errorf("%s: %s is answered %q, not %q", c.name, line, got, want)
		}
	}
	want(php, "g foo", "1 Lock Get Success: foo")
	want(node, "sg pool", "1 Shared Lock Get Success: pool")
	want(node, "g bar", "1 Lock Get Success: bar")
	for range 3 {
		killed := server.kill()
		// While there is none they get an answer all the same, and not too late for
		// them: those that come now are refused.
		want(php, "g new", "0 Server Recovering: new")
		if err := server.start(); err != nil {
			t.Fatal(err)
		}
		if err := server.await(t.Context()); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(patience); say(other, "g spare") != "1 Lock Get Success: spare"; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("there is nothing to get through the proxy; its log:\n%s", proxy.tail(20))
			}
		}
		t.Logf("old clients go on %v after the kill", (now() - killed).Round(time.Millisecond))
		want(other, "r spare", "1 Lock Release Success: spare")
		want(other, "g foo", "0 Lock Get Failure: foo")
		want(other, "g bar", "0 Lock Get Failure: bar")
		want(other, "sgl 1 pool", "0 Shared Lock Limit Reached: pool")
		want(php, "g foo", "1 Lock Get Success: foo")
		want(node, "sg pool", "1 Shared Lock Get Success: pool")
	}
	want(php, "r foo", "1 Lock Release Success: foo")
	want(other, "g foo", "1 Lock Get Success: foo")
	want(node, "r bar", "1 Lock Release Success: bar")
	want(node, "sr pool", "1 Shared Lock Release Success: pool")
	// A release while there is no server is one, too.
	server.kill()
	want(other, "r foo", "1 Lock Release Success: foo")
	if err := server.start(); err != nil {
		t.Fatal(err)
	}
	if err := server.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(php, "gw 20000 foo", "1 Lock Get Success: foo")
}
