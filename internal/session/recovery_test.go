package session

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// restart begins a server that finds what an earlier one has stored.
func restart(t *testing.T, store *memStore, least time.Duration) *Hub {
	cfg := testConfig()
	cfg.Store = store
	keys, floor := store.stored()
	cfg.Floor = floor
	cfg.Recovery = &Recovery{Began: time.Now(), Least: least, Keys: keys}
	return keptHub(t, cfg)
}

// storedHub begins a server that finds nothing.
func storedHub(t *testing.T, store *memStore) *Hub {
	cfg := testConfig()
	cfg.Store = store
	return keptHub(t, cfg)
}

// crash ends a server: all connections are lost, and nothing is written any more.
func crash(h *Hub, clients ...*keptClient) {
	h.keeps.stop(true)
	for _, c := range clients {
		c.mu.Lock()
		c.st = nil
		c.mu.Unlock()
	}
}

// number returns the number of a reply of protocol 2.
func number(reply string) uint64 {
	words := strings.Fields(reply)
	if len(words) < 2 {
		return 0
	}
	n, _ := strconv.ParseUint(words[1], 10, 64)
	return n
}

// After a restart those who were kept have what they held, and nobody else gets
// anything before.
func TestClaimsAfterARestart(t *testing.T) {
	store := new(memStore)
	first := storedHub(t, store)
	a := dialKept(t, first, "a")
	key := a.key("60000")
	x := number(a.say("1 g x"))
	a.expect("2 sg s", "2 1 Shared Lock Get Success: s")
	crash(first, a)

	h := restart(t, store, 0)
	p := dialKept(t, h, "p")
	p.expect("0 g y", "0 0 Server Recovering: y")
	p.expect("0 g x", "0 0 Server Recovering: x")
	p.expect("0 sg y", "0 0 Server Recovering: y")
	p.expect("0 sgl 2 y", "0 0 Server Recovering: y")
	p.expect("0 gw 0 y", "0 0 Server Recovering: y")
	p.expect("0 i y", "0 1 Lock Is Locked: y")
	p.expect("0 si y", "0 1 Shared Lock Is Locked: y")
	p.expect("0 r y", "0 0 Lock Release Failure: y")
	p.expect("0 rl 5 1000 0 y", "0 5 Rate Allowed: y")
	p.sayAll("1 gw 60000 y", 0)
	p.sayAll("2 gw 60000 x", 0)
	p.expect("1 g z", "1 0 Session Busy: g")
	p.expect("3 claim 5 x", "3 0 Lock Claim Failure: x")
	p.expect("3 claims 1 s", "3 0 Shared Lock Claim Failure: s")
	if k := h.Kept(); k.Open != 1 || !k.Recovers || k.Left <= 0 || h.Reserved() != 1 {
		t.Errorf("%+v, %d reserved", k, h.Reserved())
	}

	a2 := dialKept(t, h, "a2")
	a2.expect("0 resume "+key, `0 0 Claims Open \d+: `+key)
	if h.Reserved() != 0 {
		t.Errorf("%d reserved", h.Reserved())
	}
	a2.expect("1 claim "+fmt.Sprint(uint64(1)<<52)+" x", "1 0 Lock Claim Failure: x") // made up
	a2.expect(fmt.Sprintf("1 claim %d x", x), fmt.Sprintf("1 %d Lock Claim Success: x", x))
	a2.expect(fmt.Sprintf("1 claim %d x", x), fmt.Sprintf("1 %d Lock Claim Success: x", x))
	a2.expect("1 g x", fmt.Sprintf("1 %d Lock Get Success: x", x))
	a2.expect("1 g other", "1 0 Server Recovering: other")

	// Its connection is lost, and it has to say all of it again.
	a2.end()
	a3 := dialKept(t, h, "a3")
	a3.expect("0 resume "+key, `0 0 Claims Open \d+: `+key)
	a3.expect(fmt.Sprintf("1 claim %d x", x), fmt.Sprintf("1 %d Lock Claim Success: x", x))
	a3.expect("2 claims 1 s", "2 1 Shared Lock Claim Success: s")
	a3.expect("2 claims 1 s", "2 1 Shared Lock Claim Success: s")
	a3.expect("0 claimed", "0 1 ok")
	if k := h.Kept(); k.Recovers || k.Open != 0 {
		t.Errorf("%+v", k)
	}
	if got := store.did(); !reflect.DeepEqual(got, []string{"keep", "recovered"}) {
		t.Errorf("the store was told %v", got)
	}
	if y := p.sayAll("", 1); !strings.Contains(y, "1 "+strconv.FormatUint(number(y), 10)+" Lock Get Success: y\n") || number(y) <= x {
		t.Errorf("who has waited is told %q; the token was %d before", y, x)
	}
	p.expect("3 g x", "3 0 Lock Get Failure: x")
	p.expect("3 si s", "3 1 Shared Lock Is Locked: s")
	p.expect("3 si y", "3 0 Shared Lock Not Locked: y")
	a3.expect("1 claim 7 other", "1 0 Lock Claim Failure: other") // its time is over
	a3.expect("1 r x", "1 1 Lock Release Success: x")
	if got := p.sayAll("", 1); !strings.Contains(got, "Lock Get Success: x") {
		t.Errorf("%q", got)
	}
	a3.expect("0 bye", "0 1 bye")
	p.end()
	checkNobody(t, h)
}

