package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// A fakeTop is a server for a poller.
type fakeTop struct {
	asked  []string
	locks  map[string][]client.TopLock // by order
	wrong  map[string]error            // by method
	kicked []string
}

func (f *fakeTop) ask(method string, args ...any) error {
	f.asked = append(f.asked, strings.TrimSpace(method+" "+fmt.Sprintln(args...)))
	return f.wrong[method]
}

func (f *fakeTop) Numbers(context.Context) (map[string]int64, error) {
	return topNumbers(time.Hour), f.ask("numbers")
}

func (f *fakeTop) Locks(_ context.Context, count int, order string) ([]client.TopLock, error) {
	err := f.ask("locks", count, order)
	return f.locks[order][:min(count, len(f.locks[order]))], err
}

func (f *fakeTop) Clients(_ context.Context, count int, order string) ([]client.Connection, error) {
	return topPictureOf(viewClients).clients, f.ask("clients", count, order)
}

func (f *fakeTop) Losses(_ context.Context, count int, name *string) ([]client.Loss, error) {
	of := "all"
	if name != nil {
		of = *name
	}
	return topPictureOf(viewLosses).losses, f.ask("losses", count, of)
}

func (f *fakeTop) Look(_ context.Context, name string) ([]client.Entry, error) {
	return topEntries(), f.ask("look", name)
}

func (f *fakeTop) Kick(_ context.Context, addr string) error {
	f.kicked = append(f.kicked, addr)
	return f.ask("kick", addr)
}

func (f *fakeTop) Version(context.Context) string { f.ask("version"); return "0.1.0" }

func pollerOf(f *fakeTop) *topPoller {
	return &topPoller{connect: func() (topSource, func(), error) {
		if err := f.ask("connect"); err != nil {
			return nil, nil, err
		}
		return f, func() { f.ask("close") }, nil
	}}
}

// TestTopAsksLittle: a picture is a few requests, each with a bound.
func TestTopAsksLittle(t *testing.T) {
	many := func(n int) (all []client.TopLock) {
		for i := range n {
			all = append(all, client.TopLock{Name: fmt.Sprint("lock ", i), Kind: client.KindExclusive, Holders: 1})
		}
		return all
	}
	for _, test := range []struct {
		keys string
		want []string
	}{
		{"", []string{"numbers", "locks 100 queue", "locks 100 oldest"}},
		{"s", []string{"numbers", "locks 100 oldest"}},
		{"<", []string{"numbers", "locks 1000 queue", "locks 1000 oldest"}}, // by name
		{"/x", []string{"numbers", "locks 1000 queue", "locks 1000 oldest"}},
		{"2", []string{"numbers", "clients 100 locks"}},
		{"2ss", []string{"numbers", "clients 100 bytes"}},
		{"3", []string{"numbers", "losses 100 all"}},
		{"\r", []string{"numbers", "locks 100 queue", "locks 100 oldest", "look lock 0", "losses 20 lock 0"}},
		{"K", []string{"numbers", "locks 1000 oldest", "clients 1000 locks"}},
		{"\r\r", []string{"numbers", "locks 1000 oldest", "clients 1000 locks"}},
	} {
		f := &fakeTop{locks: map[string][]client.TopLock{"oldest": many(2000), "queue": many(3)}}
		for i := range f.locks["oldest"] {
			f.locks["oldest"][i].Addr = "10.0.0.7:51234"
		}
		f.locks["queue"] = f.locks["oldest"][:3]
		p, m := pollerOf(f), newTopModel("x", time.Second)
		m.got(p.poll(t.Context(), m.want()))
		for _, k := range test.keys {
			m.key(map[rune]topKey{'\r': "enter"}[k] + topKey(strings.Trim(string(k), "\r")))
			if k == '\r' {
				m.got(p.poll(t.Context(), m.want()))
			}
		}
		f.asked = nil
		m.got(p.poll(t.Context(), m.want()))
		if !slices.Equal(f.asked, test.want) {
			t.Errorf("%q: it asks %q, want %q", test.keys, f.asked, test.want)
		}
	}
	m := newTopModel("x", time.Second)
	f := &fakeTop{locks: map[string][]client.TopLock{"oldest": many(2000), "queue": many(3)}}
	p := pollerOf(f)
	m.got(p.poll(t.Context(), m.want()))
	if wish, _ := m.key("end"); wish != wishAsk || m.want().count != topMost { // there are more
		t.Errorf("at the end it wishes %v, wants %+v", wish, m.want())
	}
	m.got(p.poll(t.Context(), m.want()))
	if got := len(m.rows()); got != topMost {
		t.Errorf("%d rows", got)
	}
	if got := len(m.pic.locks); got != topMost || m.pic.locks[3].Name != "lock 3" {
		t.Errorf("%d locks, %+v", got, m.pic.locks[:4])
	}
}

