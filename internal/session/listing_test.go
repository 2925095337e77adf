package session

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/stress"
)

// fill makes a hub in which a session at "a:1" holds n locks of each kind.
// names are the names, sorted.
func fill(t *testing.T, n, size int) (h *Hub, s *Stream, names []string) {
	h = newHub(testConfig())
	s = newStream(h, "a:1", nil)
	for i := range n {
		name := fmt.Sprintf("%07d", i)
		name += strings.Repeat("x", max(0, size-len(name)))
		names = append(names, name)
		h.locks.Get(&s.main.owner, []byte(name))
		h.locks.GetShared(&s.main.owner, []byte(name))
	}
	slices.Sort(names)
	return h, s, names
}

// A listing that fits comes out of one call, so that it leaves in one write.
func TestSmallListings(t *testing.T) {
	for _, n := range []int{0, 1, 3, 100} {
		h, s, names := fill(t, n, 0)
		feedAll(t, s, []byte("iam me\n"))
		var lines, pairs, shared []string
		for _, name := range names {
			lines = append(lines, name+": me\n")
			pairs = append(pairs, name+":a:1")
			shared = append(shared, name+":[a:1]")
		}
		for in, want := range map[string]string{
			"d\n":           strings.Join(lines, ""),
			"sd\n":          strings.Join(lines, ""),
			"dump\n":        "map[" + strings.Join(pairs, " ") + "]\n",
			"dump foo\n":    "map[" + strings.Join(pairs, " ") + "]\n",
			"dump shared\n": "map[" + strings.Join(shared, " ") + "]\n",
			"who\n":         "a:1: me\n",
		} {
			rest, out := turn(s, []byte(in), nil)
			if len(rest) > 0 || s.Replying() {
				t.Fatalf("%q with %d locks: %d bytes left, listing %v", in, n, len(rest), s.Replying())
			}
			if in == "d\n" || in == "sd\n" {
				got := strings.SplitAfter(string(out), "\n")
				slices.Sort(got)
				out = []byte(strings.Join(got, ""))
			}
			if string(out) != want {
				t.Errorf("%q with %d locks:\n%q, want\n%q", in, n, out, want)
			}
		}
		s.Close()
		if h.Stats().Sessions != 0 {
			t.Error("sessions are left")
		}
	}
}

// Huge ones come in bounded pieces and are complete.
func TestHugeListings(t *testing.T) {
	n := 50_000
	if testing.Short() {
		n = 5_000
	}
	for _, size := range []int{0, 100} {
		h, s, names := fill(t, n, size)
		var line strings.Builder
		for i, name := range names {
			if i > 0 {
				line.WriteByte(' ')
			}
			line.WriteString(name + ":a:1")
		}
		for _, in := range []string{"d\n", "sd\n", "dump\n", "dump shared\n"} {
			pieces := 0
			var got []byte
			rest := []byte(in + "i after\n")
			for {
				var out []byte
				rest, out = turn(s, rest, nil)
				if limit := h.cfg.MaxOutput + pieceBytes + 256; len(out) > limit {
					t.Fatalf("%q: a piece of %d bytes", in, len(out))
				}
				if len(out) > 0 {
					pieces++
				}
				got = append(got, out...)
				if len(rest) == 0 && !s.Replying() {
					break
				}
			}
			got, ok := bytes.CutSuffix(got, []byte("0 Lock Not Locked: after\n"))
			if !ok {
				t.Fatalf("%q: the next request is not answered after it", in)
			}
			if want := len(got)/(h.cfg.MaxOutput+pieceBytes) + 1; pieces < want {
				t.Errorf("%q: %d bytes in %d pieces", in, len(got), pieces)
			}
			switch in {
			case "d\n", "sd\n":
				lines := strings.SplitAfter(strings.TrimSuffix(string(got), "\n"), "\n")
				slices.Sort(lines)
				for i := range lines {
					lines[i] = strings.TrimSuffix(strings.TrimSuffix(lines[i], "\n"), ": a:1")
				}
				if !slices.Equal(lines, names) {
					t.Errorf("%q lists %d lines, want %d", in, len(lines), len(names))
				}
			case "dump\n":
				if string(got) != "map["+line.String()+"]\n" {
					t.Errorf("dump is wrong: %d bytes", len(got))
				}
			default:
				if string(got) != "map["+strings.NewReplacer(":a:1", ":[a:1]").Replace(line.String())+"]\n" {
					t.Errorf("dump shared is wrong: %d bytes", len(got))
				}
			}
		}
	}
}

// Names of great length, of which few fit into a round of `dump`.
func TestDumpInRounds(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 800
	}
	_, s, names := fill(t, n, 4000)
	got := feedAll(t, s, []byte("dump\n"))
	want := "map[" + strings.Join(names, ":a:1 ") + ":a:1]\n"
	if string(got) != want {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
}

