package shard

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The wheel against a list sorted by due time.
func TestWheel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var waiters slab[waiter]
		var w wheel
		var now uint64
		if rapid.Bool().Draw(t, "late") {
			// As after years of running.
			now = rapid.Uint64Range(0, 1<<41).Draw(t, "now")
			steps := 10
			w.expired(&waiters, now, &steps)
		}
		type entry struct {
			due uint64
			ref uint32
		}
		var list []entry // sorted by due
		span := rapid.OneOf(
			rapid.Uint64Range(0, 70),
			rapid.Uint64Range(0, 5000),
			rapid.Uint64Range(0, 86_400_000),
			rapid.Uint64Range(0, 1<<30),
			rapid.Custom(func(t *rapid.T) uint64 { // next to the edges of the levels
				edge := uint64(1) << (6 * rapid.IntRange(1, 5).Draw(t, "level"))
				return edge - now%edge + rapid.Uint64Range(0, 2).Draw(t, "beside")
			}),
		)
		insert := func(due uint64) {
			ref := waiters.alloc()
			waiters.at(ref).due = due
			w.add(&waiters, ref)
			due = max(due, w.now+1)
			i, _ := slices.BinarySearchFunc(list, due+1, func(e entry, d uint64) int { return int(e.due) - int(d) })
			list = slices.Insert(list, i, entry{due, ref})
		}
		take := func(t *rapid.T, ref uint32) {
			i := slices.IndexFunc(list, func(e entry) bool { return e.ref == ref })
			if i < 0 {
				t.Fatalf("%d expired, which was not there", ref)
			}
			if list[i].due != list[0].due || list[i].due > now {
				t.Fatalf("at %d one expired that was due at %d, before one due at %d", now, list[i].due, list[0].due)
			}
			list = slices.Delete(list, i, i+1)
			waiters.release(ref)
		}
		next := func(t *rapid.T) (at uint64) {
			_, at, ok := w.next()
			if ok != (len(list) > 0) || ok && (at > list[0].due || at <= w.now) {
				t.Fatalf("at %d, next %d, %v; %d in the list", w.now, at, ok, len(list))
			}
			return at
		}
		drain := func(t *rapid.T) {
			budget := rapid.IntRange(1, 50).Draw(t, "steps")
			for {
				steps := budget
				if ref := w.expired(&waiters, now, &steps); ref != 0 {
					take(t, ref)
				} else if steps > 0 {
					break
				}
			}
			if len(list) > 0 && list[0].due <= now {
				t.Fatalf("at %d one due at %d has not expired", now, list[0].due)
			}
			if w.now != now {
				t.Fatalf("the wheel stands at %d, not %d", w.now, now)
			}
			next(t)
		}
		add := func(t *rapid.T) { insert(now + span.Draw(t, "due")) }
		t.Repeat(map[string]func(*rapid.T){
			"add":  add,
			"add2": add,
			"add, same time": func(t *rapid.T) {
				due := now + span.Draw(t, "due")
				for range rapid.IntRange(2, 20).Draw(t, "n") {
					insert(due)
				}
			},
			"add, over": func(t *rapid.T) { insert(now - min(now, span.Draw(t, "before"))) },
			"remove": func(t *rapid.T) {
				if len(list) == 0 {
					t.Skip("nobody")
				}
				i := rapid.IntRange(0, len(list)-1).Draw(t, "which")
				w.remove(&waiters, list[i].ref)
				waiters.release(list[i].ref)
				list = slices.Delete(list, i, i+1)
			},
			"advance": func(t *rapid.T) {
				now += span.Draw(t, "by")
				drain(t)
			},
			"advance halfway": func(t *rapid.T) {
				now += span.Draw(t, "by")
				steps := rapid.IntRange(1, 10).Draw(t, "steps")
				if ref := w.expired(&waiters, now, &steps); ref != 0 {
					take(t, ref)
				}
			},
			"advance a millisecond": func(t *rapid.T) {
				now++
				drain(t)
			},
			// As the clock does: to when there may be something to do.
			"advance to next": func(t *rapid.T) {
				drain(t)
				if len(list) == 0 {
					t.Skip("nobody")
				}
				for steps := 0; ; steps++ {
					at := next(t)
					if steps > wheelLevels {
						t.Fatalf("%d steps to the first one", steps)
					}
					now = max(now, at)
					first := list[0].due
					drain(t)
					if first <= now {
						break
					}
				}
			},
			"advance, others come meanwhile": func(t *rapid.T) {
				now += span.Draw(t, "by")
				for range 3 {
					steps := rapid.IntRange(1, 50).Draw(t, "steps")
					if ref := w.expired(&waiters, now, &steps); ref != 0 {
						take(t, ref)
					} else if steps > 0 {
						break
					}
					insert(w.now + span.Draw(t, "due"))
				}
				drain(t)
			},
			"": func(t *rapid.T) {
				if w.count != len(list) {
					t.Fatalf("the wheel counts %d, not %d", w.count, len(list))
				}
			},
		})
		now += 1 << 31
		drain(t)
		if inUse(&waiters) != 0 || w.used != [wheelLevels]uint64{} {
			t.Fatalf("in the end %d are in use, slots %x", inUse(&waiters), w.used)
		}
	})
}

// However many waiters have to move at a time, they do so in steps.
func TestWheelMovesInSteps(t *testing.T) {
	var waiters slab[waiter]
	var w wheel
	const n, due = 1000, 10_000
	for range n {
		ref := waiters.alloc()
		waiters.at(ref).due = due
		w.add(&waiters, ref)
	}
	calls, expired := 0, 0
	for ; ; calls++ {
		before := w.slots
		steps := 10
		if ref := w.expired(&waiters, due, &steps); ref != 0 {
			expired++
			continue
		}
		if steps > 0 {
			break
		}
		if before == w.slots {
			t.Fatal("steps that lead nowhere")
		}
	}
	if expired != n || calls < n+n/10 {
		t.Errorf("%d expired, in %d calls", expired, calls)
	}
}
