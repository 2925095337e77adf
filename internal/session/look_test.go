package session

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/nylen/lockd/internal/shard"
)

// Kick is for those on this machine; addresses are found whatever their kind.
func TestWhoMayKick(t *testing.T) {
	h, network := NewHub(testConfig(), noNetwork{}), &kicks{}
	h.network = network
	begin := func(a Address) *Stream {
		st := new(Stream)
		st.Begin(h, a, new(bell), new(Turn))
		return st
	}
	far := netip.MustParseAddrPort("10.0.0.1:5")
	remote := begin(Address{IP: far})
	local := begin(Address{Name: "unix:7", Local: true})
	defer local.Close()
	if out, next := advance(remote, "kick unix:7\n"); out != "0 Not Allowed: kick\n" || next != Idle {
		t.Errorf("%q, next is %d", out, next)
	}
	advance(remote, "g x\niam a name\n")
	out, next := advance(local, "kick 10.0.0.1:5\ni x\n")
	if out != "" || next != Waiting {
		t.Fatalf("%q, next is %d", out, next)
	}
	if want := (Kick{Client: "10.0.0.1:5", Name: "a name", By: "unix:7", ByName: "unix:7"}); network.last != want || network.carrier != remote.carrier {
		t.Errorf("%+v, want %+v", network.last, want)
	}
	// The one who is kicked goes on until its connection ends, and so long there
	// is no reply.
	if out, _ := advance(remote, "sg y\n"); out != "1 Shared Lock Get Success: y\n" {
		t.Errorf("%q", out)
	}
	if rung := local.carrier.(*bell).rung.Load(); rung != 0 {
		t.Errorf("woken %d times", rung)
	}
	remote.Close()
	if rung := local.carrier.(*bell).rung.Load(); rung != 1 {
		t.Errorf("woken %d times, want once", rung)
	}
	if out, next := advance(local, ""); out != "1 Kicked: 10.0.0.1:5\n" || next != Waiting && next != Idle {
		t.Errorf("%q, next is %d", out, next)
	}
}

type kicks struct {
	noNetwork
	carrier Carrier
	last    Kick
}

func (n *kicks) Kick(c Carrier, k Kick) { n.carrier, n.last = c, k }

// Many clients, and an address that is on a later page of the directory.
func TestKickFindsAnybody(t *testing.T) {
	h := newHub(testConfig())
	var all []*Stream
	for i := range 3 << pageBits {
		st := new(Stream)
		st.Begin(h, Address{IP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1}), uint16(i)), Local: true}, new(bell), new(Turn))
		all = append(all, st)
	}
	for _, i := range []int{1, 1 << pageBits, 3<<pageBits - 1} {
		advance(all[i], "g x\n")
		out, next := advance(all[0], fmt.Sprintf("kick 127.1.0.0:%d\n", i))
		if out != "" || next != Waiting {
			t.Fatalf("%d: %q, next is %d", i, out, next)
		}
		all[i].Close()
		if out, _ := advance(all[0], "i x\n"); out != fmt.Sprintf("1 Kicked: 127.1.0.0:%d\n0 Lock Not Locked: x\n", i) {
			t.Fatalf("%d: %q", i, out)
		}
	}
	if out, _ := advance(all[0], "kick 127.2.0.0:1\n"); out != "0 No Such Client: 127.2.0.0:1\n" {
		t.Errorf("%q", out)
	}
}

// Who kicks himself has let go of everything by the reply, sessions that wait
// included.
func TestKickOneself(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	begin := func(name string) *Stream {
		st := new(Stream)
		st.Begin(h, Address{Name: name, Local: true}, new(bell), new(Turn))
		return st
	}
	a, b := begin("a:1"), begin("b:1")
	advance(b, "g y\n")
	advance(a, "hello 2\n0 g x\n3 g z\n4 gw 60000 y\n0 gw 60000 y\n")
	if out, next := advance(a, "5 kick a:1\n6 ping\n"); out != "5 1 Kicked: a:1\n" || next != Closing {
		t.Errorf("%q, next is %d", out, next)
	}
	if out, _ := advance(b, "look*\n"); strings.Count(out, "\n") != 2 || !strings.HasPrefix(out, "y\texclusive\theld\t") {
		t.Errorf("%q", out)
	}
	a.Close()
}

