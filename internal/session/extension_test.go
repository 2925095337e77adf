package session

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// A bell is a waker that counts.
type bell struct{ rung atomic.Int32 }

func (b *bell) Wake() { b.rung.Add(1) }

// varying are the parts of replies that depend on time.
var varying = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`\b\d{15,16}\b`), "TOKEN"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "KEY"},
	{regexp.MustCompile(`(?m)^((?:\d+ )?)\d+ (?:Rate Allowed|Rate Limited \d+ ms|Rate Open): `), "${1}RATE: "},
	{regexp.MustCompile(`0 (?:Shared )?Lock Get (?:Timeout|Canceled): `), "GONE: "},
}

func steady(replies []byte) string {
	for _, v := range varying {
		replies = v.re.ReplaceAll(replies, []byte(v.by))
	}
	return string(replies)
}

// converse gives a stream bytes in pieces, as a transport does; a wait in
// protocol 1 is canceled at once. With protocol 2 waits stand until the end.
func converse(t *testing.T, s *Stream, in []byte, cuts []byte) []byte {
	var replies, left []byte
	for i := 0; len(in) > 0 || len(left) > 0; i++ {
		n := len(in)
		if len(cuts) > 0 && i < 10_000 {
			n = min(n, int(cuts[i%len(cuts)]))
		}
		piece := append(left, in[:n]...)
		in = in[n:]
		for {
			var out []byte
			before := len(piece)
			piece, out = turn(s, piece, nil)
			if s.waiting() {
				out = s.main.cancelWait(out)
			}
			replies = append(replies, out...)
			if s.Replying() || s.Early() > 0 {
				continue
			}
			if s.closing {
				return replies
			}
			if len(piece) == 0 || len(piece) == before && len(out) == 0 {
				break
			}
		}
		left = bytes.Clone(piece)
		if n == 0 && len(in) == 0 && len(left) > 0 {
			t.Fatalf("Feed does not take %q", left)
		}
	}
	return replies
}

