package session

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// A partition is a network that believes of some carriers that their clients are
// gone, and is asked for so many looks.
type partition struct {
	noNetwork
	gone  map[Carrier]bool
	looks int
}

func (n *partition) Gone(carriers []Carrier) int {
	n.looks++
	for i, c := range carriers {
		if n.gone[c] {
			return i
		}
	}
	return -1
}

// postponedFor is for how long requests are here: on a busy machine the usual time can be
// over before a test has seen that they are.
const postponedFor = time.Minute

// party makes a hub and n streams with carriers of their own, whose turns allow
// looks.
func party(n, looks int) (*Hub, *partition, []*Stream) {
	p := &partition{gone: make(map[Carrier]bool)}
	cfg := testConfig()
	cfg.Postpone = postponedFor
	h := NewHub(cfg, p)
	var all []*Stream
	for i := range n {
		st := new(Stream)
		st.Begin(h, Address{Name: fmt.Sprint("s:", i)}, new(bell), &Turn{Looks: looks})
		all = append(all, st)
	}
	return h, p, all
}

// advance gives a stream input and returns what comes out and what comes next.
func advance(st *Stream, in string) (string, Next) {
	rest, out, next := st.Advance([]byte(in), nil)
	for next == More { // a long reply, on a busy machine
		rest, out, next = st.Advance(rest, out)
	}
	return string(out), next
}

// A request that is in vain because of somebody who is gone waits for that one's
// end, and counts once.
func TestRequestsWaitForWhoIsGone(t *testing.T) {
	for _, c := range []struct{ request, want string }{
		{"g x", "1 Lock Get Success: x\n"},
		{"gw 0 x", "1 Lock Get Success: x\n"},
		{"i x", "0 Lock Not Locked: x\n"},
		{"sg x", "1 Shared Lock Get Success: x\n"},
		{"sgl 1 x", "1 Shared Lock Get Success: x\n"},
		{"sgl 5 x", "1 Shared Lock Get Success: x\n"},
		{"sgw 1 0 x", "1 Shared Lock Get Success: x\n"},
		{"si x", "0 Shared Lock Not Locked: x\n"},
	} {
		for _, two := range []bool{false, true} {
			h, network, all := party(2, 100)
			a, b := all[0], all[1]
			advance(a, "g x\nsg x\n")
			request, want := c.request, c.want
			if two {
				advance(b, "hello 2\n")
				request, want = "7 "+request, "7 "+want
			}
			before := h.Stats()
			network.gone[a.carrier] = true
			if out, next := advance(b, request+"\n0 ping\n"); out != "" || next != Waiting {
				t.Fatalf("%s: %q, next is %d", request, out, next)
			}
			a.Close()
			if rung := b.carrier.(*bell).rung.Load(); rung != 1 {
				t.Errorf("%s: woken %d times", request, rung)
			}
			out, next := advance(b, "")
			if two {
				out = strings.Replace(steady([]byte(out)), "TOKEN", "1", 1)
			}
			if out != want || next != Idle {
				t.Errorf("%s: %q, next is %d", request, out, next)
			}
			after := h.Stats()
			verb, _, _ := strings.Cut(c.request, " ")
			if n := after.Commands[verb] - before.Commands[verb]; n != 1 {
				t.Errorf("%s counts as %d", request, n)
			}
			var outcomes uint64
			for kind := range shard.Kinds {
				for o := range shard.Outcomes {
					outcomes += after.Locks.Acquire[kind][o] - before.Locks.Acquire[kind][o]
				}
			}
			if asks := verb == "i" || verb == "si"; outcomes != 1 && !asks || outcomes != 0 && asks {
				t.Errorf("%s has %d outcomes", request, outcomes)
			}
			b.Close()
		}
	}
}

// Who is believed to be gone, and is not, delays a request for a time;
// what is behind the request comes after it.
func TestWaitForWhoIsGoneEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, network, all := party(2, 100)
		a, b := all[0], all[1]
		advance(a, "g x\n")
		network.gone[a.carrier] = true
		rest, out, next := b.Advance([]byte("g x\nping\n"), nil)
		if string(rest) != "ping\n" || len(out) > 0 || next != Waiting {
			t.Fatalf("%q, %q, next is %d", rest, out, next)
		}
		time.Sleep(postponedFor - time.Nanosecond)
		synctest.Wait()
		if _, out, next := b.Advance(bytes.Clone(rest), nil); len(out) > 0 || next != Waiting {
			t.Errorf("before its time: %q, next is %d", out, next)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if _, out, next := b.Advance(rest, nil); string(out) != "0 Lock Get Failure: x\n1 pong\n" || next != Idle {
			t.Errorf("%q, next is %d", out, next)
		}
		b.Close()
		a.Close()
	})
}

