package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/nylen/lockd/pkg/client"
)

// update writes the frames anew: go test ./cmd/lockd -run TestTop -update
var update = flag.Bool("update", false, "write golden files")

var topNoon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// topNumbers are a server's that has much to do.
func topNumbers(uptime time.Duration) map[string]int64 {
	s := int64(uptime.Seconds())
	return map[string]int64{
		"uptime_ms": uptime.Milliseconds(), "requests": 12345 * s, "grants": 4000 * s, "refusals": 250 * s, "orphans": s / 2, "waits": 31 * s,
		"timeouts": 0, "rates_allowed": 800 * s, "rates_limited": 12 * s, "cpu_us": 38_000 * s, "connections": 212, "sessions": 911, "locks": 8123, "shared_locks": 40,
		"waiters": 33, "memory": 121 << 20, "max_memory": 2 << 30, "entries": 8423, "max_entries": 1 << 24, "max_waiters": 1 << 20, "max_connections": 230,
	}
}

func topPictureOf(view topView) *topPicture {
	p := &topPicture{want: topWant{view: view}, at: topNoon, numbers: topNumbers(76 * time.Hour)}
	x, sh := client.KindExclusive, client.KindShared
	p.locks = []client.TopLock{
		{Name: "deploy/web", Kind: x, Holders: 1, Held: 77 * time.Second, Token: 1795709138013407, Queue: 12, OldestWait: 31 * time.Second, Busy: 45.2, Addr: "10.0.0.7:51234#1", Registered: "www-data@web3 31164 make"},
		{Name: "report nightly", Kind: x, Holders: 1, Held: 3*time.Hour + 5*time.Minute, Token: 1795709138013001, Queue: 2, OldestWait: 240 * time.Millisecond, Busy: 0.5, Addr: "10.0.0.9:40112", Registered: "10.0.0.9:40112"},
		{Name: "api", Kind: sh, Holders: 5, Held: 8 * time.Second, Queue: 1, OldestWait: 1200 * time.Millisecond, Busy: 1234.5, Addr: "10.0.0.8:5511#3", Registered: "web-1:shop:4711"},
		{Name: "a/very/long/name/of/a/lock/that/does/not/fit/into/its/column/at/all/42", Kind: x, Holders: 1, Held: 50 * time.Hour, Token: 1795709138013002, Addr: "unix:7", Registered: "root@db1 77 cron"},
		{Name: "\u65e5\u672c\u8a9e\u306e\u540d\u524d", Kind: x, Holders: 1, Held: time.Second, Token: 1795709138013003, Addr: "[2001:db8::1]:443", Registered: "[2001:db8::1]:443"},
		{Name: "\x1b]0;owned\x07\x1b[2J<script>", Kind: x, Holders: 1, Held: time.Second, Token: 1795709138013004, Addr: "10.0.0.1:1", Registered: "evil\u202ename"},
		{Name: "only waited for", Kind: x, Queue: 3, OldestWait: 5 * time.Second, Busy: 2},
		{Name: "mail", Kind: client.KindRate, Busy: 12},
	}
	p.clients = []client.Connection{
		{Addr: "10.0.0.7:51234", Registered: "www-data@web3 31164 make", Transport: "tcp", Identity: "ci", Age: 77 * time.Second, Sessions: 2, Locks: 1, Bytes: 512},
		{Addr: "10.0.0.9:40112", Transport: "websocket", Identity: "backup", Age: 4 * time.Hour, Sessions: 1, Locks: 1, Bytes: 88 << 10},
		{Addr: "unix:7", Transport: "unix", Age: 50 * time.Hour, Sessions: 1, Locks: 1, Waits: 12, Bytes: 5 << 20, More: []string{"pid=77 uid=0 program=cron"}},
	}
	p.losses = []client.Loss{
		{Name: "deploy/web", Kind: x, What: client.LostHeld, Why: client.WhyDisconnect, Seq: 10, Ago: 12 * time.Second, Lasted: 45 * time.Second, Token: 1795709138013000, Addr: "10.0.0.4:999", Registered: "www-data@web1 311 make", Waiting: 3},
		{Name: "deploy/web", Kind: x, What: client.LostWaited, Why: client.WhyKick, Seq: 9, Ago: 70 * time.Second, Lasted: 33 * time.Second, Addr: "10.0.0.3:70", Registered: "impatient"},
		{Name: "report nightly", Kind: x, What: client.LostHeld, Why: client.WhyDeadPeer, Seq: 8, Ago: 10 * time.Minute, Lasted: 3 * time.Hour, Token: 1795709138012000, Addr: "10.0.0.5:1000"},
		{Name: "api", Kind: sh, What: client.LostRefused, Why: client.WhyRefused, Bound: "too_many_locks", Seq: 7, Ago: 26 * time.Hour, Addr: "10.0.0.6:1", Registered: "web-2:shop:11", Times: 17},
		{Kind: x, What: client.LostHeld, Why: client.WhyKick, Seq: 6, Ago: 27 * time.Hour, Addr: "10.0.0.6:1", Registered: "web-2:shop:11", More: 998000},
	}
	p.version = "0.1.0"
	return p
}

