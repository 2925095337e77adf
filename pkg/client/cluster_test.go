package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/cluster/memstore"
	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// A clusterOf is some nodes over one store.
type clusterOf struct {
	t     *testing.T
	keys  *memstore.Keys
	nodes []*node

	mu   sync.Mutex
	ways map[string]string // where nodes are whose addresses nobody else reaches
}

type node struct {
	*server.Server
	store *memstore.Store
	addr  string // as it is advertised
	real  string
}

// startCluster starts nodes whose clients come first in the test, to be ended first.
func startCluster(t *testing.T, n int) *clusterOf { return startClusterOf(t, n, 3*time.Second) }

// startClusterOf has a longest time for which anybody may believe in a lock.
func startClusterOf(t *testing.T, n int, longest time.Duration) *clusterOf {
	conf, err := cluster.NewConf(500*time.Millisecond, longest)
	must(t, err)
	c := &clusterOf{t: t, keys: memstore.New(conf), ways: make(map[string]string)}
	for range n {
		c.start("")
	}
	c.settle()
	return c
}

// start starts a node, under an address that is not its own if there is one.
func (c *clusterOf) start(advertised string) *node {
	t := c.t
	t.Helper()
	l := listen(t)
	n := &node{store: c.keys.Store(), addr: l.Addr().String(), real: l.Addr().String()}
	if advertised != "" {
		n.addr = advertised
		c.mu.Lock()
		c.ways[advertised] = n.real
		c.mu.Unlock()
	}
	var dialer net.Dialer
	var err error
	n.Server, err = server.New(server.Options{
		TCP: []string{"systemd:lines"}, Inherited: map[string][]net.Listener{"lines": {l}},
		Logger: slog.New(slog.DiscardHandler),
		Cluster: &server.Cluster{
			Store: n.store, Name: fmt.Sprint("node", len(c.nodes)), Addr: n.addr,
			Dial: func(ctx context.Context, addr string) (net.Conn, error) {
				c.mu.Lock()
				if way, ok := c.ways[addr]; ok {
					addr = way
				}
				c.mu.Unlock()
				return dialer.DialContext(ctx, "tcp", addr)
			},
		},
	})
	must(t, err)
	must(t, n.Listen())
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		n.Shutdown(ctx)
	})
	c.nodes = append(c.nodes, n)
	return n
}

// settle waits until all partitions are served, by every node that lives.
func (c *clusterOf) settle() {
	c.t.Helper()
	ctx := within(c.t)
	for {
		served, last := 0, ""
		for _, n := range c.nodes {
			for _, line := range c.ask(n.real, "map") {
				last = line
			}
		}
		v, err := c.keys.Store().Read(ctx)
		must(c.t, err)
		for _, n := range v.Nodes {
			served += n.Serving
		}
		counts := slices.Collect(maps.Values(v.Map.Count()))
		even := len(counts) == len(c.nodes) && slices.Max(counts)-slices.Min(counts) <= 1 // or they would go on to move
		if even && served == cluster.Partitions && last == fmt.Sprint(v.Map.Version, " End") {
			return
		}
		if !pause(ctx) {
			c.t.Fatalf("%d partitions are served", served)
		}
	}
}

