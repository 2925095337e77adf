package shard

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A queueModel is everything that waiting does, said in slices: a queue a lock.
type queueModel struct {
	cfg       Config
	now       uint64
	exclusive map[string]*modelLock
	shared    map[string]*modelLock
	owners    map[uint32]*modelOwner
	stats     Stats
	told      []uint32 // whose waits are over, in order

	recovering bool
}

type modelLock struct {
	holders []uint32 // in the order of their grants
	queue   []*modelOwner
}

type modelOwner struct {
	id    uint32
	held  int
	wait  *modelWait
	doubt map[modelHold]bool
}

type modelHold struct {
	kind Kind
	name string
}

type modelWait struct {
	kind  Kind
	name  string
	limit int
	due   uint64
	over  bool
	out   Outcome
	count int
}

func (m *queueModel) lock(k Kind, name string) *modelLock {
	locks := m.exclusive
	if k == Shared {
		locks = m.shared
	}
	if locks[name] == nil {
		locks[name] = &modelLock{}
	}
	return locks[name]
}

// total is what counts for the bound on locks.
func (m *queueModel) total() (n int) {
	for _, l := range m.exclusive {
		n += max(len(l.holders), min(1, len(l.queue))) // nobody's, with a queue
	}
	for _, l := range m.shared {
		n += len(l.holders) + len(l.queue)
	}
	return n
}

func (m *queueModel) waiters() (n int) {
	for _, o := range m.owners {
		if o.wait != nil && !o.wait.over {
			n++
		}
	}
	return n
}

// get is all requests for locks. limit 0 means none, -1 an exclusive lock.
func (m *queueModel) get(o *modelOwner, name string, limit int, due uint64, plain bool) (count int, out Outcome) {
	k := Shared
	if limit < 0 {
		k = Exclusive
	}
	defer func() {
		if plain {
			m.stats.Gets[k]++
		}
		if out != Waiting {
			m.stats.Acquire[k][out]++
		}
	}()
	l := m.lock(k, name)
	if slices.Contains(l.holders, o.id) {
		m.stats.Again[k]++
		return len(l.holders), Acquired
	}
	blocked := k == Exclusive && len(l.holders) > 0 ||
		k == Shared && limit > 0 && (len(l.queue) > 0 || len(l.holders) >= limit)
	if m.recovering {
		if due == 0 {
			return 0, Recovering
		}
		if k == Exclusive && len(l.holders)+len(l.queue) == 0 && m.total() >= m.cfg.Locks {
			return 0, Full
		}
		blocked = true
	}
	if blocked && due == 0 {
		return 0, Refused
	}
	if m.cfg.LocksPerOwner > 0 && o.held >= m.cfg.LocksPerOwner {
		return 0, OwnerFull
	}
	if m.total() >= m.cfg.Locks && !(k == Exclusive && blocked) {
		return 0, Full
	}
	if blocked {
		if m.waiters() >= m.cfg.Waiters {
			return 0, TooManyWait
		}
		o.wait = &modelWait{kind: k, name: name, limit: limit, due: due}
		l.queue = append(l.queue, o)
		return 0, Waiting
	}
	l.holders = append(l.holders, o.id)
	o.held++
	return len(l.holders), Acquired
}

// serve gives a lock to whom of its queue may have it now.
func (m *queueModel) serve(k Kind, name string) {
	l := m.lock(k, name)
	for len(l.queue) > 0 && !m.recovering {
		o := l.queue[0]
		if k == Exclusive && len(l.holders) > 0 || k == Shared && len(l.holders) >= o.wait.limit {
			return
		}
		l.queue = l.queue[1:]
		l.holders = append(l.holders, o.id)
		o.wait.over, o.wait.out, o.wait.count = true, Acquired, len(l.holders)
		m.stats.Acquire[k][Acquired]++
		m.told = append(m.told, o.id)
	}
}

