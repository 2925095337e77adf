package session

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// lossText is a loss in a line, without what differs each time.
func lossText(l Loss) string {
	text := fmt.Sprintf("%v %v %v %q of %s", l.Why, l.What, l.Kind, l.Name, l.Address)
	for _, a := range []struct {
		key, value string
	}{{"client", l.Client}, {"identity", l.Identity}, {"by", l.By}, {"holder", l.Holder}, {"process", l.Process}, {"bound", l.Bound}, {"waiters", strings.Join(l.Waiters, ",")}} {
		if a.value != "" {
			text += fmt.Sprintf(" %s=%s", a.key, a.value)
		}
	}
	for _, a := range []struct {
		key   string
		value int
	}{{"count", l.Count}, {"waiting", l.Waiting}, {"times", l.Times}, {"more", l.More}} {
		if a.value != 0 {
			text += fmt.Sprintf(" %s=%d", a.key, a.value)
		}
	}
	return text
}

// checkSomeLosses compares the ledger, in no order.
func checkSomeLosses(t *testing.T, h *Hub, want ...string) {
	t.Helper()
	var got []string
	for _, l := range h.LossesSince(0, 1<<20) {
		got = append(got, lossText(l))
	}
	slices.Sort(got)
	slices.Sort(want)
	if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
}

// checkLosses compares the ledger, oldest first.
func checkLosses(t *testing.T, h *Hub, want ...string) {
	t.Helper()
	var got []string
	counts := map[string]uint64{}
	for _, l := range h.LossesSince(0, 1<<20) {
		got = append(got, lossText(l))
		counts[l.Why.String()] += max(1, uint64(l.Times), uint64(l.More))
		if age := time.Since(l.At); age < 0 || age > time.Hour || l.Lasted < 0 || l.Lasted > time.Hour {
			t.Errorf("%s: was %v ago, and lasted %v", lossText(l), age, l.Lasted)
		}
		if (l.Token > 0) != (l.What == LostHold && l.Kind == shard.Exclusive && l.More == 0) {
			t.Errorf("%s: token %d", lossText(l), l.Token)
		}
	}
	if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
	for why, n := range h.Stats().Losses {
		if n != counts[why] {
			t.Errorf("%s: %d are counted, %d are listed", why, n, counts[why])
		}
	}
}

// hears gives a stream input, in time of its own, and what comes of it to nobody.
func hears(st *Stream, in string) {
	rest, _, next := st.Advance([]byte(in), nil)
	for next == More || next == Early || next == Full {
		time.Sleep(time.Millisecond)
		rest, _, next = st.Advance(rest, nil)
	}
}

// What a client loses with its connection, in both protocols, and what it does not
// lose: what it has released itself.
func TestLossesOfAConnection(t *testing.T) {
	h := newHub(testConfig())
	a, b, c := newStream(h, "a:1", new(bell)), newStream(h, "b:2", new(bell)), newStream(h, "c:3", new(bell))
	advance(a, "iam deploy\ng x\ng y\nr y\nsg s\n")
	advance(b, "hello 2\n0 iam many\n1 g b1\n1 sg s\n2 g b2\n2 bye\n3 iam third\n3 gw 10000 x\n")
	advance(c, "gw 10000 x\n")
	a.Close()
	b.Close() // session 3 has been granted x by then
	c.Close() // and so has this one
	checkSomeLosses(t, h,
		`disconnect held exclusive "x" of a:1 client=deploy waiters=third,c:3 waiting=2`,
		`disconnect held shared "s" of a:1 client=deploy count=2`,
		`disconnect held exclusive "b1" of b:2#1 client=many#1`,
		`disconnect held shared "s" of b:2#1 client=many#1 count=1`,
		`disconnect held exclusive "x" of b:2#3 client=third waiters=c:3 waiting=1`,
		`disconnect held exclusive "x" of c:3`)
	h.Close()
}