// A listing costs little while its client does not read, however long names are
// and wherever it is.
func TestListingsThatAreNotRead(t *testing.T) {
	const n, clients, most = 600, 200, 240 << 10
	h, _, names := fill(t, n, 4000)
	for i, name := range names {
		newStream(h, fmt.Sprintf("s:%d", i), nil).request([]byte("iam "+name), nil)
	}
	for _, in := range []string{"d\n", "sd\n", "dump\n", "dump shared\n", "who\n"} {
		before := stress.Heap()
		var streams []*Stream
		var pending [][]byte
		longest := 0
		for i := range clients {
			s := newStream(h, "asks:1", nil)
			out := s.request([]byte(in[:len(in)-1]), nil)
			// Some stop within a piece, the others when nothing more is taken.
			for n := 0; len(out) < h.cfg.MaxOutput && s.Replying() && (i%4 > 0 || n < i); n++ {
				out = s.goOn(out)
			}
			s.Rest()
			longest = max(longest, len(out))
			streams, pending = append(streams, s), append(pending, bytes.Clone(out))
		}
		each := (stress.Heap() - before) / clients
		t.Logf("%q: %d bytes each", in, each)
		if each > most {
			t.Errorf("%q: a client that does not read costs %d bytes", in, each)
		}
		if limit := h.cfg.MaxOutput + pieceBytes + 8192; longest > limit {
			t.Errorf("%q: %d bytes are pending at a time", in, longest)
		}
		runtime.KeepAlive(pending)
		for _, s := range streams {
			s.Close()
		}
	}
}

// A name is never shown with somebody who did not hold it, though a listing may
// stand still for so long that the owner's ID is given to others.
func TestListingsOutliveOwners(t *testing.T) {
	h := newHub(testConfig())
	holder := newStream(h, "holder:1", nil)
	holder.request([]byte("iam holder:1 "+strings.Repeat("x", 4000)), nil)
	for i := range 200 {
		name := fmt.Appendf(nil, "%04d%s", i, strings.Repeat("x", 3000))
		h.locks.Get(&holder.main.owner, name)
		h.locks.GetShared(&holder.main.owner, name)
	}
	requests := []string{"d\n", "sd\n", "dump\n"}
	var streams []*Stream
	for _, in := range requests {
		s := newStream(h, "asks:1", nil)
		for out := s.request([]byte(in[:len(in)-1]), nil); !bytes.Contains(out, []byte("holder:1")); {
			out = s.goOn(out)
		}
		streams = append(streams, s)
	}
	id := holder.main.owner.ID
	holder.Close()
	other := newStream(h, "other:1", nil)
	for other.main.owner.ID != id {
		other.Close()
		other = newStream(h, "other:1", nil)
	}
	for i, s := range streams {
		var out []byte
		for s.Replying() {
			out = s.goOn(out)
		}
		if bytes.Contains(out, []byte("other:1")) {
			t.Errorf("%q: somebody who held nothing is listed", requests[i])
		}
	}
}

// A shared lock that somebody holds throughout is listed, whoever else lets it go
// meanwhile.
func TestSharedLocksKeepTheirPlace(t *testing.T) {
	stress.Threads(t)
	cfg := testConfig()
	cfg.Shards = 1
	h := newHub(cfg)
	const locks, rounds = 400, 80
	keeper, asks := newStream(h, "keeper:1", nil), newStream(h, "asks:1", nil)
	for range rounds {
		var first []*Stream
		for i := range locks {
			s := newStream(h, "first:1", nil)
			s.request(fmt.Appendf(nil, "sg %d", i), nil)
			first = append(first, s)
			keeper.request(fmt.Appendf(nil, "sg %d", i), nil)
		}
		var closers sync.WaitGroup
		closers.Go(func() {
			for _, s := range first {
				s.Close()
				runtime.Gosched()
			}
		})
		over := make(chan struct{})
		go func() { closers.Wait(); close(over) }()
		for again := true; again; {
			select {
			case <-over:
				again = false
			default:
			}
			if got := bytes.Count(feedAll(t, asks, []byte("dump shared\n")), []byte("keeper:1")); got != locks {
				t.Fatalf("%d of %d locks are listed", got, locks)
			}
		}
		for i := range locks {
			keeper.request(fmt.Appendf(nil, "sr %d", i), nil)
		}
	}
}

// One shared lock with many holders is listed in the order of their grants.
func TestManyHolders(t *testing.T) {
	h := newHub(testConfig())
	var want, addrs []string
	for i := range 5000 {
		s := newStream(h, fmt.Sprintf("s:%d", i), nil)
		s.request([]byte("sg room"), nil)
		want = append(want, fmt.Sprintf("room: s:%d\n", i))
		addrs = append(addrs, fmt.Sprintf("s:%d", i))
	}
	s := newStream(h, "asks:1", nil)
	for _, in := range []string{"sd\n", "sd room\n"} {
		if got := string(feedAll(t, s, []byte(in))); got != strings.Join(want, "") {
			t.Errorf("%q: %d bytes, want %d holders in order", in, len(got), len(want))
		}
	}
	if got := string(feedAll(t, s, []byte("dump shared\n"))); got != "map[room:["+strings.Join(addrs, " ")+"]]\n" {
		t.Errorf("dump shared: %d bytes", len(got))
	}
}

