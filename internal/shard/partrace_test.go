package shard

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// A raceNode is a partitioned set and who is there, in a test with many goroutines.
type raceNode struct {
	*Set
	share  *Share
	mu     sync.Mutex // guards owners and ids
	owners map[uint32]*Owner
	ids    uint32
}

func (n *raceNode) newOwner() *Owner {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ids++
	o := &Owner{ID: n.ids, Share: n.share}
	n.owners[o.ID] = o
	return o
}

func (n *raceNode) ownerOf(id uint32) *Owner {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.owners[id]
}

func (n *raceNode) end(o *Owner) {
	if o.Waits() {
		n.Cancel(o)
	}
	n.ReleaseAll(o)
	n.Forget(o)
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.owners, o.ID)
}

// A raceCluster is two of them, between which partitions move.
type raceCluster struct {
	nodes [2]*raceNode
	names [][]byte
	wake  []chan struct{} // by the ID of an owner, which is the same in both

	requests atomic.Int64

	mu     sync.Mutex
	tokens []map[uint64]bool   // that were granted, by name
	stand  map[uint32][]uint32 // IDs of who stands in for an owner
	of     map[standIn]uint32  // and the owner for whom it does
}

func (c *raceCluster) notify(id uint32) {
	if int(id) < len(c.wake) {
		select {
		case c.wake[id] <- struct{}{}:
		default:
		}
	}
}

// granted notes a token, which nobody else has got for that name.
func (c *raceCluster) granted(t *testing.T, name int, g Grant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tokens[name][g.Token] {
		t.Errorf("%q is granted twice with %d", c.names[name], g.Token)
	}
	c.tokens[name][g.Token] = true
}

func (c *raceCluster) standIns(id uint32) []uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]uint32(nil), c.stand[id]...)
}

// at returns the node that has a partition, or one of them.
func (c *raceCluster) at(p int) int {
	if c.nodes[0].Partition(p) == PartitionAbsent {
		return 1
	}
	return 0
}

// A raceHold is what a client of both believes to hold.
type raceHold struct {
	node, name int
	kind       Kind
	token      uint64
}

// client gets, waits, releases and claims until it is told to end.
func (c *raceCluster) client(t *testing.T, id uint32, done *atomic.Bool) {
	rnd := rand.New(rand.NewPCG(uint64(id), 5))
	me := [2]*Owner{c.nodes[0].ownerOf(id), c.nodes[1].ownerOf(id)}
	var held []raceHold
	for ; !done.Load(); c.requests.Add(1) {
		i := rnd.IntN(len(c.names))
		name := c.names[i]
		a := c.at(PartitionOf(name))
		n, o := c.nodes[a], me[a]
		switch op := rnd.IntN(100); {
		case op < 40 && len(held) > 0 || len(held) > 6:
			h := held[0]
			held = held[1:]
			name, b := c.names[h.name], c.at(PartitionOf(c.names[h.name]))
			n, o, out := c.nodes[b], me[b], Refused
			switch {
			case b == h.node && h.kind == Exclusive:
				n.Release(o, name)
			case b == h.node:
				n.ReleaseShared(o, name)
			case h.kind == Exclusive: // it has moved
				_, out, _ = n.Claim(o, name, h.token, true, c.standIns(id)...)
			default:
				_, out = n.ClaimShared(o, name, true, c.standIns(id)...)
			}
			if out == Acquired {
				h.node = b
				held = append(held, h)
			}
		case op < 45:
			n.Take(n.share, name, Rate{1000, 1 << 40}, 1, 1)
		case op < 47:
			n.Doubt(o)
			for !n.DropDoubted(o, 50) {
			}
		case op < 50:
			n.Doubt(o)
		case op < 55:
			var p Piece
			for h, more := n.HeldIn(o, func(p int) bool { return p%2 == 0 }), true; more; {
				more = h.Next(&p)
			}
		case op < 56:
			n.ReleaseAll(o)
		default:
			h := raceHold{node: a, name: i}
			var g Grant
			var out Outcome
			if h.kind = Kind(rnd.IntN(2)); h.kind == Shared {
				g, out = n.GetSharedWait(o, name, 2, 1<<40*uint64(rnd.IntN(2)))
			} else {
				was := n.Holder(name) == id // again is no grant
				if g, out = n.GetWait(o, name, 1<<40*uint64(rnd.IntN(2))); was {
					g = Grant{}
				}
			}
			for spin := 0; out == Waiting; spin++ {
				runtime.Gosched()
				if g, out = n.Settle(o); out == Waiting && spin > rnd.IntN(30) {
					g, out = n.Cancel(o)
				}
			}
			if out == Acquired {
				if h.token = g.Token; h.kind == Exclusive && g.Token != 0 {
					c.granted(t, i, g)
				}
				if h.kind == Shared || g.Token != 0 {
					held = append(held, h)
				}
			}
		}
	}
	for i, n := range c.nodes {
		n.end(me[i])
	}
}

