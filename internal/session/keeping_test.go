package session

import (
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// A KEY is told when it is where it survives, and nothing behind `keep` is executed
// before. Where it cannot be written, the client is not kept, and all else goes on.
func TestKeepIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(memStore)
		h := storedHub(t, store)
		store.stop(true)
		a := dialKept(t, h, "a")
		if got := a.sayAll("0 keep 10000\n0 g x", 0); got != "" {
			t.Errorf("before it is written: %q", got)
		}
		time.Sleep(time.Second)
		if got := a.sayAll("", 0); got != "" || h.locks.Inspect([]byte("x")) {
			t.Errorf("a second later: %q", got)
		}
		store.stop(false)
		a.expect("", `0 10000 Kept: [0-9a-f]{32}`)
		a.expect("0 g x", `0 \d+ Lock Get Success: x`)

		store.fill(true)
		b := dialKept(t, h, "b")
		b.expect("0 keep 10000", "0 0 Server Full: keep")
		b.expect("0 g y", `0 \d+ Lock Get Success: y`)
		b.expect("0 r y", `0 1 Lock Release Success: y`)
		b.end()
		store.fill(false)

		// Who goes before it is written leaves nothing.
		store.stop(true)
		c := dialKept(t, h, "c")
		c.sayAll("0 keep 10000", 0)
		c.end()
		store.stop(false)
		time.Sleep(time.Second)
		if keys, _ := store.stored(); len(keys) != 1 {
			t.Errorf("%d KEYs are stored", len(keys))
		}
		a.expect("0 bye", "0 1 bye")
		time.Sleep(time.Second)
		if keys, _ := store.stored(); len(keys) != 0 {
			t.Errorf("%d KEYs are stored", len(keys))
		}
		checkNobody(t, h)
		h.Close()
	})
}

// The end of a KEY is written down before what it holds is free; where that cannot be,
// it is free all the same.
func TestExpiryIsDurable(t *testing.T) {
	for _, full := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := new(memStore)
			h := storedHub(t, store)
			a, b := dialKept(t, h, "a"), dialKept(t, h, "b")
			key := a.key("10000")
			a.expect("0 g x", `0 \d+ Lock Get Success: x`)
			a.end()
			store.stop(true)
			store.fill(full)
			time.Sleep(10*time.Second - time.Millisecond)
			if k := h.Kept(); k.Away != 1 || h.Reserved() != 1 {
				t.Errorf("%+v", k)
			}
			time.Sleep(time.Second)
			b.expect("0 resume "+key, "0 0 Unknown Key: "+key)
			b.expect("0 g x", "0 0 Lock Get Failure: x")
			store.stop(false)
			time.Sleep(time.Second)
			b.expect("0 g x", `0 \d+ Lock Get Success: x`)
			b.end()
			checkNobody(t, h)
			h.Close()
		})
	}
}

// A connection counts as lost from when it was, and who comes back at the last moment
// has all of its time anew.
func TestKeepCountsFromTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := keptHub(t, testConfig())
		a, b := dialKept(t, h, "a"), dialKept(t, h, "b")
		key := a.key("10000")
		a.expect("0 g x", `0 \d+ Lock Get Success: x`)
		for range 5 {
			time.Sleep(30 * time.Second) // connected
			a.end()
			hash, _ := hashOf([]byte(key), nil)
			h.keeps.find(hash).expire() // a timer of an earlier time comes late
			time.Sleep(10*time.Second - time.Millisecond)
			a = dialKept(t, h, "a")
			a.expect("0 resume "+key, "0 1 Resumed: "+key)
		}
		a.end()
		time.Sleep(10*time.Second + time.Millisecond)
		a = dialKept(t, h, "a")
		a.expect("0 resume "+key, "0 0 Unknown Key: "+key)
		b.expect("0 g x", `0 \d+ Lock Get Success: x`)
		a.end()
		b.end()
		checkNobody(t, h)
		h.Close()
	})
}

// kicker is a client of this machine, which may kick.
func kicker(t *testing.T, h *Hub) *keptClient {
	c := &keptClient{t: t, st: new(Stream)}
	c.st.Begin(h, Address{Name: "unix:1", Local: true}, c, new(Turn))
	c.say("hello 2")
	return c
}