func (m *queueModel) release(k Kind, o *modelOwner, name string) bool {
	l := m.lock(k, name)
	i := slices.Index(l.holders, o.id)
	if i < 0 {
		m.stats.ReleaseFailed[k]++
		return false
	}
	l.holders = slices.Delete(l.holders, i, i+1)
	o.held--
	m.stats.Release[k]++
	m.serve(k, name)
	return true
}

func (m *queueModel) settle(o *modelOwner) (count int, out Outcome) {
	w := o.wait
	if !w.over {
		return 0, Waiting
	}
	o.wait = nil
	if w.out == Acquired {
		o.held++
	}
	return w.count, w.out
}

func (m *queueModel) leave(o *modelOwner) {
	l := m.lock(o.wait.kind, o.wait.name)
	i := slices.Index(l.queue, o)
	l.queue = slices.Delete(l.queue, i, i+1)
	m.serve(o.wait.kind, o.wait.name)
}

func (m *queueModel) cancel(o *modelOwner) (count int, out Outcome) {
	if count, out = m.settle(o); out != Waiting {
		return count, out
	}
	w := o.wait
	m.leave(o)
	m.stats.Acquire[w.kind][Canceled]++
	o.wait = nil
	return 0, Canceled
}

// due returns who waits, by due time.
func (m *queueModel) due() (all []*modelOwner) {
	for _, o := range m.owners {
		if o.wait != nil && !o.wait.over {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b *modelOwner) int { return int(a.wait.due) - int(b.wait.due) })
	return all
}

func (m *queueModel) expire(now uint64) {
	m.now = now
	for {
		all := m.due()
		if len(all) == 0 || all[0].wait.due > now {
			return
		}
		o := all[0]
		o.wait.over, o.wait.out = true, TimedOut
		m.stats.Acquire[o.wait.kind][TimedOut]++
		m.told = append(m.told, o.id)
		m.leave(o)
	}
}

func (m *queueModel) end(o *modelOwner) {
	for k, locks := range [...]map[string]*modelLock{m.exclusive, m.shared} {
		for name, l := range locks {
			if i := slices.Index(l.holders, o.id); i >= 0 {
				l.holders = slices.Delete(l.holders, i, i+1)
				o.held--
				m.stats.Orphans[k]++
				m.serve(Kind(k), name)
			}
		}
	}
	delete(m.owners, o.id)
}

func (m *queueModel) counted() Stats {
	st := m.stats
	for _, l := range m.exclusive {
		st.Locks[Exclusive] += len(l.holders)
	}
	for _, l := range m.shared {
		st.Locks[Shared] += min(1, len(l.holders))
		st.Holders += len(l.holders)
	}
	st.Waiters = m.waiters()
	return st
}

// checkQueues compares what is told of queues with the model's.
func (m *queueModel) checkQueues(t fataler, set *Set) {
	t.Helper()
	var want Queues
	for k, locks := range [...]map[string]*modelLock{m.exclusive, m.shared} {
		for name, l := range locks {
			if n := len(l.queue); n > 0 {
				want.Lengths[queueSize(uint32(n))]++
				want.Longest = max(want.Longest, n)
			}
			v := set.See([]byte(name), m.now*msNanos)
			if v.Holders[k] != len(l.holders) || v.Waiters[k] != len(l.queue) {
				t.Fatalf("%q, %v: sees %+v, want %d holders, %d who wait", name, Kind(k), v, len(l.holders), len(l.queue))
			}
		}
	}
	got := set.Queues(m.now * msNanos)
	if got.Oldest = 0; got != want {
		t.Fatalf("queues are %+v, want %+v", got, want)
	}
}