// Why a wait was in vain, and who was waited for.
func TestLossesOfWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(testConfig())
		holder := newStream(h, "h:1", new(bell))
		hears(holder, "iam holder\ng x\nsg s\n")
		streams := make(map[string]*Stream)
		one := func(name, in string) *Stream {
			streams[name] = newStream(h, name, new(bell))
			hears(streams[name], in)
			return streams[name]
		}
		one("timeout:1", "gw 1000 x\n")
		one("timeout:2", "sgw 1 1000 s\n")
		one("granted:1", "gw 1000 y\n")
		one("refused:1", "gw 0 x\ng x\n") // neither waits
		time.Sleep(1100 * time.Millisecond)
		hears(streams["timeout:1"], "")
		hears(streams["timeout:2"], "")
		if l := h.LossesSince(0, 1); len(l) != 1 || l[0].Lasted < time.Second || l[0].Lasted > 2*time.Second {
			t.Errorf("%v", l)
		}
		two := one("cancel:1", "hello 2\n1 gw 1000 x\n1 cancel\n2 gw 1000 x\n2 bye\n3 gw 1000 x\n")
		two.Close()
		one("hangup:1", "gw 1000 x\n").HangUp()
		hears(streams["hangup:1"], "")
		one("backlog:1", "gw 1000 x\n"+strings.Repeat("ping\n", MaxBacklog/5+1))
		one("dead:1", "gw 1000 x\n").EndsFor(WhyDeadPeer)
		streams["dead:1"].Close()
		one("late:1", "gw 1000 x\n")
		time.Sleep(1100 * time.Millisecond)
		streams["late:1"].EndsFor(WhyKick) // its time was over before
		streams["late:1"].Close()
		one("drained:1", "gw 1000 x\n")
		h.Drain()
		hears(streams["drained:1"], "")
		holder.EndsFor(WhyShutdown)
		holder.EndsFor(WhyDisconnect) // who says it first is right
		for _, st := range streams {
			st.Close()
		}
		holder.Close()
		checkLosses(t, h,
			`wait_timeout waited exclusive "x" of timeout:1 holder=holder`,
			`wait_timeout waited shared "s" of timeout:2 holder=holder`,
			`wait_given_up waited exclusive "x" of cancel:1#1 holder=holder`,
			`wait_given_up waited exclusive "x" of cancel:1#2 holder=holder`,
			`wait_given_up waited exclusive "x" of cancel:1#3 holder=holder`,
			`wait_given_up waited exclusive "x" of hangup:1 holder=holder`,
			`wait_given_up waited exclusive "x" of backlog:1 holder=holder`,
			`dead_peer waited exclusive "x" of dead:1 holder=holder`,
			`wait_timeout waited exclusive "x" of late:1 holder=holder`,
			`shutdown waited exclusive "x" of drained:1 holder=holder`,
			`disconnect held exclusive "y" of granted:1`,
			`shutdown held exclusive "x" of h:1 client=holder`,
			`shutdown held shared "s" of h:1 client=holder count=1`)
		h.Close()
	})
}

// Refusals at a bound, of a client within a second, are one; those of others, at other
// bounds or later are others. What somebody else holds is none.
func TestLossesOfRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.Table = shard.Config{Locks: 3, LocksPerOwner: 2, Waiters: 1}
		h := newHub(cfg)
		a, b, c := newStream(h, "a:1", new(bell)), newStream(h, "b:1", new(bell)), newStream(h, "c:1", new(bell))
		d := newStream(h, "d:1", new(bell))
		hears(a, "g 1\ng 2\ng 3\ng 4\nsg 5\n") // of an owner
		hears(b, "g 3\ng 1\ng 6\nrl 1 1000 1 rate\ng 7\nsg 8\n")
		hears(c, "gw 100000 1\n")
		hears(d, "gw 100000 1\ng 9\n")
		time.Sleep(1100 * time.Millisecond)
		*a.turn, *b.turn = Turn{}, Turn{}
		hears(a, "g 10\n")
		hears(b, "g 11\n")
		checkLosses(t, h,
			`refused refused exclusive "3" of a:1 bound=too_many_locks_of_owner times=3`,
			`refused refused exclusive "6" of b:1 bound=too_many_locks times=4`,
			`refused refused exclusive "1" of d:1 bound=too_many_waiters times=1`,
			`refused refused exclusive "9" of d:1 bound=too_many_locks times=1`,
			`refused refused exclusive "10" of a:1 bound=too_many_locks_of_owner times=1`,
			`refused refused exclusive "11" of b:1 bound=too_many_locks times=1`)
		for _, st := range []*Stream{a, b, c, d} {
			st.Close()
		}
		h.Close()
	})
}

