package client

import (
	"testing"
	"time"
)

// TestPatience: a client's time is within the server's, and so is its stop where
// that is possible.
func TestPatience(t *testing.T) {
	for _, c := range []struct{ h, readTimeout, stop, want time.Duration }{
		{0, 15 * time.Second, 0, 15 * time.Second}, // an old server
		{20 * time.Second, 15 * time.Second, 0, 15 * time.Second},
		{20 * time.Second, 30 * time.Second, 0, 15 * time.Second},
		{20 * time.Second, time.Second, 0, time.Second},
		{20 * time.Second, 20 * time.Second, 10 * time.Second, 8 * time.Second}, // lockd run
		{20 * time.Second, 20 * time.Second, time.Hour, 5 * time.Second},
		{2 * time.Second, 15 * time.Second, 0, 1500 * time.Millisecond},
		{20 * time.Second, -1, 0, 0},
	} {
		if got := (limits{deadPeer: c.h}).patience(c.readTimeout, c.stop); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	for text, want := range map[string]time.Duration{
		"dead_peer_ms=20000 max_keep_ms=0": 20 * time.Second, "x=1 dead_peer_ms=2500 y": 2500 * time.Millisecond,
		"": 0, "dead_peer_ms=": 0, "dead_peer_ms=-1": 0, "dead_peer_ms=99999999999999999999": 0, "DEAD_PEER_MS=1": 0,
	} {
		if got := parseLimits([]byte(text)).deadPeer; got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestPardon: a holder on a machine that is slow, but not stopped, is still first to
// know: with its pardon its time ends before the server's. One that was stopped is
// given time to read.
func TestPardon(t *testing.T) {
	for _, h := range []time.Duration{2 * time.Second, 20 * time.Second, time.Hour} {
		d := limits{deadPeer: h}.patience(time.Hour, 0)
		nap := d / naps
		for late := time.Duration(0); late < nap; late += nap / 100 {
			if p := pardon(late, nap); p <= 0 || d+late+p >= h {
				t.Errorf("H %v: late by %v: another %v", h, late, p)
			}
		}
		if p := pardon(nap, nap); p != nap {
			t.Errorf("H %v: stopped, and then %v", h, p)
		}
	}
}