// patient waits until it gets what it wants, wherever that goes, again and again.
func (c *raceCluster) patient(t *testing.T, id uint32, done *atomic.Bool) {
	me := [2]*Owner{c.nodes[0].ownerOf(id), c.nodes[1].ownerOf(id)}
	for i := int(id); !done.Load(); i++ {
		i := i % len(c.names)
		name := c.names[i]
		a := c.at(PartitionOf(name))
		n, o := c.nodes[a], me[a]
		var g Grant
		var out Outcome
		if id%2 == 0 {
			g, out = n.GetWait(o, name, 1<<40)
		} else {
			g, out = n.GetSharedWait(o, name, 2, 1<<40)
		}
		for out == Waiting {
			<-c.wake[id]
			g, out = n.Settle(o)
		}
		switch {
		case out != Acquired:
			runtime.Gosched()
		case id%2 == 0:
			c.granted(t, i, g)
			n.Release(o, name)
		default:
			n.ReleaseShared(o, name)
		}
	}
	for i, n := range c.nodes {
		n.end(me[i])
	}
}

// move has partitions go from one node to the other one, by a copy or without.
func (c *raceCluster) move(t *testing.T, rnd *rand.Rand, ps []int, left *[]leftBehind) {
	for ; len(*left) > 60; *left = (*left)[1:] {
		(*left)[0].at.end((*left)[0].o)
	}
	a := c.at(ps[0])
	from, to := c.nodes[a], c.nodes[1-a]
	if rnd.IntN(3) == 0 {
		from.Drop(ps, func(uint32, Kind, []byte) { from.Waiting() })
		for _, p := range ps {
			if !to.Recover(p, max(from.Highest(), to.Highest())+1) {
				t.Errorf("partition %d is %v", p, to.Partition(p))
			}
		}
		runtime.Gosched()
		to.ServeAll(ps, 0)
		return
	}
	from.Freeze(ps)
	for _, p := range ps {
		if !to.BeginImport(p, from.HighestIn(p)) {
			t.Errorf("partition %d is %v", p, to.Partition(p))
		}
	}
	placeholders := map[uint32]*Owner{}
	e, r := from.Export(ps), Records{Most: 3}
	for more := true; more; {
		more = e.Next(&r)
		for _, rec := range r.All {
			var o *Owner
			if rec.Kind != Rates {
				if o = placeholders[rec.Owner]; o == nil {
					o = to.newOwner()
					placeholders[rec.Owner] = o
				}
			}
			to.Import(o, rec, r.Name(rec), 1)
		}
	}
	if rnd.IntN(4) == 0 {
		to.Drop(ps, nil)
		from.ServeAll(ps, 0)
	} else {
		c.mu.Lock()
		for id, o := range placeholders {
			if of := c.of[standIn{a, id}]; of != 0 { // it stands in for another one itself
				id = of
			}
			c.of[standIn{1 - a, o.ID}] = id
			ids := append(c.stand[id], o.ID)
			c.stand[id] = ids[max(0, len(ids)-8):]
		}
		c.mu.Unlock()
		from.Drop(ps, nil)
		to.ServeAll(ps, 0)
	}
	for _, o := range placeholders {
		*left = append(*left, leftBehind{to, o})
	}
}

