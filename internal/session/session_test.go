package session

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

func testConfig() Config {
	return Config{Shards: 4, MaxLine: 4096, MaxOutput: 64 << 10, MaxSessions: 100}
}

// noNetwork has no connections.
type noNetwork struct{}

func (noNetwork) Connections() int    { return 0 }
func (noNetwork) CatchUp(func()) bool { return false }
func (noNetwork) Gone([]Carrier) int  { return -1 }
func (noNetwork) Want([]Carrier)      {}
func (noNetwork) Kick(Carrier, Kick)  {}
func (noNetwork) Detach(Carrier)      {}
func (noNetwork) Outlives(Carrier)    {}

func (noNetwork) Authenticated(*Stream, *Access) {}

func newHub(cfg Config) *Hub { return NewHub(cfg, noNetwork{}) }

func newStream(h *Hub, addr string, c Carrier) *Stream {
	st := new(Stream)
	st.Begin(h, Address{Name: addr}, c, new(Turn))
	return st
}

// turn is what a transport does in one turn: Feed, and Continue until what is
// pending is as much as may be.
func turn(s *Stream, in, out []byte) (rest, _ []byte) {
	for s.Early() > 0 {
	}
	in, out, _ = s.Answer(in, out)
	for s.Replying() && len(out) < s.hub.cfg.MaxOutput {
		out = s.goOn(out)
	}
	return in, out
}

// feedAll gives a session bytes and returns all replies, as a transport does:
// what is pending is taken away whenever Feed stops.
func feedAll(t testing.TB, s *Stream, in []byte) (replies []byte) {
	t.Helper()
	in = bytes.Clone(in)
	var out []byte
	for {
		var n = len(in)
		listed := s.Replying()
		in, out = turn(s, in, out[:0])
		replies = append(replies, out...)
		if limit := s.hub.cfg.MaxOutput + pieceBytes + 2*s.hub.cfg.MaxLine + 1024; len(out) > limit {
			t.Fatalf("%d bytes are pending, want at most %d", len(out), limit)
		}
		if !s.Replying() && (s.closing || len(in) == 0 || s.waiting()) {
			return replies
		}
		if len(in) == n && len(out) == 0 && !listed && !s.Replying() {
			t.Fatal("Feed takes nothing and gives nothing")
		}
	}
}

func script(t *testing.T, s *Stream, in, want string) {
	t.Helper()
	if got := string(feedAll(t, s, []byte(in))); got != want {
		t.Errorf("%q is answered\n%q, want\n%q", in, got, want)
	}
}

