package session

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// authority knows tokens, certificates and users by their names.
type authority map[string]*Access

func (a authority) Token(token []byte) *Access { return a["token "+string(token)] }
func (a authority) Cert(name string) *Access   { return a["cert "+name] }
func (a authority) UID(uid uint32) *Access     { return a[fmt.Sprint("uid ", uid)] }

// everybody has one of each kind.
func everybody() authority {
	return authority{
		"token l":  {Name: "l", Role: RoleLock},
		"token la": {Name: "la", Role: RoleLock, Prefix: "a/"},
		"token r":  {Name: "r", Role: RoleRead},
		"token ra": {Name: "ra", Role: RoleRead, Prefix: "a/"},
		"token a":  {Name: "a", Role: RoleAdmin},
	}
}

func askingHub(a Authority) *Hub {
	cfg := testConfig()
	cfg.Authority = a
	return newHub(cfg)
}

func askedStream(h *Hub, addr Address, c Carrier) *Stream {
	st := new(Stream)
	addr.Asks = true
	st.Begin(h, addr, c, new(Turn))
	return st
}

// roleVerbs is who may what, as docs/protocol.md says.
var roleVerbs = map[Role]string{
	RoleLock: "g r i sg sr si gw sgl sgw cancel t rl ri me iam look map keep resume claim claims claimed auth hello ping bye limits",
	RoleRead: "i si ri d sd dump who q look look* losses top clients stats map me auth hello ping bye limits",
	0:        "auth hello ping bye limits", // before any
}

// What each role may do, in both protocols, and what who has said nothing may.
func TestRoles(t *testing.T) {
	h := askingHub(everybody())
	defer h.Close()
	tokens := map[Role]string{0: "", RoleLock: "l", RoleRead: "r", RoleAdmin: "a"}
	for role, token := range tokens {
		for _, v := range Verbs() {
			may := role == RoleAdmin || slices.Contains(strings.Fields(roleVerbs[role]), v.Word)
			want := wire.NotAuthenticated
			if role != 0 {
				want = "0 Not Allowed: " + v.Word + "\n"
			}
			for _, line := range []string{v.Word + " 2", v.Word} { // the second is malformed for some
				for _, two := range []bool{false, true} {
					if v.Sessions && !two {
						continue
					}
					s := askedStream(h, Address{Name: "c:1"}, new(bell))
					script, want := "", want
					if token != "" {
						script = "auth " + token + "\n"
					}
					if two {
						script += "hello 2\n"
					}
					feedAll(t, s, []byte(script))
					request := line
					if two {
						request, want = "7 "+line, "7 "+want
					}
					if got := string(feedAll(t, s, []byte(request+"\n"))); (got == want) == may {
						t.Errorf("role %v, protocol 2 %v: %q is answered %q; it may: %v", role, two, line, got, may)
					}
					s.Close()
				}
			}
		}
	}
}

// A row that takes the name of a lock says so, or that it takes another name; so
// none is open by mistake to an access with a prefix.
func TestRowsOfNames(t *testing.T) {
	for _, c := range commands {
		if c.roles == anybody || c.roles == adminOnly {
			continue
		}
		if name, self := c.flags&ofName != 0, c.flags&ofSelf != 0; name && self || c.rest == aName && name == self {
			t.Errorf("%s: ofName %v, ofSelf %v", c.verb, name, self)
		}
	}
}