// Who asks what nobody holds is answered at once while the server recovers: nobody is in
// the way who could be gone.
func TestInspectWhileRecovering(t *testing.T) {
	n := &partition{gone: make(map[Carrier]bool)}
	cfg := testConfig()
	cfg.Postpone = postponedFor
	cfg.Recovery = &Recovery{Began: time.Now(), Least: time.Hour}
	h := NewHub(cfg, n)
	st := new(Stream)
	st.Begin(h, Address{Name: "a"}, new(bell), &Turn{Looks: 32})
	for request, want := range map[string]string{
		"i x\n": "1 Lock Is Locked: x\n", "si x\n": "1 Shared Lock Is Locked: x\n",
		"g x\n": "0 Server Recovering: x\n", "sg x\n": "0 Server Recovering: x\n", "sgl 1 x\n": "0 Server Recovering: x\n",
	} {
		if out, next := advance(st, request); out != want || next != Idle {
			t.Errorf("%q: %q, %v", request, out, next)
		}
	}
	st.Close()
	h.Close()
}

// A KEY has its own time from the start on, whatever its client does, and what it has
// claimed is free when it is over; but not before its end is written down.
func TestClaimsHaveTheirTime(t *testing.T) {
	for _, connected := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			store := new(memStore)
			first := storedHub(t, store)
			a, never := dialKept(t, first, "a"), dialKept(t, first, "never")
			key := a.key("10000")
			never.key("4000")
			x := number(a.say("1 g x"))
			crash(first, a, never)

			time.Sleep(time.Second)
			h := restart(t, store, 0)
			began := time.Now()
			p := dialKept(t, h, "p")
			a = dialKept(t, h, "a")
			a.expect("0 resume "+key, "0 0 Claims Open 10000: "+key)
			a.expect(fmt.Sprintf("1 claim %d x", x), fmt.Sprintf("1 %d Lock Claim Success: x", x))
			time.Sleep(5 * time.Second)
			if got := len(store.did()); got != 3 { // two keeps and the end of who never came
				t.Errorf("the store was told %v", store.did())
			}
			for range 4 { // which extends nothing
				a.end()
				a = dialKept(t, h, "a")
				got := a.say("0 resume " + key)
				if left := 10*time.Second - time.Since(began); !strings.HasPrefix(got, "0 0 Claims Open ") || !strings.HasSuffix(got, key+"\n") ||
					!strings.Contains(got, fmt.Sprintf(" %d: ", left.Milliseconds())) {
					t.Errorf("%q with %v left", got, left)
				}
				a.expect(fmt.Sprintf("1 claim %d x", x), fmt.Sprintf("1 %d Lock Claim Success: x", x))
				a.say("0 ping")
				time.Sleep(time.Second)
			}
			if !connected {
				a.end()
			}
			store.stop(true)
			time.Sleep(10*time.Second - time.Since(began) - 10*time.Millisecond)
			if k := h.Kept(); !k.Recovers || k.Expired != 0 {
				t.Errorf("before the end: %+v", k)
			}
			time.Sleep(5 * time.Second)
			p.expect("0 i x", "0 1 Lock Is Locked: x")
			late := dialKept(t, h, "late")
			late.expect("0 resume "+key, "0 0 Unknown Key: "+key)
			p.expect("0 g x", "0 0 (Server Recovering|Lock Get Failure): x")
			store.stop(false)
			time.Sleep(time.Second)
			if k := h.Kept(); k.Recovers || k.Expired != 1 || k.Clients != 0 {
				t.Errorf("behind the end: %+v", k)
			}
			p.expect("0 g x", `0 \d+ Lock Get Success: x`)
			if connected {
				if got := a.say("1 t x"); got != "<end>" {
					t.Errorf("who had not claimed all is told %q", got)
				}
			}
			if keys, _ := store.stored(); len(keys) != 0 || !slices.Equal(store.did(), []string{"keep", "keep", "forget", "forget", "recovered"}) && connected {
				t.Errorf("stored are %v, after %v", keys, store.did())
			}
			for _, c := range []*keptClient{a, p, late} {
				c.end()
			}
			time.Sleep(time.Second)
			checkNobody(t, h)
			h.Close()
			first.Close()
		})
	}
}

