package shard

import (
	"math/big"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// rateModel is GCRA in fractions: the time at which all units are open, and
// the limit that the rate had when that was set.
type rateModel struct {
	full  *big.Rat
	limit uint32
}

// sweep drops what is full.
func sweep(set *Set, now uint64) {
	for !set.Sweep(now, 1<<20) {
	}
}

func rat(n uint64) *big.Rat { return new(big.Rat).SetInt(new(big.Int).SetUint64(n)) }

// floor and ceil round to whole numbers.
func floor(r *big.Rat) uint64 { return new(big.Int).Quo(r.Num(), r.Denom()).Uint64() }

func ceil(r *big.Rat) uint64 {
	n := floor(r)
	if rat(n).Cmp(r) < 0 {
		n++
	}
	return n
}

// cost is how long units take to come back.
func (m *rateModel) cost(r Rate, units uint32) *big.Rat {
	c := new(big.Rat).Mul(rat(uint64(units)), rat(r.Window))
	return c.Quo(c, rat(uint64(r.Limit)))
}

func (m *rateModel) debt(r Rate, now uint64) *big.Rat {
	if m.full == nil {
		return new(big.Rat)
	}
	full := m.full
	if m.limit != r.Limit {
		// What is kept of the last nanosecond is a number of parts of 1/LIMIT.
		whole := rat(floor(full))
		part := new(big.Rat).Sub(full, whole)
		part.Mul(part, rat(uint64(m.limit)))
		if part.Quo(part, rat(uint64(r.Limit))); part.Cmp(rat(1)) > 0 {
			part = rat(1)
		}
		full = whole.Add(whole, part)
	}
	if full.Cmp(rat(now)) <= 0 {
		return new(big.Rat)
	}
	debt := new(big.Rat).Sub(full, rat(now))
	if debt.Cmp(rat(r.Window)) > 0 {
		return rat(r.Window)
	}
	return debt
}

func (m *rateModel) open(r Rate, now uint64) uint32 {
	o := new(big.Rat).Sub(rat(r.Window), m.debt(r, now))
	o.Mul(o, rat(uint64(r.Limit)))
	return uint32(floor(o.Quo(o, rat(r.Window))))
}

func (m *rateModel) take(r Rate, units uint32, now uint64) Verdict {
	debt, open, cost := m.debt(r, now), m.open(r, now), m.cost(r, units)
	if units > 0 && debt.Cmp(rat(r.Window)) == 0 {
		// Of a longer window that it had before, no more than one of this counts.
		m.full, m.limit = new(big.Rat).Add(rat(now), debt), r.Limit
	}
	if open < units {
		// debt + cost - window
		retry := new(big.Rat).Add(debt, cost)
		return Verdict{Outcome: Refused, Open: open, Retry: ceil(retry.Sub(retry, rat(r.Window))), Full: ceil(m.debt(r, now))}
	}
	if units > 0 {
		m.full = new(big.Rat).Add(rat(now), debt)
		m.full.Add(m.full, cost)
		m.limit = r.Limit
	}
	return Verdict{Outcome: Acquired, Open: open, Full: ceil(m.debt(r, now))}
}

var anyRate = rapid.Custom(func(t *rapid.T) Rate {
	return Rate{
		Limit: rapid.OneOf(rapid.Uint32Range(1, 10), rapid.Uint32Range(1, 1000), rapid.Uint32Range(1, 1<<32-2)).Draw(t, "limit"),
		Window: rapid.OneOf(rapid.Uint64Range(1, 100), rapid.Just(uint64(1e6)), rapid.Just(uint64(1e9)),
			rapid.Uint64Range(1, 86_400_000*1_000_000), rapid.Just(uint64(1)<<47)).Draw(t, "window"),
	}
})

func TestModelOfRates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{Locks: 1000}
		set := New(rapid.SampledFrom([]int{1, 4}).Draw(t, "shards"), cfg)
		now := rapid.Uint64Range(1, 1<<60).Draw(t, "now")
		models := map[string]*rateModel{}
		rates := map[string]Rate{}
		name := func() (string, *rateModel, Rate) {
			n := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "name")
			if models[n] == nil {
				models[n], rates[n] = &rateModel{}, anyRate.Draw(t, "rate")
			}
			return n, models[n], rates[n]
		}
		take := func(t *rapid.T) {
			n, m, r := name()
			units := rapid.OneOf(rapid.Uint32Range(0, r.Limit), rapid.Uint32Range(0, min(r.Limit, 3)), rapid.Just(r.Limit)).Draw(t, "units")
			got, want := set.Take(nil, []byte(n), r, units, now), m.take(r, units, now)
			if got != want {
				t.Fatalf("take %d of %+v: %+v, want %+v", units, r, got, want)
			}
			// There is one unit more when Next says so, or a nanosecond before; but a question with a
			// shorter window than the others' leaves theirs, and cannot know.
			open := set.Open([]byte(n), r, now)
			switch next := r.Next(got, units); {
			case units == 0 && got.Full == r.Window:
			case next == 0 && open != r.Limit:
				t.Fatalf("take %d of %+v: all units are open, and %d are", units, r, open)
			case next > 0 && set.Open([]byte(n), r, now+next) <= open:
				t.Fatalf("take %d of %+v: no more than %d open at the time of the next", units, r, open)
			case next > 1 && set.Open([]byte(n), r, now+next-2) > open:
				t.Fatalf("take %d of %+v: more than %d open before the time of the next", units, r, open)
			}
			if got.Outcome != Refused {
				return
			}
			// Exactly then, and not a nanosecond sooner.
			if got.Retry == 0 {
				t.Fatalf("take %d of %+v: refused, but open at once", units, r)
			}
			if open := set.Open([]byte(n), r, now+got.Retry); open < units {
				t.Fatalf("take %d of %+v: %d open at the time to try again", units, r, open)
			}
			if open := set.Open([]byte(n), r, now+got.Retry-1); open >= units {
				t.Fatalf("take %d of %+v: %d open before the time to try again", units, r, open)
			}
			if rapid.Bool().Draw(t, "try") {
				now += got.Retry - 1
				if v := set.Take(nil, []byte(n), r, units, now); v.Outcome != Refused || v.Retry != 1 {
					t.Fatalf("a nanosecond before the time to try again: %+v", v)
				}
				now++
				got, want = set.Take(nil, []byte(n), r, units, now), m.take(r, units, now)
				if got != want || got.Outcome != Acquired {
					t.Fatalf("at the time to try again: %+v, want %+v", got, want)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"take":  take,
			"take2": take,
			"open": func(t *rapid.T) {
				n, m, r := name()
				if got, want := set.Open([]byte(n), r, now), m.open(r, now); got != want {
					t.Fatalf("%d open, want %d", got, want)
				}
			},
			"time goes by": func(t *rapid.T) {
				_, _, r := name()
				now += rapid.Uint64Range(0, r.Window).Draw(t, "by")
			},
			"change": func(t *rapid.T) {
				n, _, _ := name()
				rates[n] = anyRate.Draw(t, "rate")
			},
			"sweep": func(t *rapid.T) { sweep(set, now) },
			"": func(t *rapid.T) {
				if st := set.Stats(); st.Limiters != set.Limiters() || st.Limiters > len(models) {
					t.Fatalf("%d rates, %d counted, %d known", st.Limiters, set.Limiters(), len(models))
				}
			},
		})
		// Those that idle are no different from those that are not there.
		now += 1 << 48
		sweep(set, now)
		if n := set.Limiters(); n != 0 {
			t.Fatalf("%d rates are there that are full", n)
		}
		for n, r := range rates {
			if open := set.Open([]byte(n), r, now); open != r.Limit {
				t.Fatalf("%d of %d open in the end", open, r.Limit)
			}
		}
		checkUnused(t, set, cfg)
	})
}