func TestModelOfWaiting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var told []uint32
		cfg := Config{
			Locks:         rapid.SampledFrom([]int{1, 3, 8, 1000}).Draw(t, "locks"),
			LocksPerOwner: rapid.SampledFrom([]int{0, 0, 0, 1, 3}).Draw(t, "locks per owner"),
			Waiters:       rapid.SampledFrom([]int{1, 3, 1000, 1000}).Draw(t, "waiters"),
			Start:         rapid.Uint64Range(0, 1<<52).Draw(t, "start"),
			Notify:        func(id uint32) { told = append(told, id) },
		}
		set := New(rapid.SampledFrom([]int{1, 4}).Draw(t, "shards"), cfg)
		m := &queueModel{cfg: cfg, exclusive: map[string]*modelLock{}, shared: map[string]*modelLock{}, owners: map[uint32]*modelOwner{}}
		type pair struct {
			o *Owner
			m *modelOwner
		}
		var owners []pair
		id := uint32(0)
		newOwner := func() pair {
			id++
			m.owners[id] = &modelOwner{id: id}
			return pair{&Owner{ID: id, Now: MomentOf(m.now)}, m.owners[id]}
		}
		for range rapid.IntRange(3, 12).Draw(t, "owners") {
			owners = append(owners, newOwner())
		}
		lastToken := map[string]uint64{} // of each name
		tokens := map[string]uint64{}    // of those held
		token := func(name string, got uint64) {
			t.Helper()
			if held, ok := tokens[name]; ok {
				if got != held {
					t.Fatalf("token %d for a lock held with %d", got, held)
				}
				return
			}
			if got <= lastToken[name] || got <= cfg.Start {
				t.Fatalf("token %d after %d, start %d", got, lastToken[name], cfg.Start)
			}
			lastToken[name], tokens[name] = got, got
		}
		name := func() string { return rapid.SampledFrom([]string{"", "a", "a", "a", "b", "c d"}).Draw(t, "name") }
		pick := func(waits bool) pair {
			var some []pair
			for _, p := range owners {
				if (p.m.wait != nil) == waits {
					some = append(some, p)
				}
			}
			if len(some) == 0 {
				t.Skip("nobody")
			}
			return rapid.SampledFrom(some).Draw(t, "owner")
		}
		dues := map[uint64]bool{}
		due := func() uint64 {
			d := m.now + rapid.OneOf(rapid.Uint64Range(1, 100), rapid.Uint64Range(1, 86_400_000)).Draw(t, "due")
			for dues[d] {
				d++
			}
			dues[d] = true
			return d
		}
		// Those that were told, in order or in any.
		tell := func(t *rapid.T, ordered bool) {
			t.Helper()
			got, want := told, m.told
			told, m.told = nil, nil
			if !ordered {
				slices.Sort(got)
				slices.Sort(want)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("told %v, want %v", got, want)
			}
		}
		// What the holder of a name has is released: its token is forgotten.
		forget := func() {
			for n := range tokens {
				l := m.exclusive[n]
				if len(l.holders) == 0 {
					delete(tokens, n)
				}
			}
		}
		exclusive := func(t *rapid.T, due uint64, plain bool) {
			p, n := pick(false), name()
			var g Grant
			var out Outcome
			if plain {
				g, out = set.Get(p.o, []byte(n))
			} else {
				g, out = set.GetWait(p.o, []byte(n), due)
			}
			if _, want := m.get(p.m, n, -1, due, plain); out != want {
				t.Fatalf("get %q until %d: %v, want %v", n, due, out, want)
			}
			if out == Acquired {
				token(n, g.Token)
			}
			tell(t, true)
		}
		sharedLock := func(t *rapid.T, limit uint32, due uint64, how string) {
			p, n := pick(false), name()
			var g Grant
			var out Outcome
			switch how {
			case "plain":
				g, out = set.GetShared(p.o, []byte(n))
			case "limit":
				g, out = set.GetSharedLimit(p.o, []byte(n), limit)
			case "wait":
				g, out = set.GetSharedWait(p.o, []byte(n), limit, due)
			}
			count, want := m.get(p.m, n, int(limit), due, how == "plain")
			if out != want || out == Acquired && g.Count != count {
				t.Fatalf("get shared %q, limit %d until %d: %v %v, want %v %d", n, limit, due, out, g, want, count)
			}
			tell(t, true)
		}
		limit := func() uint32 { return rapid.Uint32Range(1, 4).Draw(t, "limit") }
		over := func(t *rapid.T, p pair, g Grant, out Outcome, count int, want Outcome, w *modelWait) {
			t.Helper()
			if out != want || p.o.Waits() != (want == Waiting) {
				t.Fatalf("%v, want %v, waits: %v", out, want, p.o.Waits())
			}
			if out != Acquired {
				return
			}
			if w.kind == Exclusive {
				delete(tokens, w.name)
				token(w.name, g.Token)
				if again, ok := set.Token(p.o, []byte(w.name)); !ok || again != g.Token {
					t.Fatalf("token %d, %v, granted with %d", again, ok, g.Token)
				}
			} else if g.Count != count {
				t.Fatalf("granted with count %d, want %d", g.Count, count)
			}
		}
		wait := func(t *rapid.T) { exclusive(t, due(), false) }
		waitShared := func(t *rapid.T) { sharedLock(t, limit(), due(), "wait") }
		release := func(t *rapid.T) {
			p, n := pick(false), name()
			k := Kind(rapid.IntRange(0, 1).Draw(t, "kind"))
			// Prefer a lock that is held.
			for _, locks := range []map[string]*modelLock{m.exclusive, m.shared}[k : k+1] {
				for _, some := range []string{"", "a", "b", "c d"} {
					if l := locks[some]; l != nil && slices.Contains(l.holders, p.m.id) {
						n = some
					}
				}
			}
			var ok bool
			if k == Exclusive {
				ok = set.Release(p.o, []byte(n))
			} else {
				ok = set.ReleaseShared(p.o, []byte(n))
			}
			want := m.release(k, p.m, n)
			if ok != want {
				t.Fatalf("release %v %q: %v", k, n, ok)
			}
			if ok && k == Exclusive {
				delete(tokens, n)
			}
			tell(t, true)
			forget()
		}
		cancel := func(t *rapid.T, p pair) {
			t.Helper()
			w := p.m.wait
			g, out := set.Cancel(p.o)
			count, want := m.cancel(p.m)
			over(t, p, g, out, count, want, w)
			tell(t, true)
		}
		t.Repeat(map[string]func(*rapid.T){
			"get":             func(t *rapid.T) { exclusive(t, 0, true) },
			"get, no time":    func(t *rapid.T) { exclusive(t, 0, false) },
			"wait":            wait,
			"wait2":           wait,
			"get shared":      func(t *rapid.T) { sharedLock(t, 0, 0, "plain") },
			"get limit":       func(t *rapid.T) { sharedLock(t, limit(), 0, "limit") },
			"shared, no time": func(t *rapid.T) { sharedLock(t, limit(), 0, "wait") },
			"wait shared":     waitShared,
			"wait shared2":    waitShared,
			"release":         release,
			"release2":        release,
			"settle": func(t *rapid.T) {
				p := pick(true)
				w := p.m.wait
				g, out := set.Settle(p.o)
				count, want := m.settle(p.m)
				over(t, p, g, out, count, want, w)
			},
			"cancel": func(t *rapid.T) { cancel(t, pick(true)) },
			"expire": func(t *rapid.T) {
				now := m.now + rapid.OneOf(rapid.Uint64Range(0, 60), rapid.Uint64Range(0, 90_000_000)).Draw(t, "by")
				next := set.Expire(now)
				m.expire(now)
				tell(t, false)
				for _, p := range owners {
					p.o.Now = MomentOf(now)
				}
				if all := m.due(); len(all) == 0 && next != 0 || len(all) > 0 && (next <= now || next > all[0].wait.due) {
					t.Fatalf("expired at %d, next %d, %d wait", now, next, len(all))
				}
			},
			"end": func(t *rapid.T) {
				i := rapid.IntRange(0, len(owners)-1).Draw(t, "owner")
				p := owners[i]
				if p.m.wait != nil {
					cancel(t, p)
				}
				for n := range tokens {
					if slices.Contains(m.exclusive[n].holders, p.m.id) {
						delete(tokens, n)
					}
				}
				set.ReleaseAll(p.o)
				m.end(p.m)
				tell(t, false)
				owners[i] = newOwner()
			},
			"": func(t *rapid.T) {
				got := set.Stats()
				got.Ages = [Kinds]Ages{} // which have a test of their own
				if want := m.counted(); got != want {
					t.Fatalf("stats are\n%+v, want\n%+v", got, want)
				}
				if taken, bound := set.Permits(); taken != m.total() || bound != cfg.Locks {
					t.Fatalf("%d of %d permits are taken, want %d of %d", taken, bound, m.total(), cfg.Locks)
				}
				m.checkQueues(t, set)
				checkSum(t, set.Stats())
				for _, p := range owners {
					if p.o.Held() != p.m.held || p.o.Waits() != (p.m.wait != nil) {
						t.Fatalf("owner %d holds %d, want %d; waits %v", p.o.ID, p.o.Held(), p.m.held, p.o.Waits())
					}
				}
				for n, l := range m.exclusive {
					holder := uint32(0)
					if len(l.holders) > 0 {
						holder = l.holders[0]
					}
					if got := set.Holder([]byte(n)); got != holder {
						t.Fatalf("%q is held by %d, want %d", n, got, holder)
					}
				}
				checkLines(t, set, Exclusive, m.exclusive)
				checkLines(t, set, Shared, m.shared)
				w := &world{set: set}
				for n, l := range m.shared {
					if found := w.walk(t, set.WalkHolders([]byte(n))); !slices.Equal(found[n], l.holders) {
						t.Fatalf("%q is shared by %v, want %v", n, found[n], l.holders)
					}
				}
			},
		})
		for _, p := range owners {
			if p.m.wait != nil {
				cancel(t, p)
			}
			set.ReleaseAll(p.o)
			m.end(p.m)
			tell(t, false)
		}
		checkUnused(t, set, cfg)
	})
}