// FuzzExtensions feeds both protocols whatever comes: the replies do not depend
// on how the bytes are cut, in protocol 2 each line begins with its session, no
// request is without its reply, and in the end nothing is held.
func FuzzExtensions(f *testing.F) {
	for _, seed := range []string{
		"gw 0 taken\ngw 1000 taken\ngw 1000 free\nsgl 1 taken\nsgl 2 taken\nsgw 1 1000 taken\nsgw 5 0 taken\nt free\nt taken\nping\n",
		"rl 5 1000 2 x\nri 5 1000 x\nrl 5 1000 9 x\nrl 0 0 0\ngw\ngw x\nsgl 0 x\nauth x\nhello 3\ncancel\nbye\ng x\n",
		"hello 2\n1 g a\n2 gw 1000 a\n2 ping\n1 bye\n2 cancel\n3 d\n3 sd\n3 dump\n3 who\n3 q\n0 bye\n",
		"hello 2\n1 gw 1000 taken\n1 g x\n1 cancel\n1 gw 1000 taken\n1 bye\n1 sgw 1 1000 taken\n",
		"g x\nhello 2\n0 t x\n9999999999 ping\n1 ping\n",
		"hello 2\n 7  g   a b \r\n\n7\n7 nonsense\n4294967295 me\n4294967296 me\n",
		"hello 2\n1 g aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nxaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
		"hello 2\n1 g a\n2 g b\n3 g c\n4 g d\n5 g e\n6 g f\n7 g g\n1 iam x\n8 who\n9 dump shared\n",
		"gw 5 taken\nhello 2\n1 dump\n1 d taken\n1 sd taken\nGET / HTTP/1.1\r\n\r\n",
		"hello 2 notices\n0 keep 1000\n1 g a\n1 gw 1000 taken\n1 claim 5 a\n1 claims 1 shared\n0 claimed\n1 gw 1 b\n0 keep 1\n",
		"hello 2\n0 keep 1000\n1 g a\n2 gw 1000 taken\n0 bye\n1 ping\n",
		"hello 2\n0 resume x\n0 claim 1 taken\n0 claimed\n1 keep 5\n0 claims 2 x\n",
		"hello 2\n0 g\n00\n0 gwtaken\n1 bye\n", // its last reply begins at the bound on output
	} {
		f.Add([]byte(seed), []byte{1})
		f.Add([]byte(seed), []byte{3, 0, 200, 1})
	}
	line := regexp.MustCompile(`(?s)^(?:\d{1,10} (?:\d+|-|GONE:|RATE:|TOKEN) .*|\d{1,10} (?:GONE|RATE): .*|\? 0 Invalid Request)$`)
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		if bytes.Contains(data, []byte("q")) {
			// Counters count the fuzzing, too; scripts have them.
			data = bytes.ReplaceAll(data, []byte("q"), []byte("Q"))
		}
		cfg := testConfig()
		cfg.Shards, cfg.MaxLine, cfg.MaxOutput, cfg.MaxSessions = 2, 40, 100, 6
		cfg.Table = shard.Config{Locks: 1000, LocksPerOwner: 6, Waiters: 3}
		cfg.MaxKeep = time.Minute
		run := func(cuts []byte) (string, []string, bool) {
			h := newHub(cfg)
			defer h.Close()
			h.clock.stop() // nobody's patience ends
			var ring bell
			other, s := newStream(h, "other:1", &ring), newStream(h, "fuzz:1", &ring)
			feedAll(t, other, []byte("iam other\ng taken\nsg taken\nsg a\ng b\nsg shared\n"))
			replies := converse(t, s, data, cuts)
			waiting := 0
			if s.main.wait != nil {
				waiting++
			}
			for _, o := range s.sessions {
				if o.wait != nil {
					waiting++
				}
			}
			kept := s.isKept()
			if kept { // they stay in line
				waiting = 0
			}
			// What is granted or over by now may come before the rest.
			var last []string
			out := s.Settle(nil)
			s.HangUp()
			for s.Settles() {
				out = append(out, s.Settle(nil)...)
			}
			if len(out) > 0 {
				last = strings.Split(strings.TrimSuffix(steady(out), "\n"), "\n")
			}
			if len(last) != waiting {
				t.Fatalf("%d waited and got %q", waiting, last)
			}
			for i := range last {
				// Whether it is granted before it ends is a matter of time.
				last[i], _, _ = strings.Cut(last[i], " ")
			}
			slices.Sort(last)
			two, closing := s.multiplexed, s.closing
			if s.Close(); kept && !closing {
				k := h.Kept()
				h.keeps.stop(false)
				if k.Away != 1 {
					t.Fatalf("it is not kept: %+v", k)
				}
			} else if kept {
				h.keeps.stop(false) // it may have said bye
			}
			if st := h.Stats(); st.Locks.Locks != [shard.Kinds]int{2, 3} || st.Locks.Holders != 3 || st.Locks.Waiters != 0 || st.Sessions != 1 {
				t.Fatalf("when the stream has ended: %+v, %d sessions", st.Locks, st.Sessions)
			}
			other.Close()
			if two {
				_, after, _ := bytes.Cut(replies, []byte("2 lockd "))
				_, after, _ = bytes.Cut(after, []byte("\n"))
				after = bytes.TrimSuffix(after, []byte(wire.HTTPRefusal))
				for _, l := range strings.Split(strings.TrimSuffix(steady(after), "\n"), "\n") {
					if len(after) > 0 && !line.MatchString(l) {
						t.Fatalf("not a reply of protocol 2: %q", l)
					}
				}
			}
			return steady(replies), last, closing
		}
		want, wantLast, wantClosing := run(nil)
		got, gotLast, gotClosing := run(cuts)
		if got != want || !slices.Equal(gotLast, wantLast) || gotClosing != wantClosing {
			t.Fatalf("in pieces:\n%q %q, closing %v, in one piece:\n%q %q, closing %v", got, gotLast, gotClosing, want, wantLast, wantClosing)
		}
	})
}

