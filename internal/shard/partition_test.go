package shard

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A parted set has some owners, and whom it has told.
type parted struct {
	*Set
	o    []*Owner // by ID; the first one is nobody
	told []uint32
}

// newParted makes a partitioned set whose partitions are served, but for 9, which is
// absent, in as many shards.
func newParted(t *testing.T, shards int, cfg Config) *parted {
	t.Helper()
	p := &parted{}
	cfg.Partitioned = true
	cfg.Notify = func(id uint32) { p.told = append(p.told, id) }
	cfg.OwnerOf = func(id uint32) *Owner { return p.o[id] }
	p.Set = New(shards, cfg)
	p.SetCeil(1<<50, 0)
	var all []int
	for i := range Partitions {
		if i != 9 {
			all = append(all, i)
			p.Recover(i, 1000)
		}
	}
	p.ServeAll(all, 0)
	for range 11 {
		p.newOwner()
	}
	return p
}

func (p *parted) newOwner() *Owner {
	o := &Owner{ID: uint32(len(p.o))}
	p.o = append(p.o, o)
	return o
}

// tell forgets whom the set has told, and returns them, sorted.
func (p *parted) tell() []uint32 {
	told := p.told
	p.told = nil
	slices.Sort(told)
	return told
}

// end ends all owners, and checks that nothing is left.
func (p *parted) end(t *testing.T) {
	t.Helper()
	for _, o := range p.o[1:] {
		if o.Waits() {
			p.Cancel(o)
		}
		p.ReleaseAll(o)
		p.Forget(o)
		if o.Held() != 0 {
			t.Errorf("owner %d holds %d", o.ID, o.Held())
		}
	}
	checkNothingLeft(t, p.Set)
}

func in(p, n int) []byte { return []byte(nameIn(p, n)) }