func pause(ctx context.Context) bool {
	select {
	case <-time.After(5 * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}

// ask asks a node something in protocol 1.
func (c *clusterOf) ask(addr, request string) (lines []string) {
	c.t.Helper()
	conn, err := client.Dial(within(c.t), client.Options{Target: addr}, 1)
	must(c.t, err)
	defer conn.Close()
	isMark, err := conn.SendMarked(request)
	must(c.t, err)
	for {
		line, _, err := conn.Read()
		must(c.t, err)
		if isMark(line) {
			return lines
		}
		lines = append(lines, string(line))
	}
}

// kill ends a node without a word to the others.
func (c *clusterOf) kill(n *node) {
	n.store.Away(true)
	ctx, stop := context.WithCancel(context.Background())
	stop()
	n.Shutdown(ctx)
	for i, one := range c.nodes {
		if one == n {
			c.nodes = append(c.nodes[:i:i], c.nodes[i+1:]...)
		}
	}
}

func (c *clusterOf) locker(opts client.LockerOptions) *client.Locker {
	c.t.Helper()
	opts.SetMapSpread(time.Millisecond)
	opts.MinBackoff, opts.MaxBackoff = time.Millisecond, 20*time.Millisecond
	opts.Logger = slog.New(slog.DiscardHandler)
	l, err := client.NewLocker(opts)
	must(c.t, err)
	c.t.Cleanup(func() { l.Close() })
	return l
}

// direct takes a lock until that is over a connection to who serves it.
func direct(t *testing.T, l *client.Locker, name string) *client.Lock {
	t.Helper()
	ctx := within(t)
	for {
		lock, err := l.Acquire(ctx, name)
		must(t, err)
		if owner := l.OwnerOf(lock.Name()); owner != "" && lock.Reached() == owner {
			return lock
		}
		must(t, lock.Release(ctx))
		pause(ctx)
	}
}

// nameOf returns a name that an address serves, when the Locker knows that it serves any.
func nameOf(t *testing.T, l *client.Locker, addr string, i int) string {
	t.Helper()
	for ctx := within(t); ; pause(ctx) {
		for k := range 1000 {
			if name := fmt.Sprint("name ", i*1000+k); l.OwnerOf(name) == "tcp://"+addr {
				return name
			}
		}
		must(t, ctx.Err())
	}
}

// Each request goes to who serves its name, and means the same as if it did not.
func TestLockerGoesByTheMap(t *testing.T) {
	for _, opts := range []client.LockerOptions{{}, {Connections: 3}, {Keep: time.Second}} {
		t.Run(fmt.Sprint(opts.Connections, opts.Keep), func(t *testing.T) {
			c, ctx := startCluster(t, 3), within(t)
			opts.Target = c.nodes[1].addr
			l := c.locker(opts)
			other := c.locker(client.LockerOptions{NoMap: true, Options: client.Options{Target: c.nodes[2].addr}})
			must(t, l.Ready(ctx))
			for _, n := range c.nodes {
				name := nameOf(t, l, n.addr, 0)
				lock := direct(t, l, "  "+name+" ")
				if lock.Name() != name || lock.Err() != nil || lock.Token() == 0 {
					t.Error(lock.Name(), lock.Err(), lock.Token())
				}
				_, err := other.TryAcquire(ctx, name)
				mustBe(t, err, client.ErrNotAcquired)
				held, err := other.Inspect(ctx, name)
				must(t, err)
				if !held {
					t.Error("nobody holds it")
				}
				must(t, lock.Release(ctx))
				again, err := other.TryAcquire(ctx, name)
				must(t, err)
				if again.Token() <= lock.Token() {
					t.Error(again.Token(), lock.Token())
				}
				_, err = l.TryAcquire(ctx, name)
				mustBe(t, err, client.ErrNotAcquired)
				must(t, again.Release(ctx))

				shared, err := l.AcquireShared(ctx, name, 2)
				must(t, err)
				second, err := other.AcquireShared(ctx, name, 2)
				must(t, err)
				_, err = l.TryAcquireShared(ctx, name, 2)
				mustBe(t, err, client.ErrNotAcquired)
				must(t, shared.Release(ctx))
				must(t, second.Release(ctx))
				if entries, err := l.Look(ctx, name); err != nil || len(entries) != 0 {
					t.Error(entries, err)
				}
			}
		})
	}
}

// The node that was connected to first is not asked for what others serve.
func TestLimiterGoesByTheMap(t *testing.T) {
	c, ctx := startCluster(t, 3), within(t)
	l := c.locker(client.LockerOptions{Options: client.Options{Target: c.nodes[0].addr}})
	must(t, l.Ready(ctx))
	name := nameOf(t, l, c.nodes[2].addr, 0)
	must(t, direct(t, l, name).Release(ctx))
	limiter := l.Limiter(name, 5, time.Hour)
	for i := range 6 {
		d, err := limiter.Allow(ctx)
		must(t, err)
		if d.Allowed != (i < 5) {
			t.Error(i, d)
		}
	}
	if way := l.WayOfRate(name); way != "tcp://"+c.nodes[2].addr {
		t.Error(way)
	}
}

// What is held at a node that is gone is lost; what is held elsewhere is not, and what the
// one has served its heirs do.
func TestLockerOutlivesANode(t *testing.T) {
	c, ctx := startCluster(t, 3), within(t)
	l := c.locker(client.LockerOptions{Options: client.Options{
		Target: "tcp://" + c.nodes[0].addr + "," + c.nodes[1].addr + "," + c.nodes[2].addr,
	}})
	must(t, l.Ready(ctx))
	locks := make(map[*node]*client.Lock)
	for _, n := range c.nodes {
		locks[n] = direct(t, l, nameOf(t, l, n.addr, 0))
	}
	gone := c.nodes[1]
	c.kill(gone)
	select {
	case <-locks[gone].Lost():
	case <-ctx.Done():
		t.Fatal("the lock of a dead node is held")
	}
	for _, n := range c.nodes {
		if err := locks[n].Err(); err != nil {
			t.Error(n.addr, err)
		}
		must(t, direct(t, l, nameOf(t, l, n.addr, 1)).Release(ctx))
	}
	// Its names are to be had once the heirs have waited for those who hold something.
	name := locks[gone].Name()
	again := direct(t, l, name)
	if again.Reached() == "tcp://"+gone.addr {
		t.Error("by whom is this served?")
	}
	if again.Token() <= locks[gone].Token() {
		t.Error(again.Token(), locks[gone].Token())
	}
	for _, n := range c.nodes {
		must(t, locks[n].Release(ctx))
	}
	must(t, again.Release(ctx))
}

// With Keep, what is held at a node that is gone is held on, by way of another one.
func TestKeptLockOutlivesANode(t *testing.T) {
	c, ctx := startClusterOf(t, 3, 30*time.Second), within(t)
	back := make(chan client.KeepEvent, 100)
	l := c.locker(client.LockerOptions{
		Keep: 25 * time.Second, OnKeep: func(e client.KeepEvent) { back <- e },
		Options: client.Options{Target: c.nodes[0].addr + "," + c.nodes[1].addr + "," + c.nodes[2].addr},
	})
	must(t, l.Ready(ctx))
	gone := c.nodes[1]
	lock := direct(t, l, nameOf(t, l, gone.addr, 0))
	beside := direct(t, l, nameOf(t, l, c.nodes[0].addr, 0))
	c.kill(gone)
	for resumed := false; !resumed; {
		select {
		case e := <-back:
			t.Log(e)
			if resumed = e.Kind == client.KeepMoved; resumed && (e.From != "tcp://"+gone.addr || e.Target == e.From) {
				t.Errorf("moved from %s to %s", e.From, e.Target)
			}
		case <-lock.Lost():
			t.Fatal(lock.Err())
		case <-ctx.Done():
			t.Fatal("it does not come back")
		}
	}
	if lock.Err() != nil || beside.Err() != nil {
		t.Error(lock.Err(), beside.Err())
	}
	if held, err := l.Inspect(ctx, lock.Name()); err != nil || !held {
		t.Error(held, err)
	}
	must(t, lock.Release(ctx))
	must(t, beside.Release(ctx))
}

// An owner that clients cannot reach is asked by a node that they can.
func TestLockerOfAnUnreachableOwner(t *testing.T) {
	c := startCluster(t, 2)
	closed := listen(t)
	closed.Close()
	c.start(closed.Addr().String())
	// It gets partitions when somebody ends.
	c.kill(c.nodes[1])
	c.settle()
	ctx := within(t)
	l := c.locker(client.LockerOptions{Options: client.Options{Target: c.nodes[0].addr}})
	must(t, l.Ready(ctx))
	name := nameOf(t, l, closed.Addr().String(), 0)
	for range 20 {
		lock, err := l.Acquire(ctx, name)
		must(t, err)
		if lock.Reached() != "tcp://"+c.nodes[0].addr {
			t.Error(lock.Reached())
		}
		must(t, lock.Release(ctx))
		pause(ctx)
	}
}

// A server that is alone, or a Locker that is not to, has no map.
func TestLockerWithoutAMap(t *testing.T) {
	ctx := within(t)
	addr := listen(t)
	go newServer(t, server.Options{}).Serve(addr)
	c := startCluster(t, 1)
	for _, opts := range []client.LockerOptions{
		{Options: client.Options{Target: addr.Addr().String()}},
		{Options: client.Options{Target: c.nodes[0].addr}, NoMap: true},
		{Options: client.Options{Dial: func(context.Context) (net.Conn, error) { return net.Dial("tcp", c.nodes[0].addr) }}},
	} {
		l := c.locker(opts)
		lock, err := l.Acquire(ctx, "x")
		must(t, err)
		if owner := l.OwnerOf("x"); owner != "" {
			t.Error(owner)
		}
		must(t, lock.Release(ctx))
		must(t, l.Close())
	}
}

// Calls go on when the node ends that was connected to first, also those that wait.
func TestWaitsOutliveANode(t *testing.T) {
	c, ctx := startCluster(t, 3), within(t)
	all := c.nodes[0].addr + "," + c.nodes[1].addr + "," + c.nodes[2].addr
	l := c.locker(client.LockerOptions{NoMap: true, Options: client.Options{Target: all}})
	first, err := l.Acquire(ctx, "x")
	must(t, err)
	other := c.locker(client.LockerOptions{Options: client.Options{Target: all}})
	got := make(chan error, 1)
	go func() {
		lock, err := other.Acquire(ctx, "x")
		if err == nil {
			err = lock.Release(ctx)
		}
		got <- err
	}()
	for _, n := range c.nodes {
		if "tcp://"+n.addr == first.Reached() {
			c.kill(n)
			break
		}
	}
	select {
	case <-first.Lost():
	case <-ctx.Done():
		t.Fatal("not lost")
	}
	must(t, <-got)
	lock, err := l.Acquire(ctx, "x")
	must(t, err)
	must(t, lock.Release(ctx))
}

func TestTargets(t *testing.T) {
	for in, want := range map[string][]string{
		"a:1":                         {"a:1"},
		"a:1,b:2":                     {"a:1", "b:2"},
		"tcp://a:1,b:2,tls://c:3,d:4": {"tcp://a:1", "b:2", "tls://c:3", "tls://d:4"},
		"tls://a:1,[::1]:2":           {"tls://a:1", "tls://[::1]:2"},
		"unix:///a,b,unix:///c":       {"unix:///a,b", "unix:///c"},
		"wss://a/x,y":                 {"wss://a/x,y"},
		"9,10":                        {"9", "10"},
	} {
		if got, err := client.Targets(in); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"a:1,", ",a:1", "tls://a:1,b", "a:1,ftp://b:2"} {
		if got, err := client.Targets(bad); err == nil {
			t.Errorf("%s is %q", bad, got)
		}
		if err := (client.Options{Target: bad}).Validate(); err == nil {
			t.Errorf("%s is an option", bad)
		}
	}
	if err := (client.Options{Target: "a:1,b:2", Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("x") }}).Validate(); err == nil {
		t.Error("several targets and one Dial")
	}
	if _, err := (client.TLSFiles{ServerName: "x"}).For("tls://a:1,tcp://b:2"); err == nil {
		t.Error("one without TLS")
	}
}

// Of several targets one that answers is taken, whatever the others do.
func TestSeveralTargets(t *testing.T) {
	ctx := within(t)
	refuses := listen(t)
	refuses.Close()
	quiet := listen(t)
	serves := listen(t)
	go newServer(t, server.Options{}).Serve(serves)
	opts := client.Options{Target: refuses.Addr().String() + "," + quiet.Addr().String() + "," + serves.Addr().String()}
	for range 3 {
		conn, err := client.Dial(ctx, opts, 2)
		must(t, err)
		if conn.Target() != "tcp://"+serves.Addr().String() {
			t.Error(conn.Target())
		}
		conn.Close()
	}
	for _, keep := range []time.Duration{0, time.Second} {
		l, err := client.NewLocker(client.LockerOptions{Options: opts, Keep: keep})
		must(t, err)
		lock, err := l.Acquire(ctx, "x")
		must(t, err)
		must(t, lock.Release(ctx))
		must(t, l.Close())
	}
	opts.Target = refuses.Addr().String() + "," + serves.Addr().String()
	for range 3 {
		c := start(t, opts)
		must(t, c.Get(ctx, "x"))
		must(t, c.Release(ctx, "x"))
		conn, err := client.Connect(ctx, opts)
		must(t, err)
		conn.Close()
	}
	opts.Target = refuses.Addr().String() + "," + refuses.Addr().String()
	_, err := client.Dial(ctx, opts, 2)
	mustBe(t, err, client.ErrUnreachable)
}
