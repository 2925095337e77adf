package session

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nylen/lockd/internal/shard"
)

// newLedger makes a hub whose ledger has n bytes in all; 0: as many as it may.
func newLedger(n int64) *Hub {
	cfg := testConfig()
	cfg.MaxMemory = n * ledgerPart
	return newHub(cfg)
}

func lostNamed(name string) *entry {
	return &entry{Loss: Loss{Name: name, Address: "1.2.3.4:5"}}
}

func namesOf(losses []Loss) (names []string) {
	for _, l := range losses {
		names = append(names, l.Name)
	}
	return names
}

// The rings are within their bytes whatever is put in, keep the latest, and count as
// memory.
func TestLedgerIsBounded(t *testing.T) {
	for _, size := range []int{1, 100, 4096, 100_000} {
		h := newLedger(256 << 10)
		before := h.memory.Used()
		name := strings.Repeat("n", size)
		for range 5000 {
			for what := range whats {
				h.ledger.add(what, lostNamed(name))
			}
			sum := 0
			for i := range h.ledger.rings {
				r := &h.ledger.rings[i]
				if r.bytes > r.limit || len(r.entries) > r.limit/size {
					t.Fatalf("%d bytes of %d, %d entries of %d bytes", r.bytes, r.limit, len(r.entries), size)
				}
				sum += r.bytes
			}
			if sum > 256<<10 || h.memory.Used()-before != int64(sum) {
				t.Fatalf("%d bytes, %d are counted", sum, h.memory.Used()-before)
			}
		}
		page, _ := h.Losses(0, 1, nil)
		switch fits := size < 16<<10; {
		case fits && (len(page) != 1 || page[0].Seq != 15000):
			t.Errorf("the latest of %d bytes is %v", size, page)
		case !fits && len(page) != 0: // more than a ring has
			t.Errorf("%d of %d bytes are kept", len(page), size)
		}
	}
	h := newLedger(256 << 10)
	h.ledger.add(LostHold, lostNamed("kept"), lostNamed(strings.Repeat("n", 100_000)))
	if page, _ := h.Losses(0, 10, nil); len(page) != 1 || page[0].Name != "kept" {
		t.Errorf("one that is too large has pushed others out: %d are left", len(page))
	}
	if h := newLedger(0); h.ledger.rings[LostHold].limit != ledgerBytes/2 {
		t.Errorf("without a bound on memory it has %d bytes", h.ledger.rings[LostHold].limit)
	}
	cfg := testConfig()
	cfg.MaxMemory = 1 << 40
	if h := newHub(cfg); h.ledger.rings[LostHold].limit != ledgerBytes/2 {
		t.Errorf("with a large bound on memory it has %d bytes", h.ledger.rings[LostHold].limit)
	}
}

// A flood of waits in vain and of refusals leaves the holds that were lost.
func TestFloodsLeaveHolds(t *testing.T) {
	h := newLedger(128 << 10)
	for i := range 50 {
		h.ledger.add(LostHold, lostNamed(fmt.Sprint("held ", i)))
	}
	for i := range 20_000 {
		h.ledger.add(LostWait, lostNamed(fmt.Sprint("waited ", i)))
		h.ledger.add(Refusal, lostNamed(fmt.Sprint("refused ", i)))
	}
	page, _ := h.Losses(0, 100, func(l *Loss) bool { return l.What == LostHold })
	if len(page) != 50 || page[0].Name != "held 49" || page[49].Name != "held 0" {
		t.Errorf("%d are left: %q", len(page), namesOf(page))
	}
	all, _ := h.Losses(0, 1<<20, nil)
	counts := map[What]int{}
	for _, l := range all {
		counts[l.What]++
	}
	if counts[LostHold] != 50 || counts[LostWait] < 50 || counts[Refusal] < 50 {
		t.Errorf("there are %v", counts)
	}
}

