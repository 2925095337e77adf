package conn

import (
	"testing"
	"time"
)

// TestKeepAliveFor: keep-alive never ends a connection before H, and soon after; and
// an idle connection is asked no more than every 15 s where H allows.
func TestKeepAliveFor(t *testing.T) {
	for h := 2 * time.Second; h <= time.Hour; h += 250 * time.Millisecond {
		c := keepAliveFor(h)
		ends := c.Idle + time.Duration(c.Count)*c.Interval
		if ends < h || ends > h+h/5+time.Second {
			t.Fatalf("H is %v, and it ends after %v", h, ends)
		}
		if c.Idle < time.Second || c.Interval < time.Second || c.Count < 1 || c.Count > 127 {
			t.Fatalf("H is %v: %+v", h, c)
		}
		if h >= 20*time.Second && c.Idle != 15*time.Second {
			t.Fatalf("H is %v, and it asks after %v", h, c.Idle)
		}
	}
	if c := keepAliveFor(20 * time.Second); c.Idle+time.Duration(c.Count)*c.Interval != 20*time.Second {
		t.Errorf("%+v", c)
	}
}

// TestDead: silence alone is no death: something must have been unanswered at two
// looks, and for as long as a client may be silent.
func TestDead(t *testing.T) {
	const h = 20 * time.Second
	for _, c := range []struct {
		h      heard
		before bool
		dead   bool
	}{
		{heard{ago: time.Hour}, true, false},                           // nobody has asked
		{heard{ago: time.Hour, pending: true}, true, false},            // its window is closed, and it answers
		{heard{ago: h, unanswered: true, pending: true}, false, false}, // it was asked only now
		{heard{ago: h - 1, unanswered: true, pending: true}, true, false},
		{heard{ago: h, unanswered: true, pending: true}, true, true},
	} {
		if got := c.h.dead(c.before, h); got != c.dead {
			t.Errorf("%+v, %v: %v", c.h, c.before, got)
		}
	}
	now := time.Now()
	w := wanting{since: now}
	silent := heard{ago: time.Minute, unanswered: true, pending: true}
	if w.dead(silent, now) || w.dead(silent, now.Add(wantedLeast-1)) {
		t.Error("wanted only now, and dead for what was before")
	}
	if !w.dead(silent, now.Add(wantedLeast)) {
		t.Error("it has had its time")
	}
	if w.dead(heard{ago: wantedLimit - 1, unanswered: true}, now.Add(time.Hour)) {
		t.Error("it was heard")
	}
}

// TestPulse: who answers pings by itself is dead when it leaves one unanswered; who
// has never done so is not, and neither is sent a second one.
func TestPulse(t *testing.T) {
	const h = 20 * time.Second
	s := NewServer(testConfig())
	at := func(d time.Duration) time.Time { return s.began.Add(d) }
	p := new(pulse)
	look := func(d time.Duration, wanted bool, want pulseNext) {
		t.Helper()
		_, next := p.look(s, at(d), wanted)
		if next == pulseAsk {
			p.asked(s, at(d))
		}
		if next != want {
			t.Errorf("after %v, wanted %v: %d, want %d", d, wanted, next, want)
		}
	}
	want := func(d time.Duration, next pulseNext) { t.Helper(); look(d, false, next) }
	wanted := func(d time.Duration, next pulseNext) { t.Helper(); look(d, true, next) }
	responding := func() { // who answers the first ping by itself
		t.Helper()
		p = new(pulse)
		want(firstPing, pulseAsk)
		p.beat()
		p.answered()
	}
	want(firstPing-1, pulseFine)
	want(firstPing, pulseAsk)
	for d := 2 * time.Second; d < time.Hour; d += time.Second {
		want(d, pulseFine) // it has never answered
	}
	p.beat()
	p.spoke() // a request, behind which the program reads, and so answers
	p.answered()
	want(time.Hour, pulseFine)
	want(time.Hour+h*5/8, pulseAsk)
	want(2*time.Hour, pulseFine)

	responding()
	want(2*time.Second, pulseFine)
	want(2*time.Second+h*5/8, pulseAsk)
	want(2*time.Second+h-time.Millisecond, pulseFine)
	want(2*time.Second+h, pulseFine) // its answer may be here, and unread
	want(2*time.Second+h, pulseDead)
	p.beat()
	want(2*time.Second+h, pulseFine) // it was heard

	// One look that comes late, since the server was stopped, kills nobody.
	responding()
	want(2*time.Second, pulseFine)
	want(2*time.Second+h*5/8, pulseAsk)
	want(time.Hour, pulseFine)
	p.beat()
	p.answered()
	want(time.Hour+1, pulseFine)
	want(time.Hour+h*5/8+1, pulseAsk)
	want(2*time.Hour, pulseFine)
	want(2*time.Hour+1, pulseDead)

	// Wanted, it is asked at once, and has some seconds.
	responding()
	want(10*time.Second, pulseFine)
	wanted(11*time.Second, pulseAsk)
	wanted(11*time.Second+wantedLeast-time.Millisecond, pulseFine)
	wanted(10*time.Second+wantedLimit, pulseFine)
	wanted(10*time.Second+wantedLimit, pulseDead)
	p.beat()
	p.answered()
	wanted(15*time.Second, pulseAsk)
	p.answered()
	wanted(15*time.Second+wantedEvery-time.Millisecond, pulseFine)
}