// What finds a name tells its partition, whatever the number of shards.
func TestPartitionOfHash(t *testing.T) {
	for shards := 1; shards <= Partitions; shards *= 2 {
		for _, cfg := range []Config{{Partitioned: true}, {Mirror: true}} {
			set := New(shards, cfg)
			seen := map[uint32]bool{}
			for i := range 300 {
				name := []byte(strconv.Itoa(i))
				s, hash := set.lock(name)
				s.mu.Unlock()
				if got, want := s.partitionOf(hash), PartitionOf(name); got != want {
					t.Fatalf("%d shards: %q is in partition %d, want %d", shards, name, got, want)
				}
				seen[hash&(1<<hashPartition-1)] = true
			}
			if len(seen) < 200 { // of 1,024; the partition has not taken the place of the others
				t.Errorf("%d shards: %d different slots", shards, len(seen))
			}
		}
	}
	for _, broken := range []func(){
		func() { New(2*Partitions, Config{Partitioned: true}) },
		func() { New(4, Config{}).HeldIn(&Owner{}, nil) },
		func() { New(2*Partitions, Config{Mirror: true}).HeldIn(&Owner{}, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			broken()
		}()
	}
}

// A set that is not partitioned serves everything.
func TestNoPartitions(t *testing.T) {
	set := New(4, Config{Recovering: true, Start: 5})
	for _, p := range []int{0, 5, Partitions - 1} {
		if got := set.Partition(p); got != PartitionServing {
			t.Errorf("partition %d is %v", p, got)
		}
	}
	set.EndRecovery(0)
	if g, out := set.Get(&Owner{ID: 1}, []byte("a")); out != Acquired || g.Token != 6 {
		t.Errorf("get: %v %v", out, g)
	}
	if out := set.Import(&Owner{ID: 2}, Record{Token: 5}, []byte("b"), 0); out != Elsewhere {
		t.Errorf("import: %v", out)
	}
	if set.contested() || !New(4, Config{Partitioned: true}).contested() {
		t.Error("others may take something away where there are partitions, and nowhere else")
	}
	if got := set.Highest(); got != 6 {
		t.Errorf("the highest token is %d", got)
	}
}

// A place in line is another one's from then on, also if it has been granted meanwhile, but not while a copy
// of the partition may have it.
func TestSucceed(t *testing.T) {
	p := newParted(t, 4, Config{})
	for i, kind := range []Kind{Exclusive, Shared} {
		x := in(5, i)
		for _, granted := range []bool{false, true} {
			ask := func(o *Owner, due uint64) Outcome {
				if kind == Shared {
					return second(p.GetSharedWait(o, x, 1, due))
				}
				return second(p.GetWait(o, x, due))
			}
			release := func(o *Owner) bool {
				if kind == Shared {
					return p.ReleaseShared(o, x)
				}
				return p.Release(o, x)
			}
			if a, b := ask(p.o[1], 0), ask(p.o[2], 1000); a != Acquired || b != Waiting {
				t.Fatalf("%v: %v, %v", kind, a, b)
			}
			if granted {
				release(p.o[1])
			}
			p.Freeze([]int{5})
			if out := second(p.Succeed(p.o[3], p.o[2], kind, x, 1, 1000)); out != Frozen {
				t.Errorf("%v, granted %v: in a frozen partition: %v", kind, granted, out)
			}
			p.Serve(5, 0)
			if out := second(p.Succeed(p.o[3], p.o[4], kind, x, 1, 1000)); out != Refused {
				t.Errorf("%v, granted %v: of who does not wait: %v", kind, granted, out)
			}
			out := second(p.Succeed(p.o[3], p.o[2], kind, x, 1, 1000))
			if want := map[bool]Outcome{false: Waiting, true: Acquired}[granted]; out != want || p.o[2].Waits() || p.o[2].Held() > 0 {
				t.Errorf("%v, granted %v: %v", kind, granted, out)
			}
			if !granted {
				release(p.o[1])
				if out := second(p.Settle(p.o[3])); out != Acquired {
					t.Errorf("%v: who has succeeded has %v", kind, out)
				}
			}
			if !release(p.o[3]) {
				t.Errorf("%v, granted %v: who has succeeded has it not", kind, granted)
			}
		}
	}
	p.tell()
	p.end(t)
}

// What each request comes to in each state; nothing counts that is not executed.
func TestRequestsByState(t *testing.T) {
	for _, c := range []struct {
		state                           PartitionState
		get, again, wait, claim, rate   Outcome
		release, seen, inspected        bool
		inspectedShared, held           int
		sharedAgain, sharedNew, waitNew Outcome
		requests                        uint64 // that count, of the exclusive ones
	}{
		{state: PartitionServing, get: Refused, again: Acquired, wait: Waiting, claim: Refused, rate: Acquired,
			release: true, seen: true, inspected: true, inspectedShared: 1, held: 2,
			sharedAgain: Acquired, sharedNew: Acquired, waitNew: Acquired, requests: 4},
		{state: PartitionFrozen, get: Frozen, again: Acquired, wait: Frozen, claim: Frozen, rate: Frozen,
			release: true, seen: true, inspected: true, inspectedShared: 1, held: 2,
			sharedAgain: Acquired, sharedNew: Frozen, waitNew: Frozen, requests: 1},
		{state: PartitionAbsent, get: Elsewhere, again: Elsewhere, wait: Elsewhere, claim: Elsewhere, rate: Elsewhere,
			sharedAgain: Elsewhere, sharedNew: Elsewhere, waitNew: Elsewhere},
	} {
		t.Run(c.state.String(), func(t *testing.T) {
			p := newParted(t, 4, Config{})
			x, new := in(5, 0), in(5, 1)
			g, _ := p.Get(p.o[1], x)
			p.GetShared(p.o[1], x)
			p.Take(nil, x, Rate{10, 1e9}, 3, 0)
			switch c.state {
			case PartitionFrozen:
				p.Freeze([]int{5, 9})
			case PartitionAbsent:
				p.Drop([]int{5}, nil)
			}
			if got := p.Partition(5); got != c.state {
				t.Fatalf("it is %v", got)
			}
			if got := p.Partition(9); got != PartitionAbsent {
				t.Fatalf("the absent one is %v", got)
			}
			if p.Partition(6) != PartitionServing || second(p.Get(p.o[7], in(6, 0))) != Acquired {
				t.Error("another one is not served")
			}
			before := p.Stats()
			check := func(what string, got, want any) {
				t.Helper()
				if got != want {
					t.Errorf("%s: %v, want %v", what, got, want)
				}
			}
			check("get", second(p.Get(p.o[2], x)), c.get)
			check("again", second(p.Get(p.o[1], x)), c.again)
			check("wait", second(p.GetWait(p.o[2], x, 1000)), c.wait)
			check("a wait for another one", second(p.GetWait(p.o[3], new, 1000)), c.waitNew)
			check("shared again", second(p.GetShared(p.o[1], x)), c.sharedAgain)
			check("shared", second(p.GetShared(p.o[4], x)), c.sharedNew)
			check("shared up to 1 of one", second(p.GetSharedLimit(p.o[6], x, 1)), c.get)
			check("a shared wait", second(p.GetSharedWait(p.o[8], x, 1, 1000)), c.wait)
			check("shared up to 1", second(p.GetSharedLimit(p.o[5], new, 1)), c.sharedNew)
			check("claim", second(p.claim(p.o[4], new, 7)), c.claim)
			check("claim shared", second(p.ClaimShared(p.o[5], in(5, 3), true)), c.claim)
			check("claim of one's own", second(p.claim(p.o[1], x, g.Token)), c.again)
			check("rate", p.Take(nil, x, Rate{10, 1e9}, 3, 0).Outcome, c.rate)
			check("question", p.Take(nil, x, Rate{10, 1e9}, 0, 0).Outcome, c.rate)
			check("inspect", p.Inspect(x), c.inspected)
			check("inspect shared", min(1, p.InspectShared(x)), c.inspectedShared)
			check("holder", p.Holder(x) == 1, c.seen)
			check("ahead", len(p.Ahead(x, make([]uint32, 0, 5))) > 0, c.seen)
			check("shares", p.Shares(p.o[1], x), c.seen)
			v := p.See(x, 0)
			check("see", v.Holders[Exclusive] == 1 && v.Holders[Shared] >= 1, c.seen)
			_, ok := p.Token(p.o[1], x)
			check("token", ok, c.seen)
			check("held", p.o[1].Held(), c.held)
			check("release", p.Release(p.o[1], x), c.release)
			check("release shared", p.ReleaseShared(p.o[1], x), c.release)
			check("drop rate", p.DropRate(x, 0), c.state == PartitionServing)
			after := p.Stats()
			counted := uint64(0)
			for out := range Outcomes {
				counted += after.Acquire[Exclusive][out] - before.Acquire[Exclusive][out]
			}
			check("counted", counted, c.requests)
			check("failed", after.ReleaseFailed[Exclusive]+after.ReleaseFailed[Shared], uint64(0))
			p.Drop([]int{5}, nil) // with its rate
			p.end(t)
		})
	}
}

// claim returns what a claim comes to, of one who may.
func (p *parted) claim(o *Owner, name []byte, token uint64, from ...uint32) (Grant, Outcome) {
	g, out, _ := p.Claim(o, name, token, true, from...)
	return g, out
}

// Each partition recovers with a base of its own.
func TestPartitionsRecover(t *testing.T) {
	p := newParted(t, 1, Config{Start: 7})
	p.Drop([]int{3, 4}, nil)
	if !p.Recover(3, 5000) || !p.Recover(4, 9000) || p.Recover(4, 1<<40) || p.Recover(5, 1<<40) {
		t.Error("not the absent ones recover")
	}
	if !p.Recovering() {
		t.Error("nothing recovers")
	}
	a, b := in(3, 0), in(4, 0)
	for _, c := range []struct {
		name  []byte
		token uint64
		want  Outcome
	}{{a, 5000, Refused}, {a, 1 << 60, Refused}, {a, 0, Refused}, {a, 4999, Acquired}, {b, 9000, Refused}, {b, 8999, Acquired}, {in(5, 0), 9, Refused}} {
		if _, out := p.claim(p.o[1], c.name, c.token); out != c.want {
			t.Errorf("claim %q with %d: %v, want %v", c.name, c.token, out, c.want)
		}
	}
	if _, out, _ := p.Claim(p.o[2], in(3, 1), 9, false); out != Refused {
		t.Errorf("a claim of one who may not: %v", out)
	}
	if out := second(p.Get(p.o[2], in(3, 1))); out != Recovering {
		t.Errorf("get: %v", out)
	}
	if !p.Inspect(in(3, 1)) || p.InspectShared(in(3, 1)) != 1 || p.Inspect(in(6, 1)) {
		t.Error("what recovers is as if it was held, nothing else is")
	}
	if out := second(p.GetWait(p.o[2], in(3, 1), 100)); out != Waiting {
		t.Errorf("wait: %v", out)
	}
	if v := p.Take(nil, in(3, 0), Rate{10, 1e9}, 1, 0); v.Outcome != Acquired {
		t.Errorf("take: %v", v.Outcome)
	}
	p.EndRecovery(0)
	if p.Recovering() || p.Partition(3) != PartitionServing || p.Partition(9) != PartitionAbsent {
		t.Error("it has not ended")
	}
	if got := p.tell(); !slices.Equal(got, []uint32{2}) {
		t.Errorf("told %v", got)
	}
	if g, out := p.Settle(p.o[2]); out != Acquired || g.Token < 5000 {
		t.Errorf("settled: %v %v", out, g)
	}
	if g, out := p.Get(p.o[3], in(4, 1)); out != Acquired || g.Token < 9000 || p.Highest() < g.Token || p.HighestIn(4) < g.Token {
		t.Errorf("got %v %v, highest %d", g, out, p.Highest())
	}
	p.Drop([]int{3}, nil)
	p.Recover(3, 2) // lower than before: tokens never are
	p.Serve(3, 0)
	if g, _ := p.Get(p.o[4], in(3, 3)); g.Token < 9000 {
		t.Errorf("got %v", g)
	}
	p.end(t)
}

// While a partition is frozen, waits go on, and what is let go is nobody's.
func TestFrozen(t *testing.T) {
	p := newParted(t, 4, Config{})
	x := in(5, 0)
	p.Get(p.o[1], x)
	p.GetWait(p.o[2], x, 100)
	p.GetWait(p.o[3], x, 1000)
	p.GetWait(p.o[4], x, 1000)
	for i := 1; i < 3; i++ {
		p.GetSharedLimit(p.o[i+4], x, 2)
	}
	p.GetSharedWait(p.o[7], x, 2, 1000)
	p.GetSharedWait(p.o[8], x, 2, 1000)
	p.Freeze([]int{5})
	p.Release(p.o[1], x)
	p.ReleaseShared(p.o[5], x)
	p.Expire(200)
	if got := p.tell(); !slices.Equal(got, []uint32{2}) {
		t.Errorf("told %v", got)
	}
	if _, out := p.Settle(p.o[2]); out != TimedOut {
		t.Errorf("settled: %v", out)
	}
	if _, out := p.Cancel(p.o[3]); out != Canceled {
		t.Errorf("canceled: %v", out)
	}
	if !p.Prolong(p.o[7], 9, 2000) || !p.Prolong(p.o[4], 0, 2000) {
		t.Error("a wait has ended")
	}
	if out := second(p.Get(p.o[1], x)); out != Frozen {
		t.Errorf("get of what is nobody's: %v", out)
	}
	if out := second(p.GetShared(p.o[1], x)); out != Frozen {
		t.Errorf("get shared: %v", out)
	}
	p.ReleaseShared(p.o[6], x)
	if locks, waiters := p.CountIn([]int{5}); locks != 0 || waiters != 3 {
		t.Errorf("%d are held, %d wait", locks, waiters)
	}
	if got := p.tell(); got != nil {
		t.Errorf("told %v", got)
	}
	p.Serve(5, MomentOf(320))
	if got := p.tell(); !slices.Equal(got, []uint32{4, 7, 8}) {
		t.Errorf("told %v", got)
	}
	if v := p.See(x, 320*msNanos); v.Held[Exclusive] != 0 || v.Holders[Shared] != 2 {
		t.Errorf("sees %+v", v)
	}
	for _, i := range []int{4, 7, 8} {
		if _, out := p.Settle(p.o[i]); out != Acquired {
			t.Errorf("settled: %v", out)
		}
	}
	p.end(t)
}

// All that a partition has goes, in many steps, and nothing else.
func TestDropAll(t *testing.T) {
	for _, shards := range []int{1, 64} {
		p := newParted(t, shards, Config{Locks: 1 << 20})
		const many = 3 * slabStep
		h := p.NewShare(ShareLimits{})
		for range many {
			p.newOwner().Share = h
		}
		names := make([][]byte, 0, many)
		for i := 0; len(names) < many/2; i++ {
			if name := []byte(strings.Repeat("long ", i%30) + strconv.Itoa(i)); PartitionOf(name)%4 == 0 {
				names = append(names, name)
			}
		}
		rest := []byte("rest")
		for i := 0; PartitionOf(rest)%4 == 0 || PartitionOf(rest) == 9; i++ {
			rest = []byte("rest " + strconv.Itoa(i))
		}
		crowd := names[0]
		want := map[string]int{}
		for i, o := range p.o[11:] {
			n := names[i%len(names)]
			if second(p.Get(o, n)) == Acquired {
				want[fmt.Sprint(o.ID, Exclusive, string(n))]++
			}
			p.GetShared(o, n)
			want[fmt.Sprint(o.ID, Shared, string(n))]++
			p.GetShared(o, rest)
			switch i % 3 {
			case 0:
				p.Doubt(o)
			case 1:
				p.GetWait(o, crowd, 1000)
			case 2:
				p.GetSharedWait(o, crowd, 1, 1000)
			}
			p.Take(h, n, Rate{10, 1 << 40}, 1, 0)
		}
		// One has been granted what it waited for, and does not know yet.
		p.Get(p.o[1], names[1])
		p.GetSharedLimit(p.o[1], names[1], 1)
		holder, sharer := p.o[p.Holder(names[1])], in(0, 0)
		p.GetWait(p.o[2], names[1], 1000)
		delete(want, fmt.Sprint(holder.ID, Exclusive, string(names[1])))
		if holder.Waits() {
			p.Cancel(holder)
		}
		p.Release(holder, names[1])
		p.GetSharedLimit(p.o[3], sharer, 1)
		p.GetSharedWait(p.o[4], sharer, 1, 1000)
		p.ReleaseShared(p.o[3], sharer)
		if got := p.tell(); !slices.Equal(got, []uint32{2, 4}) {
			t.Fatalf("told %v", got)
		}
		for _, o := range p.o[1:5] {
			for _, k := range []Kind{Exclusive, Shared} {
				if o.ID != 2 && o.ID != 4 && o.Held() > 0 {
					if h := p.Holder(names[1]); k == Exclusive && h == o.ID || k == Shared && p.Shares(o, names[1]) {
						want[fmt.Sprint(o.ID, k, string(names[1]))]++
					}
				}
			}
		}
		var gone []int
		for i := range Partitions / 4 {
			gone = append(gone, 4*i)
		}
		var waits []uint32
		for _, o := range p.o[1:] {
			if o.Waits() {
				waits = append(waits, o.ID)
			}
		}
		walk := p.WalkHolders(crowd) // stands inside while its lock goes
		walk.Next(&Piece{})
		p.Drop(gone, func(owner uint32, kind Kind, name []byte) {
			want[fmt.Sprint(owner, kind, string(name))]--
			if p.Partition(PartitionOf(name)) != PartitionAbsent {
				t.Fatal("it is lost before it is absent")
			}
			p.Get(p.o[9], name) // there is no mutex
		})
		for what, n := range want {
			if n != 0 {
				t.Errorf("%d shards: %s: %d", shards, what, n)
			}
		}
		var told []uint32
		for _, id := range p.tell() {
			told = append(told, id)
			if o := p.o[id]; o.Waits() {
				if _, out := p.Settle(o); out != Elsewhere {
					t.Fatalf("settled: %v", out)
				}
			}
		}
		if !slices.Equal(told, waits) {
			t.Errorf("%d are told, want %d", len(told), len(waits))
		}
		walk.Next(&Piece{})
		walk.Close()
		for i, o := range p.o[11:] {
			if o.Held() != 1 || !p.Shares(o, rest) {
				t.Fatalf("owner %d of the rest holds %d", i, o.Held())
			}
		}
		if locks, waiters := p.CountIn(gone); locks != 0 || waiters != 0 || p.Limiters() != 0 {
			t.Errorf("%d are left, %d wait, %d rates", locks, waiters, p.Limiters())
		}
		if has := h.Holdings(); has.Locks != many || has.Waiters != 0 || has.Rates != 0 {
			t.Errorf("the share has %+v", has)
		}
		for _, part := range gone {
			if !p.Recover(part, 1) {
				t.Errorf("partition %d is not absent", part)
			}
		}
		p.end(t)
		if has := h.Holdings(); has.Locks != 0 || has.Bytes != 0 {
			t.Errorf("in the end the share has %+v", has)
		}
	}
}

// A queue is exported in its order, however long, while some leave it, and imported in
// the same one.
func TestExportQueue(t *testing.T) {
	p := newParted(t, 4, Config{})
	x, y := in(5, 0), in(5, 1)
	const many = 3 * pieceItems
	p.Get(p.o[1], x)
	p.GetSharedLimit(p.o[1], y, 1)
	for i := range many {
		p.GetWait(p.newOwner(), x, uint64(10000+i))
		p.GetSharedWait(p.newOwner(), y, 3, uint64(20000+i))
	}
	p.Freeze([]int{5})
	e := p.Export([]int{5, 6})
	var r Records
	type wait struct {
		id    uint32
		left  uint64
		limit uint32
	}
	var waits [Kinds][]wait
	pieces, holds := 0, [Kinds]int{}
	for more := true; more; pieces++ {
		e.Now = 100 * msNanos
		more = e.Next(&r)
		for i, rec := range r.All {
			if want := [...][]byte{x, y}[rec.Kind]; !bytes.Equal(r.Name(rec), want) || i > 0 && rec.SameName(r.All[i-1]) != (rec.Kind == r.All[i-1].Kind) {
				t.Fatalf("record %+v is of %q", rec, r.Name(rec))
			}
			if rec.State == Held {
				holds[rec.Kind]++
			} else {
				waits[rec.Kind] = append(waits[rec.Kind], wait{rec.Owner, rec.Left, rec.Limit})
			}
		}
		// The one who was to be next leaves, and another one who has been.
		for _, w := range waits {
			if n := len(w); n > 5 {
				for _, id := range []uint32{w[n-1].id + 2, w[n-5].id} {
					if int(id) < len(p.o) && p.o[id].Waits() {
						p.Cancel(p.o[id])
					}
				}
			}
		}
	}
	if pieces < 6 || pieces > 20 || holds != [Kinds]int{1, 3} {
		t.Errorf("%d pieces, %d holds", pieces, holds)
	}
	for k, ws := range waits {
		last := uint32(0)
		seen := map[uint32]bool{}
		for _, w := range ws {
			want := wait{w.id, 9900 + uint64(w.id-11)/2, 0}
			if Kind(k) == Shared {
				want = wait{w.id, 19900 + uint64(w.id-12)/2, 3}
			}
			if w.id <= last || w != want {
				t.Fatalf("%v: %+v after %d, want %+v", Kind(k), w, last, want)
			}
			last, seen[w.id] = w.id, true
		}
		for id := 11 + k; id < len(p.o); id += 2 {
			if p.o[id].Waits() && !seen[uint32(id)] {
				t.Fatalf("%v: %d waits, and is not exported", Kind(k), id)
			}
		}
	}
	p.end(t)
}

// Pieces are bounded by the bytes of names, too, and a step by how many others it passes.
func TestExportBounds(t *testing.T) {
	p := newParted(t, 1, Config{})
	var names [][]byte
	for i := 0; len(names) < 40; i++ {
		if name := []byte(strings.Repeat("x", 2000) + strconv.Itoa(i)); PartitionOf(name) != 9 {
			names = append(names, name)
		}
	}
	ps := []int{}
	for _, name := range names {
		p.Get(p.o[1], name)
		ps = append(ps, PartitionOf(name))
	}
	for i := range 3 * looks { // of others
		p.Get(p.o[2], []byte(strconv.Itoa(i)))
	}
	p.Freeze(ps)
	got := map[string]bool{}
	var r Records
	e := p.Export(ps)
	pieces := 0
	for more := true; more; pieces++ {
		if more = e.Next(&r); len(r.names) > pieceBytes+3000 {
			t.Fatalf("a piece has %d bytes", len(r.names))
		}
		for _, rec := range r.All {
			if got[string(r.Name(rec))] {
				t.Fatalf("%q comes twice", r.Name(rec))
			}
			got[string(r.Name(rec))] = true
		}
	}
	for _, name := range names {
		if !got[string(name)] {
			t.Errorf("%q is missing", name)
		}
	}
	if pieces < 3+40*2000/pieceBytes {
		t.Errorf("%d pieces", pieces)
	}
	if e.Next(&r) || len(r.All) != 0 {
		t.Error("there is more behind the end")
	}
	p.end(t)
}

// Where a queue goes that an export stands in, it goes on with what is behind.
func TestExportGoesOn(t *testing.T) {
	for _, kind := range []Kind{Exclusive, Shared} {
		p := newParted(t, 1, Config{})
		for i := range 2 {
			x := in(5, i)
			for j := range 4 {
				o := p.o[1+4*i+j]
				if kind == Exclusive {
					p.GetWait(o, x, 1000)
				} else {
					p.GetSharedWait(o, x, 1, 1000)
				}
			}
		}
		p.Freeze([]int{5})
		e, r := p.Export([]int{5}), Records{Most: 1}
		seen := map[uint32]int{}
		for more := true; more; {
			more = e.Next(&r)
			for _, rec := range r.All {
				seen[rec.Owner]++
				if rec.State == Waits && rec.Owner == 2 {
					p.Cancel(p.o[3])
					p.Cancel(p.o[4])
					p.Cancel(p.o[2])
					p.Release(p.o[1], in(5, 0))
					p.ReleaseShared(p.o[1], in(5, 0))
				}
			}
		}
		for id := uint32(5); id <= 8; id++ {
			if seen[id] != 1 {
				t.Errorf("%v: %d is exported %d times", kind, id, seen[id])
			}
		}
		p.end(t)
	}
}

// The first one in a queue leaves just before it would be its turn to be exported.
func TestExportHeadLeaves(t *testing.T) {
	p := newParted(t, 1, Config{})
	for _, o := range p.o[1:5] {
		p.GetWait(o, in(5, 0), 1000)
	}
	p.Freeze([]int{5})
	e, r := p.Export([]int{5}), Records{Most: 1}
	var seen []uint32
	for more := true; more; {
		more = e.Next(&r)
		for _, rec := range r.All {
			if seen = append(seen, rec.Owner); rec.State == Held {
				p.Cancel(p.o[2])
			}
		}
	}
	if !slices.Equal(seen, []uint32{1, 3, 4}) {
		t.Errorf("exported are %v", seen)
	}
	p.end(t)
}

// A rate that is full is no more than one that is not there.
func TestExportFullRate(t *testing.T) {
	p := newParted(t, 1, Config{})
	p.Take(nil, in(5, 0), Rate{10, 1e9}, 1, 0) // all are open again in 100 ms
	p.Freeze([]int{5})
	for _, c := range []struct {
		now  uint64
		want int
	}{{99_999_999, 1}, {100_000_000, 0}, {100_000_001, 0}} {
		e, r, n := p.Export([]int{5}), Records{}, 0
		for more := true; more; n += len(r.All) {
			e.Now = c.now
			more = e.Next(&r)
		}
		if n != c.want {
			t.Errorf("at %d it is exported %d times", c.now, n)
		}
	}
}

// What is imported is as it was: ages, tokens, who has not been told, and rates to the
// nanosecond.
func TestImport(t *testing.T) {
	a, b := newParted(t, 4, Config{}), newParted(t, 2, Config{})
	b.Drop([]int{5}, nil)
	x, y := in(5, 0), in(5, 1)
	a.o[1].Now = MomentOf(1600)
	a.Get(a.o[1], x)
	a.GetShared(a.o[1], x)
	a.o[2].Now = MomentOf(3200)
	a.GetSharedWait(a.o[2], x, 1, 50000)
	a.Get(a.o[3], y)
	a.GetWait(a.o[4], y, 10000)
	a.Release(a.o[3], y) // and it is the other one's, who has not been told
	rate := Rate{7, 60e9 + 1}
	const now = 8000 * msNanos
	v := a.Take(nil, x, rate, 5, now)
	a.Freeze([]int{5})
	token, _ := a.Token(a.o[1], x)
	if !b.BeginImport(5, a.HighestIn(5)) || b.BeginImport(5, 0) || b.BeginImport(6, 0) {
		t.Fatal("not the absent one is imported")
	}
	if b.HighestIn(5) < a.HighestIn(5) {
		t.Error("its tokens may be granted again")
	}
	e, r := a.Export([]int{5}), Records{Most: 1}
	untold := 0
	for more := true; more; {
		e.Now = now
		if more = e.Next(&r); len(r.All) > 1 {
			t.Fatalf("%d records", len(r.All))
		}
		for _, rec := range r.All {
			if rec.Untold {
				untold++
				if rec.Owner != 4 {
					t.Errorf("%d has not been told", rec.Owner)
				}
			}
			want := Acquired
			if rec.State == Waits {
				want = Waiting
			}
			// Another clock: there it is 1,000 s later.
			if out := b.Import(b.o[rec.Owner], rec, r.Name(rec), now+1e12); out != want {
				t.Errorf("import %+v: %v", rec, out)
			}
		}
	}
	if untold != 1 {
		t.Errorf("%d have not been told", untold)
	}
	if out := second(b.Get(b.o[1], x)); out != Acquired {
		t.Errorf("the holder itself: %v", out)
	}
	for _, out := range []Outcome{second(b.Get(b.o[9], in(5, 3))), second(b.Get(b.o[9], x)), b.Take(nil, x, rate, 1, now).Outcome} {
		if out != Frozen {
			t.Errorf("a request meanwhile: %v", out)
		}
	}
	a.Drop([]int{5}, nil)
	if _, out := a.Settle(a.o[4]); out != Elsewhere {
		t.Errorf("who was granted it settles with %v", out)
	}
	b.Serve(5, MomentOf(now/msNanos+1e6))
	if got, ok := b.Token(b.o[1], x); !ok || got != token {
		t.Errorf("the token is %d, %v", got, ok)
	}
	if b.Holder(y) != 4 {
		t.Errorf("%q is %d's", y, b.Holder(y))
	}
	s := b.See(x, now+1e12)
	if s.Held != [Kinds]uint64{6400, 6400} || s.Waits[Shared] != 4800 || s.Holders[Shared] != 1 {
		t.Errorf("sees %+v", s)
	}
	// What is open then, and when all is, is the same to the nanosecond.
	for _, more := range []uint64{0, 1, 12345678901} {
		got, want := b.Take(nil, x, rate, 0, now+1e12+more), v
		if want.Full -= more; got.Full != want.Full {
			t.Errorf("all is open in %d, want %d", got.Full, want.Full)
		}
	}
	if g, out := b.Get(b.o[5], in(5, 3)); out != Acquired || g.Token <= token {
		t.Errorf("get: %v %v", out, g)
	}
	b.ReleaseShared(b.o[1], x)
	if got := b.tell(); !slices.Equal(got, []uint32{2}) {
		t.Errorf("told %v", got)
	}
	if _, out := b.Settle(b.o[2]); out != Acquired {
		t.Errorf("settled: %v", out)
	}
	b.DropRate(x, now)
	a.end(t)
	b.end(t)
}

// No bound refuses what is imported, and what makes no sense is refused.
func TestImportBounds(t *testing.T) {
	p := newParted(t, 4, Config{Locks: 4, Waiters: 1})
	tight := p.NewShare(ShareLimits{Locks: 1, Waiters: 1, Rates: 1})
	for _, o := range p.o[1:] {
		o.Share = tight
	}
	if out := p.Import(p.o[1], Record{Token: 5}, in(5, 0), 0); out != Elsewhere {
		t.Errorf("into one that is served: %v", out)
	}
	if out := p.Import(p.o[1], Record{Token: 5}, in(9, 0), 0); out != Elsewhere {
		t.Errorf("into one that is absent: %v", out)
	}
	p.BeginImport(9, 77)
	for _, bad := range []struct {
		o *Owner
		Record
	}{
		{nil, Record{Token: 5}},
		{p.o[1], Record{}},
		{p.o[1], Record{Kind: Rates, Token: 5}},
		{p.o[1], Record{State: Open, Token: 5}},
		{p.o[1], Record{State: Limited, Kind: Rates}},
		{p.o[1], Record{State: Waits, Kind: Shared}},
		{p.o[1], Record{State: Open, Kind: Rates, Window: 1, Owed: 1}},
		{p.o[1], Record{State: Open, Kind: Rates, Limit: 1, Owed: 1}},
		{p.o[1], Record{State: Open, Kind: Rates, Limit: 1, Window: 1, Part: 1}},
		{p.o[1], Record{State: Open, Kind: Rates, Limit: 1, Window: 1 << 48}},
		{p.o[1], Record{State: Open, Kind: Rates, Limit: 1, Window: 1, Owed: 1 << 48}},
	} {
		if out := p.Import(bad.o, bad.Record, in(9, 0), 0); out != Refused {
			t.Errorf("import %+v: %v", bad, out)
		}
	}
	names := [][]byte{in(9, 0), in(9, 1), in(9, 2), in(9, 3)}
	for i, name := range names {
		for _, rec := range []Record{{Token: uint64(100_000 + i)}, {Kind: Shared}, {State: Open, Kind: Rates, Limit: 5, Window: 1e12, Owed: 1e11}} {
			if out := p.Import(p.o[1+i], rec, name, 0); out != Acquired {
				t.Errorf("import %+v: %v", rec, out)
			}
			if out := p.Import(p.o[1+i], rec, name, 0); out != Refused {
				t.Errorf("import %+v twice: %v", rec, out)
			}
		}
		if out := p.Import(p.o[1+i], Record{State: Waits, Left: 9}, name, 0); out != Refused {
			t.Errorf("one waits for what it holds: %v", out)
		}
		if out := p.Import(p.o[1+i], Record{State: Waits, Kind: Shared, Limit: 1}, name, 0); out != Refused {
			t.Errorf("one waits for what it has a part in: %v", out)
		}
		if out := p.Import(p.o[5+i], Record{State: Waits, Kind: Kind(i % 2), Left: 9, Limit: 1}, name, 0); out != Waiting {
			t.Errorf("import: %v", out)
		}
	}
	if out := p.Import(p.o[6], Record{Kind: Shared}, names[1], 0); out != Refused {
		t.Errorf("one has a part in what it waits for: %v", out)
	}
	if has := tight.Holdings(); has.Waiters != 4 || has.Rates != 4 || p.Waiting() != 4 {
		t.Errorf("the share has %+v, %d wait", has, p.Waiting())
	}
	if taken, _ := p.Permits(); taken != 4+4+4+2 {
		t.Errorf("%d permits are taken", taken)
	}
	p.Serve(9, 0)
	if out := second(p.Get(p.o[10], in(5, 0))); out != ShareFull && out != Full {
		t.Errorf("get beyond the bound: %v", out)
	}
	if p.HighestIn(9) < 100_003 {
		t.Errorf("a token may be granted again")
	}
	p.Drop([]int{9}, nil)
	for _, o := range p.o[5:9] {
		if _, out := p.Settle(o); out != Elsewhere {
			t.Errorf("settled: %v", out)
		}
	}
	if out := second(p.Get(p.o[10], in(5, 0))); out != Acquired {
		t.Errorf("get within the bound: %v", out)
	}
	p.end(t)
	if has := tight.Holdings(); has != (Holdings{}) {
		t.Errorf("in the end the share has %+v", has)
	}
}

// Places in line for what nobody holds are imported, too.
func TestImportNobodys(t *testing.T) {
	p := newParted(t, 4, Config{})
	p.BeginImport(9, 5)
	for i, r := range []Record{{State: Waits, Kind: Exclusive, Left: 100}, {State: Waits, Kind: Exclusive, Left: 100}, {State: Waits, Kind: Shared, Limit: 1, Left: 100}} {
		if out := p.Import(p.o[1+i], r, in(9, 0), 0); out != Waiting {
			t.Errorf("import: %v", out)
		}
	}
	if taken, _ := p.Permits(); taken != 2 {
		t.Errorf("%d permits are taken", taken)
	}
	if st := p.Stats(); st.Locks != [Kinds]int{} || st.Waiters != 3 {
		t.Errorf("stats are %+v", st)
	}
	p.Serve(9, 0)
	if got := p.tell(); !slices.Equal(got, []uint32{1, 3}) {
		t.Errorf("told %v", got)
	}
	if st := p.Stats(); st.Locks != [Kinds]int{1, 1} {
		t.Errorf("stats are %+v", st)
	}
	p.end(t)
}

// What is imported beyond the bound is missing to all others, whatever idled elsewhere.
func TestImportBeyond(t *testing.T) {
	const bound = 4096
	p := newParted(t, 4, Config{Locks: bound})
	there := in(700, 0) // in another shard
	p.Get(p.o[1], there)
	p.Release(p.o[1], there)
	p.BeginImport(9, 5)
	name := in(9, 0)
	for i := range bound {
		o := p.newOwner()
		if out := p.Import(o, Record{Kind: Shared}, name, 0); out != Acquired {
			t.Fatalf("import %d: %v", i, out)
		}
	}
	p.Import(p.o[2], Record{Kind: Shared}, name, 0)
	if out := second(p.Get(p.o[1], there)); out != Full {
		t.Errorf("get: %v", out)
	}
	p.end(t)
}

// No token is granted at the ceil; who waits for one gets it when the ceil is raised.
func TestCeil(t *testing.T) {
	p := newParted(t, 1, Config{})
	x, y := in(5, 0), in(6, 0)
	p.SetCeil(p.Highest()+2, 0)
	if g, out := p.Get(p.o[1], x); out != Acquired || g.Token != p.Highest() {
		t.Fatalf("get: %v %v", out, g)
	}
	before := p.Stats()
	for _, out := range []Outcome{second(p.Get(p.o[2], y)), second(p.GetWait(p.o[2], y, 100))} {
		if out != Frozen {
			t.Errorf("get at the ceil: %v", out)
		}
	}
	if after := p.Stats(); after != before {
		t.Errorf("it counts: %+v", after)
	}
	if _, out := p.GetShared(p.o[2], y); out != Acquired {
		t.Errorf("get shared: %v", out)
	}
	p.GetWait(p.o[3], x, 100)
	p.GetWait(p.o[4], x, 100)
	p.Release(p.o[1], x)
	p.GetWait(p.o[5], x, 100)
	p.SetCeil(p.Highest()+1, 0)
	if got := p.tell(); got != nil {
		t.Errorf("told %v", got)
	}
	if out := second(p.Get(p.o[6], x)); out != Refused {
		t.Errorf("get of what others wait for: %v", out)
	}
	p.SetCeil(p.Highest()+2, 0)
	if got := p.tell(); !slices.Equal(got, []uint32{3}) {
		t.Errorf("told %v", got)
	}
	if g, out := p.Settle(p.o[3]); out != Acquired || g.Token != p.Highest() {
		t.Errorf("settled: %v %v", out, g)
	}
	p.Freeze([]int{5})
	p.Release(p.o[3], x)
	p.Serve(5, 0) // at the ceil
	if got := p.tell(); got != nil {
		t.Errorf("told %v", got)
	}
	p.SetCeil(1<<50, 0)
	if got := p.tell(); !slices.Equal(got, []uint32{4}) {
		t.Errorf("told %v", got)
	}
	p.end(t)
	set := New(1, Config{Partitioned: true})
	set.Recover(5, 1)
	set.Serve(5, 0)
	if out := second(set.Get(p.o[1], x)); out != Frozen {
		t.Errorf("get without a ceil: %v", out)
	}
}

// A claim takes over from who its owner was, with what it takes.
func TestClaimFrom(t *testing.T) {
	p := newParted(t, 4, Config{})
	was, is := p.NewShare(ShareLimits{}), p.NewShare(ShareLimits{Locks: 1})
	p.o[1].Share, p.o[2].Share = was, is
	x := in(5, 0)
	p.o[1].Now = MomentOf(160)
	g, _ := p.Get(p.o[1], x)
	p.GetShared(p.o[3], x)
	p.GetShared(p.o[1], x)
	p.GetShared(p.o[4], x)
	p.Doubt(p.o[1])
	p.o[2].Now = MomentOf(3200)
	for _, state := range []PartitionState{PartitionServing, PartitionFrozen} {
		if state == PartitionFrozen {
			p.Freeze([]int{5})
		}
		for _, c := range []struct {
			token uint64
			from  []uint32
		}{{g.Token, nil}, {g.Token, []uint32{3, 7}}, {g.Token + 1, []uint32{1}}, {g.Token - 1, []uint32{1}}} {
			if _, out := p.claim(p.o[2], x, c.token, c.from...); out != [...]Outcome{PartitionServing: Refused, PartitionFrozen: Frozen}[state] {
				t.Errorf("claim %+v while %v: %v", c, state, out)
			}
		}
		if _, out := p.ClaimShared(p.o[2], x, true, 7, 8); out == Acquired {
			t.Error("a part of nobody's is claimed")
		}
	}
	// A copy that was made by now says that they are the other one's.
	if _, out := p.claim(p.o[2], x, g.Token, 1); out != Frozen {
		t.Errorf("a lock changes hands in a frozen partition: %v", out)
	}
	if _, out := p.ClaimShared(p.o[2], x, false, 1); out != Frozen {
		t.Errorf("a part changes hands in a frozen partition: %v", out)
	}
	p.Serve(5, 0)
	if _, out, loser := p.Claim(p.o[2], x, g.Token, false, 7, 1); out != Acquired || loser != 0 {
		t.Errorf("claim: %v, %d", out, loser)
	}
	if g, out := p.ClaimShared(p.o[2], x, false, 7, 1); out != Acquired || g.Count != 3 {
		t.Errorf("claim shared: %v %v", out, g)
	}
	if p.o[1].Held() != 0 || p.o[2].Held() != 2 || was.Holdings().Locks != 0 || is.Holdings().Locks != 2 {
		t.Errorf("%d and %d are held, %+v, %+v", p.o[1].Held(), p.o[2].Held(), was.Holdings(), is.Holdings())
	}
	if got := p.Ahead(x, make([]uint32, 0, 9)); !slices.Equal(got, []uint32{3, 2, 4}) {
		t.Errorf("the holders are %v", got)
	}
	if v := p.See(x, 3200*msNanos); v.Held[Exclusive] != 3040 {
		t.Errorf("it is as old as %+v", v)
	}
	if p.Release(p.o[1], x) || p.ReleaseShared(p.o[1], x) {
		t.Error("who lost it has released it")
	}
	// What somebody has not settled is nobody's to take, nor what one waits for.
	y := in(5, 1)
	p.Get(p.o[6], in(7, 0))
	p.GetShared(p.o[7], in(7, 0))
	p.Get(p.o[5], y)
	p.GetWait(p.o[6], y, 1000)
	p.Release(p.o[5], y)
	p.GetSharedLimit(p.o[5], y, 1)
	p.GetSharedWait(p.o[7], y, 1, 1000)
	p.ReleaseShared(p.o[5], y)
	if _, out := p.claim(p.o[8], y, p.HighestIn(5), 6); out != Refused {
		t.Errorf("claim: %v", out)
	}
	if _, out := p.ClaimShared(p.o[8], y, true, 7); out != Refused {
		t.Errorf("claim shared: %v", out)
	}
	p.GetSharedWait(p.o[9], y, 1, 1000)
	if _, out := p.ClaimShared(p.o[9], y, true, 7); out != Refused {
		t.Errorf("a claim of what one waits for: %v", out)
	}
	// Nor does it do harm that they claim it themselves, in doubt of all that they have.
	for _, i := range []int{6, 7} {
		p.Doubt(p.o[i])
	}
	if _, out := p.claim(p.o[6], y, p.HighestIn(5)); out != Acquired {
		t.Errorf("claim: %v", out)
	}
	if _, out := p.ClaimShared(p.o[7], y, true); out != Acquired {
		t.Errorf("claim shared: %v", out)
	}
	for _, i := range []int{6, 7} {
		if _, out := p.Settle(p.o[i]); out != Acquired {
			t.Errorf("settled: %v", out)
		}
	}
	if _, out := p.claim(p.o[8], y, p.HighestIn(5), 6); out != Acquired {
		t.Errorf("claim: %v", out)
	}
	p.end(t)
	if was.Holdings() != (Holdings{}) || is.Holdings() != (Holdings{}) {
		t.Errorf("in the end the shares have %+v, %+v", was.Holdings(), is.Holdings())
	}
}

// Whoever holds a lot in some partitions is told all of it, while others take it away.
func TestHeldIn(t *testing.T) {
	owners := []*Owner{{}, {ID: 1}, {ID: 2}}
	set := New(4, Config{Mirror: true, OwnerOf: func(id uint32) *Owner { return owners[id] }})
	me := owners[1]
	const many = 4 * pieceItems
	left := map[string]uint64{}
	inside := func(p int) bool { return p%2 == 1 }
	for i := range 2 * many {
		name := []byte(strconv.Itoa(i))
		set.Note(me, name, uint64(i+1))
		if inside(PartitionOf(name)) {
			left[string(name)] = uint64(i + 1)
		}
		if i == many {
			set.Doubt(me)
		}
	}
	for _, asked := range []func(int) bool{func(int) bool { return false }, func(p int) bool { return p == 1023 }} {
		var p Piece
		n := 0
		for h, more := set.HeldIn(me, asked), true; more; {
			more = h.Next(&p)
			n += len(p.Items)
			for _, i := range p.Items {
				if !asked(PartitionOf(p.Name(i))) {
					t.Fatalf("%q is in partition %d", p.Name(i), PartitionOf(p.Name(i)))
				}
			}
		}
		if n > many/50 {
			t.Errorf("%d are told", n)
		}
	}
	var p Piece
	seen := map[string]bool{}
	h := set.HeldIn(me, inside)
	for more, pieces := true, 0; more; pieces++ {
		if more = h.Next(&p); len(p.Items) > pieceItems {
			t.Fatalf("a piece of %d", len(p.Items))
		}
		for _, i := range p.Items {
			name := string(p.Name(i))
			if i.Kind != Exclusive || i.Owner != 1 || i.Number != uint64(mustInt(t, name))+1 || !inside(PartitionOf([]byte(name))) {
				t.Fatalf("%q is told: %+v", name, i)
			}
			seen[name] = true
		}
		if pieces%2 == 0 && len(p.Items) > 0 {
			// The next one is taken, and some others.
			for name := range left {
				if len(name)%2 == 0 && !seen[name] {
					set.Note(owners[2], []byte(name), 1<<40)
					delete(left, name)
					break
				}
			}
			if more && h.ref != 0 && h.kind() == Exclusive {
				s := &set.shards[h.shard]
				name := s.names.append(nil, &s.exclusive.at(h.ref).name)
				set.Note(owners[2], name, 1<<41)
				delete(left, string(name))
			}
		}
	}
	for name := range left {
		if !seen[name] {
			t.Fatalf("%q is missing", name)
		}
	}
	for _, o := range owners[1:] {
		set.ReleaseAll(o)
		set.Forget(o)
	}
	checkNothingLeft(t, set)
}

func mustInt(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Many partitions are served at once: all who wait are.
func TestServeAll(t *testing.T) {
	p := newParted(t, 4, Config{})
	var ps []int
	for i := range Partitions {
		if i != 9 && i%3 > 0 {
			ps = append(ps, i)
		}
	}
	p.Drop(ps, nil)
	for _, i := range ps {
		p.Recover(i, 1000)
	}
	var want []uint32
	for i := 0; len(want) < 3*serveBatch; i++ {
		name := []byte(strconv.Itoa(i))
		if p.Partition(PartitionOf(name)) != PartitionRecovering {
			continue
		}
		o := p.newOwner()
		if i%2 == 0 {
			p.GetWait(o, name, 1000)
		} else {
			p.GetSharedWait(o, name, 1, 1000)
		}
		want = append(want, o.ID)
	}
	p.ServeAll(ps, 0)
	if got := p.tell(); !slices.Equal(got, want) {
		t.Errorf("%d are told, want %d", len(got), len(want))
	}
	for _, id := range want {
		if _, out := p.Settle(p.o[id]); out != Acquired {
			t.Fatalf("settled: %v", out)
		}
	}
	if locks, waiters := p.CountIn(ps); locks != len(want) || waiters != 0 {
		t.Errorf("%d are held, %d wait", locks, waiters)
	}
	if locks, _ := p.CountIn([]int{0, 3, 6}); locks != 0 {
		t.Errorf("%d are held elsewhere", locks)
	}
	p.Drop([]int{7}, nil)
	p.ServeAll([]int{7, 9}, 0)
	if p.Partition(7) != PartitionAbsent || p.Partition(9) != PartitionAbsent {
		t.Error("what is absent is served")
	}
	p.end(t)
}