// A kick ends a client and its KEY, whether it has a connection or not, and is answered
// when what it held is free.
func TestKickOfTheKept(t *testing.T) {
	for _, stored := range []bool{false, true} {
		for _, away := range []bool{false, true} {
			for _, what := range []string{"a", "a#1"} {
				t.Run(fmt.Sprint(stored, away, what), func(t *testing.T) {
					cfg := testConfig()
					store := new(memStore)
					if stored {
						cfg.Store = store
					}
					h := keptHub(t, cfg)
					a, admin := dialKept(t, h, "a"), kicker(t, h)
					key := a.key("60000")
					a.expect("0 g x", `0 \d+ Lock Get Success: x`)
					a.expect("1 sg s", `1 1 Shared Lock Get Success: s`)
					if away {
						a.end()
					}
					admin.expect("0 kick "+what, "0 1 Kicked: "+what)
					admin.expect("0 g x", `0 \d+ Lock Get Success: x`)
					admin.expect("0 si s", `0 0 Shared Lock Not Locked: s`)
					if got := store.did(); stored && len(got) < 2 {
						t.Errorf("stored is %q", got)
					}
					if !away {
						if got := a.say("0 ping"); got != "<end>" {
							t.Errorf("%q", got)
						}
					}
					again := dialKept(t, h, "again")
					again.expect("0 resume "+key, "0 0 Unknown Key: "+key)
					for _, l := range h.LossesSince(0, 9) {
						if l.Why != WhyKick || l.By != "unix:1" {
							t.Errorf("%+v", l)
						}
					}
					again.end()
					admin.end()
					checkNobody(t, h)
				})
			}
		}
	}
}

// Who ends itself by a kick ends its KEY, too.
func TestKickOfItself(t *testing.T) {
	h := keptHub(t, testConfig())
	a := kicker(t, h)
	key := a.key("60000")
	a.expect("0 g x", `0 \d+ Lock Get Success: x`)
	a.expect("0 kick unix:1", "0 1 Kicked: unix:1")
	b := dialKept(t, h, "b")
	b.expect("0 resume "+key, "0 0 Unknown Key: "+key)
	b.end()
	checkNobody(t, h)
}

// A session is kicked alone where its client can be told what it has lost.
func TestNotices(t *testing.T) {
	for _, away := range []bool{false, true} {
		h := keptHub(t, testConfig())
		admin := kicker(t, h)
		a := &keptClient{t: t, st: new(Stream)}
		a.st.Begin(h, Address{Name: "a"}, a, new(Turn))
		a.expect("hello 2 notices", "2 lockd .*")
		key := a.key("60000")
		a.expect("1 g x", `1 \d+ Lock Get Success: x`)
		a.expect("1 sg s", `1 1 Shared Lock Get Success: s`)
		a.expect("2 g z", `2 \d+ Lock Get Success: z`)
		token := number(a.say("2 t z"))
		if away {
			a.end()
		}
		// The reply comes when the session has ended, which its own carrier does.
		done := make(chan string)
		go func() { done <- admin.say("0 kick a#1") }()
		if !away {
			got := a.sayAll("", 2)
			if !regexp.MustCompile(`^(1 ! Lock Lost: (x|s)\n){2}$`).MatchString(got) || !strings.Contains(got, "x") || !strings.Contains(got, "s") {
				t.Errorf("it is told %q", got)
			}
		}
		if got := <-done; got != "0 1 Kicked: a#1\n" {
			t.Errorf("%q", got)
		}
		admin.expect("0 g x", `0 \d+ Lock Get Success: x`)
		admin.expect("0 si s", `0 0 Shared Lock Not Locked: s`)
		if away {
			a = dialKept(t, h, "a")
			a.expect("0 resume "+key, "0 2 Resumed: "+key)
			a.expect(fmt.Sprintf("2 claim %d z", token), fmt.Sprintf("2 %d Lock Claim Success: z", token))
		}
		a.expect("1 claim 7 x", "1 0 Lock Claim Failure: x")
		a.expect("2 t z", fmt.Sprintf("2 %d Lock Token: z", token))
		if !away {
			h.Drain()
			if got := a.sayAll("", 1); got != "0 ! Draining\n" {
				t.Errorf("%q", got)
			}
		}
		a.expect("0 bye", "0 1 bye")
		admin.end()
		checkNobody(t, h)
	}
}

// Who has not asked for notices is not told anything.
func TestNoNotices(t *testing.T) {
	h := keptHub(t, testConfig())
	a := dialKept(t, h, "a")
	a.expect("1 hello 2 more", "1 0 Invalid Argument: hello")
	h.Drain()
	a.expect("0 g x", "0 0 Shutting Down: x")
	a.end()
}

