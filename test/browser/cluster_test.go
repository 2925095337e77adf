package browser

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/cluster/memstore"
	"github.com/nylen/lockd/pkg/server"
)

// A node shows who the nodes are, and of a lock where it is served, and why there after that
// one has ended; a proxy shows its link to its server.
func TestCluster(t *testing.T) {
	t.Parallel()
	needBrowser(t)
	conf, err := cluster.NewConf(time.Second, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	keys := memstore.New(conf)
	var mu sync.Mutex
	there := make(map[string]*running)
	node := func(name string) *running {
		s := start(t, server.Options{DeadPeerTimeout: 2 * time.Second, Cluster: &server.Cluster{
			Store: keys.Store(), Name: name, Addr: name,
			Dial: func(ctx context.Context, addr string) (net.Conn, error) {
				mu.Lock()
				to := there[addr]
				mu.Unlock()
				if to == nil {
					return nil, errors.New("it has not begun")
				}
				return new(net.Dialer).DialContext(ctx, "tcp", to.addr("tcp"))
			},
		}})
		mu.Lock()
		there[name] = s
		mu.Unlock()
		return s
	}
	one, two := node("one"), node("two")
	p := open(t, desk, one.url("#/cluster"))
	p.live()
	p.text("#tabs", "Cluster")
	p.text(".facts", "512 serving")
	p.wait(`[...document.querySelectorAll("main tbody td.main")].map((td) => td.textContent).join() === "one,two"`)
	p.text("main tbody", "this node")
	p.text("main tbody", "live")
	// One lock of each of them, as a client of this one holds it.
	c := one.client("holder")
	for i := range 20 {
		c.ask(fmt.Sprint("g job", i), "1 ")
	}
	of := func(state string) string {
		for i := range 20 {
			p.view(fmt.Sprint("#/lock/job", i))
			p.text(".served", "Served by ")
			if eval[bool](p, `document.querySelector(".served").textContent.includes(%s)`, state) {
				return fmt.Sprint("job", i)
			}
		}
		t.Fatal("there is none")
		return ""
	}
	of("this node, one")
	p.text(".facts", "holder")
	other := of("Served by two")
	if text := eval[string](p, `document.querySelector(".served").textContent`); !strings.Contains(text, "that node knows") {
		t.Errorf("%q", text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := two.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	p.text(".served", "Served by this node, one")
	p.text(".served", "moved to this node from two, with all that was in it")
	p.text(".facts", "holder")
	p.text("h1", other)

	proxy := start(t, server.Options{DeadPeerTimeout: 2 * time.Second, Upstream: &server.Upstream{
		Target: "the node", Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", one.addr("tcp"))
		},
	}})
	q := open(t, desk, proxy.url("#/cluster"))
	q.live()
	q.text("#tabs", "Uplink")
	q.text(".facts", "reached")
	alone := open(t, desk, start(t, server.Options{}).url(""))
	alone.live()
	alone.wait(`document.querySelector('#tabs [data-tab="cluster"]').hidden`)
}
