package metrics

import (
	"github.com/nylen/lockd/internal/session"
	"github.com/prometheus/client_golang/prometheus"
)

// What a proxy alone has.
var (
	upstreamUp       = desc("upstream_up", "1 while a proxy's requests reach its server, else 0.")
	upstreamLeft     = desc("upstream_lease_seconds", "For how long a proxy's clients have what they hold, if its server is not heard meanwhile.")
	upstreamServed   = desc("upstream_connections_total", "Connections to a proxy's server that served.")
	upstreamAnswered = desc("upstream_unanswered_total", "Requests that a proxy has answered itself, since its server did not in time.")
	upstreamEnded    = desc("upstream_lost_clients_total", "Clients that a proxy has ended, with what they held, since its server was not heard for too long.")
)

func describeUpstream(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upstreamUp, upstreamLeft, upstreamServed, upstreamAnswered, upstreamEnded} {
		ch <- d
	}
}

func collectUpstream(ch chan<- prometheus.Metric, l session.Link) {
	up := 0.0
	if l.Live {
		up = 1
	}
	ch <- prometheus.MustNewConstMetric(upstreamUp, prometheus.GaugeValue, up)
	ch <- prometheus.MustNewConstMetric(upstreamLeft, prometheus.GaugeValue, l.Left.Seconds())
	for d, n := range map[*prometheus.Desc]uint64{upstreamServed: l.Served, upstreamAnswered: l.Answered, upstreamEnded: l.Ended} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
}