// Each bound has a name, which is a reason of refusals.
func TestBoundsHaveNames(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	for outcome, bound := range bounds {
		switch shard.Outcome(outcome) {
		case shard.Acquired, shard.Refused, shard.TimedOut, shard.Canceled, shard.Recovering:
			if bound != "" {
				t.Errorf("%v has the bound %s", shard.Outcome(outcome), bound)
			}
		default:
			if _, ok := h.Stats().Rejected[bound]; !ok {
				t.Errorf("%v has the bound %q, which is no reason", shard.Outcome(outcome), bound)
			}
		}
	}
	if _, ok := h.Stats().Rejected[boundNotAllowed]; !ok {
		t.Errorf("%s is no reason", boundNotAllowed)
	}
}

// A rate that is refused at a bound is one of the kind.
func TestLossesOfRates(t *testing.T) {
	cfg := testConfig()
	cfg.Share.Rates = 1
	h := newHub(cfg)
	a := newStream(h, "a:1", new(bell))
	advance(a, "rl 1 100000 1 x\nrl 1 100000 1 x\nrl 1 100000 1 y\n")
	checkLosses(t, h, `refused refused rate "y" of a:1 bound=share_of_rates times=1`)
	a.Close()
	h.Close()
}

// Who was kicked has lost what it held and what it waited for, and by whom is told.
func TestLossesOfKicks(t *testing.T) {
	h := NewHub(testConfig(), closer{})
	k := new(Stream)
	k.Begin(h, Address{Name: "k:1", Local: true}, carrierOf{k}, new(Turn))
	others := make([]*Stream, 3)
	for i := range others {
		others[i] = new(Stream)
		others[i].Begin(h, Address{Name: fmt.Sprint("o:", i)}, carrierOf{others[i]}, new(Turn))
	}
	advance(others[0], "g x\n")
	advance(others[1], "gw 10000 x\n")
	advance(others[2], "g y\n")
	advance(k, "kick o:1\nkick o:0\niam operator\nkick o:2\n")
	advance(k, "g own\nkick k:1\n") // lets go, as it wants
	checkLosses(t, h,
		`kick waited exclusive "x" of o:1 by=k:1 holder=o:0`,
		`kick held exclusive "x" of o:0 by=k:1`,
		`kick held exclusive "y" of o:2 by=k:1 (operator)`)
	k.Close()
	h.Close()
}

// carrierOf is the carrier of a stream, and closer a network that ends those at once.
type carrierOf struct{ *Stream }

func (carrierOf) Wake() {}

type closer struct{ noNetwork }

func (closer) Kick(c Carrier, _ Kick) { c.(carrierOf).Close() }

// Of a client that ends with very many locks the first are listed, and of the others
// how many there were, of each kind.
func TestLossesOfManyLocks(t *testing.T) {
	for _, n := range []int{mostNoted, mostNoted + 1, 10_000} {
		h := newHub(testConfig())
		h.ledger.rings[LostHold].limit = 64 << 20
		st := newStream(h, "a:1", new(bell))
		feedAll(t, st, []byte("hello 2\n"))
		var in strings.Builder
		for i := range n - 1 {
			fmt.Fprintf(&in, "%d g %d\n", i%3, i)
		}
		in.WriteString("1 sg s\n")
		feedAll(t, st, []byte(in.String()))
		st.Close()
		listed, more := 0, 0
		for _, l := range h.LossesSince(0, 1<<20) {
			switch {
			case l.More == 0:
				listed++
			case l.Name != "" || l.Address != "a:1":
				t.Errorf("%s", lossText(l))
			}
			more += l.More
		}
		if listed != mostNoted || more != n-mostNoted {
			t.Errorf("of %d there are %d listed, and %d more", n, listed, more)
		}
		if got := h.Stats(); got.Losses["disconnect"] != uint64(n) || got.Locks.Orphans[shard.Exclusive] != uint64(n-1) {
			t.Errorf("of %d there are %d counted", n, got.Losses["disconnect"])
		}
		h.Close()
	}
}

