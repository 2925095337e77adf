// Package cluster_test holds internal/cluster and internal/etcd to real etcds, of one
// and of three members, in this process. It is a module of its own, since a server of
// etcd is nothing that lockd's users shall have to download.
package cluster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/etcd"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// patience is how long a test waits for what should come soon.
const patience = 40 * time.Second

var bg = context.Background()

// An ensemble is the members of an etcd.
type ensemble struct {
	t       *testing.T
	dir     string
	hosts   []string // of clients
	peers   []string
	members []*embed.Etcd // nil: stopped
	adjust  func(*embed.Config)
}

// freePort finds one below those that outgoing connections have on most systems: it is to be
// free still when somebody listens there, and again after a restart.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 12000+rand.IntN(20000)))
		if err != nil {
			continue
		}
		l.Close()
		if _, given := givenPorts.LoadOrStore(l.Addr().String(), true); !given {
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

var givenPorts sync.Map

func newEnsemble(t *testing.T, n int, adjust func(*embed.Config)) *ensemble {
	t.Helper()
	e := &ensemble{t: t, dir: t.TempDir(), members: make([]*embed.Etcd, n), adjust: adjust}
	for range n {
		e.hosts = append(e.hosts, freePort(t))
		e.peers = append(e.peers, freePort(t))
	}
	t.Cleanup(func() {
		for i := range e.members {
			e.stop(i)
		}
	})
	e.startAll()
	return e
}

func (e *ensemble) path(i int) string { return filepath.Join(e.dir, fmt.Sprint("m", i)) }

func (e *ensemble) start(i int) error {
	c := embed.NewConfig()
	c.Name, c.Dir = fmt.Sprint("m", i), e.path(i)
	c.UnsafeNoFsync = true
	c.TickMs, c.ElectionMs = 20, 300
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	scheme := "http"
	if e.adjust != nil {
		e.adjust(c)
		if !c.ClientTLSInfo.Empty() {
			scheme = "https"
		}
	}
	client := []url.URL{{Scheme: scheme, Host: e.hosts[i]}}
	peer := []url.URL{{Scheme: "http", Host: e.peers[i]}}
	c.ListenClientUrls, c.AdvertiseClientUrls = client, client
	c.ListenPeerUrls, c.AdvertisePeerUrls = peer, peer
	var initial []string
	for j, p := range e.peers {
		initial = append(initial, fmt.Sprintf("m%d=http://%s", j, p))
	}
	c.InitialCluster = strings.Join(initial, ",")
	m, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	e.members[i] = m
	select {
	case <-m.Server.ReadyNotify():
		return nil
	case <-time.After(patience):
		return fmt.Errorf("etcd %d is not ready", i)
	}
}

func (e *ensemble) startAll() {
	e.t.Helper()
	errs := make([]error, len(e.members))
	var all sync.WaitGroup
	for i := range e.members {
		if e.members[i] == nil {
			all.Go(func() { errs[i] = e.start(i) })
		}
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			e.t.Fatal(err)
		}
	}
}

// stop ends a member like a crash does.
func (e *ensemble) stop(i int) {
	if m := e.members[i]; m != nil {
		m.Server.HardStop()
		// Close would wait for clients for 5 s and two elections: nothing is left of that.
		m.Server.Cfg.ElectionTicks = -int(5*time.Second/time.Millisecond) / 2 / int(m.Server.Cfg.TickMs)
		m.Close()
		e.members[i] = nil
	}
}

func (e *ensemble) leader() int {
	for i, m := range e.members {
		if m != nil && m.Server.Leader() == m.Server.MemberID() {
			return i
		}
	}
	return 0
}

func (e *ensemble) url(prefix string) string { return "etcd://" + strings.Join(e.hosts, ",") + prefix }

func (e *ensemble) client() *clientv3.Client {
	e.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: e.hosts, Logger: zap.NewNop(), DialTimeout: patience})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { c.Close() })
	return c
}

func open(t *testing.T, c etcd.Config) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(bg, patience)
	t.Cleanup(cancel)
	return ctx
}

// newCluster makes a cluster with a short W.
func newCluster(t *testing.T, e *ensemble, w time.Duration) *etcd.Store {
	t.Helper()
	s := open(t, etcd.Config{URL: e.url("/c")})
	c, err := cluster.NewConf(w, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Init(soon(t), c, cluster.NewMap()); err != nil {
		t.Fatal(err)
	}
	return s
}

// A host has no locks, and no time for recovery either.
type host struct {
	mu      sync.Mutex
	self    string
	m       *cluster.Map
	deposed int
	older   int
	frozen  map[int]bool
}

func (h *host) Adopt(self string, m *cluster.Map, nodes []cluster.Node) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.m != nil && m.Version < h.m.Version {
		h.older++
	}
	h.self, h.m = self, m
	for p := range h.frozen {
		if m.Partitions[p].Owner != self {
			delete(h.frozen, p)
		}
	}
}

func (h *host) Deposed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.m, h.frozen = nil, nil
	h.deposed++
}

func (h *host) Highest() uint64 { return 0 }

func (h *host) Status() cluster.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.m == nil {
		return cluster.Status{}
	}
	return cluster.Status{Serving: len(h.m.Owned(h.self)) - len(h.frozen), Frozen: len(h.frozen)}
}

func (h *host) Freeze(parts []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frozen = make(map[int]bool)
	for _, p := range parts {
		h.frozen[p] = true
	}
}

func (h *host) Thaw(parts []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range parts {
		delete(h.frozen, p)
	}
}

func (h *host) Copy(context.Context, cluster.Node, []cluster.Part, uint64) error { return nil }

// A member is a node in this process.
type member struct {
	*cluster.Member
	host *host
	stop context.CancelFunc
	done chan struct{}
}

func (e *ensemble) member(t *testing.T, name string) *member {
	t.Helper()
	h := new(host)
	m, err := cluster.Join(soon(t), cluster.Options{Store: open(t, etcd.Config{URL: e.url("/c")}), Host: h, Name: name, Addr: name + ":1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(bg)
	n := &member{m, h, stop, make(chan struct{})}
	go func() { m.Run(ctx); close(n.done) }()
	t.Cleanup(n.kill)
	return n
}

func (m *member) kill() { m.stop(); <-m.done }

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for begun := time.Now(); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatalf("not %s", what)
		}
	}
}

// even tells whether so many members own the same number of partitions, or one more,
// and all that own some know it.
func even(t *testing.T, s *etcd.Store, members ...*member) func() bool {
	return func() bool {
		v, err := s.Read(soon(t))
		if err != nil || len(v.Nodes) != len(members) {
			return false
		}
		counts := v.Map.Count()
		for _, m := range members {
			if c := counts[m.Self()]; c < cluster.Partitions/len(members) || c > cluster.Partitions/len(members)+1 || m.host.Status().Serving != c {
				return false
			}
		}
		return true
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