// An access with a prefix is for names that begin so.
func TestPrefix(t *testing.T) {
	h := askingHub(everybody())
	defer h.Close()
	admin := askedStream(h, Address{Name: "admin:1"}, new(bell))
	feedAll(t, admin, []byte("auth a\ng b\ng a/taken\n"))
	for _, c := range []struct {
		token, line string
		may         bool
	}{
		{"la", "g a/x", true}, {"la", "g a/", true}, {"la", "  g \t a/  x ", true},
		{"la", "g a", false}, {"la", "g", false}, {"la", "g b", false}, {"la", "g A/x", false}, {"la", "g a /x", false}, {"la", "g \x00a/", false},
		{"la", "r b", false}, {"la", "i b", false}, {"la", "si b", false}, {"la", "sg b", false}, {"la", "sr b", false},
		{"la", "gw 0 b", false}, {"la", "sgl 1 b", false}, {"la", "sgw 1 0 b", false}, {"la", "rl 1 1 1 b", false}, {"la", "ri 1 1 b", false}, {"la", "t b", false},
		{"la", "gw 0 a/x", true}, {"la", "sgl 1 a/x", true}, {"la", "sgw 1 0 a/x", true}, {"la", "rl 1 1 1 a/x", true}, {"la", "ri 1 1 a/x", true}, {"la", "t a/x", true},
		{"la", "gw 0", false}, {"la", "gw x b", true}, // which is malformed, and about no name
		{"la", "look b", false}, {"la", "look a/taken", true}, {"la", "look a", false},
		{"la", "me", true}, {"la", "iam b", true}, {"la", "ping b", true}, {"la", "look* a/", false},
		{"ra", "i b", false}, {"ra", "i a/x", true}, {"ra", "look* a/", true}, {"ra", "look* a/x", true},
		{"ra", "look*", false}, {"ra", "look* a", false}, {"ra", "look* b", false},
		{"ra", "d", false}, {"ra", "sd", false}, {"ra", "d b", false}, {"ra", "sd b", false}, {"ra", "sd a/x", true}, {"ra", "d a/taken", true},
		{"ra", "dump", false}, {"ra", "dump shared", false}, {"ra", "dump a/", false}, {"ra", "who", false}, {"ra", "who a/", false}, {"ra", "q", false}, {"ra", "top 9", false}, {"ra", "top 9 queue", false}, {"ra", "clients 9", false}, {"ra", "stats", false},
		{"ra", "me", true}, {"ra", "map", true}, {"la", "map", true}, {"ra", "g a/x", false},
	} {
		verb, _, _ := strings.Cut(strings.TrimSpace(c.line), " ")
		want := "0 Not Allowed: " + verb + "\n"
		for _, two := range []bool{false, true} {
			s := askedStream(h, Address{Name: "c:1"}, new(bell))
			prefix := ""
			feedAll(t, s, []byte("auth "+c.token+"\n"))
			if two {
				feedAll(t, s, []byte("hello 2\n"))
				prefix = "9 "
			}
			if got := string(feedAll(t, s, []byte(prefix+c.line+"\n"))); (got == prefix+want) == c.may {
				t.Errorf("%s: %q is answered %q; it may: %v", c.token, c.line, got, c.may)
			}
			s.Close()
		}
	}
	script(t, admin, "d b\n", "b: admin:1\n")
	admin.Close()
	if n := h.Stats().Rejected["not_allowed"]; n == 0 {
		t.Error("none was counted")
	}
}

// Who is not allowed, or is nobody, is told that and not what is off or malformed;
// unknown verbs are as silent as ever.
func TestRefusalsComeFirst(t *testing.T) {
	cfg := testConfig()
	cfg.Authority, cfg.DisableDump, cfg.DisableRegistry = everybody(), true, true
	h := newHub(cfg)
	defer h.Close()
	s := askedStream(h, Address{Name: "c:1"}, nil)
	script(t, s, "d\nwho\niam x\ngw x\nnothing\nhello 3\n", strings.Repeat(wire.NotAuthenticated, 4)+"0 Invalid Argument: hello\n")
	script(t, s, "auth la\nd\nwho\niam x\ngw x\nnothing\nsgl 0 b\n",
		"1 ok\n0 Not Allowed: d\n0 Not Allowed: who\n0 disabled\n0 Invalid Argument: gw\n0 Invalid Argument: sgl\n")
	st := h.Stats()
	if st.Rejected["not_authenticated"] != 4 || st.Rejected["not_allowed"] != 2 || st.Commands["d"] != 0 || st.Commands["gw"] != 1 || st.Invalid != 2 {
		t.Errorf("%v %v %d", st.Rejected, st.Commands, st.Invalid)
	}
	s.Close()
}

