package session

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// tells has a client ask and waits for the whole reply.
func tells(t *testing.T, st *Stream, request string) string {
	t.Helper()
	rest, out, next := st.Advance([]byte(request+"\n"), nil)
	for began := time.Now(); next != Idle && next != Last; rest, out, next = st.Advance(rest, out) {
		if time.Since(began) > time.Minute {
			t.Fatalf("%s: %v with %q", request, next, out)
		}
		time.Sleep(time.Millisecond)
	}
	return string(out)
}

// Requests about the whole server as docs/protocol.md has them: which lines there are,
// in which order, and what stands in their fields.
func TestTextOverview(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	open := func(addr string, requests ...string) *Stream {
		st := newStream(h, addr, new(bell))
		t.Cleanup(st.Close)
		say(t, st, requests...)
		return st
	}
	open("a:1", "iam deploy 17", "g old", "g x", "sg s")
	open("b:1", "hello 2", "0 iam two", "1 sgw 1 60000 s", "2 gw 60000 x", "3 gw 60000 x")
	viewer := open("v:1", "rl 5 60000 1 rate")
	times := regexp.MustCompile(`\t\d+\t`)
	top := func(request string) string {
		t.Helper()
		var lines []string
		for _, line := range strings.SplitAfter(tells(t, viewer, request), "\n") {
			if f := strings.Split(line, "\t"); len(f) == 10 {
				token, err := strconv.ParseUint(f[4], 10, 64)
				if (f[1] == "exclusive") != (token > 1<<40) || err != nil {
					t.Errorf("%q: the token is %s", line, f[4])
				}
				for _, i := range []int{3, 6, 7} {
					if _, err := strconv.ParseFloat(f[i], 64); err != nil {
						t.Errorf("%q: field %d is %q", line, i, f[i])
					}
				}
				line = strings.Join([]string{f[0], f[1], f[2], f[5], f[8], f[9]}, " ")
			}
			lines = append(lines, line)
		}
		return strings.Join(lines, "")
	}
	const x, s, old = "x exclusive 1 2 a:1 deploy 17\n", "s shared 1 1 a:1 deploy 17\n", "old exclusive 1 0 a:1 deploy 17\n"
	for _, c := range []struct{ request, want string }{
		{"top 10", x + s + "1 End\n"},
		{"top 10 queue", x + s + "1 End\n"},
		{"top 1 queue", x + "1 End\n"},
		{"top 0", "0 Invalid Argument: top\n"},
		{"top 1000", x + s + "1 End\n"},
		{"top 1001", "0 Invalid Argument: top\n"},
		{"top", "0 Invalid Argument: top\n"},
		{"top 10 longest", "0 Invalid Argument: top\n"},
		{"top 10 queue oldest", "0 Invalid Argument: top\n"},
		{"clients 10 longest", "0 Invalid Argument: clients\n"},
		{"clients 1001", "0 Invalid Argument: clients\n"},
	} {
		if got := top(c.request); got != c.want {
			t.Errorf("%s: got %q, not %q", c.request, got, c.want)
		}
	}
	if got := top("top 3 oldest"); !strings.Contains(got, old) || !strings.Contains(got, x) || !strings.Contains(got, s) || !strings.HasSuffix(got, "\n1 End\n") {
		t.Errorf("top 3 oldest: %q", got)
	}

	client := func(request string) string {
		t.Helper()
		all := tells(t, viewer, request)
		for _, line := range strings.Split(strings.TrimSuffix(all, "1 End\n"), "\n") {
			if f := strings.Split(line, "\t"); line != "" && (len(f) != 9 || f[3] != "") {
				t.Errorf("%s: %q", request, line)
			}
		}
		for range 2 { // neighbours share a TAB
			all = times.ReplaceAllStringFunc(all, func(n string) string {
				if len(n) > 3 {
					return "\tN\t"
				}
				return n
			})
		}
		return all
	}
	names := func(all string) (names []string) {
		for _, line := range strings.Split(all, "\n") {
			name, _, _ := strings.Cut(line, "\t")
			names = append(names, name)
		}
		return names
	}
	if got := names(client("clients 9")); got[0] != "a:1" || len(got) != 5 || got[3] != "1 End" {
		t.Errorf("by locks: %q", got)
	}
	if got := client("clients 1 locks"); !regexp.MustCompile(`^a:1\tdeploy 17\t\t\t\w+\t1\t3\t0\t\d+\n1 End\n$`).MatchString(got) {
		t.Errorf("by locks: %q", got)
	}
	if got := client("clients 1 waits"); !regexp.MustCompile(`^b:1\ttwo\t\t\t\w+\t4\t0\t3\t\d+\n1 End\n$`).MatchString(got) {
		t.Errorf("by waits: %q", got)
	}
	if got := names(client("clients 2 bytes")); !slices.Equal(got, []string{"b:1", "a:1", "1 End", ""}) {
		t.Errorf("by bytes: %q", got)
	}
	if got := names(client("clients 2 oldest")); !slices.Equal(got, []string{"a:1", "b:1", "1 End", ""}) {
		t.Errorf("oldest: %q", got)
	}

	figures := map[string]string{}
	all := tells(t, viewer, "stats")
	for _, line := range strings.Split(all, "\n") {
		if key, n, ok := strings.Cut(line, "\t"); ok {
			figures[key] = n
		}
	}
	for key, want := range map[string]string{
		"grants": "3", "sessions": "6", "locks": "2", "shared_locks": "1", "holders": "1", "waiters": "3", "waits": "3",
		"rates": "1", "rates_allowed": "1", "rates_limited": "0", "entries": "7", "orphans": "0", "refusals": "0", "rejected": "0",
		"draining": "0", "max_memory": "0", "max_waiters": fmt.Sprint(h.cfg.Table.Waiters), "max_entries": fmt.Sprint(h.cfg.Table.Locks),
	} {
		if figures[key] != want {
			t.Errorf("stats: %s is %q, not %q", key, figures[key], want)
		}
	}
	h.Drain()
	if all := tells(t, open("late:1"), "stats"); !strings.Contains(all, "draining\t1\n") {
		t.Errorf("while it drains: %q", all)
	}
}

