// Package metrics presents what a server counts to Prometheus. It counts
// nothing itself: each scrape sums the counters of the shards and sessions.
package metrics

import (
	"runtime"
	"time"

	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/conn"
	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/shard"
	"github.com/prometheus/client_golang/prometheus"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("lockd_"+name, help, labels, nil)
}

var (
	commands = desc("commands_total", "Requests, by their first word.", "command")
	invalid  = desc("invalid_commands_total", "Lines whose first word is no command.")
	acquire  = desc("acquire_total", "Requests for locks, by what became of them.", "kind", "result")
	held     = desc("locks_held", "Names of locks that are held now.", "kind")
	holders  = desc("shared_holders", "Holds of shared locks now: each lock counts once for each of its holders.")
	released = desc("released_total", "Holds that their owners have let go, one by one or with a bye.", "kind")
	orphans  = desc("orphans_total", "Holds released because their connection ended without a release or a bye.", "kind")
	open     = desc("connections", "Connections that are open now.", "transport")
	accepted = desc("connections_accepted_total", "Connections accepted.", "transport")
	rejected = desc("rejected_total", "Connections and requests turned down at a bound or for what they were.", "reason")
	dead     = desc("dead_clients_total", "Connections ended because their client had vanished without closing them.")
	losses   = desc("losses_total", "Locks that clients have lost, waits in vain and requests refused at a bound, by why.", "why")
	unlogged = desc("losses_unlogged_total", "Losses that --log-losses has left out, since there were too many.")
	bytes    = desc("bytes_total", "Bytes read from clients (in) and written to them (out).", "direction")
	waiters  = desc("waiters", "Sessions that wait for a lock now.")
	waits    = desc("wait_total", "Waits for locks that are over, by what became of them.", "result")
	waitTime = desc("wait_seconds", "How long waits for locks took, whatever became of them.")
	rates    = desc("rate_total", "Requests for units of a rate.", "result")
	limiters = desc("rate_limiters", "Rates that the table has: those not full, and some that are.")
	sessions = desc("sessions", "Sessions now: one for each connection, and in protocol 2 as many as it makes.")
	requests = desc("http_requests_total", "Requests over HTTP for units of a rate, by the status code of the answer.", "code")
	certEnds = desc("tls_certificate_expiry_timestamp_seconds", "When the server's TLS certificate ends.")
	memory   = desc("memory_bytes", "Memory that is counted for clients now.")
	most     = desc("memory_limit_bytes", "How much of it there may be before requests are refused; 0: no bound.")
	started  = desc("start_time_seconds", "When the server started, in Unix time: nobody holds a lock from before.")
	ready    = desc("ready", "1 while the server takes new connections on all its listeners, 0 while it shuts down or one has failed.")
	used     = desc("bound_used", "How much there is of what is bounded for all clients together.", "bound")
	limit    = desc("bound_limit", "How much there may be of it.", "bound")
	share    = desc("share_used_ratio", "The largest part that any client has of its share.", "bound")
	queues   = desc("queues", "Queues of locks that somebody waits for, by their length.", "length")
	longest  = desc("queue_longest", "The length of the longest queue.")
	oldest   = desc("oldest_wait_seconds", "How long the one has waited who has waited for longest; 0: nobody waits.")
	holdTime = desc("hold_seconds", "How long locks were held, to 16 ms, whoever ended that.", "kind")
	keptNow  = desc("kept_clients", "Clients that outlive their connections, by whether they have one now.", "state")
	keeps    = desc("keep_total", "Times that such a client came back in time, or did not.", "result")
	claims   = desc("claims_total", "Claims of what was held before a blip or a restart.", "result")
	recovers = desc("recovering", "1 while nobody gets anything new after a start, as clients of the process before may claim what they hold.")
	expected = desc("recovery_expected_clients", "Clients that may come back until the recovery is over.")
	unstored = desc("state_write_failures_total", "Times that the state file could not be written.")
	build    = desc("build_info", "1, with what this server was built from.", "version", "revision", "goversion")
)

// queueLengths are the labels of queues' sizes.
var queueLengths = [shard.QueueSizes]string{"1", "2-9", "10-99", "100-999", "1000+"}

// Collector is a prometheus.Collector for one server.
type Collector struct {
	conns    *conn.Server
	version  string
	revision string
	// CertificateExpiry returns when the server's certificate ends; zero: it has none.
	CertificateExpiry func() time.Time
	// HTTPRequests returns how many requests over HTTP were answered, by status code.
	HTTPRequests func() map[string]uint64
	// StateFailures returns how many times the state file could not be written; nil: there
	// is none.
	StateFailures func() int
	// Ready tells why the server does not take all new connections.
	Ready func() error
	// Cluster returns how the server is as a node of a cluster; nil: it is none.
	Cluster func() cluster.Health
	// Watched are names that have metrics of their own.
	Watched []string
}