// topModelOf is a model that has seen two pictures.
func topModelOf(view topView, width, height int) *topModel {
	m := newTopModel("tcp://127.0.0.1:9999", time.Second)
	m.width, m.height, m.view = width, height, view
	before := topPictureOf(view)
	before.at, before.numbers = topNoon.Add(-time.Second), topNumbers(76*time.Hour-time.Second)
	m.got(before)
	m.got(topPictureOf(view))
	r := rand.New(rand.NewPCG(1, 2))
	m.history = nil
	for range 100 {
		m.history = append(m.history, 5000+5000*r.Float64())
	}
	return m
}

// goldenFrame compares a frame with the one in testdata.
func goldenFrame(t *testing.T, name string, m *topModel) {
	t.Helper()
	g := m.frame()
	if g.width != m.width || g.height != m.height {
		t.Fatalf("%s: a frame of %d x %d for %d x %d", name, g.width, g.height, m.width, m.height)
	}
	got := g.String()
	for _, r := range got {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%s: there is %U in a frame", name, r)
		}
	}
	for line := range strings.Lines(got) {
		if n := widthOf(strings.TrimSuffix(line, "\n")); n > m.width {
			t.Errorf("%s: %d columns: %q", name, n, line)
		}
	}
	path := filepath.Join("testdata", "top", name+".txt")
	if *update {
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
	}
}

func TestTopFrames(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {200, 50}, {40, 10}} {
		at := fmt.Sprintf("-%dx%d", size[0], size[1])
		for v := range views {
			goldenFrame(t, strings.ToLower(v.String())+at, topModelOf(v, size[0], size[1]))
		}
		lock := topModelOf(viewLocks, size[0], size[1])
		lock.key("enter")
		p := topPictureOf(viewLocks)
		p.want = lock.want()
		p.entries = topEntries()
		p.lossesOf = p.losses[:2]
		lock.got(p)
		goldenFrame(t, "lock"+at, lock)

		own := topModelOf(viewClients, size[0], size[1])
		own.key("enter")
		p = topPictureOf(viewClients)
		p.want = own.want()
		own.got(p)
		goldenFrame(t, "client"+at, own)

		kick := topModelOf(viewLocks, size[0], size[1])
		kick.key("K")
		goldenFrame(t, "kick-asking"+at, kick)
		p = topPictureOf(viewLocks)
		p.want = kick.want()
		kick.got(p)
		goldenFrame(t, "kick"+at, kick)

		help := topModelOf(viewLocks, size[0], size[1])
		help.key("?")
		goldenFrame(t, "help"+at, help)

		away := topModelOf(viewLocks, size[0], size[1])
		away.got(&topPicture{at: topNoon.Add(time.Second), lost: client.ErrTimeout})
		away.now = topNoon.Add(13 * time.Second)
		goldenFrame(t, "away"+at, away)

		filter := topModelOf(viewLocks, size[0], size[1])
		for _, k := range "/de" {
			filter.key(topKey(k))
		}
		goldenFrame(t, "filter"+at, filter)
	}
	disabled := topModelOf(viewLocks, 80, 24)
	disabled.got(&topPicture{at: topNoon, numbers: topNumbers(77 * time.Hour), listErr: client.ErrDisabled})
	goldenFrame(t, "disabled", disabled)
	role := newTopModel("tcp://127.0.0.1:9999", time.Second)
	role.got(&topPicture{at: topNoon, numbersErr: client.ErrNotAllowed, listErr: client.ErrNotAllowed})
	goldenFrame(t, "role-lock", role)
	ascii := topModelOf(viewLocks, 80, 24)
	ascii.ascii = true
	goldenFrame(t, "ascii", ascii)
	goldenFrame(t, "before-any", newTopModel("tcp://127.0.0.1:9999", time.Second))
}

// TestTopInREADME: the picture there is one that there can be.
func TestTopInREADME(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	frame, err := os.ReadFile("testdata/top/locks-80x24.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "<!-- top -->\n```\n")
	shown, _, _ := strings.Cut(rest, "```\n")
	if !found || !strings.HasPrefix(string(frame), shown) || strings.Count(shown, "\n") < 8 {
		t.Errorf("the README shows\n%s\nand a frame is\n%s", shown, frame)
	}
}

func topEntries() []client.Entry {
	return []client.Entry{
		{Name: "deploy/web", Kind: client.KindExclusive, State: client.StateHeld, Since: 77 * time.Second, Token: 1795709138013407, Addr: "10.0.0.7:51234#1", Registered: "www-data@web3 31164 make#1"},
		{Name: "deploy/web", Kind: client.KindExclusive, State: client.StateWaits, Since: 31 * time.Second, Addr: "10.0.0.8:5511#3", Registered: "web-1:shop:4711#3"},
		{Name: "deploy/web", Kind: client.KindExclusive, State: client.StateWaits, Since: 3 * time.Second, Addr: "10.0.0.8:5511#4", Registered: "\x1b[31mred"},
		{Name: "deploy/web", Kind: client.KindRate, State: client.StateOpen, Since: 3 * time.Second, Count: 7},
	}
}