// A leftBehind stands in for an owner until that one says that it is there.
type leftBehind struct {
	at *raceNode
	o  *Owner
}

// A standIn is its node and its ID.
type standIn struct {
	at int
	id uint32
}

// Partitions move between two nodes, and are dropped and taken over, while many get, wait
// for, release and claim what is there: whoever waits is told, no token comes twice, and
// in the end nothing is left.
func TestPartitionsRace(t *testing.T) {
	t.Parallel()
	const clients, patients = 6, 8
	c := &raceCluster{stand: map[uint32][]uint32{}, of: map[standIn]uint32{}}
	partitions := []int{1, 2, 3, 600}
	for i := range 24 {
		c.names = append(c.names, []byte(nameIn(partitions[i%len(partitions)], i/len(partitions))))
		c.tokens = append(c.tokens, map[uint64]bool{})
	}
	for range 1 + clients + patients {
		c.wake = append(c.wake, make(chan struct{}, 1))
	}
	for i := range c.nodes {
		n := &raceNode{owners: map[uint32]*Owner{}}
		n.Set = New([...]int{1, 16}[i], Config{Partitioned: true, Notify: c.notify, OwnerOf: n.ownerOf})
		n.share = n.NewShare(ShareLimits{Locks: 1000})
		n.SetCeil(1<<50, 0)
		for range clients + patients {
			n.newOwner()
		}
		c.nodes[i] = n
	}
	for _, p := range partitions {
		c.nodes[0].Recover(p, 1)
		c.nodes[0].Serve(p, 0)
	}
	enough := rounds(500)
	if runtime.GOMAXPROCS(0) == 1 {
		enough /= 10 // each waits long for its turn
	}
	var movers, rest sync.WaitGroup
	var done atomic.Bool
	for i := range clients {
		rest.Go(func() { c.client(t, uint32(1+i), &done) })
	}
	for i := range patients {
		rest.Go(func() { c.patient(t, uint32(1+clients+i), &done) })
	}
	for i := range 2 { // each sees to its own partitions
		movers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 3))
			var left []leftBehind
			for moves := 0; moves < enough || c.requests.Load() < int64(rounds(100_000)); moves++ {
				p := partitions[2*i : 2*i+2]
				switch rnd.IntN(3) {
				case 0:
					c.move(t, rnd, p[:1], &left)
				case 1:
					c.move(t, rnd, p[1:], &left)
				case 2:
					if c.at(p[0]) == c.at(p[1]) {
						c.move(t, rnd, p, &left)
					}
				}
				runtime.Gosched()
			}
			for _, l := range left {
				l.at.end(l.o)
			}
		})
	}
	rest.Go(func() { // the ceil falls, and rises again
		for i := 0; !done.Load(); i++ {
			n := c.nodes[i%2]
			n.SetCeil(n.Highest()+uint64(i%5), 0)
			runtime.Gosched()
			n.SetCeil(1<<50, 0)
			n.CountIn(partitions)
			n.Sweep(2, 10)
			runtime.Gosched()
		}
	})
	movers.Wait()
	done.Store(true)
	rest.Wait()
	for _, n := range c.nodes {
		n.Drop(partitions, func(owner uint32, kind Kind, name []byte) { t.Errorf("%d has left %v %q", owner, kind, name) })
		checkNothingLeft(t, n.Set)
		if has := n.share.Holdings(); has != (Holdings{}) {
			t.Errorf("in the end the share has %+v", has)
		}
		if len(n.owners) != 0 {
			t.Errorf("%d owners are left", len(n.owners))
		}
	}
}
