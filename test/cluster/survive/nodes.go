//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// A node is a lockd of the cluster.
type node struct{ *process }

func (b *lab) newNode(name string) (*node, error) {
	m, err := b.network.Machine(name)
	if err != nil {
		return nil, err
	}
	addr := m.Addr + ":9999"
	n := &node{&process{Machine: m, program: b.Lockd, log: filepath.Join(b.dir, name+".log")}}
	n.args = append([]string{
		"serve", "--cluster", b.etcd.url(), "--node", name, "--advertise", addr, "--tcp", addr, "--admin", "127.0.0.1:9997",
		"--dead-peer-timeout", b.h().String(), "--max-keep", b.k().String(), "--log-losses", "--max-share", "off",
	}, b.serve...)
	return n, nil
}

// commands runs a lockd on the machine that nothing befalls.
func (b *lab) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.Lockd, args...)
	if err := b.desk.Command(cmd); err != nil {
		return "", err
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("lockd %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (b *lab) cluster(ctx context.Context, args ...string) (string, error) {
	return b.command(ctx, append([]string{"cluster", args[0], "--cluster", b.etcd.url()}, args[1:]...)...)
}

// A history is what all maps said, as far as they were seen.
type history struct {
	mu     sync.Mutex // guards what follows
	sights []*sight
	names  map[string]string
	since  map[string]time.Duration // when a node was first seen, by its ID
}

// follow looks at the map all the time.
func (b *lab) follow(ctx context.Context) {
	for ; ctx.Err() == nil; wait(ctx, 200*time.Millisecond) {
		s, err := b.etcd.look(ctx)
		if err != nil {
			continue
		}
		h := &b.history
		h.mu.Lock()
		if h.names == nil {
			h.names, h.since = map[string]string{}, map[string]time.Duration{}
		}
		for id, name := range s.names {
			if _, known := h.names[id]; !known {
				h.names[id], h.since[id] = name, s.at
			}
		}
		if len(h.sights) == 0 || h.sights[len(h.sights)-1].m.Mark != s.m.Mark {
			h.sights = append(h.sights, s)
			counts := map[string]int{}
			for id, n := range s.m.Count() {
				counts[h.names[id]+"/"+id[:min(4, len(id))]] = n
			}
			b.logf("map %d: %v", s.m.Version, counts)
		}
		h.mu.Unlock()
	}
}

// owners returns the names of the nodes that owned a lock's partition within a time, as far
// as was seen.
func (h *history) owners(name string, from, to time.Duration) (owners []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := shard.PartitionOf([]byte(name))
	for i, s := range h.sights {
		if s.at > to || i+1 < len(h.sights) && h.sights[i+1].at < from {
			continue
		}
		id := s.m.Partitions[p].Owner
		owners = append(owners, fmt.Sprintf("%s/%s", h.names[id], id[:min(4, len(id))]))
	}
	return owners
}

// changed tells how often the map was another one within a time.
func (h *history) changed(from, to time.Duration) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sights {
		if s.at > from && s.at <= to {
			n++
		}
	}
	return n
}

// last is the newest; nil: none was seen yet.
func (h *history) last() *sight {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.sights) == 0 {
		return nil
	}
	return h.sights[len(h.sights)-1]
}

// served waits until all partitions are served by somebody.
func (b *lab) served(ctx context.Context) error {
	var out string
	var err error
	for end := time.Now().Add(patience + 3*b.W + 2*b.G); time.Now().Before(end) && ctx.Err() == nil; wait(ctx, 300*time.Millisecond) {
		if out, err = b.cluster(ctx, "status"); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the cluster does not get well: %s%w", out, err)
}