// TestTopFollows: a row that was chosen stays chosen, wherever it goes.
func TestTopFollows(t *testing.T) {
	m := topModelOf(viewLocks, 80, 12)
	m.key("down")
	m.key("down")
	if row, _ := m.chosen(); row.name != "api" {
		t.Fatalf("%q is chosen", row.name)
	}
	p := topPictureOf(viewLocks)
	slices.Reverse(p.locks)
	m.got(p)
	if row, _ := m.chosen(); row.name != "api" {
		t.Errorf("%q is chosen", row.name)
	}
	if page := m.page(); page.row < page.offset || page.row >= page.offset+m.room() {
		t.Errorf("row %d is chosen, and %d to %d are shown", page.row, page.offset, page.offset+m.room()-1)
	}
	p = topPictureOf(viewLocks)
	p.locks = p.locks[:1]
	m.got(p)
	if row, _ := m.chosen(); row.name != "deploy/web" {
		t.Errorf("%q is chosen when there is one left", row.name)
	}
	p = topPictureOf(viewLocks)
	p.locks = nil
	m.got(p)
	for _, k := range []topKey{"up", "down", "end", "home", "pgup", "pgdn", "enter", "K"} {
		m.key(k)
	}
	m.frame()
}

// TestTopSelectsInEverySize: the chosen row is on the screen, whatever the size.
func TestTopSelectsInEverySize(t *testing.T) {
	for height := 1; height <= 40; height++ {
		for _, width := range []int{1, 2, 5, 19, 40, 79, 80, 200} {
			for v := range views {
				m := topModelOf(v, width, height)
				for _, k := range []topKey{"end", "enter", "K", "n", "esc", "?", "j", "x", "/", "a", "esc", "down", "down"} {
					m.key(k)
					m.frame()
				}
				m = topModelOf(viewLocks, width, height)
				m.key("end")
				g := m.frame()
				if room := m.room(); room > 0 && width >= 40 && !strings.Contains(g.String(), "mail") {
					t.Fatalf("%d x %d: the last row is not there:\n%s", width, height, g)
				}
			}
		}
	}
}

// TestTopKickTakesAnAnswer: nobody is ended without a y, and none before it was said
// what will be lost.
func TestTopKickTakesAnAnswer(t *testing.T) {
	m := topModelOf(viewLocks, 80, 24)
	for _, k := range []topKey{"enter", "esc", "n", "Y", "q", " ", "K", ""} {
		m.key("K")
		p := topPictureOf(viewLocks)
		p.want = m.want()
		m.got(p)
		if m.asks == nil || m.asks.known == nil {
			t.Fatal("it does not ask")
		}
		if wish, addr := m.key(k); addr != "" || wish == wishQuit || m.asks != nil {
			t.Errorf("%q: %v, ends %q", k, wish, addr)
		}
	}
	m.key("K")
	if wish, addr := m.key("y"); addr != "" || wish != wishNothing || m.asks == nil {
		t.Errorf("a y before it is known what is lost ends %q", addr)
	}
	old := topPictureOf(viewLocks) // which was asked for before
	m.got(old)
	if m.asks.known != nil {
		t.Error("a picture of something else counts as what is lost")
	}
	p := topPictureOf(viewLocks)
	p.want = m.want()
	m.got(p)
	if wish, addr := m.key("y"); addr != "10.0.0.7:51234#1" || wish != wishAsk {
		t.Errorf("y: %v, ends %q", wish, addr)
	}
	for err, want := range map[error]string{
		nil: "ended 10.0.0.7:51234#1", client.ErrNoSuchClient: "not there any more", client.ErrNotAllowed: "only for admins", client.ErrNoKick: "too old",
	} {
		f := &fakeTop{wrong: map[string]error{"kick": err}}
		m.got(pollerOf(f).poll(t.Context(), topWant{kick: "10.0.0.7:51234#1"}))
		if !strings.Contains(m.notice, want) || !strings.Contains(m.frame().String(), want) {
			t.Errorf("%v: %q", err, m.notice)
		}
		if err == nil && f.asked[1] != "kick 10.0.0.7:51234#1" {
			t.Errorf("it asks %q", f.asked)
		}
	}
}

