package session

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// oneTurn is one turn, with input.
func oneTurn(s *Stream, in string) (rest int, out string, next Next) {
	left, replies, next := s.Advance([]byte(in), nil)
	return len(left), string(replies), next
}

// In these tests time stands still while anything runs: on a machine that is busy the
// turns before the answer take longer than that.

// A wrong token is answered late, and what was sent behind it after that.
func TestDenialIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := askingHub(everybody())
		defer h.Close()
		b := new(bell)
		s := askedStream(h, Address{Name: "c:1"}, b)
		began := time.Now()
		if rest, out, next := oneTurn(s, "auth wrong\nping\n"); rest != len("ping\n") || out != "" || next != Waiting {
			t.Fatalf("%d %q %v", rest, out, next)
		}
		// Whatever wakes it does not make it earlier.
		s.post(&s.main)
		if rest, out, next := oneTurn(s, "ping\n"); rest != len("ping\n") || out != "" || next != Waiting {
			t.Fatalf("%d %q %v", rest, out, next)
		}
		other := askedStream(h, Address{Name: "c:2"}, new(bell))
		script(t, other, "auth l\ng x\n", "1 ok\n1 Lock Get Success: x\n")
		if got := awaitDenial(t, s, b); got != wire.AuthFailed {
			t.Errorf("%q", got)
		}
		if took := time.Since(began); took < denialTakes {
			t.Errorf("after %v", took)
		}
		if b.rung.Load() == 0 {
			t.Error("its carrier was not woken")
		}
		script(t, s, "ping\nauth l\n", "1 pong\n1 ok\n")
		if n := h.Stats().Rejected["auth_failed"]; n != 1 {
			t.Errorf("%d were counted", n)
		}
		s.Close()
		other.Close()
	})
}

// In protocol 2 other sessions go on, but none tries another token meanwhile: not
// even a right one, or its reply would tell that the others are wrong.
func TestDenialOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := askingHub(everybody())
		defer h.Close()
		b := new(bell)
		s := askedStream(h, Address{Name: "c:1"}, b)
		script(t, s, "hello 2\n0 auth l\n", "2 lockd \n0 1 ok\n")
		script(t, s, "5 auth wrong\n6 i x\n5 i x\n5 cancel\n5 bye\n6 auth wrong\n6 auth l\n0 auth\n7 ping\n",
			"6 0 Lock Not Locked: x\n5 0 Session Busy: i\n5 0 Session Busy: cancel\n5 0 Session Busy: bye\n"+
				"6 0 Session Busy: auth\n6 0 Session Busy: auth\n0 0 Session Busy: auth\n7 1 pong\n")
		if got := awaitDenial(t, s, b); got != "5 "+wire.AuthFailed {
			t.Errorf("%q", got)
		}
		script(t, s, "6 auth r\n5 i x\n5 g x\n5 bye\n", "6 1 ok\n5 0 Lock Not Locked: x\n5 0 Not Allowed: g\n5 1 bye\n")
		s.Close()
	})
}

// Who sends wrong tokens as fast as it can has one tried after another, and what it
// may send behind one is bounded: beyond that nothing is kept, and the answer is
// the last one. It does not come earlier by that.
func TestDenialAndTooMuchBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := askingHub(everybody())
		defer h.Close()
		b := new(bell)
		s := askedStream(h, Address{Name: "c:1"}, b)
		began := time.Now()
		flood := strings.Repeat("auth wrong\n", MaxBacklog/len("auth wrong\n")+2)
		if rest, out, next := oneTurn(s, flood); rest != 0 || out != "" || next != Waiting {
			t.Fatalf("%d %q %v", rest, out, next)
		}
		for range 100 {
			if rest, out, next := oneTurn(s, flood); rest != 0 || out != "" || next != Waiting {
				t.Fatalf("%d %q %v", rest, out, next)
			}
		}
		for {
			_, out, next := oneTurn(s, "")
			if out == "" && next == Waiting {
				time.Sleep(time.Millisecond)
				continue
			}
			if out != wire.AuthFailed || next != Closing {
				t.Errorf("%q %v", out, next)
			}
			break
		}
		if took := time.Since(began); took < denialTakes {
			t.Errorf("after %v", took)
		}
		if n := h.Stats().Rejected["auth_failed"]; n != 1 {
			t.Errorf("%d were counted", n)
		}
		s.Close()

		// Just within the bound.
		s = askedStream(h, Address{Name: "c:1"}, b)
		pings := strings.Repeat("ping\n", (MaxBacklog-1)/len("ping\n"))
		rest, out, next := oneTurn(s, "auth wrong\n"+pings)
		if rest != len(pings) || out != "" || next != Waiting {
			t.Fatalf("%d %q %v", rest, out, next)
		}
		if got := awaitDenial(t, s, b); got != wire.AuthFailed {
			t.Errorf("%q", got)
		}
		if _, out, next := oneTurn(s, pings); next != Full && next != Idle || !strings.HasPrefix(out, wire.Pong) {
			t.Errorf("%q %v", out[:min(len(out), 20)], next)
		}
		s.Close()
	})
}

// Who has closed its side is told, too, in both protocols.
func TestDenialAfterHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, two := range []bool{false, true} {
			h := askingHub(everybody())
			defer h.Close()
			b := new(bell)
			s := askedStream(h, Address{Name: "c:1"}, b)
			want := wire.AuthFailed
			if two {
				feedAll(t, s, []byte("hello 2\n"))
				want = "5 " + want
				oneTurn(s, "5 auth wrong\n")
			} else {
				oneTurn(s, "auth wrong\n")
			}
			s.HangUp()
			if _, out, next := oneTurn(s, ""); out != "" || next != Waiting {
				t.Fatalf("%v: %q %v", two, out, next)
			}
			if got := awaitDenial(t, s, b); got != want {
				t.Errorf("%v: %q", two, got)
			}
			if _, out, next := oneTurn(s, ""); out != "" || next != Idle {
				t.Errorf("%v: %q %v", two, out, next)
			}
			s.Close()
		}
	})
}

// A stream that ends meanwhile tells nobody anything.
func TestDenialAndTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := askingHub(everybody())
		defer h.Close()
		s := askedStream(h, Address{Name: "c:1"}, new(bell))
		oneTurn(s, "auth wrong\n")
		timer := s.main.wait.denial.timer
		s.Close()
		if timer.Stop() {
			t.Error("its timer runs on")
		}
		if n := h.Stats().Sessions; n != 0 {
			t.Errorf("%d sessions", n)
		}
	})
}