// The recovery takes as long as it has to at least, beside the KEYs' times.
func TestRecoveryTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(memStore)
		first := storedHub(t, store)
		a := dialKept(t, first, "a")
		key := a.key("10000")
		crash(first, a)
		over := make(chan RecoveryEnd, 1)
		cfg := testConfig()
		cfg.Store = store
		keys, floor := store.stored()
		cfg.Floor = floor
		cfg.Recovery = &Recovery{Began: time.Now(), Least: 20 * time.Second, Keys: keys, Over: func(e RecoveryEnd) { over <- e }}
		h := keptHub(t, cfg)
		a = dialKept(t, h, "a")
		a.expect("0 resume "+key, "0 0 Claims Open 10000: "+key)
		a.expect("0 claimed", "0 1 ok") // which is not the end
		a.sayAll("1 gw 60000 x", 0)
		time.Sleep(20*time.Second - time.Millisecond)
		if k := h.Kept(); !k.Recovers || len(store.did()) != 1 {
			t.Errorf("%+v", k)
		}
		time.Sleep(2 * time.Millisecond)
		if got := a.sayAll("", 1); !strings.Contains(got, "Lock Get Success: x") {
			t.Errorf("%q", got)
		}
		if over := <-over; over.Came != 1 || over.Lost != 0 || over.Took < 20*time.Second || len(store.did()) != 2 {
			t.Errorf("%+v, %v", over, store.did())
		}
		a.end()
		h.Close()
		first.Close()
	})
}

// Of two who claim the same lock the one with the higher token has it, in whatever order
// they come, and the other one is told when it looks again.
func TestTheHigherTokenHasIt(t *testing.T) {
	for _, lowFirst := range []bool{true, false} {
		store := new(memStore)
		first := storedHub(t, store)
		a, b := dialKept(t, first, "a"), dialKept(t, first, "b")
		keyA, keyB := a.key("60000"), b.key("60000")
		low := number(a.say("1 g x"))
		a.say("1 r x")
		high := number(b.say("1 g x"))
		crash(first, a, b)
		h := restart(t, store, 0)
		a, b = dialKept(t, h, "a"), dialKept(t, h, "b")
		a.expect("0 resume "+keyA, `0 0 Claims Open \d+: `+keyA)
		b.expect("0 resume "+keyB, `0 0 Claims Open \d+: `+keyB)
		lost := fmt.Sprintf("1 claim %d x", low)
		won := func() { b.expect(fmt.Sprintf("1 claim %d x", high), fmt.Sprintf("1 %d Lock Claim Success: x", high)) }
		if lowFirst {
			a.expect(lost, fmt.Sprintf("1 %d Lock Claim Success: x", low))
			won()
			eventually(t, "the loser is cut", func() bool { return a.say("0 ping") == "<end>" })
			a = dialKept(t, h, "a")
			a.expect("0 resume "+keyA, `0 0 Claims Open \d+: `+keyA)
		} else {
			won()
		}
		a.expect(lost, "1 0 Lock Claim Failure: x")
		a.expect("1 t x", "1 0 Lock Not Held: x")
		a.expect("0 claimed", "0 1 ok")
		b.expect("0 claimed", "0 1 ok")
		b.expect("1 t x", fmt.Sprintf("1 %d Lock Token: x", high))
		a.expect("0 bye", "0 1 bye")
		b.expect("0 bye", "0 1 bye")
		checkNobody(t, h)
	}
}

