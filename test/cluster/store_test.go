package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/certs"
	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/etcd"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

func node(id int, seq uint64) cluster.Node {
	return cluster.Node{ID: fmt.Sprintf("%016x", id), Name: fmt.Sprint("n", id), Addr: "a:1", Protocol: 1, Seq: seq}
}

// TestStore: each operation does what it says, and compares what it has to.
func TestStore(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			e := newEnsemble(t, n, nil)
			s := open(t, etcd.Config{URL: e.url("/c")})
			ctx := soon(t)
			if _, err := s.Read(ctx); !errors.Is(err, cluster.ErrNoCluster) {
				t.Fatalf("read of nothing: %v", err)
			}
			s = newCluster(t, e, time.Second)
			if err := s.Init(ctx, cluster.Conf{}, cluster.NewMap()); !errors.Is(err, cluster.ErrExists) {
				t.Errorf("init of what is there: %v", err)
			}
			read := func() *cluster.View {
				t.Helper()
				v, err := s.Read(ctx)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			read() // from now on it belongs to that world
			a, b := node(1, 1), node(2, 1)
			for i, want := range []bool{true, false} {
				r, err := s.Register(ctx, a)
				if own := r.View.Node(a.ID); err != nil || r.Done != want || own == nil || own.Encode() != a.Encode() {
					t.Fatalf("registration %d: %+v, %v", i, r, err)
				}
			}
			if r, err := s.Register(ctx, b); err != nil || !r.Done || len(r.View.Nodes) != 2 || r.View.Map == nil {
				t.Fatalf("%+v, %v", r, err)
			}
			next := node(1, 2)
			for i, want := range []bool{true, false} {
				r, err := s.Beat(ctx, a, next)
				if err != nil || r.Done != want || r.View.Node(a.ID).Seq != 2 {
					t.Fatalf("beat %d: %+v, %v", i, r, err)
				}
			}
			if r, err := s.Beat(ctx, node(3, 1), node(3, 2)); err != nil || r.Done || r.View.Node(node(3, 1).ID) != nil {
				t.Fatalf("the beat of who is not registered: %+v, %v", r, err)
			}

			v := read()
			seen := v.Map
			change := func(mutate func(c *cluster.Change)) cluster.Change {
				c := cluster.Change{Seen: seen, Next: seen.Next()}
				c.Next.Partitions[7] = cluster.Partition{Owner: b.ID, Epoch: 1, Nonce: 99}
				mutate(&c)
				return c
			}
			for name, mutate := range map[string]func(c *cluster.Change){
				"another map":          func(c *cluster.Change) { c.Seen = c.Next },
				"nobody there":         func(c *cluster.Change) { c.Present = []string{a.ID, node(3, 1).ID} },
				"somebody there":       func(c *cluster.Change) { c.Absent = []string{b.ID} },
				"who has beaten since": func(c *cluster.Change) { c.Gone = []cluster.Node{a} },
			} {
				if done, err := s.Commit(ctx, change(mutate)); done || err != nil {
					t.Errorf("%s: %v, %v", name, done, err)
				}
			}
			if v := read(); v.Map.Version != seen.Version || len(v.Nodes) != 2 {
				t.Fatalf("a change that failed has changed something: %+v", v)
			}
			c := change(func(c *cluster.Change) {
				c.Gone, c.Present, c.Absent = []cluster.Node{*v.Node(a.ID)}, []string{b.ID}, []string{node(3, 1).ID}
			})
			if done, err := s.Commit(ctx, c); !done || err != nil {
				t.Fatalf("a change: %v, %v", done, err)
			}
			if v := read(); v.Map.Encode() != c.Next.Encode() || v.Map.Partitions[7].Nonce != 99 || v.Node(a.ID) != nil {
				t.Errorf("%+v", v)
			}
			if done, err := s.Commit(ctx, c); done || err != nil {
				t.Errorf("the same once more: %v, %v", done, err)
			}

			for i, want := range []bool{true, false} {
				if done, err := s.PutWant(ctx, v.Want, cluster.Want{}.Drain("n1", true)); done != want || err != nil {
					t.Errorf("want %d: %v, %v", i, done, err)
				}
			}
			if w := read().Want; !w.Drained("n1") || w.Drained("n2") {
				t.Errorf("%+v", w)
			}
			w := read().Want
			if done, err := s.PutWant(ctx, w, cluster.Want{Still: true}); !done || err != nil || !read().Want.Still {
				t.Errorf("%v, %v", done, err)
			}

			// Another cluster in the same place.
			client := e.client()
			if _, err := client.Delete(ctx, "/c/", clientv3.WithPrefix()); err != nil {
				t.Fatal(err)
			}
			all := func(want error) {
				t.Helper()
				_, err := s.Read(ctx)
				errs := map[string]error{"read": err}
				_, errs["register"] = s.Register(ctx, node(4, 1))
				_, errs["beat"] = s.Beat(ctx, b, node(2, 2))
				_, errs["commit"] = s.Commit(ctx, cluster.Change{Seen: c.Next, Next: c.Next.Next()})
				_, errs["want"] = s.PutWant(ctx, cluster.Want{}, cluster.Want{})
				for op, err := range errs {
					if !errors.Is(err, want) {
						t.Errorf("%s: %v, want %v", op, err, want)
					}
				}
			}
			all(cluster.ErrNoCluster)
			newCluster(t, e, time.Second)
			all(cluster.ErrWorld)
			if r, err := client.Get(ctx, "/c/node/", clientv3.WithPrefix()); err != nil || len(r.Kvs) > 0 {
				t.Errorf("in the other cluster's place: %v, %v", r, err)
			}
		})
	}
}