// checkLines finds with each hold how many wait for its lock.
func checkLines(t fataler, set *Set, k Kind, locks map[string]*modelLock) {
	t.Helper()
	walk := set.Walk(k)
	defer walk.Close()
	var p Piece
	for more := true; more; {
		more = walk.Next(&p)
		for _, item := range p.Items {
			if name := string(p.Name(item)); int(item.Queue) != len(locks[name].queue) {
				t.Fatalf("%d wait for %q, want %d", item.Queue, name, len(locks[name].queue))
			}
		}
	}
}

// checkUnused finds nothing in use in a set that holds nothing, and all
// permits back.
func checkUnused(t fataler, set *Set, cfg Config) {
	t.Helper()
	for i := range set.shards {
		s := &set.shards[i]
		for what, n := range map[string]int{
			"exclusive": inUse(&s.exclusive), "shared": inUse(&s.shared), "holds": inUse(&s.holds),
			"name blocks": inUse(&s.names.blocks), "waiters": inUse(&s.waiters), "limiters": inUse(&s.limiters),
			"names": s.byName.total(), "shared names": s.bySharing.total(), "holders": s.byHolder.total(), "rates": s.byLimit.total(),
		} {
			if n != 0 {
				t.Fatalf("in the end shard %d has %d %s in use", i, n, what)
			}
		}
		if len(s.walks) != 0 {
			t.Fatalf("in the end a walk is in shard %d", i)
		}
		if s.wheel != nil && (s.wheel.count != 0 || s.wheel.used != [wheelLevels]uint64{}) {
			t.Fatalf("in the end the wheel of shard %d has %d", i, s.wheel.count)
		}
	}
	if n := set.waiting.Load(); n != 0 {
		t.Fatalf("in the end %d wait", n)
	}
	got := set.bound.left.Load()
	if set.reclaim(1) {
		got = set.bound.left.Load() + 1 // it took one
	}
	if got != int64(cfg.Locks) {
		t.Fatalf("in the end there are %d permits, want %d", got, cfg.Locks)
	}
}