// A client that sends much behind such a request has its answer at once.
func TestWaitForWhoIsGoneIsGivenUp(t *testing.T) {
	_, network, all := party(2, 100)
	a, b := all[0], all[1]
	defer a.Close()
	defer b.Close()
	advance(a, "g x\n")
	network.gone[a.carrier] = true
	in := "g x\n" + strings.Repeat("ping\n", MaxBacklog/5+1)
	rest, out, next := b.Advance([]byte(in), nil)
	if want := "0 Lock Get Failure: x\n1 pong\n"; !strings.HasPrefix(string(out), want) || next != Full {
		t.Errorf("%.50q, next is %d, %d bytes left", out, next, len(rest))
	}
	for len(rest) > 0 {
		rest, _, _ = b.Advance(rest, nil)
	}
}

// Who is gone and was the first to wait for a shared lock keeps nobody from it.
func TestFirstInLineIsGone(t *testing.T) {
	for _, request := range []string{"sgl 5 x\n", "sgw 5 0 x\n"} {
		h, network, all := party(3, 100)
		defer h.Close()
		a, b, c := all[0], all[1], all[2]
		advance(a, "sg x\n")
		advance(c, "sgw 1 1000 x\n")
		if out, next := advance(b, request); !strings.HasPrefix(out, "0 Shared") || next != Idle {
			t.Errorf("while somebody waits: %q, next is %d", out, next)
		}
		network.gone[c.carrier] = true
		b.turn.Begin(100)
		if out, next := advance(b, request); out != "" || next != Waiting {
			t.Errorf("%q, next is %d", out, next)
		}
		c.Close()
		if out, next := advance(b, ""); out != "2 Shared Lock Get Success: x\n" || next != Idle {
			t.Errorf("%q, next is %d", out, next)
		}
		a.Close()
		b.Close()
	}
}

// A client that closes its side waits for who is gone: also
// with what it asks after that, but for no lock.
func TestHalfClosedWaitsForWhoIsGone(t *testing.T) {
	_, network, all := party(3, 100)
	a, b, c := all[0], all[1], all[2]
	advance(a, "g x\n")
	advance(c, "sg y\ng z\n")
	network.gone[a.carrier], network.gone[c.carrier] = true, true
	rest, out, next := b.Advance([]byte("i x\nsi y\ngw 1000 z\ngw 1000 z\n"), nil)
	if len(out) > 0 || next != Waiting {
		t.Fatalf("%q, next is %d", out, next)
	}
	b.HangUp()
	if rest, out, next = b.Advance(rest, nil); len(out) > 0 || next != Waiting {
		t.Errorf("%q, next is %d", out, next)
	}
	a.Close()
	if rest, out, next = b.Advance(rest, nil); string(out) != "0 Lock Not Locked: x\n" || next != Waiting {
		t.Errorf("%q, next is %d", out, next)
	}
	c.Close()
	want := "0 Shared Lock Not Locked: y\n1 Lock Get Success: z\n1 Lock Get Success: z\n"
	if _, out, next = b.Advance(rest, nil); string(out) != want || next != Idle {
		t.Errorf("%q, next is %d", out, next)
	}
	b.Close()
}