// TestWatch: maps, wants, and nodes that come and go are told, heartbeats are not, and
// that goes on over a restart and a compaction.
func TestWatch(t *testing.T) {
	t.Parallel()
	e := newEnsemble(t, 1, nil)
	s := newCluster(t, e, time.Second)
	ctx := soon(t)
	v, err := s.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	watch := s.Watch(ctx)
	told := func(what string) {
		t.Helper()
		select {
		case <-watch:
		case <-time.After(patience):
			t.Fatalf("%s is not told", what)
		}
	}
	told("the begin")
	a := node(1, 1)
	if _, err := s.Register(ctx, a); err != nil {
		t.Fatal(err)
	}
	told("a registration")
	if _, err := s.Beat(ctx, a, node(1, 2)); err != nil {
		t.Fatal(err)
	}
	change := func() {
		t.Helper()
		next := v.Map.Next()
		if done, err := s.Commit(ctx, cluster.Change{Seen: v.Map, Next: next}); !done || err != nil {
			t.Fatal(done, err)
		}
		if v, err = s.Read(ctx); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-watch:
		t.Error("a heartbeat is told")
	case <-time.After(200 * time.Millisecond):
	}
	change()
	told("a map")
	client := e.client()
	for range 3 {
		e.stop(0)
		e.startAll()
		change()
		r, err := client.Get(ctx, "/c/map")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Compact(ctx, r.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
			t.Fatal(err)
		}
		told("a map over a restart")
	}
	for len(watch) > 0 {
		<-watch
	}
	change()
	told("a map behind it")
}