// TestTopConnectsAgain: when the connection is lost, it is made anew with the next
// question; what is refused loses none.
func TestTopConnectsAgain(t *testing.T) {
	f := &fakeTop{wrong: map[string]error{}}
	p, m := pollerOf(f), newTopModel("x", time.Second)
	poll := func() *topPicture {
		pic := p.poll(t.Context(), m.want())
		m.got(pic)
		return pic
	}
	poll()
	if want := []string{"connect", "numbers", "locks 100 queue", "locks 100 oldest", "version"}; !slices.Equal(f.asked, want) {
		t.Errorf("it asks %q, want %q", f.asked, want)
	}
	f.wrong["locks"] = client.ErrDisabled
	if pic := poll(); pic.lost != nil || pic.listErr != client.ErrDisabled || !strings.Contains(m.frame().String(), "--disable-dump") {
		t.Errorf("%+v", pic)
	}
	lost := fmt.Errorf("%w: %w", client.ErrLost, io.EOF)
	f.wrong["locks"], f.asked = lost, nil
	if pic := poll(); !errors.Is(pic.lost, io.EOF) || f.asked[len(f.asked)-1] != "close" || m.lost == nil {
		t.Errorf("%+v, %q", pic, f.asked)
	}
	since := m.since
	f.wrong["connect"] = lost
	for range 3 {
		poll()
	}
	if m.since != since || !strings.Contains(m.frame().String(), "closed the connection") {
		t.Errorf("it is away since %v, %v\n%s", m.since, since, m.frame())
	}
	clear(f.wrong)
	f.asked = nil
	if pic := poll(); pic.lost != nil || m.lost != nil || f.asked[0] != "connect" || !slices.Contains(f.asked, "version") {
		t.Errorf("%+v, %q", pic, f.asked)
	}
	if strings.Contains(m.frame().String(), "away") {
		t.Errorf("it is back:\n%s", m.frame())
	}
}

// TestTopPagesGetTheirOwn: what was asked for another lock is not shown as this one's.
func TestTopPagesGetTheirOwn(t *testing.T) {
	m := topModelOf(viewLocks, 80, 24)
	m.key("enter")
	late := topPictureOf(viewLocks)
	late.want = m.want()
	late.entries = topEntries()
	m.key("esc")
	m.key("down")
	m.key("enter")
	m.got(late)
	if text := m.frame().String(); !strings.Contains(text, "lock report nightly") || !strings.Contains(text, "asking ...") || strings.Contains(text, "waits 1") {
		t.Errorf("it shows\n%s", text)
	}
}

func TestTopRates(t *testing.T) {
	m := newTopModel("x", time.Second)
	at := func(uptime time.Duration, requests int64) {
		m.got(&topPicture{at: topNoon.Add(uptime), numbers: map[string]int64{"uptime_ms": uptime.Milliseconds(), "requests": requests}})
	}
	is := func(want float64, wantKnown bool, values int) {
		t.Helper()
		if got, known := m.rate("requests"); got != want || known != wantKnown || len(m.history) != values {
			t.Errorf("%v a second, %v, %d values; want %v, %v, %d", got, known, len(m.history), want, wantKnown, values)
		}
	}
	at(10*time.Second, 1000)
	is(0, false, 0)
	at(12*time.Second, 1500)
	is(250, true, 1)
	at(12*time.Second+10*time.Millisecond, 1600) // somebody asked twice
	is(250, true, 1)
	at(13*time.Second, 1600)
	is(100, true, 2)
	at(time.Second, 10) // it was started anew
	is(0, false, 0)
	at(2*time.Second, 20)
	is(10, true, 1)
	for i := range 2 * topHistory {
		at(time.Duration(3+i)*time.Second, 20)
	}
	is(0, true, topHistory)
}

