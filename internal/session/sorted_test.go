package session

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// fillWith makes a hub with these names locked.
func fillWith(t *testing.T, names []string) *Hub {
	t.Helper()
	h := newHub(testConfig())
	s := newStream(h, "a:1", nil)
	t.Cleanup(s.Close)
	for _, name := range names {
		s.hub.locks.Get(&s.main.owner, []byte(name))
		s.hub.locks.GetShared(&s.main.owner, []byte(name))
	}
	return h
}

// Whatever the names are, and in however many rounds, all of them are listed, in
// order and once; and no round has more than its room.
func TestSortedOfAllKinds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	long := strings.Repeat("x", 3*sampleBytes)
	for what, name := range map[string]func(i int) string{
		"numbers":               func(i int) string { return fmt.Sprint(i) },
		"one beginning":         func(i int) string { return long + fmt.Sprint(i) },
		"long ends":             func(i int) string { return fmt.Sprint(i, " ", long) },
		"any length":            func(i int) string { return strings.Repeat("y", r.IntN(300)) + fmt.Sprint(i) },
		"random bytes":          func(i int) string { return fmt.Sprintf("%c%c%d", rune(r.IntN(256)), rune(r.IntN(256)), i) },
		"most at the beginning": func(i int) string { return fmt.Sprintf("%0*d", 1+r.IntN(40), i*i) },
		"longer than a round":   func(i int) string { return fmt.Sprint(i, strings.Repeat("z", (i%9/8)*(minRoundBytes+100))) },
	} {
		n := 8000
		if what == "longer than a round" {
			n = 40
		}
		names := make([]string, n)
		for i := range names {
			names[i] = name(i)
		}
		h := fillWith(t, names)
		slices.Sort(names)
		names = slices.Compact(names)
		h.rounds.Store(1000) // so that the others' are as short as may be
		for kind := range shard.Kinds {
			l := h.sorted(kind, nil)
			var got []string
			rounds := 0
			for more, before := true, sortBegin; more; before = l.state {
				more = l.next(func(name []byte, _ *peer, first bool) bool {
					if !first {
						t.Fatalf("%s: %q is listed with a second holder", what, name)
					}
					got = append(got, string(name))
					return len(got)%100 > 0
				})
				if before == sortBegin && l.state == sortCollect {
					rounds++
				}
				if size := l.size; size > l.room && len(l.runs) > 1 && len(l.runs[0].entries) > 1 {
					t.Fatalf("%s: a round takes %d bytes, more than %d", what, size, l.room)
				}
			}
			l.close()
			if !slices.Equal(got, names) {
				t.Errorf("%s, %v: %d names are listed, want %d", what, kind, len(got), len(names))
			}
			size := 0
			for _, name := range names {
				size += nameSize(len(name))
			}
			// A round has 0.8 of its room by the guess, half of it if that was wrong.
			if most := 2 + 3*size/minRoundBytes; rounds > most && what != "longer than a round" {
				t.Errorf("%s, %v: %d rounds, want at most %d", what, kind, rounds, most)
			}
		}
		if n := h.rounds.Load(); n != 1000 {
			t.Errorf("%s: %d rounds are left", what, n-1000)
		}
	}
}

// doorbell is a carrier that tells when it is woken.
type doorbell struct{ rung chan struct{} }

func (d doorbell) Wake() { d.rung <- struct{}{} }

func newDoorbell() doorbell { return doorbell{make(chan struct{}, 10)} }

func (d doorbell) rings(t *testing.T, want bool) {
	t.Helper()
	select {
	case <-d.rung:
		if !want {
			t.Error("it was woken")
		}
	default:
		if want {
			t.Error("it was not woken")
		}
	}
}

// asks has a stream ask for a dump, and something behind it, and returns what has
// come out and what is next.
func asksForDump(st *Stream) (out []byte, rest []byte, next Next) {
	rest, out, next = st.Advance([]byte("dump\nping\n"), nil)
	return out, rest, next
}

// through advances a stream until it waits for something.
func through(t *testing.T, st *Stream, rest []byte, next Next) (out []byte, _ Next) {
	t.Helper()
	for n := 0; next == More || next == Full; n++ {
		if n > 1e6 {
			t.Fatal("it does not come to an end")
		}
		var some []byte
		rest, some, next = st.Advance(rest, nil)
		out = append(out, some...)
	}
	return out, next
}