// Of what was taken before a rate changed no more than a whole window counts.
func TestShorterWindow(t *testing.T) {
	set := New(1, Config{})
	long, short := Rate{Limit: 1, Window: 1_000_000}, Rate{Limit: 1, Window: 1000}
	if v := set.Take(nil, nil, long, 1, 1); v.Outcome != Acquired {
		t.Fatalf("%+v", v)
	}
	if v := set.Take(nil, nil, short, 1, 1); v != (Verdict{Outcome: Refused, Retry: 1000, Full: 1000}) {
		t.Fatalf("with a shorter window: %+v", v)
	}
	if v := set.Take(nil, nil, short, 1, 1001); v != (Verdict{Outcome: Acquired, Open: 1, Full: 1000}) {
		t.Fatalf("at the time to try again: %+v", v)
	}
}

// A question about a rate with a shorter window leaves what is known of the
// longer one, however it is put.
func TestQuestionsChangeNothing(t *testing.T) {
	set := New(1, Config{})
	long, short := Rate{Limit: 3, Window: 1_000_000}, Rate{Limit: 7, Window: 1000}
	if v := set.Take(nil, nil, long, 3, 1); v.Outcome != Acquired {
		t.Fatalf("%+v", v)
	}
	for _, r := range []Rate{short, {Limit: 1, Window: 1}, {Limit: 1 << 31, Window: 1 << 46}, long} {
		set.Open(nil, r, 1)
		if v := set.Take(nil, nil, r, 0, 1); v.Outcome != Acquired || v.Retry != 0 {
			t.Errorf("none of %+v: %+v", r, v)
		}
	}
	if v := set.Take(nil, nil, long, 3, 1); v != (Verdict{Outcome: Refused, Retry: 1_000_000, Full: 1_000_000}) {
		t.Errorf("after questions: %+v", v)
	}
	// A request is no question, also if it is refused: its rate applies at once.
	if v := set.Take(nil, nil, short, 7, 1); v != (Verdict{Outcome: Refused, Retry: 1000, Full: 1000}) {
		t.Errorf("with a shorter window: %+v", v)
	}
	if v := set.Take(nil, nil, short, 7, 1001); v != (Verdict{Outcome: Acquired, Open: 7, Full: 1000}) {
		t.Errorf("at the time to try again: %+v", v)
	}
}

