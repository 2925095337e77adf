package shard

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// claim says what becomes of a claim, by tokens, which those who hold have.
func (m *queueModel) claim(o *modelOwner, name string, token uint64, open bool, tokens map[string]uint64) (out Outcome, loser uint32) {
	l := m.lock(Exclusive, name)
	held := len(l.holders) > 0
	if held && l.holders[0] == o.id && tokens[name] == token {
		delete(o.doubt, modelHold{Exclusive, name})
		return Acquired, 0
	}
	if !open || !m.recovering || token == 0 || token >= m.cfg.Start || held && tokens[name] >= token {
		return Refused, 0
	}
	if held {
		was := m.owners[l.holders[0]]
		was.held--
		delete(was.doubt, modelHold{Exclusive, name})
		m.stats.LetGo[Exclusive]++
		if was != o {
			loser = was.id
		}
	}
	l.holders = []uint32{o.id}
	o.held++
	m.stats.Acquire[Exclusive][Acquired]++
	return Acquired, loser
}

func (m *queueModel) claimShared(o *modelOwner, name string, open bool) (count int, out Outcome) {
	l := m.lock(Shared, name)
	if slices.Contains(l.holders, o.id) {
		delete(o.doubt, modelHold{Shared, name})
		return len(l.holders), Acquired
	}
	if !open || !m.recovering || slices.Contains(l.queue, o) {
		return 0, Refused
	}
	l.holders = append(l.holders, o.id)
	o.held++
	m.stats.Acquire[Shared][Acquired]++
	return len(l.holders), Acquired
}

// holds calls f with all that an owner holds, but what it does not know of yet.
func (m *queueModel) holds(o *modelOwner, f func(modelHold)) {
	for k, locks := range [...]map[string]*modelLock{m.exclusive, m.shared} {
		for name, l := range locks {
			h := modelHold{Kind(k), name}
			unknown := o.wait != nil && o.wait.over && o.wait.out == Acquired && h == modelHold{o.wait.kind, o.wait.name}
			if slices.Contains(l.holders, o.id) && !unknown {
				f(h)
			}
		}
	}
}

func (m *queueModel) dropDoubted(o *modelOwner) {
	for h := range o.doubt {
		l := m.lock(h.kind, h.name)
		i := slices.Index(l.holders, o.id)
		l.holders = slices.Delete(l.holders, i, i+1)
		o.held--
		m.stats.LetGo[h.kind]++
		m.serve(h.kind, h.name)
	}
	clear(o.doubt)
}

// unclaimed is how many locks of a kind are nobody's.
func (m *queueModel) unclaimed(k Kind) (n int32) {
	for _, l := range [...]map[string]*modelLock{m.exclusive, m.shared}[k] {
		if len(l.holders) == 0 && len(l.queue) > 0 {
			n++
		}
	}
	return n
}

// A keeper is a set with its model, and some who keep what they hold.
type keeper struct {
	set     *Set
	m       *queueModel
	owners  []*Owner
	told    []uint32
	tokens  map[string]uint64 // of locks that are held
	lastDue uint64
}

func (w *keeper) of(o *Owner) *modelOwner { return w.m.owners[o.ID] }

// pick draws an owner of whom something is so; nil: there is none.
func (w *keeper) pick(t *rapid.T, is func(*modelOwner) bool) *Owner {
	var some []*Owner
	for _, o := range w.owners {
		if is(w.of(o)) {
			some = append(some, o)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return rapid.SampledFrom(some).Draw(t, "owner")
}

func idle(o *modelOwner) bool    { return o.wait == nil }
func waits(o *modelOwner) bool   { return o.wait != nil }
func decided(o *modelOwner) bool { return o.wait == nil || !o.wait.over }

func drawName(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "a", "b", "c"}).Draw(t, "name")
}

// due draws a time that nobody else's wait has.
func (w *keeper) due(t *rapid.T) uint64 {
	w.lastDue = max(w.lastDue, w.m.now) + rapid.Uint64Range(1, 50).Draw(t, "due")
	return w.lastDue
}