func TestSessionReplies(t *testing.T) {
	h := newHub(testConfig())
	a, b := newStream(h, "1.1.1.1:1", nil), newStream(h, "2.2.2.2:2", nil)
	for _, step := range []struct {
		s        *Stream
		in, want string
	}{
		{a, "g foo\n", "1 Lock Get Success: foo\n"},
		{a, "g foo\n", "1 Lock Get Success: foo\n"},
		{b, "g foo\n", "0 Lock Get Failure: foo\n"},
		{b, "r foo\n", "0 Lock Release Failure: foo\n"},
		{b, "i foo\n", "1 Lock Is Locked: foo\n"},
		{b, "i bar\n", "0 Lock Not Locked: bar\n"},
		{b, " g   a \t b \r\n", "1 Lock Get Success: a b\n"},
		{a, "g a b\n", "0 Lock Get Failure: a b\n"},
		{a, "g\ng \n", "1 Lock Get Success: \n1 Lock Get Success: \n"},
		{a, "\n \n\r\n", ""},
		{a, "nonsense foo\nG foo\n", ""},
		{a, "sg foo\nsg foo\n", "1 Shared Lock Get Success: foo\n1 Shared Lock Get Success: foo\n"},
		{b, "si foo\nsg foo\nsi foo\n", "1 Shared Lock Is Locked: foo\n2 Shared Lock Get Success: foo\n2 Shared Lock Is Locked: foo\n"},
		{b, "si bar\nsr bar\n", "0 Shared Lock Not Locked: bar\n0 Shared Lock Release Failure: bar\n"},
		{a, "d foo\nd nobody\nd a b\n", "foo: 1.1.1.1:1\na b: 2.2.2.2:2\n"},
		{a, "sd foo\nsd nobody\n", "foo: 1.1.1.1:1\nfoo: 2.2.2.2:2\n"},
		{a, "me\niam  the  first\nme\n", "1 1.1.1.1:1 1.1.1.1:1\n1 ok\n1 1.1.1.1:1 the first\n"},
		{b, "who\nwho the first\nwho nobody\n", "1.1.1.1:1: the first\n1.1.1.1:1: the first\n"},
		{b, "d foo\n", "foo: the first\n"},
		{b, "dump\n", "map[:1.1.1.1:1 a b:2.2.2.2:2 foo:1.1.1.1:1]\n"},
		{b, "dump shared\n", "map[foo:[1.1.1.1:1 2.2.2.2:2]]\n"},
		{b, "q\n", "command_d: 4\ncommand_dump: 2\ncommand_g: 7\ncommand_i: 2\ncommand_iam: 1\ncommand_me: 2\ncommand_q: 1\ncommand_r: 1\n" +
			"command_sd: 2\ncommand_sg: 3\ncommand_si: 3\ncommand_sr: 1\ncommand_who: 3\nconnections: 0\ninvalid_commands: 2\n" +
			"locks: 3\norphans: 0\nshared_locks: 1\nshared_orphans: 0\n"},
		{a, "iam\nme\n", "1 ok\n1 1.1.1.1:1 1.1.1.1:1\n"},
		{a, "r foo\nsr foo\nr foo\n", "1 Lock Release Success: foo\n1 Shared Lock Release Success: foo\n0 Lock Release Failure: foo\n"},
	} {
		script(t, step.s, step.in, step.want)
	}
	a.Answer([]byte("g half a line"), nil)
	a.Close()
	script(t, b, "i \ni half a line\nsi foo\n", "0 Lock Not Locked: \n0 Lock Not Locked: half a line\n1 Shared Lock Is Locked: foo\n")
	b.Close()
	if st := h.Stats(); st.Sessions != 0 || st.Locks.Locks != [shard.Kinds]int{} ||
		st.Locks.Orphans != [shard.Kinds]uint64{shard.Exclusive: 2, shard.Shared: 1} {
		t.Errorf("in the end: %+v", st)
	}
}

func TestSessionDisabled(t *testing.T) {
	cfg := testConfig()
	cfg.DisableDump = true
	h := newHub(cfg)
	s := newStream(h, "1.1.1.1:1", nil)
	script(t, s, "g a\nd\nd a\nsd\ndump\ndump shared\nwho\niam x\nme\n",
		"1 Lock Get Success: a\n"+strings.Repeat("0 disabled\n", 6)+"1 ok\n1 1.1.1.1:1 x\n")
	cfg = testConfig()
	cfg.DisableRegistry = true
	h = newHub(cfg)
	s = newStream(h, "1.1.1.1:1", nil)
	script(t, s, "g a\nd a\nwho\niam x\nme\n", "1 Lock Get Success: a\na: 1.1.1.1:1\n0 disabled\n0 disabled\n1 1.1.1.1:1 1.1.1.1:1\n")
}

func TestSessionFull(t *testing.T) {
	cfg := testConfig()
	cfg.Table = shard.Config{Locks: 3, LocksPerOwner: 2}
	h := newHub(cfg)
	a, b := newStream(h, "a", nil), newStream(h, "b", nil)
	script(t, a, "g 1\nsg 2\ng 3\nsg 3\ng 1\n", "1 Lock Get Success: 1\n1 Shared Lock Get Success: 2\n0 Too Many Locks: 3\n0 Too Many Locks: 3\n1 Lock Get Success: 1\n")
	script(t, b, "sg 2\nsg 4\ng 1\n", "2 Shared Lock Get Success: 2\n0 Too Many Locks: 4\n0 Lock Get Failure: 1\n")
	st := h.Stats()
	if st.Rejected["too_many_locks"] != 1 || st.Rejected["too_many_locks_of_owner"] != 2 {
		t.Errorf("rejected: %v", st.Rejected)
	}
}