// One list at a time collects. The others wait, in the order in which they came,
// with what is behind them; one that is gone or that is not read keeps nobody
// waiting, and one with much behind it does not wait.
func TestSortedTakeTurns(t *testing.T) {
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("%04d", i))
	}
	whole := "map[" + strings.Join(names, ":a:1 ") + ":a:1]\n1 pong\n"
	h := fillWith(t, names)
	begin := func() (*Stream, doorbell) {
		bell := newDoorbell()
		st := newStream(h, "asks:1", bell)
		t.Cleanup(st.Close)
		return st, bell
	}
	hold := func() *ticket {
		first := &ticket{wake: func() {}}
		if !h.sorting.take(first) {
			t.Fatal("somebody has the turn")
		}
		return first
	}

	// In order, each woken when the one before has collected.
	first := hold()
	a, bellA := begin()
	b, bellB := begin()
	outA, restA, nextA := asksForDump(a)
	outB, restB, nextB := asksForDump(b)
	if string(outA) != "map[" || nextA != Waiting || string(outB) != "map[" || nextB != Waiting || string(restA) != "ping\n" {
		t.Fatalf("%q, %q, %v; %q, %v", outA, restA, nextA, outB, nextB)
	}
	bellA.rings(t, false)
	h.sorting.leave(first)
	bellA.rings(t, true)
	bellB.rings(t, false)
	if restB, outB, nextB = b.Advance(restB, nil); nextB != Waiting || len(outB) > 0 {
		t.Fatalf("out of turn: %q, %v", outB, nextB)
	}
	got, next := through(t, a, restA, More)
	if string(outA)+string(got) != whole || next != Idle {
		t.Errorf("the first: %d bytes, %v, want %d", len(outA)+len(got), next, len(whole))
	}
	bellB.rings(t, true)
	if got, next = through(t, b, restB, More); "map["+string(got) != whole || next != Idle {
		t.Errorf("the second: %d bytes, %v, want %d", len(got), next, len(whole))
	}

	// One that ends in the queue, and one that ends when its turn has come.
	first = hold()
	a, _ = begin()
	b, bellB = begin()
	c, bellC := begin()
	asksForDump(a)
	asksForDump(b)
	_, restC, _ := asksForDump(c)
	a.Close()
	h.sorting.leave(first)
	bellB.rings(t, true)
	bellC.rings(t, false)
	b.Close()
	bellC.rings(t, true)
	if got, _ = through(t, c, restC, More); "map["+string(got) != whole {
		t.Errorf("behind those that are gone: %d bytes", len(got))
	}

	// One that is not read while it collects.
	a, _ = begin()
	b, bellB = begin()
	a.request([]byte("dump"), nil)
	a.goOn(nil)
	if l := a.long.(*mapReply); l.state != sortCollect {
		t.Fatalf("state %d", l.state)
	}
	_, restB, nextB = asksForDump(b)
	if nextB != Waiting {
		t.Fatalf("next is %v", nextB)
	}
	a.Rest()
	bellB.rings(t, true)
	if got, _ = through(t, b, restB, More); "map["+string(got) != whole {
		t.Errorf("behind one that is not read: %d bytes", len(got))
	}
	if got, _ = through(t, a, []byte("ping\n"), More); "map["+string(got) != whole {
		t.Errorf("the one that was not read: %d bytes", len(got))
	}

	// Those that may not wait: with much behind them.
	first = hold()
	a, _ = begin()
	asksForDump(a)
	pings := bytes.Repeat([]byte("ping\n"), MaxBacklog/5)
	if rest, out, next := a.Advance(bytes.Clone(pings[:len(pings)-5]), nil); next != Waiting || len(out) > 0 {
		t.Errorf("with little behind it: %v, %d bytes, %d left", next, len(out), len(rest))
	}
	if _, out, next := a.Advance(append(pings, "ping\n"...), nil); next == Waiting {
		t.Errorf("with too much behind it: %v, %d bytes", next, len(out))
	}
	// One that has closed its side waits as before.
	c, bellC = begin()
	_, restC, _ = asksForDump(c)
	c.HangUp()
	if restC, _, next = c.Advance(restC, nil); next != Waiting {
		t.Errorf("one that has closed its side: %v", next)
	}
	h.sorting.leave(first)
	bellC.rings(t, true)
	if got, _ = through(t, c, restC, More); "map["+string(got) != whole {
		t.Errorf("one that has closed its side: %d bytes", len(got))
	}
	a.Close()
	if h.sorting.taken || len(h.sorting.queue) > 0 || h.rounds.Load() != 0 {
		t.Errorf("in the end: %+v, %d rounds", &h.sorting, h.rounds.Load())
	}
}

// In protocol 2 other sessions' waits that end come behind a dump that waits.
func TestSortedWaitsWithSessions(t *testing.T) {
	h := fillWith(t, []string{"n"})
	defer h.Close()
	first := &ticket{wake: func() {}}
	h.sorting.take(first)
	bell := newDoorbell()
	st := newStream(h, "asks:1", bell)
	defer st.Close()
	_, _, next := st.Advance([]byte("hello 2\n1 gw 1 n\n0 dump\n"), nil)
	if next != Waiting {
		t.Fatalf("next is %v", next)
	}
	select { // the wait times out
	case <-bell.rung:
	case <-time.After(30 * time.Second):
		t.Fatal("the wait has no end")
	}
	if _, out, next := st.Advance(nil, nil); len(out) > 0 || next != Waiting {
		t.Errorf("%q, %v", out, next)
	}
	h.sorting.leave(first)
	bell.rings(t, true)
	if got, next := through(t, st, nil, More); string(got) != "n:a:1]\n1 0 Lock Get Timeout: n\n" || next != Idle {
		t.Errorf("%q, %v", got, next)
	}
}
