//go:build unix

package main

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Getenv("LOCKD_SOAK") != "" {
		exit(child(os.Args[1], os.Args[2:]))
	}
	os.Exit(m.Run())
}

// A short soak finds nothing, and has had some of everything.
func TestSoak(t *testing.T) {
	var out strings.Builder
	d := 10 * time.Second
	if text := os.Getenv("LOCKD_STRESS"); text != "" {
		var err error
		if d, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	err := soak(&out, options{duration: d, clients: 16, seed: uint64(time.Now().UnixNano()), every: 5 * time.Second})
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	for kind := range deeds {
		if !strings.Contains(out.String(), kind) {
			t.Errorf("no %s has acted", kind)
		}
	}
}

// The witness does see what must not be.
func TestWitness(t *testing.T) {
	dir := t.TempDir()
	open := func(limit int) *witness {
		w, err := newWitness(dir, "x", limit)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.close)
		return w
	}
	a, b := open(1), open(1)
	if err := a.enter(5); err != nil {
		t.Fatal(err)
	}
	if err := b.enter(6); !errors.As(err, new(breach)) {
		t.Errorf("two holders: %v", err)
	}
	a.leave()
	for _, c := range []struct {
		token uint64
		ok    bool
	}{{5, false}, {4, false}, {6, true}, {6, false}, {1 << 52, true}, {7, false}} {
		if err := b.enter(c.token); errors.As(err, new(breach)) == c.ok {
			t.Errorf("token %d: %v", c.token, err)
		}
		b.leave()
	}
	shares := []*witness{open(2), open(2), open(2)}
	for i, w := range shares {
		if err := w.enter(0); errors.As(err, new(breach)) != (i == 2) {
			t.Errorf("holder %d of 2: %v", i+1, err)
		}
	}
	r := &rates{begun: time.Now()}
	if err := r.took(rateLimit); err != nil {
		t.Error(err)
	}
	if err := r.took(1000 * rateLimit); !errors.As(err, new(breach)) {
		t.Errorf("too many units: %v", err)
	}
}

// And so is what was left behind told.
func TestLeft(t *testing.T) {
	before := report{Goroutines: 3, Descriptors: 4}
	well := func() report {
		return report{3, 4, 0, map[string]float64{
			"lockd_sessions": 0, "lockd_acquire_total kind=exclusive result=acquired": 3, "lockd_released_total kind=exclusive": 2, "lockd_orphans_total kind=exclusive": 1,
			"lockd_acquire_total kind=shared result=acquired": 1, "lockd_released_total kind=shared": 1,
		}}
	}
	if all := left(before, well()); len(all) > 0 {
		t.Errorf("a server that is well: %q", all)
	}
	for name, harm := range map[string]func(*report){
		"goroutine":  func(r *report) { r.Goroutines++ },
		"descriptor": func(r *report) { r.Descriptors++ },
		"session":    func(r *report) { r.Metrics["lockd_sessions"] = 1 },
		"lock":       func(r *report) { r.Metrics["lockd_locks_held kind=exclusive"] = 1 },
		"waiter":     func(r *report) { r.Metrics["lockd_waiters"] = 1 },
		"count":      func(r *report) { r.Metrics["lockd_orphans_total kind=exclusive"]++ },
	} {
		r := well()
		harm(&r)
		if all := left(before, r); len(all) != 1 {
			t.Errorf("%s: %q", name, all)
		}
	}
}
