package server

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/cluster/memstore"
	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/state"
)

// A testCluster is some nodes over one store.
type testCluster struct {
	t    *testing.T
	keys *memstore.Keys
	conf cluster.Conf
}

func newTestCluster(t *testing.T, w, g time.Duration) *testCluster {
	conf, err := cluster.NewConf(w, g)
	if err != nil {
		t.Fatal(err)
	}
	return &testCluster{t: t, keys: memstore.New(conf), conf: conf}
}

type testNode struct {
	*Server
	store *memstore.Store
	addr  string
}

// node starts one.
func (c *testCluster) node(name string) *testNode {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	n := &testNode{store: c.keys.Store(), addr: l.Addr().String()}
	var dialer net.Dialer
	n.Server, err = New(Options{
		DeadPeerTimeout: 2 * time.Second, // which leaves time between what confirms a hold and what rests on that
		TCP:             []string{"systemd:lines"}, Inherited: map[string][]net.Listener{"lines": {l}},
		Logger: slog.New(slog.NewTextHandler(testWriter{c.t, name}, nil)),
		Cluster: &Cluster{
			Store: n.store, Name: name, Addr: n.addr,
			Dial: func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) },
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := n.Listen(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		n.Shutdown(ctx)
	})
	return n
}

type testWriter struct {
	t    *testing.T
	name string
}

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s: %s", w.name, strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// serving waits until all partitions are served by so many nodes.
func (c *testCluster) serving(nodes ...*testNode) {
	c.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		n := 0
		for _, one := range nodes {
			n += one.conns.Hub().Partitions().Serving
		}
		if n == shard.Partitions {
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("%d partitions are served", n)
		}
	}
}

type lineClient struct {
	net.Conn
	in *bufio.Reader
	t  *testing.T
}

func (n *testNode) lines(t *testing.T) *lineClient {
	t.Helper()
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &lineClient{c, bufio.NewReader(c), t}
}

func (c *lineClient) ask(request string) string {
	c.t.Helper()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(c, "%s\n", request)
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatalf("%s: %v", request, err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (c *lineClient) gets(request, want string) {
	c.t.Helper()
	if got := c.ask(request); got != want {
		c.t.Errorf("%q is answered %q, want %q", request, got, want)
	}
}

func TestCluster(t *testing.T) {
	c := newTestCluster(t, 500*time.Millisecond, 3*time.Second)
	nodes := []*testNode{c.node("a"), c.node("b"), c.node("c")}
	c.serving(nodes...)
	one, two := nodes[0].lines(t), nodes[1].lines(t)
	for i := range 30 {
		x := fmt.Sprint("x", i)
		one.gets("g "+x, "1 Lock Get Success: "+x)
		two.gets("g "+x, "0 Lock Get Failure: "+x)
	}
	one.Close()
	for i := range 30 {
		x := fmt.Sprint("x", i)
		for got := ""; got != "1 Lock Get Success: "+x; got = two.ask("g " + x) {
		}
	}
}

// TestClusterReady: a node is not ready while it has no right to serve, and a new one not
// before it is registered.
func TestClusterReady(t *testing.T) {
	c := newTestCluster(t, 500*time.Millisecond, 3*time.Second)
	a := c.node("a")
	c.serving(a)
	if err := a.ready(); err != nil {
		t.Errorf("a node that serves: %v", err)
	}
	a.store.Away(true)
	eventually(t, func() bool {
		err := a.ready()
		return err != nil && strings.Contains(err.Error(), "has not confirmed it for")
	})
	a.store.Away(false)
	eventually(t, func() bool { return a.ready() == nil })
	late, err := New(Options{Cluster: &Cluster{Store: c.keys.Store(), Name: "late", Addr: "127.0.0.1:1", Dial: a.opts.Cluster.Dial}})
	if err != nil {
		t.Fatal(err)
	}
	if err := late.ready(); err == nil || err.Error() != "not registered in the cluster" {
		t.Errorf("a node that is not registered: %v", err)
	}
	late.Shutdown(context.Background())
}

// eventually waits until something is so.
func eventually(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it has not come to that")
		}
	}
}