// A request about the lock for which a session has a wait from before ends that wait,
// unless it takes it up; others leave it alone.
func TestParkedWaits(t *testing.T) {
	for _, c := range []struct{ request, reply, wait string }{
		{"g x", "0 Lock Get Failure: x", ""},
		{"r x", "0 Lock Release Failure: x", ""},
		{"claim 5 x", "0 Lock Claim Failure: x", ""},
		{"t x", "0 Lock Not Held: x", "x"},
		{"i x", "1 Lock Is Locked: x", "x"},
		{"g other", `\d+ Lock Get Success: other`, "x"},
		{"sg x", "1 Shared Lock Get Success: x", "x"},
		{"sr x", "0 Shared Lock Release Failure: x", "x"},
		{"cancel", "1 ok", ""},
		{"bye", "1 bye", ""},
		{"gw 0 x", "0 Lock Get Timeout: x", ""},
		{"gw 0 y", `\d+ Lock Get Success: y`, ""},
		{"sgw 1 0 y", "1 Shared Lock Get Success: y", ""},
	} {
		h := keptHub(t, testConfig())
		a, b := dialKept(t, h, "a"), dialKept(t, h, "b")
		key := a.key("60000")
		b.expect("0 g x", `0 \d+ Lock Get Success: x`)
		a.sayAll("1 gw 60000 x", 0)
		a.end()
		a = dialKept(t, h, "a")
		a.expect("0 resume "+key, "0 2 Resumed: "+key)
		a.expect("1 "+c.request, "1 "+c.reply)
		if got := h.locks.Waiting(); got != len(c.wait) {
			t.Errorf("%s: %d wait", c.request, got)
		}
		b.expect("0 r x", "0 1 Lock Release Success: x")
		if c.wait != "" {
			a.expect("1 gw 1000 x", `1 \d+ Lock Get Success: x`)
			b.expect("0 g x", "0 0 Lock Get Failure: x")
		} else {
			b.expect("0 g x", `0 \d+ Lock Get Success: x`)
		}
		a.expect("0 claimed", "0 1 ok")
		a.expect("0 bye", "0 1 bye")
		b.end()
		checkNobody(t, h)
	}
}

// What a wait from before was granted is in doubt, until somebody asks for it.
func TestGrantedWhileAway(t *testing.T) {
	for _, c := range []struct {
		request, reply string
		held           bool // behind `claimed`
	}{
		{"ping", "1 pong", false},
		{"g x", `\d+ Lock Get Success: x`, true},
		{"gw 5 x", `\d+ Lock Get Success: x`, true},
		{"gw 5 other", `\d+ Lock Get Success: other`, false},
		{"r x", "1 Lock Release Success: x", false},
		{"claim 1 x", "0 Lock Claim Failure: x", false},
		{"t x", `\d+ Lock Token: x`, false},
		{"cancel", "1 ok", false},
	} {
		for _, late := range []bool{false, true} {
			h := keptHub(t, testConfig())
			a, b := dialKept(t, h, "a"), dialKept(t, h, "b")
			key := a.key("60000")
			b.expect("0 g x", `0 \d+ Lock Get Success: x`)
			a.sayAll("1 gw 60000 x", 0)
			a.end()
			if late {
				a = dialKept(t, h, "a")
				a.expect("0 resume "+key, "0 2 Resumed: "+key)
			}
			b.expect("0 r x", "0 1 Lock Release Success: x")
			if !late {
				a = dialKept(t, h, "a")
				a.expect("0 resume "+key, "0 2 Resumed: "+key)
			}
			a.expect("1 "+c.request, "1 "+c.reply)
			a.expect("0 claimed", "0 1 ok")
			if got := h.locks.Inspect([]byte("x")); got != c.held {
				t.Errorf("%s: is held %v", c.request, got)
			}
			a.expect("0 bye", "0 1 bye")
			b.end()
			checkNobody(t, h)
		}
	}
}

// A resume of many sessions goes on in pieces, and nothing is executed before it is
// answered.
func TestResumeOfManySessions(t *testing.T) {
	cfg := testConfig()
	cfg.MaxSessions = 5000
	h := keptHub(t, cfg)
	a := dialKept(t, h, "a")
	key := a.key("60000")
	const sessions = 4 * resumeStep
	for i := 1; i <= sessions; i++ {
		a.say(fmt.Sprintf("%d g %d", i, i))
	}
	a.end()
	b := dialKept(t, h, "b")
	_, out, next := b.st.Advance([]byte("0 resume "+key+"\n"), nil)
	if next != Moved || len(out) > 0 {
		t.Fatalf("%q, %v", out, next)
	}
	b.st = b.st.Successor()
	pieces := 1
	for long := b.st.long; ; pieces++ {
		var more bool
		if out, more = long.next(out); !more {
			break
		}
		if len(out) > 0 {
			t.Fatalf("%q comes early", out)
		}
	}
	b.st.endLong()
	if pieces != 4 || string(out) != fmt.Sprintf("0 %d Resumed: %s\n", sessions+1, key) {
		t.Errorf("%q after %d pieces", out, pieces)
	}
	b.expect("7 me", "7 1 b#7 b#7")
	b.expect("7 g 7", `7 \d+ Lock Get Success: 7`)
	b.expect("0 claimed", "0 1 ok")
	if locks, _ := h.Held(); locks != 1 {
		t.Errorf("%d are held", locks)
	}
	b.expect("0 bye", "0 1 bye")
	checkNobody(t, h)
}

