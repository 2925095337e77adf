package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/server"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// gather returns a server's metrics, by name.
func gather(t *testing.T, s *server.Server) map[string]*dto.MetricFamily {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.Collector())
	families, err := registry.Gather()
	must(t, err)
	byName := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// Names that are watched have metrics of their own, also those that nobody has used;
// no others have.
func TestWatchNames(t *testing.T) {
	t.Parallel()
	names := []string{"deploy", "a, b", `"ü\{}`, "idle"}
	s := start(t, server.Options{WatchNames: names})
	names[0] = "changed later" // by the caller, which is of no use
	holder, other, third := s.dial(t, "tcp"), s.dial(t, "tcp"), s.dial(t, "memory")
	holder.ask("g deploy", "1 Lock Get Success: deploy")
	holder.ask("g secret", "1 Lock Get Success: secret")
	holder.ask("sg a, b", "1 Shared Lock Get Success: a, b")
	other.ask("sg a, b", "2 Shared Lock Get Success: a, b")
	other.ask(`g "ü\{}`, `1 Lock Get Success: "ü\{}`)
	other.ask("rl 10 86400000 4 a, b", "10 Rate Allowed: a, b")
	third.send("gw 60000 deploy\n")
	eventually(t, "one waits", func() bool { return metric(t, s.Server, "lockd_waiters") == 1 })
	want := map[string]float64{
		"holders deploy exclusive": 1, "waiters deploy exclusive": 1, "holders a, b shared": 2, `holders "ü\{} exclusive`: 1, "open a, b": 6,
	}
	got := make(map[string]float64)
	for family, f := range gather(t, s.Server) {
		what, ok := strings.CutPrefix(family, "lockd_watched_")
		if !ok {
			if strings.Contains(f.String(), "deploy") {
				t.Errorf("%s has a name: %v", family, f)
			}
			continue
		}
		for _, m := range f.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["name"] == "secret" {
				t.Errorf("%s has a name that is not watched", family)
			}
			key := strings.TrimSpace(strings.TrimPrefix(what, "rate_") + " " + labels["name"] + " " + labels["kind"])
			got[key] = m.GetGauge().GetValue()
		}
	}
	for _, name := range []string{"deploy", "a, b", `"ü\{}`, "idle"} {
		for _, kind := range []string{"exclusive", "shared"} {
			for _, what := range []string{"holders", "waiters"} {
				key := fmt.Sprint(what, " ", name, " ", kind)
				if v, ok := got[key]; !ok || v != want[key] {
					t.Errorf("%s: %v (%v), want %v", key, v, ok, want[key])
				}
			}
			for _, what := range []string{"held_seconds", "oldest_wait_seconds"} {
				if v, ok := got[fmt.Sprint(what, " ", name, " ", kind)]; !ok || v < 0 {
					t.Errorf("%s %s %s: %v (%v)", what, name, kind, v, ok)
				}
			}
		}
	}
	if got["open a, b"] != 6 || len(got) != 4*2*4+1 {
		t.Errorf("%d series, %v units are open", len(got), got["open a, b"])
	}
	eventually(t, "times pass", func() bool {
		now := gather(t, s.Server)
		return now["lockd_watched_held_seconds"].String() != gather(t, s.Server)["lockd_watched_held_seconds"].String() &&
			now["lockd_oldest_wait_seconds"].GetMetric()[0].GetGauge().GetValue() > 0
	})
	// A look is no request.
	if n := metric(t, s.Server, "lockd_commands_total", "command=i"); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// Names that no request can have, or no label, are refused, and so is one too many.
func TestWatchNamesOptions(t *testing.T) {
	t.Parallel()
	many := func(n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprint(i))
		}
		return names
	}
	for _, c := range []struct {
		names []string
		wrong string
	}{
		{nil, ""}, {[]string{"a", "a b", "ü", "x,y"}, ""}, {many(server.MaxWatchNames), ""}, {many(server.MaxWatchNames + 1), "at most 100"},
		{[]string{"a", ""}, "must not be empty"}, {[]string{"a", "a"}, "twice"}, {[]string{"\xff"}, "UTF-8"},
		{[]string{" a"}, "no request"}, {[]string{"a  b"}, "no request"}, {[]string{"a\tb"}, "no request"}, {[]string{"a\nb"}, "no request"},
		{[]string{strings.Repeat("x", server.DefaultMaxLine-2)}, ""}, {[]string{strings.Repeat("x", server.DefaultMaxLine-1)}, "longer than max-line"},
	} {
		_, err := server.New(server.Options{WatchNames: c.names})
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), "watch-names: ") || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%.50q: %v, want %q", c.names, err, c.wrong)
		}
	}
}

// The bounds are told with how much of them is used, and as a part of what one client may
// have.
func TestBoundMetrics(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{MaxLocks: 40, MaxWaiters: 4, MaxConnections: 10, MaxMemory: 64 << 20, MaxShare: []string{"locks=20", "waiters=off", "rates=50%"}})
	value := func(name, bound string) float64 {
		t.Helper()
		for _, m := range gather(t, s.Server)[name].GetMetric() {
			if m.GetLabel()[0].GetValue() == bound {
				return m.GetGauge().GetValue()
			}
		}
		t.Fatalf("there is no %s of %s", name, bound)
		return 0
	}
	check := func(name, bound string, want float64) {
		t.Helper()
		if got := value(name, bound); got != want {
			t.Errorf("%s of %s is %v, want %v", name, bound, got, want)
		}
	}
	a, b := s.dial(t, "tcp"), s.dial(t, "tcp")
	for i := range 10 {
		a.ask(fmt.Sprint("g ", i), fmt.Sprint("1 Lock Get Success: ", i))
	}
	a.ask("sg pool", "1 Shared Lock Get Success: pool")
	a.ask("rl 10 86400000 1 x", "10 Rate Allowed: x")
	b.send("sgw 1 60000 pool\n")
	eventually(t, "one waits", func() bool { return metric(t, s.Server, "lockd_waiters") == 1 })
	for bound, want := range map[string][2]float64{"locks": {13, 40}, "waiters": {1, 4}, "connections": {2, 10}} {
		check("lockd_bound_used", bound, want[0])
		check("lockd_bound_limit", bound, want[1])
	}
	check("lockd_bound_used", "sessions", 2)
	check("lockd_share_used_ratio", "locks", 13.0/20)
	check("lockd_share_used_ratio", "waiters", 0)
	check("lockd_share_used_ratio", "rates", 1.0/20)
	if used, limit := value("lockd_bound_used", "memory"), value("lockd_bound_limit", "memory"); used <= 0 || used >= limit || limit != float64(metric(t, s.Server, "lockd_memory_limit_bytes")) {
		t.Errorf("%v of %v bytes", used, limit)
	}
	check("lockd_queues", "1", 1)
	// Where there is no bound, none is told.
	unbounded := newServer(t, server.Options{MaxMemory: server.Unbounded})
	if n := len(gather(t, unbounded)["lockd_bound_limit"].GetMetric()); n != 4 {
		t.Errorf("%d bounds without one on memory", n)
	}
}

// It tells whether it is ready, and since when it is there.
func TestReadyMetric(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	if metric(t, s.Server, "lockd_ready") != 1 || metric(t, s.Server, "lockd_start_time_seconds") < 1_700_000_000 {
		t.Error("is not ready, or has begun long ago")
	}
	s.Retire()
	if metric(t, s.Server, "lockd_ready") != 0 {
		t.Error("is ready, and has been told that it is not")
	}
}