// TestClusterLeavesLate: also a node whose time to drain is over tells the others that it ends:
// they need not wait for that.
func TestClusterLeavesLate(t *testing.T) {
	c := newTestCluster(t, 5*time.Second, 10*time.Second)
	a := c.node("a")
	c.serving(a)
	over, stop := context.WithCancel(context.Background())
	stop()
	a.Shutdown(over)
	if v, err := c.keys.Store().Read(context.Background()); err != nil || len(v.Nodes) > 0 {
		t.Errorf("%d nodes are registered: %v", len(v.Nodes), err)
	}
}

// TestClusterEarly: who asks before a node knows who serves what, and may wait, is answered
// when somebody does.
func TestClusterEarly(t *testing.T) {
	c := newTestCluster(t, time.Second, 3*time.Second)
	a := c.node("a")
	c.node("b")
	begun := time.Now()
	var all sync.WaitGroup
	for i := range 20 {
		one := a.lines(t)
		all.Go(func() {
			name := fmt.Sprint("x", i)
			one.gets("gw 20000 "+name, "1 Lock Get Success: "+name)
		})
	}
	all.Wait()
	if took := time.Since(begun); took > 6*time.Second {
		t.Errorf("it took %v", took)
	}
}

// token takes a lock, which is free, and returns its token.
func (c *lineClient) token(name string) (token uint64) {
	c.t.Helper()
	c.gets("gw 20000 "+name, "1 Lock Get Success: "+name)
	if _, err := fmt.Sscan(c.ask("t "+name), &token); err != nil {
		c.t.Fatal(err)
	}
	return token
}