// Two that resume at the same time have it one after the other, and nobody waits for
// ever.
func TestResumesMeet(t *testing.T) {
	h := keptHub(t, testConfig())
	a := dialKept(t, h, "a")
	key := a.key("60000")
	const n = 6
	replies := make(chan string, n)
	for i := range n {
		c := dialKept(t, h, fmt.Sprint("c", i))
		go func() {
			replies <- c.say("0 resume " + key)
			c.end()
		}()
	}
	resumed := 0
	for range n {
		if strings.HasPrefix(<-replies, "0 1 Resumed: ") {
			resumed++
		}
	}
	if resumed == 0 {
		t.Error("nobody has resumed it")
	}
	last := dialKept(t, h, "last")
	last.expect("0 resume "+key, "0 1 Resumed: "+key)
	last.expect("0 bye", "0 1 bye")
	checkNobody(t, h)
}

// Only who has shown to be the same resumes what is kept.
func TestResumeNeedsTheSameAccess(t *testing.T) {
	cfg := testConfig()
	cfg.Authority = everybody()
	h := keptHub(t, cfg)
	dial := func(name, token string) *keptClient {
		c := &keptClient{t: t, st: askedStream(h, Address{Name: name}, nil)}
		c.st.carrier = c
		c.say("hello 2")
		if token != "" {
			c.expect("0 auth "+token, "0 1 ok")
		}
		return c
	}
	a := dial("a", "l")
	key := a.key("60000")
	a.expect("1 g x", `1 \d+ Lock Get Success: x`)
	a.end()
	nobody := dial("nobody", "")
	nobody.expect("0 resume "+key, "0 0 Not Authenticated")
	nobody.end()
	other := dial("other", "a")
	other.expect("0 resume "+key, "0 0 Unknown Key: "+key)
	other.end()
	reader := dial("reader", "r")
	reader.expect("0 keep 1000", "0 0 Not Allowed: keep")
	reader.end()
	a = dial("a", "l")
	a.expect("0 resume "+key, "0 2 Resumed: "+key)
	a.expect("1 g x", `1 \d+ Lock Get Success: x`)
	a.expect("0 bye", "0 1 bye")
	checkNobody(t, h)
}

// KEYs are bounded: by the connections that there may be, by the memory and by the share.
func TestKeepIsBounded(t *testing.T) {
	cfg := testConfig()
	cfg.MaxConnections = 2
	h := keptHub(t, cfg)
	var all []*keptClient
	for i := range 3 {
		c := dialKept(t, h, fmt.Sprint("c", i))
		if i < 2 {
			c.key("60000")
		} else {
			c.expect("0 keep 60000", "0 0 Server Full: keep")
		}
		all = append(all, c)
	}
	all[0].expect("0 bye", "0 1 bye")
	all[2].key("60000")
	all[1].expect("0 bye", "0 1 bye")
	all[2].expect("0 bye", "0 1 bye")
	checkNobody(t, h)

	cfg = testConfig()
	cfg.Share.Sessions = 1
	h = keptHub(t, cfg)
	a, b := dialKept(t, h, "a"), dialKept(t, h, "b")
	a.key("60000")
	b.expect("0 keep 60000", "0 0 Server Full: keep")
	a.expect("1 g x", "1 0 Too Many Sessions")
	a.expect("0 bye", "0 1 bye")
	b.key("60000")
	b.expect("0 bye", "0 1 bye")
	checkNobody(t, h)
}

