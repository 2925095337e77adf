package kept

import (
	"testing"
	"time"
)

const s = time.Second

func TestAsk(t *testing.T) {
	for _, c := range []struct{ span, stop, keep time.Duration }{
		{19 * s, 0, 20 * s},
		{9 * s, 10 * s, 20 * s},
		{0, 0, 0},
		{time.Millisecond, 0, 2 * time.Millisecond}, // whole ones, and never less
		{950 * time.Millisecond, 0, s},
		{951 * time.Millisecond, 0, 1002 * time.Millisecond},
		{24 * 3600 * s, 0, 90947369 * time.Millisecond},
	} {
		if got := Ask(c.span, c.stop); got != c.keep {
			t.Errorf("Ask(%v, %v) = %v, want %v", c.span, c.stop, got, c.keep)
		}
		if got := Span(c.keep, c.stop); got < c.span {
			t.Errorf("of %v that were asked for there are %v, want %v", c.keep, got, c.span)
		}
	}
	for span := time.Duration(0); span < 50*time.Millisecond; span += 12345 {
		if got := Span(Ask(span, 7*time.Millisecond), 7*time.Millisecond); got < span {
			t.Fatalf("asked for %v and got %v", span, got)
		}
	}
}

func TestSpan(t *testing.T) {
	for _, c := range []struct{ keep, stop, span time.Duration }{
		{20 * s, 0, 19 * s},
		{20 * s, 10 * s, 9 * s},
		{20 * s, 19 * s, 0},
		{10 * s, 20 * s, 9500*time.Millisecond - 20*s},
		{1 << 62, 0, 1<<62/20*19 + 1<<62%20*19/20}, // no overflow
	} {
		if got := Span(c.keep, c.stop); got != c.span {
			t.Errorf("Span(%v, %v) = %v, want %v", c.keep, c.stop, got, c.span)
		}
	}
}

// A step is what a client notes, or asks, at a time.
type step struct {
	now  time.Duration
	what string
	sent time.Duration
	open time.Duration
	ok   bool          // it was in time
	left time.Duration // after it
}

// TestLease: each table begins with a client that asked at 100 s to be kept for 20 s, and
// stops within 4: so it has 15.
func TestLease(t *testing.T) {
	for name, steps := range map[string][]step{
		"counts from the sending, not from the answer": {
			{100 * s, "look", 0, 0, true, 15 * s},
			{110 * s, "answered", 105 * s, 0, true, 10 * s}, // until 120
			{119 * s, "look", 0, 0, true, 1 * s},
			{120 * s, "look", 0, 0, false, 0},
		},
		"an older request that is answered later": {
			{110 * s, "answered", 109 * s, 0, true, 14 * s},
			{111 * s, "answered", 101 * s, 0, true, 13 * s},
		},
		"an answer at the very end is too late, and so is what follows": {
			{115 * s, "answered", 114 * s, 0, false, 0},
			{115 * s, "answered", 114 * s, 0, false, 0},
			{115 * s, "claims open", 114 * s, 20 * s, false, 0},
			{115 * s, "claimed", 114 * s, 0, false, 0},
			{100 * s, "look", 0, 0, false, 0}, // also by a clock that goes back
		},
		"an answer just before the end is not": {
			{115*s - 1, "answered", 114 * s, 0, true, 14*s + 1},
		},
		"one that only looked at the end": {
			{115 * s, "look", 0, 0, false, 0},
			{114 * s, "answered", 113 * s, 0, false, 0},
		},
		"claims have their own time, if it is later": {
			{110 * s, "claims open", 108 * s, 20 * s, true, 13 * s}, // 108 + 19 - 4 = 123
		},
		"claims that are open for less shorten nothing": {
			{110 * s, "claims open", 108 * s, 2 * s, true, 5 * s},
		},
		"while there are claims nothing else moves it": {
			{110 * s, "claims open", 108 * s, 10 * s, true, 5 * s}, // 108 + 9.5 - 4 = 113.5 is earlier
			{112 * s, "answered", 111 * s, 0, true, 3 * s},
			{114 * s, "answered", 113 * s, 0, true, 1 * s},
			{115 * s, "answered", 114 * s, 0, false, 0},
		},
		"until they are made": {
			{110 * s, "claims open", 108 * s, 10 * s, true, 5 * s},
			{112 * s, "answered", 111 * s, 0, true, 3 * s},
			{113 * s, "claimed", 110 * s, 0, true, 13 * s}, // a ping behind it was answered, and counts now
			{114 * s, "answered", 113 * s, 0, true, 14 * s},
		},
		"another loss of the connection while there are claims": {
			{104 * s, "claims open", 103 * s, 18 * s, true, 12100 * time.Millisecond}, // 103 + 17.1 - 4
			{110 * s, "claims open", 109 * s, 12 * s, true, 6400 * time.Millisecond},  // 109 + 11.4 - 4
			{111 * s, "claimed", 110 * s, 0, true, 14 * s},
		},
		"claimed without a restart is an answer": {
			{110 * s, "claimed", 109 * s, 0, true, 14 * s},
		},
	} {
		l := New(20*s, 4*s, 100*s)
		for i, st := range steps {
			ok := true
			switch st.what {
			case "answered":
				ok = l.Answered(st.now, st.sent)
			case "claims open":
				ok = l.ClaimsOpen(st.now, st.sent, st.open)
			case "claimed":
				ok = l.Claimed(st.now, st.sent)
			case "look":
				ok = !l.Expired(st.now)
			}
			if left := l.Left(st.now); ok != st.ok || left != st.left {
				t.Errorf("%s, step %d: %s: %v, %v left; want %v, %v", name, i+1, st.what, ok, left, st.ok, st.left)
			}
		}
	}
}

func TestNow(t *testing.T) {
	before := Now()
	time.Sleep(20 * time.Millisecond)
	if passed := Now() - before; passed < 19*time.Millisecond {
		t.Errorf("of 20 ms, %v have passed", passed)
	}
}

func TestSkew(t *testing.T) {
	defer Skew(1)
	for _, by := range []float64{0.5, 2} {
		Skew(1)
		a := Now()
		Skew(by)
		b := Now()
		Skew(1)
		c := Now()
		if low, high := time.Duration(by*float64(a)), time.Duration(by*float64(c))+1; b < low || b > high {
			t.Errorf("%v times: %v, want %v to %v", by, b, low, high)
		}
	}
}