// A line of exactly the limit is a request, one byte more is not, however
// they are cut.
func TestSessionLineLimit(t *testing.T) {
	cfg := testConfig()
	cfg.MaxLine = 32
	h := newHub(cfg)
	fits := "i " + strings.Repeat("x", 30)
	long := fits + "x"
	okReply := "0 Lock Not Locked: " + fits[2:] + "\n"
	for _, c := range []struct{ in, want string }{
		{fits + "\n", okReply},
		{long + "\n", wire.LineTooLong},
		{long + "\n" + fits + "\n", wire.LineTooLong + okReply},
		{strings.Repeat(long, 100) + "\ni a\n", wire.LineTooLong + "0 Lock Not Locked: a\n"},
		{long + "\n" + long + "\n", wire.LineTooLong + wire.LineTooLong},
		{fits + "\r\n", wire.LineTooLong}, // the \r counts
		{strings.Repeat(" ", 33) + "\n", wire.LineTooLong},
	} {
		for size := 1; size <= len(c.in); size++ {
			s := newStream(h, "a", nil)
			var got []byte
			for in := []byte(c.in); len(in) > 0; {
				n := min(size, len(in))
				got = append(got, feedAll(t, s, in[:n])...)
				in = in[n:]
				if len(s.partial) > cfg.MaxLine {
					t.Fatalf("%d bytes of a line are kept", len(s.partial))
				}
			}
			if string(got) != c.want {
				t.Fatalf("%q in pieces of %d is answered %q, want %q", c.in, size, got, c.want)
			}
			s.Close()
		}
	}
}

func TestSessionHTTP(t *testing.T) {
	cfg := testConfig()
	cfg.MaxLine = 64
	h := newHub(cfg)
	for _, in := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /" + strings.Repeat("x", 100) + " HTTP/1.1\r\n\r\ng evil\n",
		"POST / HTTP/1.1\ng evil\n",
	} {
		for size := 1; size <= len(in); size++ {
			s := newStream(h, "a", nil)
			var got []byte
			for rest := []byte(in); len(rest) > 0 && !s.closing; {
				n := min(size, len(rest))
				got = append(got, feedAll(t, s, rest[:n])...)
				rest = rest[n:]
			}
			if string(got) != wire.HTTPRefusal || !s.closing {
				t.Fatalf("%q in pieces of %d is answered %q, closing %v", in, size, got, s.closing)
			}
			// Nothing more is taken.
			if rest, out, _ := s.Answer([]byte("g evil\n"), nil); len(out) > 0 || len(rest) == 0 {
				t.Fatalf("after the refusal: %q, %q left", out, rest)
			}
			s.Close()
		}
	}
	if st := h.Stats(); st.Locks.Gets[shard.Exclusive] != 0 {
		t.Error("a line of an HTTP request was executed")
	}
}

// Known: whether a line that is too long is taken for HTTP depends on how it
// was cut, since one that comes whole is looked at beyond the limit.
func TestSessionHTTPWithALongMethod(t *testing.T) {
	cfg := testConfig()
	cfg.MaxLine = 16
	h := newHub(cfg)
	in := strings.Repeat("A", 16) + " /\n"
	whole := feedAll(t, newStream(h, "a", nil), []byte(in))
	s := newStream(h, "a", nil)
	cut := append(feedAll(t, s, []byte(in[:10])), feedAll(t, s, []byte(in[10:]))...)
	if !bytes.Equal(whole, cut) {
		t.Errorf("%q in one piece is answered %q, in two %q", in, whole, cut)
	}
}

// The lines that can come out, but for those of listings.
var replyLine = regexp.MustCompile(`(?s)^(` +
	`[01] Lock (Get|Release) (Success|Failure): .*|` +
	`[01] Lock (Is|Not) Locked: .*|` +
	`\d+ Shared Lock (Get|Release) (Success|Failure): .*|` +
	`\d+ Shared Lock (Is|Not) Locked: .*|` +
	`0 Too Many Locks: .*|0 Line Too Long|0 disabled|1 ok|1 fuzz:1 .*|` +
	`\d+ Lock Token: .*|0 Lock Not Held: .*|0 Invalid Argument: .*|` +
	`\d+ Shared Lock Limit Reached: .*|1 pong|1 bye` +
	`)$`)

var listingLine = regexp.MustCompile(`(?s)^(map\[.*\]|.*: .*)$`)