// With dumps disabled there are numbers, and no names.
func TestOverviewDisabled(t *testing.T) {
	cfg := testConfig()
	cfg.DisableDump = true
	h := newHub(cfg)
	defer h.Close()
	st := newStream(h, "a:1", new(bell))
	defer st.Close()
	for request, want := range map[string]string{"top 5": "0 disabled\n", "clients 5": "0 disabled\n", "losses 5": "0 disabled\n"} {
		if got := tells(t, st, request); got != want {
			t.Errorf("%s: %q", request, got)
		}
	}
	if got := tells(t, st, "stats"); !strings.HasSuffix(got, "\n1 End\n") {
		t.Errorf("stats: %q", got)
	}
}

// notMade has who asks for a census wait until it is told to be made.
func notMade(h *Hub) (make func()) {
	h.censuses.mu.Lock()
	defer h.censuses.mu.Unlock()
	h.censuses.running = true
	return h.censuses.run
}

// Who sends much behind a request that waits for a census is not listened to any more;
// it gets all replies in their order, and until the census is there it takes no time of
// the others, not even a turn's.
func TestHurriedCensusTakesNoTime(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	st := newStream(h, "a:1", new(bell))
	defer st.Close()
	run := notMade(h)
	const pings = MaxBacklog / 5 * 2
	rest, out, next := st.Advance([]byte("g x\ntop 5 oldest\n"+strings.Repeat("ping\n", pings)), nil)
	for range 5 {
		if next != Early || st.Early() == 0 {
			t.Fatalf("it goes on, by %v", next)
		}
		time.Sleep(2 * censusLook)
		rest, out, next = st.Advance(rest, out)
	}
	run()
	for began := time.Now(); next != Idle; rest, out, next = st.Advance(rest, out) {
		if time.Since(began) > time.Minute {
			t.Fatalf("%v, %d bytes are left", next, len(rest))
		}
		if next == Full {
			if pongs := strings.Count(string(out), "1 pong\n"); pongs == 0 {
				t.Fatalf("%.100q", out)
			}
			out = out[:100]
		}
	}
	if text := string(out); !strings.HasPrefix(text, "1 Lock Get Success: x\nx\texclusive\t") {
		t.Errorf("%.200q", text)
	}
}

// Whoever asks and is gone before the census is there is forgotten at once, however many
// they are.
func TestCensusForgetsWhoIsGone(t *testing.T) {
	h := newHub(testConfig())
	run := notMade(h)
	b := new(bell)
	for i := range 5000 {
		st := newStream(h, fmt.Sprint("a:", i), b)
		if _, next := advance(st, "top 5\n"); next != Waiting {
			t.Fatalf("%v", next)
		}
		if i%2 == 0 {
			st.Close()
		} else {
			defer st.Close()
		}
	}
	if n := len(h.censuses.inquires); n != 2500 {
		t.Errorf("%d wait", n)
	}
	run()
	if n := b.rung.Load(); n != 2500 || len(h.censuses.inquires) != 0 {
		t.Errorf("%d were woken, %d wait", n, len(h.censuses.inquires))
	}
	defer h.Close()
}

// Of names that are asked for once, however many, as many are known as there is room
// for, and those that are asked for often among them.
func TestBusiestIsBounded(t *testing.T) {
	var b busiest
	now := time.Now()
	b.taken = now
	for round := range 100 {
		var samples []shard.BusyName
		for i := range 500 {
			samples = append(samples, shard.BusyName{Name: fmt.Appendf(nil, "%d.%d", round, i), Requests: 64})
		}
		for i := range 10 {
			samples = append(samples, shard.BusyName{Name: fmt.Appendf(nil, "often %d", i), Requests: 640})
		}
		now = now.Add(100 * time.Millisecond)
		b.take(samples, now)
		if len(b.rates) > mostBusy {
			t.Fatalf("%d names", len(b.rates))
		}
	}
	if len(b.rates) != mostBusy {
		t.Errorf("%d names, though there are more", len(b.rates))
	}
	for i := range 10 {
		if rate := b.rate(shard.Exclusive, fmt.Sprint("often ", i)); rate < 5000 || rate > 6500 {
			t.Errorf("%d has %v a second", i, rate)
		}
	}
}

// Who asks for the first time learns of what was asked for since the server began.
func TestBusiestAtFirst(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	st := newStream(h, "a:1", new(bell))
	defer st.Close()
	for range 10000 {
		say(t, st, "g often", "r often")
	}
	if got := tells(t, st, "top 1 busiest"); !strings.HasPrefix(got, "often\texclusive\t0\t") {
		t.Errorf("%q", got)
	}
}
