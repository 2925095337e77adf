//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/etcd"
	"github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/pkg/server"
)

// What a wrong node does wrong: it is this program, with the server that others have, and a
// store that lies to it.
const (
	// serves past its right: every heartbeat has succeeded, and the map is the one that it
	// was then.
	past = "past"
	// grants while partitions recover: a G that is next to nothing has it wait for nobody.
	hasty = "hasty"
	// adopts an older map: when its registration is lost, and what it owned is others', it
	// finds in each map that it has that still.
	older = "older"
	// has a clock that is too slow: its clients count on locks for longer than their owners do.
	slow = "slow"
)

var wrongs = []string{past, hasty, older, slow}

// none is what a node does wrong that has a clock of its own, and all else as it should be.
const none = "none"

// Rates of clocks, to that of the machine. Who frees what somebody believes in waits for 1.1 G, and who
// believes for 0.95 G; a home says so while that is more than the time which its client counts on, here 0.85 G.
// So a clock has to be very slow until somebody believes for too long.
const (
	slowClock, fastClock = 0.94, 1.06
	slowLocker           = 0.97 // which counts on 0.95 K
	tooSlow              = 0.1
)

// goWrong has a node do something wrong, with a clock of such a rate.
func (n *node) goWrong(b *lab, what string, rate float64) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	n.program = self
	n.env = []string{wrongEnv + "=" + strings.Join([]string{what, b.etcd.url(), n.Name, n.Addr + ":9999", b.h().String(), b.k().String(), fmt.Sprint(rate)}, " ")}
	n.args = nil
	return nil
}

// differ has a node be another one than lockd, if that is wanted.
func (n *node) differ(b *lab, i int) error {
	switch {
	case i == 0 && b.Wrong == slow:
		return n.goWrong(b, none, tooSlow)
	case i == 0 && b.Wrong != "":
		return n.goWrong(b, b.Wrong, 1)
	case i < 2 && b.Clocks:
		return n.goWrong(b, none, []float64{slowClock, fastClock}[i])
	}
	return nil
}

// wrongNode is this program as one.
func wrongNode() error {
	words := strings.Fields(os.Getenv(wrongEnv))
	what, url, name, addr := words[0], words[1], words[2], words[3]
	h, _ := time.ParseDuration(words[4])
	k, _ := time.ParseDuration(words[5])
	rate, err := strconv.ParseFloat(words[6], 64)
	if err != nil {
		return err
	}
	kept.Skew(rate)
	to, err := etcd.Open(etcd.Config{URL: url})
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	o := server.Options{
		TCP: []string{addr}, Admin: "127.0.0.1:9997", Logger: log, DeadPeerTimeout: h, MaxKeep: k, LogLosses: true,
		Cluster: &server.Cluster{
			Store: &liar{Store: to, what: what}, Name: name, Addr: addr,
			Dial: func(ctx context.Context, addr string) (net.Conn, error) {
				return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
			},
		},
	}
	if what == hasty {
		o.DeadPeerTimeout, o.MaxKeep = 0, 0 // what fits its G
	}
	s, err := server.New(o)
	if err != nil {
		return err
	}
	if err := s.Listen(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	within, end := context.WithTimeout(context.Background(), 5*time.Second)
	defer end()
	return s.Shutdown(within)
}

// A liar is a node's way to the cluster's store.
type liar struct {
	cluster.Store
	what string

	mu    sync.Mutex // guards what follows
	view  *cluster.View
	owned map[int]cluster.Partition // what it has owned, as ID
	id    string
	lies  int
}

func (l *liar) Read(ctx context.Context) (*cluster.View, error) {
	v, err := l.Store.Read(ctx)
	return l.twist(v, err)
}

func (l *liar) Register(ctx context.Context, n cluster.Node) (cluster.Beat, error) {
	b, err := l.Store.Register(ctx, n)
	if err == nil {
		l.mu.Lock()
		l.id = n.ID
		l.mu.Unlock()
		b.View, err = l.twist(b.View, nil)
	}
	return b, err
}

func (l *liar) Beat(ctx context.Context, old, next cluster.Node) (cluster.Beat, error) {
	b, err := l.Store.Beat(ctx, old, next)
	if l.what == past {
		l.mu.Lock()
		defer l.mu.Unlock()
		if (err != nil || !b.Done) && l.view != nil {
			l.lie("its heartbeat has succeeded")
			return cluster.Beat{Done: true, View: l.view}, nil
		}
		if err == nil {
			l.view = b.View
		}
		return b, err
	}
	if err == nil {
		b.View, err = l.twist(b.View, nil)
	}
	return b, err
}

// twist is what the node is shown.
func (l *liar) twist(v *cluster.View, err error) (*cluster.View, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.what {
	case past:
		if l.view != nil && (err != nil || v.Node(l.id) == nil) {
			return l.view, nil
		}
	case hasty:
		if v != nil {
			lie := *v
			lie.Conf.G = lie.Conf.W + time.Millisecond
			return &lie, err
		}
	case older:
		if v == nil || l.id == "" {
			break
		}
		if l.owned == nil {
			l.owned = map[int]cluster.Partition{}
		}
		var was []int
		for p, one := range v.Map.Partitions {
			if one.Owner == l.id {
				l.owned[p] = one
			} else if _, had := l.owned[p]; had {
				was = append(was, p)
			}
		}
		if len(was) == 0 {
			break
		}
		l.lie("the map is the one before")
		text := v.Map.Encode()
		m, err := cluster.DecodeMap(text)
		if err != nil {
			return nil, err
		}
		next := m.Next()
		next.Version, next.Mark = m.Version, m.Mark
		for _, p := range was {
			next.Partitions[p].Owner = l.id
		}
		lie := *v
		lie.Map = next
		return &lie, nil
	}
	return v, err
}

// lie notes that. The caller holds l.mu.
func (l *liar) lie(what string) {
	if l.lies++; l.lies == 1 {
		fmt.Fprintln(os.Stderr, "from now on this node is told:", what)
	}
}