func FuzzSession(f *testing.F) {
	for _, seed := range []string{
		"g foo\nr foo\ni foo\nsg foo\nsr foo\nsi foo\n",
		"g a\ng b\nsg a\nsg b\nd\nsd\nd a\nsd a\ndump\ndump shared\nq\n",
		"iam x\nwho\nwho x\nme\niam\nwho\n",
		" g  a \t b \r\n\r\n\n  \ng\n g\n",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n",
		"g aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\ni a\n",
		"g 1\ng 2\ng 3\ng 4\ng 5\ng 6\ng 7\ng 8\ng 9\nd\n",
		"g taken\nr taken\nsg taken\nsi taken\nd taken\n",
		"d\nsd\nd\nsd\nd\nsd\ndump\ndump shared\ndump\ndump shared\nwho\nq\nq\n",
		"\xff\x00 g\nq: 1\nnothing\n",
		"g half",
	} {
		f.Add([]byte(seed), []byte{1})
		f.Add([]byte(seed), []byte{3, 0, 200, 1})
	}
	// What these answer depends on the time, or is protocol 2's.
	timed := regexp.MustCompile(`\b(gw|sgw|rl|ri|hello)\b`)
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		if timed.Match(data) {
			t.Skip()
		}
		cfg := testConfig()
		cfg.Shards = 2
		cfg.MaxLine = 32
		cfg.MaxOutput = 100
		cfg.Table = shard.Config{Locks: 12, LocksPerOwner: 6, Start: 1}
		begin := func() (*Stream, func()) {
			h := newHub(cfg)
			other, s := newStream(h, "other:1", nil), newStream(h, "fuzz:1", nil)
			feedAll(t, other, []byte("iam other\ng taken\nsg taken\nsg a\ng b\nsg shared\n"))
			return s, func() {
				s.Close()
				if st := h.Stats(); st.Locks.Locks != [shard.Kinds]int{2, 3} || st.Locks.Holders != 3 || st.Sessions != 1 {
					t.Fatalf("when the session has ended there are %v locks, %d holders, %d sessions", st.Locks.Locks, st.Locks.Holders, st.Sessions)
				}
				other.Close()
			}
		}

		one, end := begin()
		want := feedAll(t, one, data)
		closing := one.closing
		end()

		// Cut anywhere.
		cut, end := begin()
		var got []byte
		for in, i := data, 0; len(in) > 0 && !cut.closing; i++ {
			n := 1
			if len(cuts) > 0 {
				n = int(cuts[i%len(cuts)])
			}
			if i >= len(data) {
				n = max(n, 1) // not empty pieces for ever
			}
			n = min(n, len(in))
			got = append(got, feedAll(t, cut, in[:n])...)
			in = in[n:]
			if len(cut.partial) > cfg.MaxLine || cap(cut.partial) > keptPartial {
				t.Fatalf("%d bytes of a line are kept, in %d", len(cut.partial), cap(cut.partial))
			}
		}
		if !bytes.Equal(got, want) || cut.closing != closing {
			t.Fatalf("in pieces:\n%q, closing %v, in one piece:\n%q, closing %v", got, cut.closing, want, closing)
		}
		end()

		// Line by line, as messages come.
		lines, end := begin()
		got = got[:0]
		for rest := bytes.Clone(data); !lines.closing; {
			line, after, whole := bytes.Cut(rest, []byte("\n"))
			rest = after
			if !whole {
				if len(line) > cfg.MaxLine {
					got = lines.request(line, got)
				}
				break
			}
			for got = lines.request(line, got); lines.Replying(); {
				got = lines.goOn(got)
			}
		}
		if !bytes.Equal(got, want) || lines.closing != closing {
			t.Fatalf("line by line:\n%q, closing %v, in one piece:\n%q, closing %v", got, lines.closing, want, closing)
		}
		end()

		if closing {
			var ok bool
			if want, ok = bytes.CutSuffix(want, []byte(wire.HTTPRefusal)); !ok {
				t.Fatalf("closing without a refusal: %q", want)
			}
		}
		if len(want) > 0 && want[len(want)-1] != '\n' {
			t.Fatalf("the last line does not end: %q", want)
		}
		for _, line := range strings.Split(strings.TrimSuffix(string(want), "\n"), "\n") {
			if len(want) > 0 && !replyLine.MatchString(line) && !listingLine.MatchString(line) {
				t.Fatalf("not a reply: %q", line)
			}
		}
	})
}