// Who has a place that is kept for others has to resume.
func TestReservedPlaces(t *testing.T) {
	h := keptHub(t, testConfig())
	a := dialKept(t, h, "a")
	key := a.key("60000")
	a.end()
	dial := func() *keptClient {
		c := &keptClient{t: t, st: new(Stream)}
		c.st.MustResume()
		c.st.Begin(h, Address{Name: "unix:2", Process: testProcess{4711, 0, "p"}}, c, new(Turn))
		c.expect("ping", "1 pong")
		c.expect("hello 2", "2 lockd .*")
		c.expect("0 limits", "0 1 dead_peer_ms=.*")
		c.expect("0 auth x", "0 1 ok")
		return c
	}
	for _, request := range []string{"g x", "i x", "keep 1000", "q", "gw 5 x", "1 claimed"} {
		c := dial()
		session := "0 "
		if request[0] == '1' {
			session = ""
		}
		c.expect(session+request, `\d 0 Too Many Connections`)
		if got := c.say("0 ping"); got != "<end>" {
			t.Errorf("behind %s: %q", request, got)
		}
	}
	synctest.Test(t, func(t *testing.T) { // who says nothing goes, too
		h := keptHub(t, testConfig())
		c := &keptClient{t: t, st: new(Stream)}
		c.st.MustResume()
		c.st.Begin(h, Address{Name: "idle"}, c, new(Turn))
		time.Sleep(resumeWithin - time.Millisecond)
		if got := c.sayAll("", 0); got != "" {
			t.Errorf("early: %q", got)
		}
		time.Sleep(2 * time.Millisecond)
		if got := c.say(""); got != wire.TooManyConnections {
			t.Errorf("late: %q", got)
		}
		c.end()
		h.Close()
	})
	c := dial()
	c.expect("0 resume "+strings.Repeat("0", 32), "0 0 Unknown Key: 0+")
	c.expect("0 resume "+key, "0 1 Resumed: "+key)
	c.expect("0 g x", `0 \d+ Lock Get Success: x`)
	c.expect("0 bye", "0 1 bye")
	checkNobody(t, h)
}

// What is kept without a Store ends with the server; with one, it does not.
func TestServerEndsWhileAway(t *testing.T) {
	for _, stored := range []bool{false, true} {
		cfg := testConfig()
		store := new(memStore)
		if stored {
			cfg.Store = store
		}
		h := keptHub(t, cfg)
		a := dialKept(t, h, "a")
		a.key("60000")
		a.expect("0 g x", `0 \d+ Lock Get Success: x`)
		a.end()
		h.Close()
		lost := h.LossesSince(0, 9)
		if keys, _ := store.stored(); stored && (len(keys) != 1 || len(lost) != 0) {
			t.Errorf("%d KEYs are stored, %+v is lost", len(keys), lost)
		}
		if !stored {
			if len(lost) != 1 || lost[0].Why != WhyShutdown {
				t.Errorf("%+v is lost", lost)
			}
			checkNobody(t, h)
		}
	}
}

// Who outlives the server is not waited for when that drains, is told so if it likes, goes
// on with what it does, and is cut at the end, without losing its KEY. Without a Store it
// is as everybody else.
func TestKeptWhileTheServerDrains(t *testing.T) {
	for _, stored := range []bool{true, false} {
		cfg := testConfig()
		store := new(memStore)
		if stored {
			cfg.Store = store
		}
		h := keptHub(t, cfg)
		holder, idle, waiter := dialKept(t, h, "holder"), dialKept(t, h, "idle"), dialKept(t, h, "waiter")
		plain := dialKept(t, h, "plain")
		holder.key("60000")
		idle.key("60000")
		waiter.key("60000")
		holder.expect("0 g x", `0 \d+ Lock Get Success: x`)
		plain.sayAll("3 gw 60000 x", 0)
		waiter.sayAll("1 gw 60000 x", 0)
		h.Drain()
		plain.expect("", "3 0 Shutting Down: x")
		if !stored {
			waiter.expect("", "1 0 Shutting Down: x")
			holder.expect("0 g y", `0 0 Shutting Down: y`)
		} else {
			holder.expect("0 g y", `0 \d+ Lock Get Success: y`)
			holder.expect("0 rl 5 1000 1 y", `0 5 Rate Allowed: y`)
			holder.expect("0 r x", `0 1 Lock Release Success: x`)
			waiter.expect("", `1 \d+ Lock Get Success: x`)
			waiter.expect("1 r x", `1 1 Lock Release Success: x`)
			waiter.sayAll("1 gw 60000 y", 0)
			if got := waiter.sayAll("1 cancel", 2); got != "1 0 Lock Get Canceled: y\n1 1 ok\n" {
				t.Errorf("cancel: %q", got)
			}
		}
		holder.expect("0 g x", `0 \d+ Lock Get Success: x`)
		dialKept(t, h, "late").expect("0 keep 60000", "0 0 Shutting Down: keep")
		next := func(c *keptClient) Next {
			c.mu.Lock()
			defer c.mu.Unlock()
			_, _, next := c.st.Advance(nil, nil)
			return next
		}
		if got := next(idle); stored != (got == Idle) || !stored && got != Last {
			t.Errorf("stored %v: what comes next is %v", stored, got)
		}
		if got := next(holder); got != Idle {
			t.Errorf("what comes next for a holder is %v", got)
		}
		h.End()
		if got := next(holder); stored && got != Closing || !stored && got != Idle {
			t.Errorf("stored %v: what comes next for a holder at the end is %v", stored, got)
		}
		for _, c := range []*keptClient{holder, idle, waiter} {
			c.mu.Lock()
			c.st.EndsFor(WhyShutdown) // as the server does with those who are left
			c.mu.Unlock()
			c.end()
		}
		if k := h.Kept(); stored && k.Away != 3 || !stored && k.Clients != 0 {
			t.Errorf("%+v", k)
		}
		keys, _ := store.stored()
		if stored && len(keys) != 3 {
			t.Errorf("%d KEYs are stored", len(keys))
		}
		held := 0
		for _, l := range h.LossesSince(0, 9) {
			if l.What == LostHold {
				held++
			}
		}
		if stored != (held == 0) {
			t.Errorf("stored %v: %d holds are lost", stored, held)
		}
	}
}