// Who asks all the time has so many looks a turn, and no more, and one at each
// carrier.
func TestLooksAreBounded(t *testing.T) {
	const looks = 3
	_, network, all := party(8, looks)
	b := all[0]
	for i, st := range all[1:] {
		advance(st, fmt.Sprintf("g %d\n", i))
	}
	for range 5 {
		advance(b, "g 0\ni 0\ng 0\n")
	}
	if network.looks != 1 {
		t.Errorf("%d looks at somebody who is there", network.looks)
	}
	advance(b, "g 1\ng 2\ng 3\ng 4\ng 5\n")
	if network.looks != looks {
		t.Errorf("%d looks in a turn", network.looks)
	}
	network.gone[all[1].carrier] = true
	b.turn.Begin(1)
	if out, next := advance(b, "g 0\n"); out != "" || next != Waiting {
		t.Errorf("in the next turn: %q, next is %d", out, next)
	}
	b.endPostponed()
	// Nor does it find out who is in the way for more than so many.
	b.turn.Begin(looks)
	for range maxAsked {
		advance(b, "g 1\n")
	}
	if out, _ := advance(b, "g 0\n"); out != "0 Lock Get Failure: 0\n" {
		t.Errorf("after %d requests: %q", maxAsked, out)
	}
	for _, st := range all {
		st.Close()
	}
	// Who has been found to be gone in a turn is not looked at again, either.
	_, network, all = party(8, 1)
	for _, st := range all[1:] {
		st.turn = all[0].turn
	}
	all[0].turn.Looks = 0
	advance(all[0], "g x\n")
	network.gone[all[0].carrier] = true
	all[0].turn.Begin(2)
	for i, st := range all[1:] {
		if out, next := advance(st, "g x\n"); out != "" || next != Waiting {
			t.Errorf("client %d: %q, next is %d", i, out, next)
		}
	}
	if network.looks != 1 {
		t.Errorf("%d looks at somebody who is gone", network.looks)
	}
	for _, st := range all {
		st.Close()
	}
	// A look at many holders is one, at so many of them.
	h, network, all := party(maxLook+20, 1)
	for _, st := range all[1:] {
		st.turn.Looks = 0
		advance(st, "sg x\n")
	}
	network.gone[all[maxLook+10].carrier] = true // too far behind
	if out, _ := advance(all[0], "sg x\n"); out != fmt.Sprintf("%d Shared Lock Get Success: x\n", maxLook+20) || network.looks != 1 {
		t.Errorf("%q after %d looks", out, network.looks)
	}
	for _, st := range all {
		st.Close()
	}
	h.Close()
}

// Whoever looks for those in the way and finds fewer than there were, or one who
// has just ended, asks again at once.
func TestHolderEndsBeforeTheLook(t *testing.T) {
	h, network, all := party(2, 100)
	a, b := all[0], all[1]
	defer b.Close()
	advance(a, "sg x\n")
	if !b.main.othersAreGone(shard.Exclusive, []byte("nobody"), 1) || !b.Settles() {
		t.Error("a lock that was in the way, and is not, is not asked for again")
	}
	b.endPostponed()
	b.Settle(nil)
	h.network = &ender{partition: network, end: a}
	if out, next := advance(b, "sg x\n"); out != "1 Shared Lock Get Success: x\n" || next != Idle {
		t.Errorf("%q, next is %d", out, next)
	}
	// Also when its descriptor is another connection's by then.
	h, network, all = party(2, 100)
	a, c := all[0], all[1]
	defer c.Close()
	advance(a, "g x\n")
	h.network = &ender{partition: network, end: a, reused: true}
	if out, next := advance(c, "g x\n"); out != "1 Lock Get Success: x\n" || next != Idle {
		t.Errorf("%q, next is %d", out, next)
	}
}

// An ender ends a stream just when somebody looks at it.
type ender struct {
	*partition
	end    *Stream
	reused bool // and gives its descriptor to somebody who is there
}

func (n *ender) Gone(carriers []Carrier) int {
	n.end.Close()
	n.gone[n.end.carrier] = !n.reused
	return n.partition.Gone(carriers)
}

// Who is gone and does not end keeps nobody who has waited for that.
func TestNobodyIsKeptByWhoDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, network, all := party(3, 1<<20)
		a, b, c := all[0], all[1], all[2]
		advance(a, "g x\n")
		network.gone[a.carrier] = true
		for range 20 {
			advance(b, "g x\n")
			advance(c, "i x\n")
			time.Sleep(2 * postponedFor)
			synctest.Wait()
			advance(b, "")
			advance(c, "")
		}
		advance(b, "g x\n")
		b.Close()
		c.Close()
		if n := len(a.main.peer.watchers); n > 0 {
			t.Errorf("%d sessions are kept", n)
		}
		a.Close()
	})
}

// Who is gone and does not end delays one request, and not each, however many
// sessions it has.
func TestWhoDoesNotEndDelaysOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, network, all := party(2, 100)
		a, b := all[0], all[1]
		defer a.Close()
		defer b.Close()
		advance(a, "hello 2\n1 g x\n")
		time.Sleep(time.Millisecond) // until the token's time
		advance(a, "2 g y\n")
		network.gone[a.carrier] = true
		for range 2 {
			if out, next := advance(b, "g x\n"); out != "" || next != Waiting {
				t.Errorf("%q, next is %d", out, next)
			}
			time.Sleep(postponedFor)
			synctest.Wait()
			for range 3 {
				if out, next := advance(b, "i x\ni y\n"); !strings.HasSuffix(out, "1 Lock Is Locked: x\n1 Lock Is Locked: y\n") || next != Idle {
					t.Errorf("%q, next is %d", out, next)
				}
			}
			time.Sleep(lingering)
		}
	})
}
