package session

import "testing"

// A request that was postponed is made again like one that comes now.
func TestPostponedWhileTheServerDrains(t *testing.T) {
	for _, c := range []struct{ held, request, reply string }{
		{"g x", "g x", "0 Shutting Down: x\n"},
		{"g x", "gw 0 x", "0 Shutting Down: x\n"},
		{"g x", "i x", "0 Lock Not Locked: x\n"},
		{"sg x", "sgl 1 x", "0 Shutting Down: x\n"},
		{"sg x", "si x", "0 Shared Lock Not Locked: x\n"},
	} {
		h, net, all := party(2, 32)
		advance(all[0], c.held+"\n")
		net.gone[all[0].carrier] = true
		if out, next := advance(all[1], c.request+"\n"); out != "" || next != Waiting {
			t.Fatalf("%s: got %q, %v: it is not postponed", c.request, out, next)
		}
		h.Drain()
		if out, next := advance(all[1], ""); out != "" || next != Waiting {
			t.Errorf("%s: got %q, %v before its time", c.request, out, next)
		}
		all[0].Close()
		if out, _ := advance(all[1], ""); out != c.reply {
			t.Errorf("%s: got %q, not %q", c.request, out, c.reply)
		}
		all[1].Close()
		h.Close()
	}
}

// A wait that was granted before the server drained is a grant: also over a unix
// socket, where the user might say who the client is, if anybody asked.
func TestGrantedBeforeTheServerDrains(t *testing.T) {
	h, _, all := party(3, 32)
	all[1].Close()
	all[1] = new(Stream)
	all[1].Begin(h, Address{Name: "unix:1", Process: testProcess{4711, 0, "p"}}, new(bell), &Turn{Looks: 32})
	advance(all[0], "g x\n")
	advance(all[1], "gw 1000 x\n")
	advance(all[2], "gw 1000 x\n")
	advance(all[0], "r x\n")
	h.Drain()
	if out, next := advance(all[1], ""); out != "1 Lock Get Success: x\n" || next != Idle {
		t.Errorf("got %q, %v", out, next)
	}
	if out, next := advance(all[2], ""); out != "0 Shutting Down: x\n" || next != Last {
		t.Errorf("got %q, %v", out, next)
	}
	for _, st := range all {
		st.Close()
	}
	h.Close()
}

// Who has come late may ask until it wants more, or until the end.
func TestLateStreams(t *testing.T) {
	h, _, all := party(1, 32)
	all[0].Close()
	h.Drain()
	late := func() *Stream {
		st := new(Stream)
		st.ComesLate()
		st.Begin(h, Address{Name: "late"}, new(bell), &Turn{Looks: 32})
		return st
	}
	asks, wants := late(), late()
	for _, c := range []struct {
		st          *Stream
		in          string
		reply       string
		next, again Next
	}{
		{asks, "", "", Idle, Idle},
		{asks, "ping\n", "1 pong\n", Idle, Idle},
		{wants, "i x\n", "0 Lock Not Locked: x\n", Idle, Idle},
		{wants, "g x\n", "0 Shutting Down: x\n", Last, Last},
	} {
		if out, next := advance(c.st, c.in); out != c.reply || next != c.next {
			t.Errorf("%q: got %q, %v", c.in, out, next)
		}
		if out, next := advance(c.st, ""); out != "" || next != c.again {
			t.Errorf("after %q: got %q, %v", c.in, out, next)
		}
	}
	h.End()
	if _, next := advance(asks, "ping\n"); next != Last {
		t.Errorf("at the end: %v", next)
	}
	asks.Close()
	wants.Close()
	h.Close()
}