// Nothing is left of the memory that a kept client has taken, whatever becomes of it.
func TestKeptMemory(t *testing.T) {
	h := keptHub(t, testConfig())
	admin := kicker(t, h)
	use := func(end func(c *keptClient, key string)) {
		c := dialKept(t, h, "c")
		key := c.key("60000")
		for i := range 20 {
			c.expect(fmt.Sprintf("%d g %d", i, i), fmt.Sprintf(`%d \d+ Lock Get Success: %d`, i, i))
			c.expect(fmt.Sprintf("%d sg %d", i, i), fmt.Sprintf(`%d 1 Shared Lock Get Success: %d`, i, i))
		}
		c.expect("1 iam somebody", "1 1 ok")
		c.sayAll("30 gw 60000 1", 0)
		end(c, key)
		c.end()
		eventually(t, "it has ended", func() bool { return h.directory.count() == 1 })
	}
	ways := []func(c *keptClient, key string){
		func(c *keptClient, _ string) { c.expect("0 bye", "0 1 bye") },
		func(c *keptClient, key string) {
			c.end()
			c = dialKept(t, h, "c2")
			c.expect("0 resume "+key, "0 21 Resumed: "+key)
			c.expect("0 claimed", "0 1 ok")
			c.expect("0 bye", "0 1 bye")
		},
		func(c *keptClient, key string) { // which is lost, and comes back, again and again
			for range 3 {
				c.end()
				c = dialKept(t, h, "c2")
				c.expect("0 resume "+key, "0 21 Resumed: "+key)
				c.expect("3 g 3", `3 \d+ Lock Get Success: 3`)
			}
			c.end()
			admin.expect("0 kick c2", "0 1 Kicked: c2")
		},
	}
	for _, way := range ways { // the table grows, and the ledger has its entries
		use(way)
	}
	for i, way := range ways {
		before := h.memory.Used() - int64(h.ledger.size())
		use(way)
		if after := h.memory.Used() - int64(h.ledger.size()); after != before {
			t.Errorf("way %d: %d bytes are left", i, after-before)
		}
	}
	admin.end()
	checkNobody(t, h)
}

func (g *ledger) size() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.rings {
		n += g.rings[i].bytes
	}
	return n
}

// A session that is to end alone does so behind the request that it has postponed.
func TestEvictedWhilePostponed(t *testing.T) {
	cfg := testConfig()
	cfg.Postpone = 50 * time.Millisecond
	n := &partition{gone: make(map[Carrier]bool)}
	h := NewHub(cfg, n)
	defer h.Close()
	p := newStream(h, "p", new(bell))
	script(t, p, "g x\n", "1 Lock Get Success: x\n")
	n.gone[p.carrier] = true
	st := newStream(h, "a", new(bell))
	feedAll(t, st, []byte("hello 2 notices\n1 g y\n"))
	for st.Early() > 0 {
	}
	st.turn.Begin(32)
	if out, next := advance(st, "1 g x\n"); out != "" || next != Waiting {
		t.Fatalf("%q, %v", out, next)
	}
	s := st.sessions[1]
	s.evict(WhyKick, "test")
	var all string
	for until := time.Now().Add(10 * time.Second); len(st.sessions) > 0 && time.Now().Before(until); time.Sleep(time.Millisecond) {
		st.turn.Begin(0)
		out, _ := advance(st, "")
		all += out
	}
	if all != "1 0 Lock Get Failure: x\n1 ! Lock Lost: y\n" {
		t.Errorf("%q", all)
	}
	st.Close()
	p.Close()
	checkNobody(t, h)
}