// agree compares who were told, and everything that can be seen.
func (w *keeper) agree(t *rapid.T) {
	t.Helper()
	got, want := w.told, w.m.told
	w.told, w.m.told = nil, nil
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("told %v, want %v", got, want)
	}
	stats := w.set.Stats()
	stats.Ages = [Kinds]Ages{}
	if want := w.m.counted(); stats != want {
		t.Fatalf("stats are\n%+v, want\n%+v", stats, want)
	}
	if taken, _ := w.set.Permits(); taken != w.m.total() {
		t.Fatalf("%d permits are taken, want %d", taken, w.m.total())
	}
	if w.set.Recovering() != w.m.recovering {
		t.Fatalf("recovering: %v", w.set.Recovering())
	}
	w.m.checkQueues(t, w.set)
	checkSum(t, w.set.Stats())
	var unclaimed [Kinds]int32
	for i := range w.set.shards {
		for k, n := range w.set.shards[i].unclaimed {
			unclaimed[k] += n
		}
	}
	for k, n := range unclaimed {
		if want := w.m.unclaimed(Kind(k)); n != want {
			t.Fatalf("%d %v are nobody's, want %d", n, Kind(k), want)
		}
	}
	for _, o := range w.owners {
		if o.Held() != w.of(o).held || o.Waits() != (w.of(o).wait != nil) {
			t.Fatalf("owner %d holds %d, want %d; waits %v", o.ID, o.Held(), w.of(o).held, o.Waits())
		}
		w.m.holds(w.of(o), func(h modelHold) {
			if h.kind == Shared {
				if !w.set.Shares(o, []byte(h.name)) {
					t.Fatalf("owner %d does not share %q", o.ID, h.name)
				}
			} else if token, ok := w.set.Token(o, []byte(h.name)); !ok || token != w.tokens[h.name] {
				t.Fatalf("owner %d holds %q: %v, with %d, want %d", o.ID, h.name, ok, token, w.tokens[h.name])
			}
		})
	}
}

// granted notes the token of a lock that o has now.
func (w *keeper) granted(t *rapid.T, o *Owner, name string, g Grant, new bool) {
	t.Helper()
	if !new && g.Token != w.tokens[name] || new && g.Token <= w.m.cfg.Start {
		t.Fatalf("granted %q with %d, had %d, new: %v", name, g.Token, w.tokens[name], new)
	}
	w.tokens[name] = g.Token
}

func (w *keeper) get(t *rapid.T, due uint64) {
	o, name := w.pick(t, idle), drawName(t)
	if o == nil {
		return
	}
	had := slices.Contains(w.m.lock(Exclusive, name).holders, o.ID)
	g, out := w.set.GetWait(o, []byte(name), due)
	if _, want := w.m.get(w.of(o), name, -1, due, false); out != want {
		t.Fatalf("get %q until %d: %v, want %v", name, due, out, want)
	}
	if out == Acquired {
		delete(w.of(o).doubt, modelHold{Exclusive, name})
		w.granted(t, o, name, g, !had)
	}
}

func (w *keeper) getShared(t *rapid.T, due uint64) {
	o, name, limit := w.pick(t, idle), drawName(t), rapid.IntRange(0, 3).Draw(t, "limit")
	if o == nil {
		return
	}
	var g Grant
	var out Outcome
	if limit == 0 {
		due = 0
		g, out = w.set.GetShared(o, []byte(name))
	} else {
		g, out = w.set.GetSharedWait(o, []byte(name), uint32(limit), due)
	}
	count, want := w.m.get(w.of(o), name, limit, due, limit == 0)
	if out != want || g.Count != count {
		t.Fatalf("get shared %q up to %d until %d: %v %d, want %v %d", name, limit, due, out, g.Count, want, count)
	}
	if out == Acquired {
		delete(w.of(o).doubt, modelHold{Shared, name})
	}
}

func (w *keeper) claim(t *rapid.T) {
	o, name, open := w.pick(t, decided), drawName(t), rapid.IntRange(0, 7).Draw(t, "open") > 0
	if o == nil {
		return
	}
	token := rapid.Uint64Range(0, w.m.cfg.Start+1).Draw(t, "token")
	if slices.Contains(w.m.lock(Exclusive, name).holders, o.ID) && rapid.Bool().Draw(t, "right") {
		token = w.tokens[name]
	}
	g, out, loser := w.set.Claim(o, []byte(name), token, open)
	want, lost := w.m.claim(w.of(o), name, token, open, w.tokens)
	if out != want || loser != lost || out == Acquired && g.Token != token {
		t.Fatalf("claim %q with %d: %v %v, %d loses; want %v, %d", name, token, out, g, loser, want, lost)
	}
	if out == Acquired {
		w.tokens[name] = token
	}
}