// enableAuth has an etcd ask who one is, and know lockd, who may read and write below /c/.
func enableAuth(t *testing.T, client *clientv3.Client) {
	t.Helper()
	ctx := soon(t)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(client.UserAdd(ctx, "root", "r"))
	must(client.UserGrantRole(ctx, "root", "root"))
	must(client.RoleAdd(ctx, "lockd"))
	must(client.RoleGrantPermission(ctx, "lockd", "/c/", clientv3.GetPrefixRangeEnd("/c/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	must(client.UserAdd(ctx, "lockd", "secret"))
	must(client.UserGrantRole(ctx, "lockd", "lockd"))
	must(client.AuthEnable(ctx))
}

// TestAuth: who is not let in is told why.
func TestAuth(t *testing.T) {
	t.Parallel()
	e := newEnsemble(t, 1, nil)
	client := e.client()
	ctx := soon(t)
	enableAuth(t, client)
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(dir, fmt.Sprint(len(text)))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	right, wrong := file("secret\n"), file("wrong")
	for _, c := range []struct {
		config etcd.Config
		want   string
	}{
		{etcd.Config{URL: e.url("/c")}, "needs a user and a password"},
		{etcd.Config{URL: e.url("/c"), User: "lockd", PasswordFile: wrong}, "does not know this user with this password"},
		{etcd.Config{URL: e.url("/d"), User: "lockd", PasswordFile: right}, "does not let this user read and write /d/"},
		{etcd.Config{URL: e.url("/c"), User: "lockd", PasswordFile: right}, "there is no cluster here"},
	} {
		if _, err := open(t, c.config).Read(ctx); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.config, err, c.want)
		}
	}
	s := open(t, etcd.Config{URL: e.url("/c"), User: "lockd", PasswordFile: right})
	conf, _ := cluster.NewConf(0, 0)
	if err := s.Init(ctx, conf, cluster.NewMap()); err != nil {
		t.Error(err)
	}
	if v, err := s.Read(ctx); err != nil {
		t.Error(err)
	} else if done, err := s.Commit(ctx, cluster.Change{Seen: v.Map, Next: v.Map.Next()}); !done || err != nil {
		t.Error(done, err)
	}
	// An etcd that forgets its tokens, as in a restart.
	e.stop(0)
	e.startAll()
	if _, err := s.Read(ctx); err != nil {
		t.Error(err)
	}
}

// A papers is an authority, an etcd's certificate by it, and clients'.
type papers struct {
	t    *testing.T
	dir  string
	ca   string
	info transport.TLSInfo
}

func newPapers(t *testing.T) *papers {
	t.Helper()
	p := &papers{t: t, dir: t.TempDir()}
	now := time.Now()
	ca, err := certs.NewAuthority("test", now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	p.ca = p.file("ca.pem", ca.Cert)
	server, err := ca.Server([]string{"127.0.0.1", "etcd.example"}, now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Client("somebody", now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	p.file("client.pem", client.Cert)
	p.file("client-key.pem", client.Key)
	p.info = transport.TLSInfo{
		CertFile: p.file("server.pem", server.Cert), KeyFile: p.file("server-key.pem", server.Key),
		TrustedCAFile: p.ca, ClientCertAuth: true,
	}
	return p
}

func (p *papers) file(name string, text []byte) string {
	p.t.Helper()
	path := p.path(name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func (p *papers) path(name string) string { return filepath.Join(p.dir, name) }

// TestTLS: by certificates on both sides. Whatever is wrong is told, though etcd's client
// knows no more than that there was no answer.
func TestTLS(t *testing.T) {
	t.Parallel()
	ours, others := newPapers(t), newPapers(t)
	secure := newEnsemble(t, 1, func(c *embed.Config) { c.ClientTLSInfo = ours.info })
	plain := newEnsemble(t, 1, nil)
	cert, key := ours.path("client.pem"), ours.path("client-key.pem")
	url := secure.url("/c")
	var all sync.WaitGroup
	for _, c := range []struct {
		config etcd.Config
		want   string
	}{
		{etcd.Config{URL: url, CA: ours.ca, Cert: cert, Key: key}, "there is no cluster here"},
		{etcd.Config{URL: url, CA: ours.ca, Cert: cert, Key: key, ServerName: "etcd.example"}, "there is no cluster here"},
		{etcd.Config{URL: url, CA: ours.ca, Cert: cert, Key: key, ServerName: "other.example"}, "not other.example: give the server's name that is in it"},
		{etcd.Config{URL: url}, " speaks TLS: want etcds://, or a CA"},
		{etcd.Config{URL: "etcds" + strings.TrimPrefix(url, "etcd")}, "by an authority that is not trusted here: is it the right CA?"},
		{etcd.Config{URL: url, CA: others.ca, Cert: cert, Key: key}, "by an authority that is not trusted here: is it the right CA?"},
		{etcd.Config{URL: url, CA: ours.ca}, " asks for a client's certificate: name one, and its key"},
		{etcd.Config{URL: url, CA: ours.ca, Cert: others.path("client.pem"), Key: others.path("client-key.pem")}, " refuses the client's certificate: is it by an authority that it trusts?"},
		{etcd.Config{URL: plain.url("/c"), CA: ours.ca}, " speaks no TLS: want etcd://, and neither a CA nor a certificate"},
	} {
		all.Go(func() {
			s := open(t, c.config)
			ctx, cancel := context.WithTimeout(bg, 3*time.Second)
			defer cancel()
			_, err := s.Read(ctx)
			if err = s.Diagnose(bg, err); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %v, want %q", c.config, err, c.want)
			}
		})
	}
	all.Wait()
}

// TestOldEtcd: the machine's etcd is started again, and forgets its tokens. Those before 3.5
// take one that has ended for who asks for another.
func TestOldEtcd(t *testing.T) {
	binary, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("there is no etcd on this machine")
	}
	t.Parallel()
	dir, host, peer := t.TempDir(), freePort(t), freePort(t)
	var cmd *exec.Cmd
	start := func() {
		t.Helper()
		cmd = exec.Command(binary, "--data-dir", filepath.Join(dir, "data"), "--name", "a",
			"--listen-client-urls", "http://"+host, "--advertise-client-urls", "http://"+host,
			"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "a=http://"+peer)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	stop := func() { cmd.Process.Kill(); cmd.Wait() }
	start()
	defer func() { stop() }()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{host}, Logger: zap.NewNop(), DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	enableAuth(t, client)
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, etcd.Config{URL: "etcd://" + host + "/c", User: "lockd", PasswordFile: password})
	conf, _ := cluster.NewConf(0, 0)
	if err := s.Init(soon(t), conf, cluster.NewMap()); err != nil {
		t.Fatal(err)
	}
	stop()
	start()
	eventually(t, "read after a restart", func() bool {
		ctx, cancel := context.WithTimeout(bg, 2*time.Second)
		defer cancel()
		_, err := s.Read(ctx)
		return err == nil
	})
}
