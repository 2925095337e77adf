package session

import (
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// keptNetwork ends the connections of test clients at once, as a loop does in its own
// time.
type keptNetwork struct{ noNetwork }

func (keptNetwork) Detach(c Carrier) { c.(*keptClient).detach() }
func (keptNetwork) Kick(c Carrier, _ Kick) {
	if c != nil {
		keptNetwork{}.Detach(c)
	}
}

// A keptClient is a connection of protocol 2, whose carrier it is, too.
type keptClient struct {
	t  *testing.T
	mu sync.Mutex // guards what follows, and the stream
	st *Stream    // nil: it has ended
}

func (c *keptClient) Wake() {}

func (c *keptClient) detach() {
	if c == nil {
		return
	}
	go c.end()
}

// end ends the connection.
func (c *keptClient) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.st != nil {
		c.st.EndsFor(WhyDisconnect)
		for !c.st.CloseSome() {
		}
		c.st = nil
	}
}

func dialKept(t *testing.T, h *Hub, addr string) *keptClient {
	c := &keptClient{t: t, st: new(Stream)}
	c.st.Begin(h, Address{Name: addr}, c, new(Turn))
	c.say("hello 2")
	return c
}

// say sends lines and returns the replies that come, one a line of them if want is more
// than 0.
func (c *keptClient) say(lines string) string {
	c.t.Helper()
	return c.sayAll(lines, strings.Count(lines, "\n")+1)
}

func (c *keptClient) sayAll(lines string, want int) string {
	c.t.Helper()
	in, out := []byte(lines+"\n"), []byte(nil)
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Microsecond) {
		c.mu.Lock()
		if c.st == nil {
			c.mu.Unlock()
			return string(out) + "<end>"
		}
		var next Next
		c.st.turn.Begin(0)
		in, out, next = c.st.Advance(in, out)
		if next == Moved {
			c.st = c.st.Successor()
			in, out, next = c.st.Advance(in, out)
		}
		if next == Closing {
			c.mu.Unlock()
			c.end()
			return string(out)
		}
		c.mu.Unlock()
		if strings.Count(string(out), "\n") >= want {
			return string(out)
		}
		if time.Now().After(until) {
			c.t.Fatalf("%q has no %d replies, but %q", lines, want, out)
		}
	}
}

// expect checks a reply.
func (c *keptClient) expect(lines, want string) {
	c.t.Helper()
	if got := c.say(lines); !regexp.MustCompile("^" + want + "\n$").MatchString(got) {
		c.t.Errorf("%q is answered %q, want %q", lines, got, want)
	}
}

// key asks to be kept.
func (c *keptClient) key(ms string) string {
	c.t.Helper()
	got := c.say("0 keep " + ms)
	m := regexp.MustCompile(`^0 ` + ms + ` Kept(?: Blips Only)?: ([0-9a-f]{32})\n$`).FindStringSubmatch(got)
	if m == nil {
		c.t.Fatalf("keep is answered %q", got)
	}
	return m[1]
}

func keptHub(t *testing.T, cfg Config) *Hub {
	cfg.MaxKeep = max(cfg.MaxKeep, time.Minute)
	h := NewHub(cfg, keptNetwork{})
	t.Cleanup(h.Close)
	return h
}

// eventually waits until something is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("in vain: ", what)
		}
	}
}

// What is kept is there again, over another connection, with what it holds and where it
// stands in line.
func TestResume(t *testing.T) {
	h := keptHub(t, testConfig())
	a, b := dialKept(t, h, "a"), dialKept(t, h, "b")
	key := a.key("60000")
	a.expect("1 g x", `1 \d+ Lock Get Success: x`)
	a.expect("2 sg s", "2 1 Shared Lock Get Success: s")
	b.expect("1 g y", `1 \d+ Lock Get Success: y`)
	a.sayAll("3 gw 60000 y", 0)
	a.end()
	b.expect("1 g x", "1 0 Lock Get Failure: x")
	if look := b.sayAll("1 look x", 2); !strings.Contains(look, "\tkept\t") {
		t.Errorf("look: %q", look)
	}
	b.expect("1 r y", "1 1 Lock Release Success: y")
	b.expect("1 g y", "1 0 Lock Get Failure: y") // it was granted to who is away

	a2 := dialKept(t, h, "a2")
	a2.expect("0 resume "+key, "0 4 Resumed: "+key)
	a2.expect("0 me", "0 1 a2 a2")
	a2.expect("1 me", "1 1 a2#1 a2#1")
	token := strings.Fields(a2.say("1 t x"))[1]
	a2.expect("1 claim "+token+" x", "1 "+token+" Lock Claim Success: x")
	a2.expect("1 claim 1 x", "1 0 Lock Claim Failure: x")
	a2.expect("3 gw 60000 y", `3 \d+ Lock Get Success: y`)
	a2.expect("0 claimed", "0 1 ok")
	b.expect("1 look s", "1 1 End") // which was not named
	b.expect("1 g x", "1 0 Lock Get Failure: x")
	b.expect("1 g y", "1 0 Lock Get Failure: y")
	a2.expect("0 bye", "0 1 bye")
	b.expect("1 g x", `1 \d+ Lock Get Success: x`)
	b.expect("1 g y", `1 \d+ Lock Get Success: y`)
	b.end()
	dialed := dialKept(t, h, "c")
	dialed.expect("0 resume "+key, "0 0 Unknown Key: "+key)
	dialed.end()
	checkNobody(t, h)
}