// A session may end in the middle of any listing, at any piece; nothing of it
// stays in the table.
func TestSessionEndsWithinListing(t *testing.T) {
	h := newHub(testConfig())
	var others []*Stream
	for i := range 3000 {
		s := newStream(h, fmt.Sprintf("o:%d", i), nil)
		s.request([]byte("iam somebody"), nil)
		s.request([]byte("sg room"), nil)
		for j := range 3 {
			s.request(fmt.Appendf(nil, "g %d of %d", j, i), nil)
			s.request(fmt.Appendf(nil, "sg %d of %d", j, i), nil)
		}
		others = append(others, s)
	}
	for _, in := range []string{"d", "sd", "sd room", "dump", "dump shared", "who"} {
		for pieces := range 12 {
			s := newStream(h, "asks:1", nil)
			s.request([]byte("sg room"), nil)
			out := s.request([]byte(in), nil)
			for i := 0; i < pieces && s.Replying(); i++ {
				out = s.goOn(out)
			}
			s.Close()
			if s.Replying() {
				t.Errorf("%s: listing after its end", in)
			}
		}
	}
	// The table has forgotten the walks: holders go as if there had been none.
	for _, s := range others {
		s.Close()
	}
	if st := h.Stats(); st.Sessions != 0 || st.Locks.Holders != 0 || st.Locks.Locks != [shard.Kinds]int{} {
		t.Errorf("in the end: %d sessions, %+v", st.Sessions, st.Locks)
	}
}

// What is held from the beginning of a listing to its end is in it once,
// while other sessions come, register, hold and go.
func TestListingsWhileThingsChange(t *testing.T) {
	h, keeper, names := fill(t, 1500, 60)
	feedAll(t, keeper, []byte("iam keeper\n"))
	asks := newStream(h, "asks:1", nil)
	for _, in := range []string{"d", "sd", "dump", "dump shared"} {
		got := asks.request([]byte(in), nil)
		for i := 0; asks.Replying(); i++ {
			s := newStream(h, "comes:1", nil)
			s.request([]byte("iam visitor"), nil)
			for j := range 20 {
				s.request(fmt.Appendf(nil, "g visitor %d %d", i, j), nil)
				s.request(fmt.Appendf(nil, "sg %s", names[(i*37+j*101)%len(names)]), nil)
			}
			got = asks.goOn(got)
			s.Close()
			if asks.Replying() {
				got = asks.goOn(got)
			}
		}
		for _, name := range names {
			count := bytes.Count(got, []byte(name+":"))
			if in == "sd" && count > 1 {
				count = bytes.Count(got, []byte(name+": keeper\n"))
			}
			if count != 1 {
				t.Fatalf("%s lists %s %d times", in, name, count)
			}
		}
		if bytes.Contains(got, []byte("comes:1: ")) || bytes.Contains(got, []byte(": \n")) {
			t.Errorf("%s lists somebody without a name", in)
		}
	}
}

func TestWhoListing(t *testing.T) {
	h := newHub(testConfig())
	var want, some []string
	for i := range 3*whoLooks + 7 {
		s := newStream(h, fmt.Sprintf("s:%d", i), nil)
		s.request(fmt.Appendf(nil, "iam name %d", i%5), nil)
		line := fmt.Sprintf("s:%d: name %d\n", i, i%5)
		want = append(want, line)
		if i%5 == 3 {
			some = append(some, line)
		}
	}
	s := newStream(h, "asks:1", nil)
	script(t, s, "who\n", strings.Join(want, ""))
	script(t, s, "who name 3\n", strings.Join(some, ""))
	script(t, s, "who name\n", "")
}

// Many requests for what takes long are not answered in one go, so that the
// carrier can see to others.
func TestLongRepliesTakeTurns(t *testing.T) {
	h := newHub(testConfig())
	for _, line := range []string{"q\n", "d\n", "sd\n", "sd a\n", "dump\n", "dump shared\n", "who\n"} {
		s := newStream(h, "1.1.1.1:1", nil)
		rest, turns := bytes.Repeat([]byte(line), 50_000), 0
		for next := More; next != Idle; turns++ {
			if rest, _, next = s.Advance(rest, nil); next != More && next != Full && next != Idle {
				t.Fatalf("%q: next is %d", line, next)
			}
		}
		if turns < 2 {
			t.Errorf("50,000 of %q are answered in one turn", line)
		}
		s.Close()
	}
}