// In no window of time are more units taken than LIMIT and what came back
// meanwhile, evenly.
func TestRateInAnyWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := New(1, Config{})
		r := anyRate.Draw(t, "rate")
		now := uint64(1)
		type taken struct {
			at    uint64
			units uint32
		}
		var all []taken
		for range rapid.IntRange(1, 80).Draw(t, "n") {
			units := rapid.Uint32Range(0, r.Limit).Draw(t, "units")
			v := set.Take(nil, nil, r, units, now)
			if v.Outcome == Acquired {
				all = append(all, taken{now, units})
			} else if rapid.Bool().Draw(t, "wait") {
				now += v.Retry
			}
			now += rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Range(0, r.Window/uint64(r.Limit)+1), rapid.Uint64Range(0, r.Window)).Draw(t, "by")
		}
		for i := range all {
			sum := uint64(0)
			for _, x := range all[i:] {
				sum += uint64(x.units)
				most := new(big.Rat).Mul(rat(x.at-all[i].at), rat(uint64(r.Limit)))
				most.Quo(most, rat(r.Window))
				most.Add(most, rat(uint64(r.Limit)))
				if rat(sum).Cmp(most) > 0 {
					t.Fatalf("%d units of %+v in %d ns", sum, r, x.at-all[i].at)
				}
			}
		}
	})
}