// Who looks sees the connection that a client has now, or that it has none.
func TestKeptAmongClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := keptHub(t, testConfig())
		dial := func(addr, transport string) *keptClient {
			c := &keptClient{t: t, st: new(Stream)}
			c.st.Begin(h, Address{Name: addr, Transport: transport}, c, new(Turn))
			c.say("hello 2")
			return c
		}
		a := dial("a", "tcp")
		key := a.key("60000")
		a.expect("1 g x", `1 \d+ Lock Get Success: x`)
		time.Sleep(10 * time.Second)
		look := func(away bool, addr, transport string, age time.Duration) {
			t.Helper()
			all := h.takeCensus(new(busiest), new(atomic.Bool)).Clients
			if len(all) != 1 {
				t.Fatalf("%d clients", len(all))
			}
			c := &all[0]
			if c.Away != away || c.Address() != addr || c.Transport != transport || c.Age.Round(time.Second) != age || c.Locks != 1 || c.Sessions != 2 {
				t.Errorf("%s, %+v", c.Address(), c)
			}
			if first, more := h.Clients(9); away && len(first)+more != 0 {
				t.Errorf("the drain would wait for %d", len(first)+more)
			}
		}
		look(false, "a", "tcp", 10*time.Second)
		a.end()
		look(true, "a", "tcp", 10*time.Second)
		time.Sleep(10 * time.Second)
		a = dial("b", "wss")
		a.expect("0 resume "+key, "0 2 Resumed: "+key)
		a.expect("1 g x", `1 \d+ Lock Get Success: x`)
		time.Sleep(time.Second)
		look(false, "b", "wss", time.Second)
		if found, _ := h.Kick(t.Context(), "a", Kicker{Address: "test"}); found {
			t.Error("it is found by an address that it has no more")
		}
		if found, _ := h.Kick(t.Context(), "b", Kicker{Address: "test", MinAge: 2 * time.Second}); found {
			t.Error("it is found though its connection is younger")
		}
		if found, ended := h.Kick(t.Context(), "b#1", Kicker{Address: "test"}); !found || !ended {
			t.Error("it is not found")
		}
		h.Close()
	})
}

// From a kick on nobody takes a client up again, and what it holds is free when its end
// is written down, also if its connection is lost meanwhile.
func TestKickIsDurable(t *testing.T) {
	for _, lost := range []string{"before", "meanwhile", "never"} {
		synctest.Test(t, func(t *testing.T) {
			store := new(memStore)
			h := storedHub(t, store)
			a, admin := dialKept(t, h, "a"), kicker(t, h)
			key := a.key("60000")
			a.expect("0 g x", `0 \d+ Lock Get Success: x`)
			if lost == "before" {
				a.end()
			}
			store.stop(true)
			if got := admin.sayAll("0 kick a", 0); got != "" {
				t.Errorf("%q comes early", got)
			}
			if lost == "meanwhile" {
				a.end()
			}
			b := dialKept(t, h, "b")
			b.expect("0 resume "+key, "0 0 Unknown Key: "+key)
			b.expect("0 g x", "0 0 Lock Get Failure: x")
			time.Sleep(time.Second)
			b.expect("0 g x", "0 0 Lock Get Failure: x")
			store.stop(false)
			admin.expect("", "0 1 Kicked: a")
			b.expect("0 g x", `0 \d+ Lock Get Success: x`)
			if keys, _ := store.stored(); len(keys) != 0 {
				t.Errorf("%d KEYs are stored", len(keys))
			}
			for _, c := range []*keptClient{a, b, admin} {
				c.end()
			}
			time.Sleep(time.Second)
			checkNobody(t, h)
			h.Close()
		})
	}
}

// Who comes back when its time is over is too late, also if the timer has not said so yet,
// as after a time in which the process was stopped.
func TestResumeBeforeTheTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := keptHub(t, testConfig())
		a, b := dialKept(t, h, "a"), dialKept(t, h, "b")
		key := a.key("10000")
		a.expect("0 g x", `0 \d+ Lock Get Success: x`)
		a.end()
		hash, _ := hashOf([]byte(key), nil)
		h.keeps.find(hash).timer.Stop()
		time.Sleep(10 * time.Second)
		b.expect("0 g x", "0 0 Lock Get Failure: x")
		late := dialKept(t, h, "late")
		late.expect("0 resume "+key, "0 0 Unknown Key: "+key)
		synctest.Wait()
		b.expect("0 g x", `0 \d+ Lock Get Success: x`)
		late.end()
		b.end()
		checkNobody(t, h)
		if k := h.Kept(); k.Expired != 1 {
			t.Errorf("%+v", k)
		}
		h.Close()
	})
}