// Pages of any size have all losses, newest first, with those of all kinds in the order
// in which they happened; and so have steps of those who watch, oldest first.
func TestPagesOfLosses(t *testing.T) {
	h := newLedger(0)
	const n = 3 * ledgerStep
	for i := range n {
		h.ledger.add(What(i%7%int(whats)), lostNamed(fmt.Sprint(i%10)))
	}
	for _, size := range []int{1, 2, 100, ledgerStep, n - 1, n, n + 1} {
		for _, name := range []string{"", "3", "none"} {
			var match func(*Loss) bool
			want := n
			if name != "" {
				match = func(l *Loss) bool { return l.Name == name }
				want = n / 10
			}
			if name == "3" {
				want = (n + 6) / 10
			} else if name == "none" {
				want = 0
			}
			var got []Loss
			for before := uint64(0); ; {
				page, next := h.Losses(before, size, match)
				if got = append(got, page...); len(page) > size {
					t.Fatalf("a page of %d has %d", size, len(page))
				}
				if next == 0 {
					break
				}
				before = next
			}
			if len(got) != want || !slices.IsSortedFunc(got, func(a, b Loss) int { return int(b.Seq) - int(a.Seq) }) {
				t.Errorf("in pages of %d of %q there are %d, want %d", size, name, len(got), want)
			}
		}
		var got []Loss
		for {
			after := uint64(0)
			if len(got) > 0 {
				after = got[len(got)-1].Seq
			}
			some := h.LossesSince(after, size)
			if len(some) == 0 {
				break
			}
			got = append(got, some...)
		}
		if len(got) != n || got[0].Seq != 1 || got[n-1].Seq != n || !slices.IsSortedFunc(got, func(a, b Loss) int { return int(a.Seq) - int(b.Seq) }) {
			t.Errorf("in steps of %d there are %d", size, len(got))
		}
	}
	// Under one hold of the mutex a bounded number is looked at, whatever matches.
	looked := 0
	none := func(*Loss) bool { looked++; return false }
	if _, next, done := h.ledger.before(0, nil, n, none); looked != ledgerStep || next != n-ledgerStep+1 || done {
		t.Errorf("%d are looked at in a step, and it goes on from %d, %v", looked, next, done)
	}
	if h.LastLoss() != n {
		t.Errorf("the last one is %d", h.LastLoss())
	}
	if page, next := h.Losses(0, 0, nil); len(page) != 0 || next != 0 {
		t.Errorf("none: %v, %d", page, next)
	}
	if page, next := h.Losses(1, 10, nil); len(page) != 0 || next != 0 {
		t.Errorf("before the first: %v, %d", page, next)
	}
}

// Pages are right while others write and push out.
func TestLedgerConcurrently(t *testing.T) {
	h := newLedger(64 << 10)
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		writers.Go(func() {
			for i := range 3000 {
				h.ledger.add(What(i%int(whats)), lostNamed("a"), lostNamed("b"))
			}
		})
	}
	st := newStream(h, "1.1.1.1:1", nil)
	writers.Go(func() {
		for range 3000 {
			st.main.noteRefusal(shard.Exclusive, shard.Full, []byte("a"))
		}
	})
	for range 2 {
		readers.Go(func() {
			for last := uint64(0); ; {
				before := uint64(0)
				for range 10 {
					page, next := h.Losses(before, 50, func(l *Loss) bool { return l.Name == "a" })
					for i, l := range page {
						if before > 0 && l.Seq >= before || i > 0 && l.Seq >= page[i-1].Seq || l.Name != "a" {
							t.Errorf("%d comes before %d", l.Seq, before)
							return
						}
					}
					if before = next; next == 0 {
						break
					}
				}
				for _, l := range h.LossesSince(last, 1000) {
					if l.Seq <= last {
						t.Errorf("%d comes after %d", l.Seq, last)
						return
					}
					last = l.Seq
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	st.Close()
	if n := h.LastLoss(); n < 3*3000*2+1 {
		t.Errorf("%d losses", n)
	}
	if n := h.Stats().Losses["refused"]; n != 3000 {
		t.Errorf("%d refusals", n)
	}
}