// What waits is told through the waker of its stream, once for many.
func TestWakerIsTold(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	defer h.clock.stop()
	var ring bell
	holder, s := newStream(h, "1.1.1.1:1", nil), newStream(h, "2.2.2.2:2", &ring)
	script(t, holder, "g a\ng b\nsg c\n", "1 Lock Get Success: a\n1 Lock Get Success: b\n1 Shared Lock Get Success: c\n")
	script(t, s, "hello 2\n1 gw 86400000 a\n2 gw 86400000 b\n3 sgw 1 86400000 c\n4 ping\n", "2 lockd \n4 1 pong\n")
	if got := s.Settle(nil); len(got) > 0 {
		t.Fatalf("before anything is granted: %q", got)
	}
	feedAll(t, holder, []byte("r a\nr b\nsr c\n"))
	if n := ring.rung.Load(); n != 1 {
		t.Errorf("woken %d times for three grants that nobody has looked at", n)
	}
	want := "1 TOKEN Lock Get Success: a\n2 TOKEN Lock Get Success: b\n3 1 Shared Lock Get Success: c\n"
	if got := steady(s.Settle(nil)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := s.Settle(nil); len(got) > 0 {
		t.Errorf("once more: %q", got)
	}
	// Mail that comes too late finds nothing to settle.
	feedAll(t, holder, []byte("gw 0 d\n"))
	script(t, s, "1 gw 86400000 d\n", "")
	feedAll(t, holder, []byte("r d\n"))
	if got, want := steady(feedAll(t, s, []byte("1 cancel\n"))), "1 TOKEN Lock Get Success: d\n1 1 ok\n"; got != want {
		t.Errorf("canceled when it was granted already: %q, want %q", got, want)
	}
	if got := s.Settle(nil); len(got) > 0 {
		t.Errorf("settled twice: %q", got)
	}
	s.Close()
	holder.Close()
	if st := h.Stats(); st.Locks.Locks != [shard.Kinds]int{} || st.Sessions != 0 {
		t.Errorf("in the end: %+v", st)
	}
}

// However many waits are over at a time, their replies come as fast as the
// client reads them: those that were granted, and those that it hung up on.
func TestSettleOutputBound(t *testing.T) {
	const n = 2000
	cfg := testConfig()
	cfg.MaxOutput, cfg.MaxSessions = 1000, n+1
	h := newHub(cfg)
	defer h.Close()
	defer h.clock.stop()
	var ring bell
	holder, s := newStream(h, "1.1.1.1:1", nil), newStream(h, "2.2.2.2:2", &ring)
	feedAll(t, s, []byte("hello 2\n"))
	wait := func() {
		for i := range n {
			feedAll(t, holder, fmt.Appendf(nil, "g lock %d\n", i))
			feedAll(t, s, fmt.Appendf(nil, "%d gw 86400000 lock %d\n", i+1, i))
		}
	}
	settle := func() (replies []byte) {
		for s.Settles() {
			for s.Early() > 0 {
			}
			out := s.Settle(nil)
			if len(out) == 0 || len(out) > cfg.MaxOutput+64 {
				t.Fatalf("%d bytes at a time", len(out))
			}
			replies = append(replies, out...)
		}
		return replies
	}
	wait()
	for i := range n {
		feedAll(t, holder, fmt.Appendf(nil, "r lock %d\n", i))
	}
	if got := bytes.Count(settle(), []byte(" Lock Get Success: lock ")); got != n || ring.rung.Load() != 1 {
		t.Errorf("%d of %d are granted, woken %d times", got, n, ring.rung.Load())
	}
	for i := range n {
		feedAll(t, s, fmt.Appendf(nil, "%d r lock %d\n", i+1, i))
	}
	wait()
	s.HangUp()
	if got := bytes.Count(settle(), []byte(" 0 Lock Get Canceled: lock ")); got != n {
		t.Errorf("%d of %d are canceled", got, n)
	}
	s.Close()
	holder.Close()
}

// A stream that ends while its sessions wait, or have been granted locks that
// they do not know of, leaves nothing behind.
func TestEndOfWaitingSessions(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	defer h.clock.stop()
	var ring bell
	holder, s, next := newStream(h, "1.1.1.1:1", nil), newStream(h, "2.2.2.2:2", &ring), newStream(h, "3.3.3.3:3", &ring)
	feedAll(t, holder, []byte("g a\ng b\nsg c\n"))
	feedAll(t, s, []byte("hello 2\n"))
	for i := range 20 {
		feedAll(t, s, []byte(fmt.Sprintf("%d gw 86400000 a\n", i)))
	}
	feedAll(t, s, []byte("50 gw 86400000 b\n51 sgw 1 86400000 c\n52 sgw 1 86400000 c\n"))
	feedAll(t, next, []byte("gw 86400000 a\n"))
	feedAll(t, holder, []byte("r a\nr b\nsr c\n"))
	s.Close()
	if got := string(next.Settle(nil)); got != "1 Lock Get Success: a\n" {
		t.Errorf("who came after them got %q", got)
	}
	st := h.Stats()
	if st.Locks.Locks != [shard.Kinds]int{shard.Exclusive: 1} || st.Locks.Waiters != 0 || st.Sessions != 2 {
		t.Errorf("%+v, %d sessions", st.Locks, st.Sessions)
	}
	if n := st.Waits["gone"]; n != 23 {
		t.Errorf("%d waits gone", n)
	}
	next.Close()
	holder.Close()
}
