//go:build unix

package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Getenv("LOCKD_SOAK") != "" {
		exit(child(os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

// A short soak finds nothing, and has had some of everything.
func TestSoak(t *testing.T) {
	for name, open := range map[string]bool{"asked": false, "open": true} {
		t.Run(name, func(t *testing.T) { testSoak(t, open) })
	}
}

func testSoak(t *testing.T, open bool) {
	var out strings.Builder
	d := 8 * time.Second
	if open {
		d /= 2
	}
	if text := os.Getenv("LOCKD_STRESS"); text != "" {
		var err error
		if d, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	err := soak(&out, options{duration: d, clients: 26, seed: uint64(time.Now().UnixNano()), every: 5 * time.Second, open: open})
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	for kind := range deeds {
		if !strings.Contains(out.String(), kind) && !(open && kind == "prier") {
			t.Errorf("no %s has acted", kind)
		}
	}
	for _, id := range (addresses{Open: open}).identities() {
		if !strings.Contains(out.String(), id.title()) {
			t.Errorf("nobody has come as %s", id.title())
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
	// While a process dies, its file may be free a moment later than its lock.
	if err := os.WriteFile(filepath.Join(dir, dying), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.enter(1<<52 + 1); err != nil {
		t.Fatal(err)
	}
	entered := make(chan error)
	go func() { entered <- b.enter(1<<52 + 2) }()
	time.Sleep(10 * time.Millisecond) // or it comes after the end of the other: fine, too
	a.leave()
	if err := <-entered; err != nil {
		t.Errorf("after a process that was dying: %v", err)
	}
	b.leave()
	if err := a.enter(1<<52 + 3); err != nil {
		t.Fatal(err)
	}
	go func() { entered <- b.enter(1<<52 + 4) }()
	if err := os.Remove(filepath.Join(dir, dying)); err != nil {
		t.Fatal(err)
	}
	if err := <-entered; !errors.As(err, new(breach)) {
		t.Errorf("beside somebody who does not die: %v", err)
	}
	a.leave()
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
	before := report{"go_goroutines": 3, "process_open_fds": 4, "process_resident_memory_bytes": 20 << 20}
	well := func() report {
		r := maps.Clone(before)
		maps.Copy(r, report{
			`lockd_sessions`: 0, `lockd_wait_total{result="granted"}`: 1, `lockd_wait_total{result="gone"}`: 1, `lockd_wait_seconds_count`: 2,
			`lockd_acquire_total{kind="exclusive",result="acquired"}`: 3, `lockd_released_total{kind="exclusive"}`: 2, `lockd_orphans_total{kind="exclusive"}`: 1,
			`lockd_acquire_total{kind="shared",result="acquired"}`: 1, `lockd_released_total{kind="shared"}`: 1,
		})
		return r
	}
	if all := left(before, well()); len(all) > 0 {
		t.Errorf("a server that is well: %q", all)
	}
	for key, more := range (report{
		"go_goroutines": 1, "process_open_fds": 1, "process_resident_memory_bytes": 200 << 20, "lockd_sessions": 1, "lockd_waiters": 1,
		`lockd_locks_held{kind="exclusive"}`: 1, `lockd_connections{transport="tls"}`: 1, `lockd_orphans_total{kind="exclusive"}`: 1,
		`lockd_wait_total{result="gone"}`: 1, "lockd_dead_clients_total": 1,
	}) {
		r := well()
		r[key] += more
		if all := left(before, r); len(all) != 1 {
			t.Errorf("%s: %q", key, all)
		}
	}
}

// What is told to somebody who may not hear it is seen.
func TestHear(t *testing.T) {
	for _, c := range []struct {
		role, got string
		ok        bool
	}{
		{"lock:" + prefix, "1 Lock Get Success: " + prefix + "lock0", true},
		{"lock:" + prefix, secretName + ": " + guardian, false},
		{"lock:" + prefix, "map[]", false},
		{"", "command_g: 3", false},
		{"read", secretName + ": " + guardian, true},
		{"admin", "map[]", true},
	} {
		l := &line{who: caller{identity: identity{role: c.role}}}
		if err := l.hear(c.got); errors.As(err, new(breach)) == c.ok {
			t.Errorf("%q is told %q: %v", c.role, c.got, err)
		}
	}
}

func TestReadReport(t *testing.T) {
	r, err := readReport(strings.NewReader("# HELP a b\na 3\nb{c=\"d e\"} 1.5e3\n\n"))
	if err != nil || len(r) != 2 || r["a"] != 3 || r[`b{c="d e"}`] != 1500 {
		t.Errorf("%v, %v", r, err)
	}
}