// Who is nobody makes no sessions by what is refused, and few by what is not.
func TestUnidentifiedSessions(t *testing.T) {
	h := askingHub(everybody())
	defer h.Close()
	s := askedStream(h, Address{Name: "c:1"}, nil)
	feedAll(t, s, []byte("hello 2\n"))
	for i := range 1000 {
		script(t, s, fmt.Sprintf("%d g x\n", i), fmt.Sprintf("%d %s", i, wire.NotAuthenticated))
	}
	if n := h.Stats().Sessions; n != 1 {
		t.Errorf("%d sessions", n)
	}
	for i := range maxUnidentified {
		script(t, s, fmt.Sprintf("%d ping\n", i), fmt.Sprintf("%d 1 pong\n", i))
	}
	script(t, s, "900 ping\n901 nonsense\n", "900 "+wire.TooManySessions+"901 "+wire.TooManySessions)
	if n := h.Stats().Sessions; n != maxUnidentified {
		t.Errorf("%d sessions", n)
	}
	script(t, s, "3 auth l\n900 ping\n900 iam x\n", "3 1 ok\n900 1 pong\n900 1 ok\n")
	s.Close()
}

// It is the connection's: sent in any session, and in either protocol.
func TestAuthIsOfTheConnection(t *testing.T) {
	h := askingHub(everybody())
	defer h.Close()
	s := askedStream(h, Address{Name: "c:1"}, nil)
	script(t, s, "g x\nauth l\ng x\nhello 2\n5 i x\n", wire.NotAuthenticated+"1 ok\n1 Lock Get Success: x\n2 lockd \n5 1 Lock Is Locked: x\n")
	s.Close()
	s = askedStream(h, Address{Name: "c:1"}, nil)
	script(t, s, "hello 2\n5 auth l\n6 i x\n", "2 lockd \n5 1 ok\n6 0 Lock Not Locked: x\n")
	s.Close()
}

// Another token takes its role; what is held stays. A wrong one changes nothing.
func TestAuthAgain(t *testing.T) {
	h := askingHub(everybody())
	defer h.Close()
	b := new(bell)
	s := askedStream(h, Address{Name: "c:1"}, b)
	script(t, s, "auth l\ng x\nauth r\ng y\nr x\ni x\nd\n",
		"1 ok\n1 Lock Get Success: x\n1 ok\n0 Not Allowed: g\n0 Not Allowed: r\n1 Lock Is Locked: x\nx: c:1\n")
	feedAll(t, s, []byte("auth wrong\n"))
	if got := awaitDenial(t, s, b); got != wire.AuthFailed {
		t.Errorf("%q", got)
	}
	script(t, s, "i x\ng y\n", "1 Lock Is Locked: x\n0 Not Allowed: g\n")
	s.Close()
}

// Certificates and users need not say who they are; a token they show counts more.
func TestIdentities(t *testing.T) {
	a := everybody()
	a["cert grafana"] = &Access{Name: "grafana", Role: RoleRead}
	a["uid 34"] = &Access{Name: "backup", Role: RoleLock, Prefix: "backup/"}
	h := askingHub(a)
	defer h.Close()
	ip := netip.MustParseAddrPort("192.0.2.7:7")
	for _, c := range []struct {
		addr Address
		want string
	}{
		{Address{IP: ip, Cert: "grafana"}, "0 Not Allowed: g\n"},
		{Address{IP: ip, Cert: "else"}, wire.NotAuthenticated},
		{Address{IP: ip}, wire.NotAuthenticated},
		{Address{Name: "unix:1", Process: testProcess{4711, 34, "p"}}, "0 Not Allowed: g\n"},
		{Address{Name: "unix:1", Process: testProcess{4711, 35, "p"}}, wire.NotAuthenticated},
	} {
		s := askedStream(h, c.addr, nil)
		script(t, s, "g x\n", c.want)
		script(t, s, "auth l\ng x\nr x\n", "1 ok\n1 Lock Get Success: x\n1 Lock Release Success: x\n")
		if s.Access() != a["token l"] {
			t.Errorf("%v", s.Access())
		}
		s.Close()
	}
	s := askedStream(h, Address{IP: ip, Cert: "grafana"}, nil)
	script(t, s, "me\n", "1 192.0.2.7:7 192.0.2.7:7\n")
	s.Close()
}