// Feed stops at the bound on what is pending and goes on where it stopped.
func TestSessionOutputBound(t *testing.T) {
	cfg := testConfig()
	cfg.MaxOutput = 100
	h := newHub(cfg)
	s := newStream(h, "a", nil)
	in := []byte(strings.Repeat("i some name\n", 100))
	reply := "0 Lock Not Locked: some name\n"
	var all []byte
	for calls := 0; len(in) > 0; calls++ {
		before := len(in)
		var out []byte
		in, out, _ = s.Answer(in, nil)
		if len(out) > cfg.MaxOutput+len(reply) || len(in) == before {
			t.Fatalf("%d bytes pending, %d bytes taken", len(out), before-len(in))
		}
		all = append(all, out...)
	}
	if string(all) != strings.Repeat(reply, 100) {
		t.Error("replies are lost")
	}
	// What is pending counts, too.
	full := make([]byte, cfg.MaxOutput)
	if rest, out, _ := s.Answer([]byte("i a\n"), full); len(rest) != 4 || len(out) != len(full) {
		t.Errorf("%d bytes taken while %d are pending", 4-len(rest), len(full))
	}
}

func TestSessionKeepsLittle(t *testing.T) {
	h := newHub(testConfig())
	s := newStream(h, "a", nil)
	long := strings.Repeat("x", 3000)
	feedAll(t, s, []byte("i "+long))
	feedAll(t, s, []byte(long[:500]+"\n"))
	if cap(s.partial) > keptPartial {
		t.Errorf("an idle session keeps %d bytes", cap(s.partial))
	}
	feedAll(t, s, []byte("i "+strings.Repeat(long, 10)))
	if !s.skipping || cap(s.partial) > keptPartial {
		t.Errorf("skipping is %v, %d bytes are kept", s.skipping, cap(s.partial))
	}
}

func TestManySessions(t *testing.T) {
	h := newHub(testConfig())
	var all []*Stream
	for i := range 500 {
		s := newStream(h, "s"+strconv.Itoa(i), nil)
		script(t, s, "sg room\n", fmt.Sprintf("%d Shared Lock Get Success: room\n", i+1))
		all = append(all, s)
	}
	for i, s := range all {
		s.Close()
		if n := h.locks.InspectShared([]byte("room")); n != 499-i {
			t.Fatalf("%d hold it, want %d", n, 499-i)
		}
	}
}

// The end of a stream is a bounded part of work at a time, be it many sessions
// or many locks of some.
func TestStreamsCloseInSteps(t *testing.T) {
	for _, c := range []struct{ sessions, locks int }{{1, 20_000}, {90, 0}, {90, 1}, {90, 300}, {90, 1000}, {3, 5000}} {
		h := newHub(testConfig())
		st := newStream(h, "a:1", nil)
		feedAll(t, st, []byte("hello 2\n"))
		for i := range c.sessions {
			var in []byte
			for j := range c.locks {
				in = fmt.Appendf(in, "%d g %d/%d\n", i, i, j)
			}
			feedAll(t, st, fmt.Appendf(in, "%d ping\n", i))
		}
		for over := false; !over; {
			before := h.Stats()
			over = st.CloseSome()
			after := h.Stats()
			locks := before.Locks.Locks[shard.Exclusive] - after.Locks.Locks[shard.Exclusive]
			if sessions := before.Sessions - after.Sessions; locks > 2*closeStep || sessions > closeStep/sessionWork+1 {
				t.Fatalf("%d sessions with %d locks: %d sessions, %d locks at a time", c.sessions, c.locks, sessions, locks)
			}
		}
	}
}

// A client of whom very many sessions settle at once has its turn, and the rest when others had theirs.
func TestSessionsSettleInTurns(t *testing.T) {
	const many = 30000 // which takes several times as long as a turn does
	cfg := testConfig()
	cfg.MaxOutput, cfg.MaxSessions = 1<<30, 3*many
	h := newHub(cfg)
	defer h.Close()
	st := newStream(h, "many", &plainCarrier{"many"})
	defer st.Close()
	st.Advance([]byte("hello 2\n"), nil)
	for i := range many {
		st.Advance(fmt.Appendf(nil, "%d g x%d\n%d gw 60000 x%d\n", i+1, i, many+i+1, i), nil)
	}
	for i := range many { // each has the other one's lock be granted
		st.turn.Begin(0)
		st.Answer(fmt.Appendf(nil, "%d r x%d\n", i+1, i), nil)
	}
	granted, turns := 0, 0
	for granted < many && turns < 10*many {
		st.turn.Begin(0)
		_, out, next := st.Advance(nil, nil)
		granted += strings.Count(string(out), "Lock Get Success")
		if turns++; next != More && granted < many {
			t.Fatalf("%d are told, and next is %v", granted, next)
		}
	}
	if granted != many || turns == 1 {
		t.Errorf("%d are told in %d turns", granted, turns)
	}
}