// Another crash in the middle of a recovery gives all KEYs their time anew, those that
// had claimed, too.
func TestASecondCrash(t *testing.T) {
	store := new(memStore)
	first := storedHub(t, store)
	a, b := dialKept(t, first, "a"), dialKept(t, first, "b")
	keyA, keyB := a.key("60000"), b.key("60000")
	x, y := number(a.say("1 g x")), number(b.say("1 g y"))
	crash(first, a, b)
	h := restart(t, store, 0)
	a = dialKept(t, h, "a")
	a.expect("0 resume "+keyA, `0 0 Claims Open \d+: `+keyA)
	a.expect(fmt.Sprintf("1 claim %d x", x), fmt.Sprintf("1 %d Lock Claim Success: x", x))
	a.expect("0 claimed", "0 1 ok")
	c := dialKept(t, h, "c")
	c.key("60000") // it was kept by the second one
	crash(h, a, c)
	h = restart(t, store, 0)
	if k := h.Kept(); k.Open != 3 {
		t.Errorf("%+v", k)
	}
	a, b = dialKept(t, h, "a"), dialKept(t, h, "b")
	b.expect("0 resume "+keyB, `0 0 Claims Open \d+: `+keyB)
	b.expect(fmt.Sprintf("1 claim %d y", y), fmt.Sprintf("1 %d Lock Claim Success: y", y))
	a.expect("0 resume "+keyA, `0 0 Claims Open \d+: `+keyA)
	a.expect(fmt.Sprintf("1 claim %d x", x), fmt.Sprintf("1 %d Lock Claim Success: x", x))
	a.expect("0 bye", "0 1 bye")
	b.expect("0 bye", "0 1 bye")
}

// Many who claim the same locks at the same time, with connections that are cut by that:
// the highest token has each, and all come to an end.
func TestClaimsRace(t *testing.T) {
	const clients, names = 6, 20
	for range 3 {
		store := new(memStore)
		first := storedHub(t, store)
		var all []*keptClient
		var keys []string
		tokens := make([][names]uint64, clients)
		for i := range clients {
			c := dialKept(t, first, fmt.Sprint("c", i))
			keys = append(keys, c.key("60000"))
			all = append(all, c)
		}
		for n := range names {
			for i := range clients {
				c := (i + n) % clients // so that each has the highest one of some
				tokens[c][n] = number(all[c].say(fmt.Sprintf("1 g x%d", n)))
				all[c].say(fmt.Sprintf("1 r x%d", n))
			}
		}
		crash(first, all...)
		h := restart(t, store, 0)
		waiter := dialKept(t, h, "waiter")
		for n := range names {
			waiter.sayAll(fmt.Sprintf("%d gw 60000 x%d", n+1, n), 0)
		}
		var running sync.WaitGroup
		last := make([]*keptClient, clients)
		has := make([]int, clients)
		for i := range clients {
			running.Go(func() {
			again:
				for dials := 1; ; dials++ {
					if last[i] != nil {
						last[i].end()
					}
					last[i] = dialKept(t, h, fmt.Sprint("c", i, "-", dials))
					if got := last[i].say("0 resume " + keys[i]); !strings.Contains(got, "Claims Open") && !strings.Contains(got, "Resumed") {
						if strings.HasSuffix(got, "<end>") {
							continue
						}
						t.Errorf("%d is told %q", i, got)
						return
					}
					has[i] = 0
					for n, token := range tokens[i] {
						got := last[i].say(fmt.Sprintf("1 claim %d x%d", token, n))
						switch {
						case strings.HasSuffix(got, "<end>"):
							continue again
						case strings.Contains(got, "Success"):
							has[i]++
						}
					}
					if got := last[i].say("0 claimed"); got == "0 1 ok\n" {
						return
					} else if !strings.HasSuffix(got, "<end>") {
						t.Errorf("%d is told %q", i, got)
					}
				}
			})
		}
		running.Wait()
		eventually(t, "it has recovered", func() bool { return !h.Kept().Recovers })
		for n := range names {
			best := 0
			for i := range clients {
				if tokens[i][n] > tokens[best][n] {
					best = i
				}
			}
			p := h.directory.peer(h.locks.Holder([]byte(fmt.Sprint("x", n))))
			if p == nil || !strings.HasPrefix(p.addr(), fmt.Sprint("c", best, "-")) {
				t.Errorf("x%d is held by %v, not by %d", n, p, best)
			}
		}
		for i, c := range last {
			if got := c.say("0 bye"); got != "0 1 bye\n" { // a claim may have cut it at last
				c = dialKept(t, h, "last")
				c.say("0 resume " + keys[i])
				c.expect("0 bye", "0 1 bye")
			}
		}
		waiter.sayAll("", names)
		waiter.end()
		checkNobody(t, h)
	}
}