// New returns a collector for a server of some version and revision.
func New(version, revision string, conns *conn.Server) *Collector {
	return &Collector{conns: conns, version: version, revision: revision}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		commands, invalid, acquire, held, holders, released, orphans, open, accepted, rejected, dead, losses, unlogged, bytes, build,
		waiters, waits, waitTime, rates, limiters, sessions, requests, certEnds, memory, most,
		keptNow, keeps, claims, recovers, expected, unstored,
		started, ready, used, limit, share, queues, longest, oldest, holdTime,
	} {
		ch <- d
	}
	describeUpstream(ch)
	describeCluster(ch)
	describeWatched(ch)
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	hub := c.conns.Hub()
	cs, st, state := c.conns.Stats(), hub.Stats(), hub.State()
	for verb, n := range st.Commands {
		counter(commands, n, verb)
	}
	counter(invalid, st.Invalid)
	for kind := range shard.Kinds {
		for outcome := range shard.Outcomes {
			if outcome == shard.ShareRates {
				continue // no lock's
			}
			n := st.Locks.Acquire[kind][outcome]
			if outcome == shard.Acquired {
				n -= st.Locks.Again[kind]
			}
			counter(acquire, n, kind.String(), outcome.String())
		}
		counter(acquire, st.Locks.Again[kind], kind.String(), "again")
		counter(released, st.Locks.Release[kind]+st.Locks.LetGo[kind], kind.String())
		counter(orphans, st.Locks.Orphans[kind], kind.String())
		gauge(held, st.Locks.Locks[kind], kind.String())
		ch <- holdHistogram(kind, &st.Locks)
	}
	gauge(holders, st.Locks.Holders)
	for t := range conn.Transports {
		gauge(open, cs.Transport[t].Open, t.String())
		counter(accepted, cs.Transport[t].Accepted, t.String())
	}
	for _, rejections := range []map[string]uint64{cs.Rejected, st.Rejected} {
		for reason, n := range rejections {
			counter(rejected, n, reason)
		}
	}
	gauge(waiters, st.Locks.Waiters)
	for result, n := range st.Waits {
		counter(waits, n, result)
	}
	ch <- waitHistogram(st, state, hub.Started())
	counter(rates, st.Locks.Allowed, "allowed")
	counter(rates, st.Locks.Limited, "limited")
	gauge(limiters, st.Locks.Limiters)
	gauge(sessions, st.Sessions)
	ch <- prometheus.MustNewConstMetric(memory, prometheus.GaugeValue, float64(st.Memory))
	ch <- prometheus.MustNewConstMetric(most, prometheus.GaugeValue, float64(st.MaxMemory))
	counter(dead, cs.Dead)
	for why, n := range st.Losses {
		counter(losses, n, why)
	}
	counter(unlogged, cs.Unlogged)
	counter(bytes, cs.BytesIn, "in")
	counter(bytes, cs.BytesOut, "out")
	if c.HTTPRequests != nil {
		for code, n := range c.HTTPRequests() {
			counter(requests, n, code)
		}
	}
	for _, b := range append(state.Bounds, session.Bound{What: "connections", Used: int64(c.conns.Connections()), Limit: int64(cs.Limit)}) {
		gauge(used, int(b.Used), b.What)
		gauge(limit, int(b.Limit), b.What)
	}
	for bound, part := range map[string]float64{
		"locks": state.Share.Locks, "waiters": state.Share.Waiters, "rates": state.Share.Rates,
		"sessions": state.Share.Sessions, "bytes": state.Share.Bytes,
	} {
		ch <- prometheus.MustNewConstMetric(share, prometheus.GaugeValue, part, bound)
	}
	for i, n := range state.Queues.Lengths {
		gauge(queues, n, queueLengths[i])
	}
	gauge(longest, state.Queues.Longest)
	if up := hub.Upstream(); up != nil {
		collectUpstream(ch, up.Link())
	}
	if c.Cluster != nil {
		collectCluster(ch, c.Cluster(), hub.NodeState())
	}
	c.collectKept(hub.Kept(), counter, gauge)
	ch <- prometheus.MustNewConstMetric(oldest, prometheus.GaugeValue, float64(state.Queues.Oldest)/1e3)
	ch <- prometheus.MustNewConstMetric(started, prometheus.GaugeValue, hub.Started())
	if c.Ready != nil {
		up := 1
		if c.Ready() != nil {
			up = 0
		}
		gauge(ready, up)
	}
	for _, name := range c.Watched {
		collectWatched(ch, name, hub.See([]byte(name)))
	}
	if c.CertificateExpiry != nil {
		if at := c.CertificateExpiry(); !at.IsZero() {
			ch <- prometheus.MustNewConstMetric(certEnds, prometheus.GaugeValue, float64(at.Unix()))
		}
	}
	gauge(build, 1, c.version, c.revision, runtime.Version())
}

// collectKept is about what outlives connections, and the server's process.
func (c *Collector) collectKept(kept session.Kept, counter func(*prometheus.Desc, uint64, ...string), gauge func(*prometheus.Desc, int, ...string)) {
	gauge(keptNow, kept.Clients-kept.Away, "connected")
	gauge(keptNow, kept.Away, "away")
	counter(keeps, kept.Resumed, "resumed")
	counter(keeps, kept.Expired, "expired")
	counter(claims, kept.Claims, "accepted")
	counter(claims, kept.Refused, "refused")
	recovering := 0
	if kept.Recovers {
		recovering = 1
	}
	gauge(recovers, recovering)
	gauge(expected, kept.Open)
	failures := 0
	if c.StateFailures != nil {
		failures = c.StateFailures()
	}
	counter(unstored, uint64(failures))
}