func TestTopText(t *testing.T) {
	for name, want := range map[string]string{
		"plain":                     "plain",
		"":                          `""`,
		"a\x1b[2J":                  `"a\x1b[2J"`,
		"\u202eevil":                `"\u202eevil"`,
		"e\u0301":                   "e\u0301",
		"e\u0301\u0301\u0301\u0301": "e\u0301\u0301\u0301\\u0301",
		"\u0301":                    "\\u0301",
		"\xff":                      `"\xff"`,
		"\u65e5":                    "\u65e5",
	} {
		if got := legible(name); got != want {
			t.Errorf("%q is spelled %q, want %q", name, got, want)
		}
	}
	for _, test := range []struct {
		text  string
		width int
		want  string
	}{
		{"0123456789", 10, "0123456789"}, {"0123456789", 9, "0123…6789"}, {"0123456789", 4, "01…9"}, {"0123456789", 3, "012"}, {"0123456789", 0, ""},
		{"\u65e5\u672c\u8a9e\u306e", 8, "\u65e5\u672c\u8a9e\u306e"}, {"\u65e5\u672c\u8a9e\u306e", 7, "\u65e5…\u306e"}, {"e\u0301e\u0301e\u0301e\u0301e\u0301", 4, "e\u0301e\u0301…e\u0301"},
	} {
		if got := shorten(test.text, test.width, "…"); got != test.want || widthOf(got) > test.width {
			t.Errorf("%q in %d columns is %q, want %q", test.text, test.width, got, test.want)
		}
	}
	for n, want := range map[float64]string{0: "0", 999: "999", 999.6: "1.0k", 1000: "1.0k", 1234: "1.2k", 9960: "10k", 12345: "12k", 999_600: "1.0M", 16777216: "17M", 1e15: "1.0P", 1e19: "10000P"} {
		if got := short(n); got != want {
			t.Errorf("%v is %q, want %q", n, got, want)
		}
	}
	for n, want := range map[float64]string{0: "0B", 512: "512B", 1024: "1.0K", 121 << 20: "121M", 2 << 30: "2.0G"} {
		if got := shortBytes(n); got != want {
			t.Errorf("%v bytes is %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-time.Second: "0s", 0: "0s", 120 * time.Millisecond: "120ms", 3290 * time.Millisecond: "3.2s", 9999 * time.Millisecond: "9.9s",
		31 * time.Second: "31s", 90 * time.Minute: "1h30m", 50 * time.Hour: "2d2h"} {
		if got := lasting(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	for _, test := range []struct {
		used, limit int64
		levels      string
		want        string
	}{
		{0, 10, ".-#", "...."}, {1, 1000, ".-#", "-..."}, {30, 100, ".-#", "#..."}, {40, 100, ".-#", "#-.."}, {5, 10, ".-#", "##.."}, {999, 1000, ".-#", "###-"},
		{100, 100, ".-#", "####"}, {200, 100, ".-#", "####"}, {3, 0, ".-#", "...."}, {-1, 10, ".-#", "...."}, {1, 1 << 24, barLevels, "▏░░░"}, {50, 100, barLevels, "██░░"},
		{1, 1 << 24, barASCII, "-..."}, {1<<24 - 1, 1 << 24, barLevels, "███▉"},
	} {
		if got := bar(test.used, test.limit, 4, test.levels); got != test.want {
			t.Errorf("%d of %d is %q, want %q", test.used, test.limit, got, test.want)
		}
	}
	if got := bar(1, 2, 0, barLevels); got != "" {
		t.Errorf("in no columns it is %q", got)
	}
	if got := sparkline([]float64{9, 0, 1, 4, 8}, 6, " .oO"); got != " O ..O" {
		t.Errorf("%q", got)
	}
	if got := sparkline([]float64{9, 0, 1, 4, 8}, 3, " .oO"); got != ".oO" {
		t.Errorf("%q", got)
	}
}

// TestTopGrid: nothing that is put into a grid reaches beyond its cells.
func TestTopGrid(t *testing.T) {
	g := newGrid(6, 2)
	if x := g.put(4, 0, "\u65e5\u672c", stylePlain); x != 6 {
		t.Errorf("it ends at %d", x)
	}
	g.put(5, 1, "\u65e5", stylePlain) // half a column too much
	g.put(0, 1, "a\x1b[2\u202e", stylePlain)
	g.put(0, 2, "below", stylePlain)
	g.put(-1, 0, "left of it", stylePlain)
	if got, want := g.String(), "    \u65e5\na?[2?\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzTopNames: whatever things are called, and whatever is typed, a picture has
// nothing in it but characters within their cells.
func FuzzTopNames(f *testing.F) {
	for i, l := range topPictureOf(viewLocks).locks {
		f.Add(l.Name, l.Registered, 80, uint8(i))
	}
	f.Fuzz(func(t *testing.T, name, who string, width int, shown uint8) {
		width = 1 + (width&0xffff)%250
		m := newTopModel(name, time.Second)
		m.width, m.height, m.view = width, 12, topView(shown)%views
		keys := [][]topKey{{""}, {"enter"}, {"enter", "enter"}, {"K"}, {"/", topKey(name), topKey(who)}, {"/", topKey(who), "enter", "enter"}}
		for _, k := range append([]topKey{""}, keys[int(shown)/int(views)%len(keys)]...) {
			m.key(k)
			m.got(&topPicture{
				want: m.want(), at: topNoon, version: who, numbersErr: errors.New(name), kickErr: errors.New(who),
				locks:   []client.TopLock{{Name: name, Kind: client.Kind(who), Holders: 2, Addr: who, Registered: name}},
				clients: []client.Connection{{Addr: name, Registered: who, Identity: name, Transport: who, More: []string{name}}},
				losses:  []client.Loss{{Name: name, Registered: who, Why: client.Why(name), Bound: who}},
				entries: []client.Entry{{Name: name, State: client.State(who), Addr: name, Registered: who}},
			})
		}
		for i, c := range m.frame().cells {
			if strings.ContainsFunc(c.text, unshowable) || c.text != "" && i%width+widthOf(c.text) > width {
				t.Fatalf("%q in cell %d", c.text, i)
			}
		}
	})
}