// TestClusterAfter: in a cluster that follows others nobody gets anything before their
// holders know, and then with a larger token, though the clock is hours behind it. That
// the clock is behind delays no reply.
func TestClusterAfter(t *testing.T) {
	conf, err := cluster.NewConf(500*time.Millisecond, 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	base := uint64(time.Now().Add(7 * time.Hour).UnixMicro())
	c := &testCluster{t: t, conf: conf, keys: memstore.NewWith(conf, cluster.NewMapAfter(base))}
	a, b := c.node("a"), c.node("b")
	eventually(t, func() bool {
		return a.conns.Hub().Partitions().Recovering+b.conns.Hub().Partitions().Recovering == shard.Partitions
	})
	one := a.lines(t)
	one.gets("g early", "0 Server Recovering: early")
	c.serving(a, b)
	begun := time.Now()
	highest := uint64(0)
	for i := range 200 {
		token := one.token(fmt.Sprint("x", i))
		if token < base {
			t.Fatalf("x%d has the token %d, which is %d below the base", i, token, base-token)
		}
		highest = max(highest, token)
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	if v, err := c.keys.Store().Read(context.Background()); err != nil || v.TokensBelow() <= highest {
		t.Errorf("the store says that tokens are below %d, and there was %d: %v", v.TokensBelow(), highest, err)
	}
	// The same when a node has left.
	if err := a.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	two := b.lines(t)
	for i := range 200 {
		name := fmt.Sprint("x", i)
		if token := two.token(name); token < base {
			t.Fatalf("%s has the token %d after %d", name, token, highest)
		}
	}
	v, err := c.keys.Store().Read(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b.Shutdown(context.Background())
	last, err := c.keys.Store().Read(context.Background())
	if err != nil || len(last.Nodes) > 0 || last.TokensBelow() < v.TokensBelow() {
		t.Errorf("when all have left tokens are below %d, and were below %d: %v", last.TokensBelow(), v.TokensBelow(), err)
	}
}

// TestAfterCluster: a single server whose state file says so gives larger tokens than a
// cluster, though its clock is hours behind them, when it has waited for the cluster's
// holders. That the clock is behind delays no reply.
func TestAfterCluster(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	below := uint64(time.Now().Add(7 * time.Hour).UnixMicro())
	if err := state.NewAfter(path, below, 2200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	last := below
	for i := range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(Options{
			TCP: []string{"systemd:lines"}, Inherited: map[string][]net.Listener{"lines": {l}}, State: path,
			DeadPeerTimeout: 2 * time.Second, MaxKeep: time.Second, Logger: slog.New(slog.NewTextHandler(testWriter{t, "single"}, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Listen(); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		one := (&testNode{Server: s, addr: l.Addr().String()}).lines(t)
		first := one.token("first")
		if waited := time.Since(begun); i == 0 && waited < 2*time.Second || i > 0 && waited > time.Second {
			t.Errorf("start %d: it has waited for %v", i, waited)
		}
		if first < last {
			t.Fatalf("start %d: the token is %d, %d below those before", i, first, last-first)
		}
		begun = time.Now()
		for n := range 500 {
			last = max(last, one.token(fmt.Sprint("x", n)))
		}
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("start %d: 500 grants took %v", i, took)
		}
		one.Close()
		s.Shutdown(context.Background())
	}
	if s, err := state.Show(path); err != nil || s.Floor <= last || s.Floor > last+5<<21 {
		t.Errorf("tokens are below %d, and there was %d: %v", s.Floor, last, err)
	}
}

// TestClusterDrain: a node that drains does not wait for the links of others.
func TestClusterDrain(t *testing.T) {
	c := newTestCluster(t, 500*time.Millisecond, 3*time.Second)
	nodes := []*testNode{c.node("a"), c.node("b")}
	c.serving(nodes...)
	one := nodes[1].lines(t)
	for i := range 30 {
		one.gets(fmt.Sprint("g x", i), fmt.Sprint("1 Lock Get Success: x", i))
	}
	if clients, more := nodes[0].conns.Hub().Clients(10); len(clients)+more != 0 {
		t.Errorf("%d clients are to be waited for", len(clients)+more)
	}
	// Without an end of its own: it would wait for who holds something.
	if err := nodes[0].Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	for i := range 30 {
		one.gets(fmt.Sprint("r x", i), fmt.Sprint("1 Lock Release Success: x", i))
	}
}

// all returns the lines of a reply in protocol 1: up to that of a ping behind it.
func (c *lineClient) all(request string) (lines []string) {
	c.t.Helper()
	for line := c.ask(request + "\nping"); line != "1 pong"; {
		lines = append(lines, line)
		got, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("%s: %v", request, err)
		}
		line = strings.TrimSuffix(got, "\n")
	}
	return lines
}

// TestClusterLists: whoever asks whichever node is told of the whole cluster, and of clients
// as they are known where they are connected.
func TestClusterLists(t *testing.T) {
	c := newTestCluster(t, 500*time.Millisecond, 3*time.Second)
	nodes := []*testNode{c.node("a"), c.node("b"), c.node("c")}
	c.serving(nodes...)
	one, two := nodes[0].lines(t), nodes[1].lines(t)
	addr := one.LocalAddr().String()
	one.gets("iam first", "1 ok")
	two.gets("iam second", "1 ok")
	names, holders := []string{}, []string{}
	for i := range 20 {
		x := fmt.Sprintf("x%02d", i)
		one.gets("g "+x, "1 Lock Get Success: "+x)
		one.gets("sg "+x, "1 Shared Lock Get Success: "+x)
		two.gets("sg "+x, "2 Shared Lock Get Success: "+x)
		names, holders = append(names, x+": first"), append(holders, x+":"+addr)
	}
	for i, n := range nodes {
		look := n.lines(t)
		sorted := func(request string) []string {
			got := look.all(request)
			slices.Sort(got)
			return got
		}
		if got := sorted("d"); !slices.Equal(got, names) {
			t.Errorf("node %d: d: %q", i, got)
		}
		if got := sorted("sd"); len(got) != 40 {
			t.Errorf("node %d: sd: %q", i, got)
		}
		if got := sorted("who"); !slices.Equal(got, slices.Sorted(slices.Values([]string{addr + ": first", two.LocalAddr().String() + ": second"}))) {
			t.Errorf("node %d: who: %q", i, got)
		}
		if got := sorted("who first"); len(got) != 1 {
			t.Errorf("node %d: who first: %q", i, got)
		}
		dump, ok := strings.CutPrefix(look.ask("dump"), "map[")
		dump, ok2 := strings.CutSuffix(dump, "]")
		got := strings.Fields(dump)
		slices.Sort(got)
		if !ok || !ok2 || !slices.Equal(got, holders) {
			t.Errorf("node %d: dump: %q", i, got)
		}
		if got := look.ask("dump shared"); strings.Count(got, "[") != 21 || strings.Count(got, addr) != 20 {
			t.Errorf("node %d: dump shared: %q", i, got)
		}
		all := look.all("look* x")
		if len(all) != 61 || all[60] != "1 End" {
			t.Errorf("node %d: look*: %q", i, all)
		}
		for _, line := range all[:60] {
			if f := strings.Split(line, "\t"); len(f) != 7 || f[5] != addr && f[5] != two.LocalAddr().String() {
				t.Errorf("node %d: look*: %q", i, line)
			}
		}
		for j := range 20 {
			x := fmt.Sprintf("x%02d", j)
			if got := look.all("d " + x); !slices.Equal(got, []string{x + ": first"}) {
				t.Errorf("node %d: d %s: %q", i, x, got)
			}
			if got := look.all("sd " + x); !slices.Equal(got, []string{x + ": first", x + ": second"}) {
				t.Errorf("node %d: sd %s: %q", i, x, got)
			}
			if got := look.all("look " + x); len(got) != 4 || got[3] != "1 End" || !strings.Contains(got[0], "\t"+addr+"\tfirst") {
				t.Errorf("node %d: look %s: %q", i, x, got)
			}
		}
		counts := look.all("q")
		for _, want := range []string{"locks: 20", "shared_locks: 20", "connections: " + fmt.Sprint(3+i), "command_iam: 2"} {
			if !slices.Contains(counts, want) {
				t.Errorf("node %d: q: no %q in %q", i, want, counts)
			}
		}
		for command, least := range map[string]int{"command_g: ": 20, "command_sg: ": 40} { // more where a node did not serve for a moment
			if !slices.ContainsFunc(counts, func(line string) bool {
				n, err := strconv.Atoi(strings.TrimPrefix(line, command))
				return err == nil && n >= least
			}) {
				t.Errorf("node %d: q: no %q of %d in %q", i, command, least, counts)
			}
		}
	}
	// In protocol 2 too, one after another over a connection.
	two.gets("hello 2", "2 lockd "+Version)
	fmt.Fprint(two, "7 d\n7 dump\n7 look x01\n7 ping\n")
	for items := 0; ; {
		line, err := two.in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "7 - ") {
			items++
		}
		if line == "7 1 pong\n" {
			if items != 23 {
				t.Errorf("%d items", items)
			}
			break
		}
	}
	// A client is kicked from whichever node.
	kicker := nodes[2].lines(t)
	kicker.gets("kick 127.0.0.1:1", "0 No Such Client: 127.0.0.1:1")
	kicker.gets("kick "+addr, "1 Kicked: "+addr)
	if _, err := one.in.ReadString('\n'); err == nil {
		t.Error("it goes on")
	}
	eventually(t, func() bool { return len(kicker.all("d")) == 0 })
	losses := kicker.all("losses 100 x03")
	if len(losses) != 3 || losses[2] != "1 End" {
		t.Errorf("losses: %q", losses)
	} else if f := strings.Split(losses[0], "\t"); f[4] != "kick" || f[8] != addr || f[9] != "first" || f[14] != kicker.LocalAddr().String() {
		t.Errorf("a loss is %q", f)
	}
}

// TestClusterListsOfSome: what cannot be asked is told at the end.
func TestClusterListsOfSome(t *testing.T) {
	c := newTestCluster(t, 500*time.Millisecond, 60*time.Second)
	nodes := []*testNode{c.node("a"), c.node("b")}
	c.serving(nodes...)
	one := nodes[0].lines(t)
	mine, others := "", ""
	for i := range 20 {
		x := fmt.Sprintf("x%02d", i)
		one.gets("g "+x, "1 Lock Get Success: "+x)
		if nodes[0].conns.Hub().Serves([]byte(x)) {
			mine = x
		} else {
			others = x
		}
	}
	nodes[1].store.Away(true) // it has no right to serve soon, and says so
	eventually(t, func() bool { return nodes[1].ready() != nil })
	last := func(request string) string {
		all := one.all(request)
		return all[len(all)-1]
	}
	for request, want := range map[string]string{
		"d": "0 Unavailable (b)", "sd": "0 Unavailable (b)", "look*": "0 Unavailable: b",
		"dump": "0 Unavailable: dump", "look " + others: "0 Unavailable: " + others,
		"d " + others: "0 Unavailable (" + others + ")", "d " + mine: mine + ": " + one.LocalAddr().String(),
	} {
		// Until the others have deleted it: then nobody serves what it did, for a while.
		if got := last(request); got != want {
			t.Errorf("%s ends with %q, want %q", request, got, want)
		}
	}
	if got := one.all("who"); len(got) != 0 {
		t.Errorf("who: %q", got)
	}
}

// TestClusterLongLists: lists of much come whole, through more than there is room for on the
// way, and one that its client leaves is nobody's burden.
func TestClusterLongLists(t *testing.T) {
	c := newTestCluster(t, 500*time.Millisecond, 20*time.Second)
	nodes := []*testNode{c.node("a"), c.node("b"), c.node("c")}
	c.serving(nodes...)
	const locks = 10_000
	name := func(i int) string { return fmt.Sprintf("%05d%s", i, strings.Repeat("x", 60)) }
	holder := nodes[0].lines(t)
	holder.SetDeadline(time.Now().Add(60 * time.Second))
	go func() {
		for i := range locks {
			fmt.Fprintf(holder, "g %s\n", name(i))
		}
	}()
	for i := range locks {
		if line, err := holder.in.ReadString('\n'); err != nil || line != "1 Lock Get Success: "+name(i)+"\n" {
			t.Fatalf("%d: %q, %v", i, line, err)
		}
	}
	gone := nodes[1].lines(t)
	fmt.Fprint(gone, "d\n")
	gone.Read(make([]byte, 1000)) // and no more
	gone.Close()
	look := nodes[1].lines(t)
	for request, more := range map[string]int{"d": 0, "look* 0": 1} {
		got := make(map[string]bool)
		all := look.all(request)
		for _, line := range all {
			got[line] = true
		}
		if len(all) != locks+more || len(got) != len(all) {
			t.Errorf("%s: %d lines, %d different ones", request, len(all), len(got))
		}
	}
	dump := strings.Fields(strings.TrimSuffix(strings.TrimPrefix(look.ask("dump"), "map["), "]"))
	slices.Sort(dump)
	if len(slices.Compact(dump)) != locks {
		t.Errorf("dump: %d", len(dump))
	}
	two := nodes[2].lines(t)
	two.gets("hello 2", "2 lockd "+Version)
	if got := two.ask("0 dump"); strings.Count(got, holder.LocalAddr().String()) != locks || !strings.HasPrefix(got, "0 1 map[0") || !strings.HasSuffix(got, "x:"+holder.LocalAddr().String()+"]") {
		t.Errorf("dump in protocol 2: %d bytes, %.80q", len(got), got)
	}
}

// TestClusterListsOfMoved: a name that has gone elsewhere is asked for there.
func TestClusterListsOfMoved(t *testing.T) {
	c := newTestCluster(t, 500*time.Millisecond, 3*time.Second)
	nodes := []*testNode{c.node("a"), c.node("b"), c.node("c")}
	c.serving(nodes...)
	one := nodes[0].lines(t)
	for i := range 20 {
		one.gets(fmt.Sprint("g x", i), fmt.Sprint("1 Lock Get Success: x", i))
	}
	over := make(chan error, 1)
	go func() { over <- nodes[2].Shutdown(context.Background()) }()
	look := nodes[1].lines(t)
	for done := false; !done; {
		select {
		case err := <-over:
			done = true
			if err != nil {
				t.Error(err)
			}
		default:
		}
		for i := range 20 {
			x := fmt.Sprint("x", i)
			all := look.all("d " + x)
			if len(all) == 0 || len(all) == 1 && (all[0] == "0 Unavailable ("+x+")" || strings.HasPrefix(all[0], x+": ")) {
				continue // it is not claimed yet, on its way, or there
			}
			t.Fatalf("d %s: %q", x, all)
		}
	}
	eventually(t, func() bool { return len(look.all("d")) == 20 })
}