// Where nobody is asked, nobody has to show anything; what is shown counts, and may
// narrow.
func TestNotAsked(t *testing.T) {
	a := everybody()
	a["uid 34"] = &Access{Name: "backup", Role: RoleLock, Prefix: "backup/"}
	h := askingHub(a)
	defer h.Close()
	begin := func(addr Address) (*Stream, *bell) {
		b := new(bell)
		st := new(Stream)
		st.Begin(h, addr, b, new(Turn))
		return st, b
	}
	s, b := begin(Address{Name: "c:1"})
	script(t, s, "g x\nkick nobody\n", "1 Lock Get Success: x\n0 Not Allowed: kick\n")
	feedAll(t, s, []byte("auth wrong\n"))
	if got := awaitDenial(t, s, b); got != wire.AuthFailed {
		t.Errorf("%q", got)
	}
	script(t, s, "r x\nauth la\ng x\ng a/x\nauth a\ng x\nkick nobody\n", "1 Lock Release Success: x\n1 ok\n0 Not Allowed: g\n"+
		"1 Lock Get Success: a/x\n1 ok\n1 Lock Get Success: x\n0 No Such Client: nobody\n")
	s.Close()
	s, _ = begin(Address{Name: "unix:1", Local: true, Process: testProcess{1, 34, "p"}})
	script(t, s, "g x\ng backup/x\nkick nobody\n", "0 Not Allowed: g\n1 Lock Get Success: backup/x\n0 Not Allowed: kick\n")
	a["uid 34"].Replace(nil)
	delete(a, "uid 34")
	script(t, s, "g x\n", "1 Lock Get Success: x\n")
	s.Close()

	plain := newHub(testConfig())
	defer plain.Close()
	s = newStream(plain, "c:1", nil)
	script(t, s, "auth\nauth x\ng x\n", "1 ok\n1 ok\n1 Lock Get Success: x\n")
	s.Close()
}

// An administrator may end any client from anywhere; nobody else may, not even
// from the server's own machine.
func TestKickByRole(t *testing.T) {
	h := askingHub(everybody())
	defer h.Close()
	s := askedStream(h, Address{Name: "c:1"}, nil)
	script(t, s, "auth a\nkick nobody\nauth l\nkick nobody\n", "1 ok\n0 No Such Client: nobody\n1 ok\n0 Not Allowed: kick\n")
	s.Close()
	s = askedStream(h, Address{Name: "c:1", Local: true}, nil)
	script(t, s, "kick nobody\nauth r\nkick nobody\n", wire.NotAuthenticated+"1 ok\n0 Not Allowed: kick\n")
	s.Close()
}

// What is taken away or changed counts from the next request on, for those who are
// there. What they hold stays.
func TestAccessReplaced(t *testing.T) {
	a := everybody()
	a["cert c"] = &Access{Name: "c", Role: RoleLock}
	h := askingHub(a)
	defer h.Close()
	s := askedStream(h, Address{Name: "c:1"}, nil)
	script(t, s, "auth l\ng x\n", "1 ok\n1 Lock Get Success: x\n")
	old := a["token l"]
	narrower := &Access{Name: "l", Role: RoleLock, Prefix: "y"}
	old.Replace(narrower)
	a["token l"] = narrower
	script(t, s, "r x\ng y\n", "0 Not Allowed: r\n1 Lock Get Success: y\n")
	narrower.Replace(nil)
	delete(a, "token l")
	if s.Access() != nil {
		t.Error("it still has an access")
	}
	script(t, s, "r y\nping\ni y\n", wire.NotAuthenticated+"1 pong\n"+wire.NotAuthenticated)
	other := askedStream(h, Address{Name: "c:2"}, nil)
	script(t, other, "auth a\nd x\nd y\n", "1 ok\nx: c:1\ny: c:1\n")
	// Several changes between two requests.
	second, third := &Access{Name: "a", Role: RoleLock}, &Access{Name: "a", Role: RoleRead}
	a["token a"].Replace(second)
	second.Replace(third)
	script(t, other, "g z\nd x\n", "0 Not Allowed: g\nx: c:1\n")
	s.Close()
	other.Close()

	// Who has shown a token is not taken for somebody else when that is no more.
	s = askedStream(h, Address{Name: "unix:1", Cert: "c", Process: testProcess{4711, 34, "p"}}, nil)
	a["uid 34"] = &Access{Name: "u", Role: RoleLock}
	script(t, s, "auth r\ni x\n", "1 ok\n0 Lock Not Locked: x\n")
	a["token r"].Replace(nil)
	delete(a, "token r")
	script(t, s, "i x\nr x\nauth ra\nr x\n", wire.NotAuthenticated+wire.NotAuthenticated+"1 ok\n0 Not Allowed: r\n")
	s.Close()

	// A certificate that is let in later, and whose line changes.
	s = askedStream(h, Address{Name: "c:3", Cert: "late"}, nil)
	script(t, s, "g x\n", wire.NotAuthenticated)
	a["cert late"] = &Access{Name: "late", Role: RoleLock}
	script(t, s, "g x\n", "1 Lock Get Success: x\n")
	a["cert late"].Replace(nil)
	a["cert late"] = &Access{Name: "late", Role: RoleRead}
	script(t, s, "g x\n", "0 Not Allowed: g\n")
	s.Close()
}

