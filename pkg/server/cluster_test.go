package server

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/cluster/memstore"
	"github.com/nylen/lockd/internal/shard"
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
		TCP: []string{"systemd:lines"}, Inherited: map[string][]net.Listener{"lines": {l}},
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

// nodeOf returns who serves a name.
func nodeOf(name string, nodes ...*testNode) int {
	for i, n := range nodes {
		if n.conns.Hub().Serves([]byte(name)) {
			return i
		}
	}
	return -1
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