// The end of a client that kicks itself is bounded work at a time, however many
// sessions it has, and all that they held it has let go.
func TestKickOneselfIsBounded(t *testing.T) {
	cfg := testConfig()
	cfg.MaxSessions = 10000
	h := newHub(cfg)
	st := newStream(h, "a:1", new(bell))
	advance(st, "hello 2\n")
	const sessions = 3000
	for i := range sessions {
		feedAll(t, st, fmt.Appendf(nil, "%d g %d\n", i, i))
	}
	steps := 1
	for before := len(st.sessions); !st.letGoSome(); steps++ {
		if ended := before - len(st.sessions); ended > closeStep {
			t.Fatalf("%d sessions at once", ended)
		}
		before = len(st.sessions)
	}
	if n := h.Stats().Locks; steps < 3 || n.LetGo[shard.Exclusive] != sessions || n.Orphans[shard.Exclusive] > 0 {
		t.Errorf("%d steps, %d let go, %d orphans", steps, n.LetGo[shard.Exclusive], n.Orphans[shard.Exclusive])
	}
	st.Close()
}

// A list of many and long lines comes in pieces, each of bounded size.
func TestLookIsBounded(t *testing.T) {
	cfg := testConfig()
	cfg.MaxLine, cfg.MaxOutput = 4096, 4096
	h := newHub(cfg)
	a, b := newStream(h, "a", nil), newStream(h, "b", nil)
	defer a.Close()
	defer b.Close()
	long := strings.Repeat("n", 3000)
	feedAll(t, a, []byte("iam "+long+"\n"))
	const locks = 300
	for i := range locks {
		feedAll(t, a, fmt.Appendf(nil, "g %04d%s\n", i, long))
	}
	lines := 0
	in := []byte("look*\n")
	for {
		var out []byte
		var next Next
		in, out, next = b.Advance(in, nil)
		if len(out) > cfg.MaxOutput+pieceBytes+2*cfg.MaxLine+200 {
			t.Fatalf("%d bytes at once", len(out))
		}
		lines += strings.Count(string(out), "\n")
		if next == Idle {
			break
		}
		b.Rest()
	}
	if lines != locks+1 {
		t.Errorf("%d lines", lines)
	}
}

// An address may be written in any way, whether anybody has seen it as text or not.
func TestKickHoweverWritten(t *testing.T) {
	h := newHub(testConfig())
	begin := func(a Address) *Stream {
		st := new(Stream)
		st.Begin(h, a, new(bell), new(Turn))
		t.Cleanup(st.Close)
		return st
	}
	by := begin(Address{Name: "unix:1", Local: true})
	kick := func(addr string) (string, Next) { return advance(by, "kick "+addr+"\n") }
	for addr, written := range map[string][]string{
		"127.0.0.1:5":      {"127.0.0.1:5", "[::ffff:127.0.0.1]:5"},
		"[::1]:5":          {"[::1]:5", "[0:0:0:0:0:0:0:1]:5", "[0::1]:5"},
		"[fe80::1%eth0]:5": {"[fe80::1%eth0]:5", "[FE80::1%eth0]:5"},
	} {
		for _, seen := range []bool{false, true} {
			for _, w := range written {
				st := new(Stream)
				st.Begin(h, Address{IP: netip.MustParseAddrPort(addr)}, new(bell), new(Turn))
				if seen {
					advance(st, "me\n")
				}
				if out, next := kick(w); out != "" || next != Waiting {
					t.Fatalf("%s, seen %t: %q", w, seen, out)
				}
				st.Close()
				if out, _ := advance(by, ""); out != "1 Kicked: "+w+"\n" {
					t.Errorf("%s, seen %t: %q", w, seen, out)
				}
			}
		}
	}
	// What is no address is nobody's, nor is that of another interface.
	begin(Address{IP: netip.MustParseAddrPort("[fe80::1%eth0]:5")})
	for _, addr := range []string{"", "0.0.0.0:0", "[::]:0", "[fe80::1]:5", "[fe80::1%eth1]:5", "127.0.0.1"} {
		if out, _ := kick(addr); out != "0 No Such Client: "+addr+"\n" {
			t.Errorf("%q", out)
		}
	}
}