// awaitDenial waits for the answer to a wrong token, as a carrier does.
func awaitDenial(t *testing.T, s *Stream, b *bell) string {
	t.Helper()
	began := time.Now()
	for {
		_, out, _ := s.Advance(nil, nil)
		if len(out) > 0 {
			return string(out)
		}
		if time.Since(began) > time.Minute {
			t.Fatal("no answer")
		}
		time.Sleep(time.Millisecond)
	}
}

// Who may not ask for a lock any more when its turn comes does not get it; the next
// one does. Who still may gets it, whatever has changed.
func TestWaitOfReplacedAccess(t *testing.T) {
	for _, c := range []struct {
		name string
		now  *Access // nil: it is taken away
		want string  // instead of a grant
	}{
		{"taken away", nil, "0 Not Authenticated\n"},
		{"other role", &Access{Name: "l", Role: RoleRead}, "0 Not Allowed: VERB\n"},
		{"other prefix", &Access{Name: "l", Role: RoleLock, Prefix: "b"}, "0 Not Allowed: VERB\n"},
		{"prefix with the name", &Access{Name: "l", Role: RoleLock, Prefix: "a"}, ""},
		{"administrator", &Access{Name: "l", Role: RoleAdmin}, ""},
	} {
		for _, kind := range []struct{ take, wait, release, is, free string }{
			{"g a", "gw 86400000 a", "r a", "i a", "0 Lock Not Locked: a\n"},
			{"sg a", "sgw 1 86400000 a", "sr a", "si a", "0 Shared Lock Not Locked: a\n"},
		} {
			for _, two := range []bool{false, true} {
				a := everybody()
				h := askingHub(a)
				holder, b := askedStream(h, Address{Name: "c:1"}, nil), new(bell)
				feedAll(t, holder, []byte("auth a\n"+kind.take+"\n"))
				s := askedStream(h, Address{Name: "c:2"}, b)
				prefix := ""
				feedAll(t, s, []byte("auth l\n"))
				if two {
					feedAll(t, s, []byte("hello 2\n"))
					prefix = "7 "
				}
				script(t, s, prefix+kind.wait+"\n", "")
				a["token l"].Replace(c.now)
				feedAll(t, holder, []byte(kind.release+"\n"))
				_, out, _ := s.Advance(nil, nil)
				verb, _, _ := strings.Cut(kind.wait, " ")
				want := prefix + strings.ReplaceAll(c.want, "VERB", verb)
				free := string(feedAll(t, holder, []byte(kind.is+"\n"))) == kind.free
				if got := string(out); c.want != "" && (got != want || !free) || c.want == "" && (!strings.Contains(got, "Success: a") || free) {
					t.Errorf("%s, %s, protocol 2 %v: %q; free: %v", c.name, kind.wait, two, got, free)
				}
				s.Close()
				holder.Close()
				h.Close()
			}
		}
	}
}