// Rates that are full go as others come, and go altogether when the table is
// swept; each counts as a lock until then.
func TestRatesVanish(t *testing.T) {
	const limit = 1000
	set := New(4, Config{Locks: limit})
	r := Rate{Limit: 10, Window: 1000}
	name := func(i int) []byte { return strconv.AppendInt(nil, int64(i), 10) }
	now := uint64(1)
	for i := range limit {
		if v := set.Take(nil, name(i), r, 10, now); v.Outcome != Acquired || v.Open != 10 {
			t.Fatalf("rate %d: %+v", i, v)
		}
	}
	if v := set.Take(nil, name(limit), r, 1, now); v.Outcome != Full {
		t.Fatalf("one more: %+v", v)
	}
	if out := get(set, &Owner{ID: 1}, []byte("lock")); out != Full {
		t.Fatalf("a lock besides: %v", out)
	}
	// What takes no unit needs no room.
	if v := set.Take(nil, name(limit), r, 0, now); v.Outcome != Acquired {
		t.Fatalf("nothing of one more: %+v", v)
	}
	if sweep(set, now); set.Limiters() != limit {
		t.Fatalf("%d of %d are left that are not full", set.Limiters(), limit)
	}
	if sweep(set, now+999); set.Limiters() != limit {
		t.Fatalf("%d of %d are left that are not full", set.Limiters(), limit)
	}
	now += 1000
	// Each new one looks at two.
	for i := range 10 * limit {
		if v := set.Take(nil, name(limit+i), r, 1, now); v.Outcome != Acquired {
			t.Fatalf("rate %d: %+v", limit+i, v)
		}
		now += 100 // all of it is back
	}
	if n := set.Limiters(); n > limit {
		t.Fatalf("%d rates are there", n)
	}
	if sweep(set, now); set.Limiters() != 0 {
		t.Fatalf("%d are left that are full", set.Limiters())
	}
	checkUnused(t, set, Config{Locks: limit})
}

// A full rate gives all of its units at one moment, whatever its limit and
// window divide to, and not one more.
func TestRateAtOnce(t *testing.T) {
	for _, r := range []Rate{{3, 1e9}, {7, 1e9}, {999_983, 1e9}, {600_000, 1e6}, {7, 5}, {1000, 1}} {
		set := New(1, Config{})
		for i := range r.Limit {
			if v := set.Take(nil, nil, r, 1, 1); v.Outcome != Acquired || v.Open != r.Limit-i {
				t.Fatalf("%+v: unit %d: %+v", r, i, v)
			}
		}
		if v := set.Take(nil, nil, r, 1, 1); v.Outcome != Refused || v.Open != 0 {
			t.Fatalf("%+v: one more: %+v", r, v)
		}
	}
}

// Whoever reads the clock first may come second. That gives back no units.
func TestRateOvertaken(t *testing.T) {
	set := New(1, Config{})
	r := Rate{Limit: 10, Window: 1_000_000}
	const now = 5_000_000
	set.Take(nil, nil, r, 10, now)
	if v := set.Take(nil, nil, r, 1, now-r.Window); v != (Verdict{Outcome: Refused, Retry: r.Window / 10, Full: r.Window}) {
		t.Errorf("with an older time: %+v", v)
	}
	if n := set.Open(nil, r, now-r.Window); n != 0 {
		t.Errorf("%d open with an older time", n)
	}
	if v := set.Take(nil, nil, r, 1, now); v.Outcome != Refused {
		t.Errorf("after it: %+v", v)
	}
}

// The same as it happens: by many at once, no more is taken than LIMIT and
// what came back until the last one.
func TestRateByMany(t *testing.T) {
	for _, r := range []Rate{{1000, 1e6}, {1e6, 1e9}} {
		set := New(1, Config{})
		begin := time.Now()
		var taken, last atomic.Uint64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 20_000 {
					now := uint64(time.Since(begin)) + 1
					if set.Take(nil, nil, r, 1, now).Outcome == Acquired {
						taken.Add(1)
					}
					for l := last.Load(); now > l && !last.CompareAndSwap(l, now); l = last.Load() {
					}
				}
			})
		}
		wg.Wait()
		if most := uint64(r.Limit) + last.Load()*uint64(r.Limit)/r.Window; taken.Load() > most {
			t.Errorf("%+v: %d units taken, at most %d", r, taken.Load(), most)
		}
	}
}

// A sweep goes on where the last one ended, and does no more than it is asked.
func TestSweepInPieces(t *testing.T) {
	const n, step = 3000, 100
	set := New(4, Config{})
	for i := range n {
		set.Take(nil, strconv.AppendInt(nil, int64(i), 10), Rate{Limit: 1, Window: 1000}, 1, 1)
	}
	for round := false; !round; {
		before := set.Limiters()
		round = set.Sweep(2000, step)
		if gone := before - set.Limiters(); gone > step {
			t.Fatalf("%d dropped at a time", gone)
		}
	}
	if n := set.Limiters(); n > 0 {
		t.Fatalf("%d are left after a round", n)
	}
}