// checkNobody checks that nothing is left of anybody.
func checkNobody(t *testing.T, h *Hub) {
	t.Helper()
	eventually(t, "nobody is there", func() bool { return h.directory.count() == 0 })
	if k := h.Kept(); k.Clients != 0 || k.Away != 0 {
		t.Errorf("%+v", k)
	}
	if locks, waiters := h.Held(); locks != 0 || waiters != 0 {
		t.Errorf("%d locks and %d waiters are left", locks, waiters)
	}
	h.accounts.each(func(a *account) {
		if has := a.share.Holdings(); has.Sessions != 0 || has.Locks != 0 || has.Waiters != 0 || has.Bytes != 0 {
			t.Errorf("%v has %+v", a.key, has)
		}
	})
}

// Who does not come back in time is gone, and not before.
func TestKeepExpires(t *testing.T) {
	h := keptHub(t, testConfig())
	a, b := dialKept(t, h, "a"), dialKept(t, h, "b")
	key := a.key("50")
	a.expect("1 g x", `1 \d+ Lock Get Success: x`)
	a.sayAll("2 gw 60000 x", 0)
	before := time.Now()
	a.end()
	eventually(t, "x is free", func() bool { return strings.Contains(b.say("1 g x"), "Success") })
	if took := time.Since(before); took < 50*time.Millisecond {
		t.Errorf("it was free after %v", took)
	}
	late := dialKept(t, h, "late")
	late.expect("0 resume "+key, "0 0 Unknown Key: "+key)
	key = late.key("60000") // which may follow
	if got := h.LossesSince(0, 9); len(got) != 2 || got[0].Why != WhyKeepExpired || got[0].Name != "x" {
		t.Errorf("the ledger has %+v", got)
	}
	if k := h.Kept(); k.Expired != 1 || k.Clients != 1 {
		t.Errorf("%+v", k)
	}
	late.expect("0 bye", "0 1 bye")
	b.end()
	checkNobody(t, h)
	_ = key
}

// A resume ends the earlier connection first, which may not know yet that it is gone.
func TestResumeEndsTheEarlierConnection(t *testing.T) {
	h := keptHub(t, testConfig())
	a := dialKept(t, h, "a")
	key := a.key("60000")
	a.expect("1 g x", `1 \d+ Lock Get Success: x`)
	a2 := dialKept(t, h, "a2")
	a2.expect("0 resume "+key, "0 2 Resumed: "+key)
	if got := a.say("1 r x"); got != "<end>" {
		t.Errorf("the earlier connection says %q", got)
	}
	a2.expect("1 t x", `1 \d+ Lock Token: x`)
	a2.expect("0 bye", "0 1 bye")
	checkNobody(t, h)
}

// What is kept has to be asked for first, and once.
func TestKeepComesFirst(t *testing.T) {
	h := keptHub(t, testConfig())
	for _, before := range []string{"1 ping", "0 g x", "0 iam x", "0 keep 1000"} {
		c := dialKept(t, h, "c")
		c.say(before)
		c.expect("0 keep 1000", "0 0 Not First: keep")
		c.expect("0 resume 0123456789abcdef0123456789abcdef", "0 0 Not First: resume")
		c.expect("0 bye", "0 1 bye")
		c.end()
	}
	c := dialKept(t, h, "c")
	c.expect("1 keep 1000", "1 0 Not First: keep")
	c.end()
	c = dialKept(t, h, "c")
	c.expect("0 ping", "0 1 pong")
	c.expect("0 limits", `0 1 dead_peer_ms=\d+ max_keep_ms=60000`)
	c.expect("0 resume xyz", "0 0 Unknown Key: xyz")
	c.expect("0 keep 999999", "0 60000 Kept Blips Only: [0-9a-f]{32}")
	c.expect("0 bye", "0 1 bye")
	checkNobody(t, h)

	off := NewHub(testConfig(), keptNetwork{})
	defer off.Close()
	c = dialKept(t, off, "c")
	c.expect("0 keep 1000", strings.TrimSuffix("0 "+wire.KeepDisabled, "\n"))
	c.end()
}
