package server_test

import (
	"slices"
	"testing"

	"github.com/nylen/lockd/pkg/server"
	"github.com/prometheus/client_golang/prometheus"
)

// The collector passes a registry that checks everything, and two servers may
// be in one program.
func TestCollector(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.dial(t, "tcp")
	c.ask("g foo", "1 Lock Get Success: foo")
	c.ask("sg foo", "1 Shared Lock Get Success: foo")
	c.send("xx\n")
	s.dial(t, "memory").ask("g foo", "0 Lock Get Failure: foo")
	dialWS(t, s.webSocketURL).ask("sg foo", "2 Shared Lock Get Success: foo")
	c.ask("me", "1 "+c.LocalAddr().String()+" "+c.LocalAddr().String())

	registry := prometheus.NewPedanticRegistry()
	must(t, registry.Register(s.Collector()))
	families, err := registry.Gather()
	must(t, err)
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", f.GetName())
		}
	}
	want := []string{
		"lockd_acquire_total", "lockd_build_info", "lockd_bytes_total", "lockd_commands_total", "lockd_connections",
		"lockd_connections_accepted_total", "lockd_invalid_commands_total", "lockd_locks_held", "lockd_orphans_total",
		"lockd_rejected_total", "lockd_shared_holders",
	}
	for _, name := range want {
		if !slices.Contains(names, name) {
			t.Errorf("no %s among %v", name, names)
		}
	}
	for _, v := range []struct {
		want   int
		name   string
		labels []string
	}{
		{3, "lockd_connections", nil},
		{1, "lockd_connections", []string{"transport=websocket"}},
		{1, "lockd_connections_accepted_total", []string{"transport=tcp"}},
		{2, "lockd_commands_total", []string{"command=g"}},
		{2, "lockd_commands_total", []string{"command=sg"}},
		{1, "lockd_commands_total", []string{"command=me"}},
		{5, "lockd_commands_total", nil},
		{1, "lockd_invalid_commands_total", nil},
		{1, "lockd_locks_held", []string{"kind=exclusive"}},
		{1, "lockd_locks_held", []string{"kind=shared"}},
		{2, "lockd_shared_holders", nil},
		{1, "lockd_build_info", []string{"version=" + server.Version}},
	} {
		if got := metric(t, s.Server, v.name, v.labels...); got != v.want {
			t.Errorf("%s%v is %d, not %d", v.name, v.labels, got, v.want)
		}
	}

	registry = prometheus.NewPedanticRegistry()
	for _, name := range []string{"a", "b"} {
		labeled := prometheus.WrapRegistererWith(prometheus.Labels{"server": name}, registry)
		must(t, labeled.Register(newServer(t, server.Options{}).Collector()))
	}
	_, err = registry.Gather()
	must(t, err)
}

// Bytes are counted as they pass.
func TestBytesAreCounted(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.dial(t, "tcp")
	c.ask("g foo", "1 Lock Get Success: foo")
	c.send("xx\n")
	c.closeWrite()
	c.end()
	waitConnections(t, s.Server, 0)
	if in := metric(t, s.Server, "lockd_bytes_total", "direction=in"); in != len("g foo\nxx\n") {
		t.Errorf("%d bytes in", in)
	}
	if out := metric(t, s.Server, "lockd_bytes_total", "direction=out"); out != len("1 Lock Get Success: foo\n") {
		t.Errorf("%d bytes out", out)
	}
}