func (w *keeper) claimShared(t *rapid.T) {
	o, name, open := w.pick(t, decided), drawName(t), rapid.IntRange(0, 7).Draw(t, "open") > 0
	if o == nil {
		return
	}
	g, out := w.set.ClaimShared(o, []byte(name), open)
	if count, want := w.m.claimShared(w.of(o), name, open); out != want || g.Count != count {
		t.Fatalf("claim shared %q: %v %d, want %v %d", name, out, g.Count, want, count)
	}
}

func (w *keeper) release(t *rapid.T) {
	o := w.pick(t, func(o *modelOwner) bool { return o.wait == nil && o.held > 0 })
	if o == nil {
		return
	}
	name, k := drawName(t), Kind(rapid.IntRange(0, 1).Draw(t, "kind"))
	ok := k == Exclusive && w.set.Release(o, []byte(name)) || k == Shared && w.set.ReleaseShared(o, []byte(name))
	if want := w.m.release(k, w.of(o), name); ok != want {
		t.Fatalf("release %v %q: %v", k, name, ok)
	}
	delete(w.of(o).doubt, modelHold{k, name})
}

// doubt is a connection that is lost, and a new one. A wait that is decided is settled
// before anything is claimed.
func (w *keeper) doubt(t *rapid.T) {
	o := w.pick(t, func(*modelOwner) bool { return true })
	mine := w.of(o)
	w.set.Doubt(o)
	w.m.holds(mine, func(h modelHold) { mine.doubt[h] = true })
	was := mine.wait
	if was == nil {
		return
	}
	out := w.set.SettleDoubted(o)
	if _, want := w.m.settle(mine); out != want {
		t.Fatalf("settle: %v, want %v", out, want)
	}
	if out == Acquired {
		mine.doubt[modelHold{was.kind, was.name}] = true
		w.learn(o, was)
	}
}

// learn notes the token of a lock that o has waited for.
func (w *keeper) learn(o *Owner, was *modelWait) {
	if was.kind == Exclusive {
		w.tokens[was.name], _ = w.set.Token(o, []byte(was.name))
	}
}

func (w *keeper) dropDoubted(t *rapid.T) {
	o := w.pick(t, decided)
	if o == nil {
		return
	}
	for !w.set.DropDoubted(o, rapid.IntRange(1, 300).Draw(t, "steps")) {
	}
	w.m.dropDoubted(w.of(o))
}

func (w *keeper) recall(t *rapid.T) {
	o := w.pick(t, decided)
	if o == nil {
		return
	}
	mine := w.of(o)
	p := Piece{Most: 1}
	more := w.set.Recall(o, &p)
	for _, item := range p.Items {
		h := modelHold{item.Kind, string(p.Name(item))}
		if !mine.doubt[h] || h.kind == Exclusive && item.Number != w.tokens[h.name] {
			t.Fatalf("recalled %v with %d", h, item.Number)
		}
		delete(mine.doubt, h)
	}
	if !more && len(mine.doubt) > 0 {
		t.Fatalf("%v are not recalled", mine.doubt)
	}
}

func (w *keeper) prolong(t *rapid.T) {
	o := w.pick(t, waits)
	if o == nil {
		return
	}
	mine, due, limit := w.of(o), w.due(t), rapid.IntRange(1, 3).Draw(t, "limit")
	over := mine.wait.over
	waits := w.set.Prolong(o, uint32(limit), due)
	if !over {
		mine.wait.due, mine.wait.limit = due, limit
		if mine.wait.kind == Shared {
			w.m.serve(Shared, mine.wait.name)
		}
	}
	if waits == mine.wait.over {
		t.Fatalf("prolonged: %v", waits)
	}
}

func (w *keeper) settle(t *rapid.T, cancel bool) {
	o := w.pick(t, waits)
	if o == nil {
		return
	}
	w.end(t, o, cancel)
}

