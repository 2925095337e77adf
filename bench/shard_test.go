package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nylen/lockd/internal/shard"
)

// A table is what the benchmarks of exclusive locks need of one.
type table interface {
	get(owner int, name []byte) bool
	release(owner int, name []byte) bool
}

// owners is more than there are goroutines in any benchmark.
const owners = 4096

type lockd struct {
	set    *shard.Set
	owners [owners]owner
}

// owner is as far from the next one as connections' owners are: on cache
// lines of its own.
type owner struct {
	shard.Owner
	_ [128]byte
}

func newLockd() *lockd {
	l := &lockd{set: shard.New(0, shard.Config{})}
	share := l.set.NewShare(shard.ShareLimits{Locks: shard.DefaultMaxLocks / 2, Bytes: 8 << 30}) // of one client, as in a server
	for i := range l.owners {
		l.owners[i].ID, l.owners[i].Share = uint32(i+1), share
	}
	return l
}

func (l *lockd) get(owner int, name []byte) bool {
	_, out := l.set.Get(&l.owners[owner].Owner, name)
	return out == shard.Acquired
}

func (l *lockd) release(owner int, name []byte) bool {
	return l.set.Release(&l.owners[owner].Owner, name)
}

// mutexMap is the least that a peer can be: what one writes in ten lines.
type mutexMap struct {
	mu    sync.Mutex
	locks map[string]int
}

func (m *mutexMap) get(owner int, name []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if holder, held := m.locks[string(name)]; held {
		return holder == owner
	}
	m.locks[string(name)] = owner
	return true
}

func (m *mutexMap) release(owner int, name []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if holder, held := m.locks[string(name)]; !held || holder != owner {
		return false
	}
	delete(m.locks, string(name))
	return true
}

// ownersMap is the peer that can do what a lock server must: it knows what
// each owner holds, to release it when the owner goes.
type ownersMap struct {
	mutexMap
	held [owners]map[string]struct{}
}

func (m *ownersMap) get(owner int, name []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if holder, held := m.locks[string(name)]; held {
		return holder == owner
	}
	key := string(name)
	m.locks[key] = owner
	if m.held[owner] == nil {
		m.held[owner] = map[string]struct{}{}
	}
	m.held[owner][key] = struct{}{}
	return true
}

func (m *ownersMap) release(owner int, name []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if holder, held := m.locks[string(name)]; !held || holder != owner {
		return false
	}
	delete(m.locks, string(name))
	delete(m.held[owner], string(name))
	return true
}

const million = 1 << 20

// names are 16 bytes each, one after another, in random order.
var names = sync.OnceValue(func() []byte {
	all := make([]byte, 0, million*16)
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(million) {
		all = fmt.Appendf(all, "lock/%011d", i)
	}
	return all
})

func nameAt(all []byte, i int) []byte {
	i = i % million * 16
	return all[i : i+16]
}

// Exclusive is a get and a release: of one hot name, of a million random
// names of which none is held or all are, and of names never seen before.
func BenchmarkExclusive(b *testing.B) {
	tables := []struct {
		name string
		make func() table
	}{
		{"lockd", func() table { return newLockd() }},
		{"map", func() table { return &mutexMap{locks: map[string]int{}} }},
		{"owners-map", func() table { return &ownersMap{mutexMap: mutexMap{locks: map[string]int{}}} }},
	}
	for _, kind := range []string{"hot", "million", "million-held", "never-seen"} {
		for _, table := range tables {
			b.Run(kind+"/"+table.name, func(b *testing.B) { exclusive(b, table.make(), kind, false) })
			b.Run(kind+"-parallel/"+table.name, func(b *testing.B) { exclusive(b, table.make(), kind, true) })
		}
	}
}