// A step of the end of a client that has many locks, with many who wait for each, is
// no longer than others.
func TestStepsOfLosses(t *testing.T) {
	h := newHub(testConfig())
	st := newStream(h, "a:1", new(bell))
	feedAll(t, st, []byte("hello 2\n"))
	var in strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&in, "0 g %d\n", i)
	}
	feedAll(t, st, []byte(in.String()))
	for held, steps := st.Held(), 0; ; steps++ {
		noted := h.LastLoss()
		done := st.CloseSome()
		if n := h.LastLoss() - noted; n > notedStep+128 {
			t.Fatalf("%d are noted in a step", n)
		}
		if left := st.Held(); held-left > closeStep+128 {
			t.Fatalf("%d are released in a step", held-left)
		} else {
			held = left
		}
		if done {
			break
		}
	}
	h.Close()
}

// Names of clients are cut, lock names are not.
func TestLossesCutClients(t *testing.T) {
	h := newHub(testConfig())
	long := strings.Repeat("n", 4000)
	a, b := newStream(h, "a:1", new(bell)), newStream(h, "b:1", new(bell))
	advance(a, "iam "+long+"\ng "+long+"\n")
	advance(b, "iam "+long+"\ngw 10000 "+long+"\n")
	a.Close()
	cut := strings.Repeat("n", lossNameBytes) + "..."
	checkLosses(t, h, fmt.Sprintf(`disconnect held exclusive %q of a:1 client=%s waiters=%s waiting=1`, long, cut, cut))
	b.Close()
	h.Close()
}

// The lines of `losses`, in both protocols.
func TestTextLosses(t *testing.T) {
	h := newHub(testConfig())
	a, b := newStream(h, "a:1", new(bell)), newStream(h, "b:1", new(bell))
	advance(a, "iam deploy, 17\ng x y\ng z\nsg x y\n")
	advance(b, "iam \"b\"\ngw 10000 x y\n")
	other := newStream(h, "c:1", new(bell))
	advance(other, "gw 10000 x y\n")
	a.Close()
	s := newStream(h, "s:1", new(bell))
	unchanging := func(in string) string {
		text := regexp.MustCompile(`\t\d+\t\d+\t(?:\d{15,16}|([012]))\t`).ReplaceAllString(string(feedAll(t, s, []byte(in))), "\tAGO\tLASTED\tTOKEN$1\t")
		return text
	}
	shared := "x y\t3\tshared\theld\tdisconnect\tAGO\tLASTED\tTOKEN1\ta:1\tdeploy, 17\t-\t0\t0\t-\t-\t-\t0\t-\t-\n"
	exclusive := "x y\tN\texclusive\theld\tdisconnect\tAGO\tLASTED\tTOKEN\ta:1\tdeploy, 17\t-\t0\t0\t-\t-\t-\t2\t\"\\\"b\\\"\",c:1\t-\n"
	number := regexp.MustCompile(`\t[12]\texclusive`)
	for in, want := range map[string]string{
		"losses 1\n":           shared + "1 End\n",
		"losses 100000 x y\n":  shared + exclusive + "1 End\n",
		"losses 2 z\n":         "z\tN\texclusive\theld\tdisconnect\tAGO\tLASTED\tTOKEN\ta:1\tdeploy, 17\t-\t0\t0\t-\t-\t-\t0\t-\t-\n1 End\n",
		"losses 100 nothing\n": "1 End\n",
		"losses 0\n":           "0 Invalid Argument: losses\n",
		"losses 100001\n":      "0 Invalid Argument: losses\n",
		"losses\n":             "0 Invalid Argument: losses\n",
		"losses x\n":           "0 Invalid Argument: losses\n",
	} {
		if got := number.ReplaceAllString(unchanging(in), "\tN\texclusive"); got != want {
			t.Errorf("%q is answered\n%q, want\n%q", in, got, want)
		}
	}
	feedAll(t, s, []byte("hello 2\n"))
	if got, want := unchanging("7 losses 1\n"), "7 - "+shared+"7 1 End\n"; got != want {
		t.Errorf("in protocol 2 it is %q, want %q", got, want)
	}
	for _, st := range []*Stream{b, other, s} {
		st.Close()
	}
	h.Close()
}