func (w *keeper) end(t *rapid.T, o *Owner, cancel bool) {
	t.Helper()
	mine := w.of(o)
	was := mine.wait
	settle, model := w.set.Settle, w.m.settle
	if cancel {
		settle, model = w.set.Cancel, w.m.cancel
	}
	g, out := settle(o)
	count, want := model(mine)
	if out != want || was.kind == Shared && out == Acquired && g.Count != count {
		t.Fatalf("settled: %v %v, want %v %d", out, g, want, count)
	}
	if out == Acquired && was.kind == Exclusive {
		w.granted(t, o, was.name, g, true)
	}
}

func (w *keeper) endRecovery() {
	w.set.EndRecovery(MomentOf(w.m.now))
	w.m.recovering = false
	for k, locks := range [...]map[string]*modelLock{w.m.exclusive, w.m.shared} {
		for name := range locks {
			w.m.serve(Kind(k), name)
		}
	}
}

// newKeeper makes a set that recovers, or has, and its model.
func newKeeper(t *rapid.T) *keeper {
	w := &keeper{tokens: map[string]uint64{}}
	cfg := Config{
		Locks:         rapid.SampledFrom([]int{1, 3, 8, 1000}).Draw(t, "locks"),
		LocksPerOwner: rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "locks per owner"),
		Waiters:       rapid.SampledFrom([]int{1, 1000, 1000}).Draw(t, "waiters"),
		Start:         rapid.Uint64Range(1, 9).Draw(t, "start"),
		Recovering:    rapid.IntRange(0, 3).Draw(t, "recovering") > 0,
		Notify:        func(id uint32) { w.told = append(w.told, id) },
		OwnerOf:       func(id uint32) *Owner { return w.owners[id-1] },
	}
	w.set = New(rapid.SampledFrom([]int{1, 4}).Draw(t, "shards"), cfg)
	w.m = &queueModel{cfg: cfg, exclusive: map[string]*modelLock{}, shared: map[string]*modelLock{}, owners: map[uint32]*modelOwner{}, recovering: cfg.Recovering}
	for id := range uint32(rapid.IntRange(2, 6).Draw(t, "owners")) {
		w.owners = append(w.owners, &Owner{ID: id + 1})
		w.m.owners[id+1] = &modelOwner{id: id + 1, doubt: map[modelHold]bool{}}
	}
	return w
}

// TestModelOfKeeping compares what happens while a set recovers, and to those who come
// back, with the model.
func TestModelOfKeeping(t *testing.T) {
	rapid.Check(t, keepAsTheModel)
}

func FuzzModelOfKeeping(f *testing.F) { f.Fuzz(rapid.MakeFuzz(keepAsTheModel)) }

func keepAsTheModel(t *rapid.T) {
	w := newKeeper(t)
	t.Repeat(map[string]func(*rapid.T){
		"get":          func(t *rapid.T) { w.get(t, 0) },
		"wait":         func(t *rapid.T) { w.get(t, w.due(t)) },
		"get shared":   func(t *rapid.T) { w.getShared(t, 0) },
		"wait shared":  func(t *rapid.T) { w.getShared(t, w.due(t)) },
		"claim":        w.claim,
		"claim2":       w.claim,
		"claim shared": w.claimShared,
		"release":      w.release,
		"doubt":        w.doubt,
		"drop doubted": w.dropDoubted,
		"recall":       w.recall,
		"prolong":      w.prolong,
		"settle":       func(t *rapid.T) { w.settle(t, false) },
		"cancel":       func(t *rapid.T) { w.settle(t, true) },
		"expire": func(t *rapid.T) {
			now := w.m.now + rapid.Uint64Range(0, 200).Draw(t, "by")
			w.set.Expire(now)
			w.m.expire(now)
		},
		"leave": func(t *rapid.T) {
			o := w.pick(t, idle)
			if o == nil {
				return
			}
			w.set.ReleaseAll(o)
			w.set.Forget(o)
			mine := w.of(o)
			w.m.end(mine)
			clear(mine.doubt)
			w.m.owners[o.ID] = mine // and comes back
		},
		"end recovery": func(t *rapid.T) {
			if rapid.IntRange(0, 9).Draw(t, "now") == 0 {
				w.endRecovery()
			}
		},
		"": w.agree,
	})
	w.endRecovery()
	for _, o := range w.owners {
		if o.Waits() {
			w.end(t, o, true)
		}
		w.set.ReleaseAll(o)
		w.m.end(w.of(o))
	}
	w.told, w.m.told = nil, nil
	checkUnused(t, w.set, w.m.cfg)
}