func exclusive(b *testing.B, t table, kind string, parallel bool) {
	all := names()
	hot := []byte("lock/of everybody")
	var next atomic.Int64
	if kind == "million-held" {
		// Owner 0 holds all of them, and gives up one after another for a
		// moment: so the table stays large. In parallel, each goroutine has
		// its own part of the names.
		for i := range million {
			t.get(i*16/million, nameAt(all, i))
		}
	}
	// worker makes what one goroutine does again and again.
	worker := func() func() {
		g := int(next.Add(1))
		at := g * (million / 16)
		switch kind {
		case "hot":
			if parallel {
				return func() {
					if t.get(g, hot) {
						t.release(g, hot)
					}
				}
			}
			return func() {
				if !t.get(g, hot) || !t.release(g, hot) {
					b.Fatal("refused")
				}
			}
		case "million":
			// Two goroutines far apart in the same order seldom meet.
			return func() {
				name := nameAt(all, at)
				at++
				if t.get(g, name) {
					t.release(g, name)
				}
			}
		case "million-held":
			part := (g - 1) % 16
			if !parallel {
				part = -1
			}
			at = 0
			return func() {
				owner, i := part, part*(million/16)+at%(million/16)
				if part < 0 {
					i = at % million
					owner = i * 16 / million
				}
				at++
				name := nameAt(all, i)
				if !t.release(owner, name) || !t.get(owner, name) {
					b.Fatal("refused")
				}
			}
		default:
			buf := make([]byte, 0, 64)
			return func() {
				buf = append(buf[:0], "never/"...)
				buf = strconv.AppendInt(buf, int64(g), 10)
				buf = append(buf, '/')
				buf = strconv.AppendInt(buf, int64(at), 10)
				at++
				if !t.get(g, buf) || !t.release(g, buf) {
					b.Fatal("refused")
				}
			}
		}
	}
	if kind == "million-held" && parallel && runtime.GOMAXPROCS(0) > 16 {
		b.Skip("there are 16 parts, and more goroutines")
	}
	b.ReportAllocs()
	if parallel {
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			do := worker()
			for pb.Next() {
				do()
			}
		})
		return
	}
	do := worker()
	do() // makes the owner's lists
	for b.Loop() {
		do()
	}
}

// Shared is a get and a release of a shared lock that many others hold: the
// same however many they are.
func BenchmarkShared(b *testing.B) {
	for _, holders := range []int{0, 10, 10_000, 100_000} {
		b.Run(fmt.Sprintf("holders=%d", holders), func(b *testing.B) {
			set := shard.New(0, shard.Config{})
			room := []byte("room for many")
			all := make([]shard.Owner, holders)
			for i := range all {
				all[i].ID = uint32(i + 2)
				set.GetShared(&all[i], room)
			}
			o := &shard.Owner{ID: 1}
			if g, _ := set.GetShared(o, room); g.Count != holders+1 {
				b.Fatalf("%d hold it", g.Count)
			}
			set.ReleaseShared(o, room)
			b.ReportAllocs()
			for b.Loop() {
				set.GetShared(o, room)
				set.ReleaseShared(o, room)
			}
		})
		if holders == 0 {
			continue
		}
		// One of those in the middle goes and comes back.
		b.Run(fmt.Sprintf("holders=%d-one-of-them", holders), func(b *testing.B) {
			set := shard.New(0, shard.Config{})
			room := []byte("room for many")
			all := make([]shard.Owner, holders)
			for i := range all {
				all[i].ID = uint32(i + 2)
				set.GetShared(&all[i], room)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i = (i + 7919) % holders
				if !set.ReleaseShared(&all[i], room) {
					b.Fatal("not held")
				}
				set.GetShared(&all[i], room)
			}
		})
	}
}

// Orphans is the end of an owner that holds 100,000 locks.
func BenchmarkOrphans(b *testing.B) {
	const n = 100_000
	for _, kind := range []string{"exclusive", "shared"} {
		b.Run(kind, func(b *testing.B) {
			set := shard.New(0, shard.Config{})
			all := names()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				o := &shard.Owner{ID: uint32(i + 1)}
				for i := range n {
					if kind == "exclusive" {
						set.Get(o, nameAt(all, i))
					} else {
						set.GetShared(o, nameAt(all, i))
					}
				}
				b.StartTimer()
				set.ReleaseAll(o)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/lock")
		})
	}
}
