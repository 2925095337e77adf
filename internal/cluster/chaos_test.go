package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// TestChaos has nodes with clocks of their own run over a store that delays, loses and
// answers late, while nodes are killed, come back, stand still, leave and are drained,
// and the store is away or restored from a snapshot. What must be so is so all the
// time, and when the faults end everything is evened out.
//
// LOCKD_CHAOS=500 makes so many runs, LOCKD_CHAOS_SEED=N the one of that number.
func TestChaos(t *testing.T) {
	number := func(variable string, otherwise uint64) uint64 {
		if text := os.Getenv(variable); text != "" {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		return otherwise
	}
	first, runs := rand.Uint64()>>1, number("LOCKD_CHAOS", 20)
	if seed := number("LOCKD_CHAOS_SEED", 0); seed != 0 {
		first, runs = seed, 1
	}
	for seed := first; seed < first+runs && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			for _, broken := range chaos(t, seed) {
				t.Errorf("LOCKD_CHAOS_SEED=%d: %s", seed, broken)
			}
		})
	}
}

func chaos(t *testing.T, seed uint64) []string {
	dice := rand.New(rand.NewPCG(seed, 1))
	nodes, steps := 2+dice.IntN(4), 1+dice.IntN(25)
	w := newWorld(t, 0)
	bad := 0.0       // how likely a request has a fault
	commits := false // or only one that changes the map
	faults := func() func(string) fault {
		own := rand.New(rand.NewPCG(dice.Uint64(), 2)) // called under the keyspace's mutex
		return func(op string) fault {
			ms := func(n int) time.Duration { return time.Duration(own.IntN(n)) * time.Millisecond }
			f := fault{before: ms(5), after: ms(5)}
			if own.Float64() >= bad || commits && op != "commit" {
				return f
			}
			switch own.IntN(6) {
			case 0:
				f.lost = true
			case 1:
				f.silent = true
			case 2:
				f.late = ms(8000) + 1
			case 3:
				f.before = ms(1600)
			case 4:
				f.after = ms(1600)
			case 5:
				f.down = true
			}
			return f
		}
	}
	add := func() *testNode {
		n := w.add(fmt.Sprint("n", len(w.nodes)), 1+(dice.Float64()-0.5)*0.06)
		n.skew = time.Duration(dice.IntN(40)-20) * time.Second
		n.wire.fault = faults()
		n.wire.deaf = dice.IntN(4) == 0
		n.run()
		return n
	}
	own := rand.New(rand.NewPCG(dice.Uint64(), 3)) // used with the world's mutex held
	w.copies = func(*testNode, *testNode) (bool, bool, time.Duration) {
		w.keys.mu.Lock()
		defer w.keys.mu.Unlock()
		takes := time.Duration(own.IntN(300)) * time.Millisecond
		if own.Float64() < bad {
			return own.IntN(2) == 0, own.IntN(2) == 0, takes * 10
		}
		return false, false, takes
	}
	for range nodes {
		add()
	}
	run := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Duration(20+dice.IntN(60)) * time.Millisecond) {
			for _, n := range w.nodes {
				n.turn()
			}
			w.alone()
		}
	}
	set := func(p float64) { w.keys.mu.Lock(); bad, commits = p, false; w.keys.mu.Unlock() }
	// The fast part is no test: begin with a cluster that serves, mostly.
	if dice.IntN(5) > 0 {
		run(45 * time.Second)
	}
	want := func(change func(Want) Want) {
		w.keys.mu.Lock()
		defer w.keys.mu.Unlock()
		v, _ := w.keys.view()
		next := change(v.Want)
		next.raw = ""
		w.keys.want = next.Encode()
		w.keys.changed()
	}
	live := func() (all []*testNode) {
		for _, n := range w.nodes {
			if !n.dead {
				all = append(all, n)
			}
		}
		return all
	}
	for range steps {
		alive := live()
		n := alive[dice.IntN(len(alive))]
		switch dice.IntN(15) {
		case 0, 1:
			set([]float64{0.02, 0.1, 0.3, 0.7}[dice.IntN(4)])
		case 2:
			set(0)
		case 3:
			if len(alive) > 1 {
				n.kill()
			}
		case 4:
			if len(w.nodes) < 9 {
				add()
			}
		case 5:
			name := w.nodes[dice.IntN(len(w.nodes))].name
			want(func(w Want) Want { return w.Drain(name, dice.IntN(2) == 0) })
		case 6:
			want(func(w Want) Want { w.Still = !w.Still; return w })
		case 7: // one is cut off from the store, for whatever time
			n.wire.mu.Lock()
			was := n.wire.fault
			n.wire.fault = func(string) fault { return fault{down: true} }
			n.wire.mu.Unlock()
			run(time.Duration(dice.IntN(9000)) * time.Millisecond)
			n.wire.mu.Lock()
			n.wire.fault = was
			n.wire.mu.Unlock()
		case 12, 13, 14: // moves, whose commits fail in every way
			w.keys.mu.Lock()
			bad, commits = 0.8, true
			w.keys.mu.Unlock()
			want(func(w Want) Want { w.Still = false; return w.Drain(n.name, !w.Drained(n.name)) })
			run(time.Duration(10+dice.IntN(40)) * time.Second)
			set(0)
		case 8: // the store is away
			was := bad
			set(1)
			run(time.Duration(dice.IntN(9000)) * time.Millisecond)
			set(was)
		case 9:
			if len(alive) > 1 {
				left := make(chan struct{})
				go func() { defer close(left); n.Leave(t.Context(), dice.IntN(2) == 0) }()
				select {
				case <-left:
				case <-time.After(30 * time.Second):
				}
				n.kill()
			}
		case 10: // one comes back at once, under its name
			n.stop()
			synctest.Wait()
			w.mu.Lock()
			n.wire.mu.Lock()
			was := n.wire.fault
			n.wire.fault = nil
			n.wire.mu.Unlock()
			w.mu.Unlock()
			n.join()
			n.wire.mu.Lock()
			n.wire.fault = was
			n.wire.mu.Unlock()
			n.run()
		case 11:
			if dice.IntN(2) == 0 {
				s := w.keys.snapshot()
				run(time.Duration(dice.IntN(20000)) * time.Millisecond)
				var was []func(string) fault
				for _, n := range w.nodes {
					n.wire.mu.Lock()
					was = append(was, n.wire.fault)
					n.wire.fault = func(string) fault { return fault{down: true} }
					n.wire.mu.Unlock()
				}
				run(DefaultW + DefaultW/2 + 10*time.Second) // what was late has come by then
				w.keys.restore(s)
				for i, n := range w.nodes {
					n.wire.mu.Lock()
					n.wire.fault = was[i]
					n.wire.mu.Unlock()
				}
			}
		}
		run(time.Duration(dice.IntN(12000)) * time.Millisecond)
	}
	set(0)
	want(func(Want) Want { return Want{} })
	for begun := time.Now(); !w.even(); run(time.Second) {
		if time.Since(begun) > 30*time.Minute {
			v := w.keys.read()
			w.mu.Lock()
			w.breaks("not even after half an hour: %d nodes, %v", len(v.Nodes), v.Map.Count())
			w.mu.Unlock()
			break
		}
	}
	for _, n := range w.nodes {
		n.stop()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys.mu.Lock()
	defer w.keys.mu.Unlock()
	return append(w.broken, w.keys.broken...)
}
