package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/certs"
	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/etcd"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
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

// TestAuth: who is not let in is told why.
func TestAuth(t *testing.T) {
	t.Parallel()
	e := newEnsemble(t, 1, nil)
	client := e.client()
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

// TestTLS: by certificates on both sides.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	ca, err := certs.NewAuthority("test", now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.Server([]string{"127.0.0.1"}, now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Client("lockd", now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	trusted := write("ca.pem", ca.Cert)
	cert, key := write("client.pem", client.Cert), write("client-key.pem", client.Key)
	info := transport.TLSInfo{
		CertFile: write("server.pem", server.Cert), KeyFile: write("server-key.pem", server.Key),
		TrustedCAFile: trusted, ClientCertAuth: true,
	}
	e := newEnsemble(t, 1, func(c *embed.Config) { c.ClientTLSInfo = info })
	read := func(c etcd.Config) error {
		s := open(t, c)
		ctx, cancel := context.WithTimeout(bg, 2*time.Second)
		defer cancel()
		_, err := s.Read(ctx)
		return s.Diagnose(bg, err)
	}
	if err := read(etcd.Config{URL: e.url("/c"), CA: trusted, Cert: cert, Key: key}); !errors.Is(err, cluster.ErrNoCluster) {
		t.Error(err)
	}
	if err := read(etcd.Config{URL: "etcds" + strings.TrimPrefix(e.url("/c"), "etcd")}); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Error(err)
	}
}