// A long list comes in pieces, and has each loss once.
func TestLongListOfLosses(t *testing.T) {
	h := newHub(testConfig())
	for i := range 10_000 {
		h.ledger.add(What(i)%whats, lostNamed(fmt.Sprint("a long name of a lock number ", i)))
	}
	kept, _ := h.Losses(0, 1<<20, nil)
	s := newStream(h, "s:1", new(bell))
	lines := strings.Split(strings.TrimSuffix(string(feedAll(t, s, []byte("losses 100000\n"))), "\n"), "\n")
	if len(lines) != len(kept)+1 || lines[len(kept)] != "1 End" {
		t.Fatalf("%d lines of %d losses", len(lines), len(kept))
	}
	for i, l := range kept {
		if !strings.HasPrefix(lines[i], l.Name+"\t") {
			t.Fatalf("line %d is %q, not of %q", i, lines[i], l.Name)
		}
	}
	s.Close()
	h.Close()
}

// Who may know of some names is told of those; where dumps are off nobody is told.
func TestLossesArePrivate(t *testing.T) {
	h := askingHub(everybody())
	a := askedStream(h, Address{Name: "a:1"}, new(bell))
	feedAll(t, a, []byte("auth a\n"))
	var in strings.Builder
	for i := range mostNoted {
		fmt.Fprintf(&in, "g b/%d\n", i)
	}
	feedAll(t, a, []byte("g a/1\nsg a/1\n"+in.String()+"g a/2\n"))
	a.Close()
	for token, want := range map[string]int{"r": mostNoted + 1, "a": mostNoted + 1, "ra": -1, "l": 0, "la": 0} {
		s := askedStream(h, Address{Name: "s:1"}, new(bell))
		feedAll(t, s, []byte("auth "+token+"\n"))
		got := string(feedAll(t, s, []byte("losses 100000\n")))
		switch lines := strings.Count(got, "\n") - 1; {
		case want == 0 && got != "0 Not Allowed: losses\n",
			want > 0 && lines < want,
			want < 0 && (strings.Contains(got, "b/") || strings.HasPrefix(got, "\t") || strings.Contains(got, "\n\t") || lines > 3):
			t.Errorf("%s is told %q", token, got)
		}
		if strings.HasPrefix(token, "r") && !strings.Contains(got, "\tl\t") && !strings.Contains(got, "\ta:1\t-\ta\t") {
			t.Errorf("%s is not told whose token it was: %q", token, got)
		}
		if got := string(feedAll(t, s, []byte("losses 5 b/1\n"))); token == "ra" && got != "0 Not Allowed: losses\n" {
			t.Errorf("%s is told of others' names: %q", token, got)
		}
		s.Close()
	}
	h.Close()

	cfg := testConfig()
	cfg.DisableDump = true
	off := newHub(cfg)
	b := newStream(off, "b:1", new(bell))
	advance(b, "g x\n")
	b.Close()
	s := newStream(off, "s:1", new(bell))
	script(t, s, "losses 5\nlosses 5 x\nlosses\n", "0 disabled\n0 disabled\n0 disabled\n")
	s.Close()
	off.Close()
}

// Who was granted a lock that it may not have any more has lost it.
func TestLossesOfAccess(t *testing.T) {
	who := everybody()
	h := askingHub(who)
	a, b := askedStream(h, Address{Name: "a:1"}, new(bell)), askedStream(h, Address{Name: "b:1"}, new(bell))
	advance(a, "auth a\ng a/x\n")
	advance(b, "auth la\ngw 10000 a/x\n")
	who["token la"].Replace(nil)
	advance(a, "r a/x\n")
	advance(b, "")
	checkLosses(t, h, `refused refused exclusive "a/x" of b:1 bound=not_allowed times=1`)
	a.Close()
	b.Close()
	h.Close()
}