// A disk that does not answer is one that fails, after a while: what is over is free, who
// asks to be kept is told that it is not, and is not, whatever the disk does later.
func TestHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(memStore)
		h := storedHub(t, store)
		a, b := dialKept(t, h, "a"), dialKept(t, h, "b")
		a.key("10000")
		a.expect("0 g x", `0 \d+ Lock Get Success: x`)
		a.end()
		store.stop(true)
		time.Sleep(10*time.Second + storeMost - time.Millisecond)
		b.expect("1 g x", "1 0 Lock Get Failure: x")
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		b.expect("1 g x", `1 \d+ Lock Get Success: x`)
		b.expect("1 bye", "1 1 bye")
		b.expect("0 keep 10000", "0 0 Server Full: keep")
		store.stop(false)
		time.Sleep(time.Second)
		if keys, _ := store.stored(); len(keys) != 0 {
			t.Errorf("the file has %v", keys)
		}
		b.key("10000")
		b.expect("0 bye", "0 1 bye")
		checkNobody(t, h)
		h.Close()
	})
}

// However many clients do not come back at the same time, all of them end.
func TestManyExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := keptHub(t, testConfig())
		const many = 1000
		for i := range many {
			c := dialKept(t, h, fmt.Sprint("c", i))
			c.key("10000")
			c.expect(fmt.Sprint("0 g ", i), `0 \d+ Lock Get Success: \d+`)
			c.end()
		}
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		checkNobody(t, h)
		if k := h.Kept(); k.Expired != many || k.Away != 0 {
			t.Errorf("%+v", k)
		}
		h.Close()
	})
}

// An address may be another client's by now: who is connected is meant first.
func TestKickOfSameAddress(t *testing.T) {
	h := keptHub(t, testConfig())
	first, admin := dialKept(t, h, "a"), kicker(t, h)
	first.key("60000")
	first.expect("0 g x", `0 \d+ Lock Get Success: x`)
	first.end()
	second := dialKept(t, h, "a")
	second.expect("0 g y", `0 \d+ Lock Get Success: y`)
	for _, ends := range []string{"y", "x"} {
		if ends == "x" {
			admin.expect("0 i x", "0 1 Lock Is Locked: x")
		}
		admin.expect("0 kick a", "0 1 Kicked: a")
		admin.expect("0 g "+ends, `0 \d+ Lock Get Success: `+ends)
	}
	admin.expect("0 kick a", "0 0 No Such Client: a")
	admin.end()
	checkNobody(t, h)
}

// What could be asked for can be claimed, though a claim has more in it. Nothing else may
// be longer for that.
func TestLongClaims(t *testing.T) {
	cfg := testConfig()
	cfg.MaxLine = 200
	h := keptHub(t, cfg)
	a := dialKept(t, h, "a")
	key := a.key("60000")
	name := strings.Repeat("x", cfg.MaxLine-len("0 g "))
	shared := name[1:]
	a.expect("0 g "+name, `0 \d+ Lock Get Success: `+name)
	token := strings.Fields(a.say("0 t " + name))[1]
	a.expect("0 sg "+shared, `0 1 Shared Lock Get Success: `+shared)
	a.expect("0 g x"+name, "0 0 Line Too Long")
	a.end()
	a = dialKept(t, h, "a")
	a.expect("0 resume "+key, "0 1 Resumed: "+key)
	request := "0 claim " + token + " " + name + "\n"
	out := ""
	for len(request) > 0 { // however it is cut up
		n := min(90, len(request))
		out += string(feed(a, request[:n]))
		request = request[n:]
	}
	if out != "0 "+token+" Lock Claim Success: "+name+"\n" {
		t.Errorf("told %q", out)
	}
	a.expect("0 claims 1 "+shared, "0 1 Shared Lock Claim Success: "+shared)
	a.expect("0 claim "+token+" "+name+name, "0 0 Line Too Long")
	a.expect("0 g x"+name, "0 0 Line Too Long")
	a.expect("0 claimed", "0 1 ok")
	plain := dialKept(t, h, "plain")
	plain.expect("0 claim "+token+" "+name, "0 0 Line Too Long")
	plain.expect("0 i "+name, "0 1 Lock Is Locked: "+name)
	plain.end()
	a.expect("0 bye", "0 1 bye")
	checkNobody(t, h)
}

// feed gives a client's stream bytes, and returns what it says to that at once.
func feed(c *keptClient, in string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.st.turn.Begin(0)
	_, out, _ := c.st.Advance([]byte(in), nil)
	return out
}
