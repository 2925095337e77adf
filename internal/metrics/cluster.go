package metrics

import (
	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/session"
	"github.com/prometheus/client_golang/prometheus"
)

// What a node of a cluster alone has.
var (
	clusterRegistered  = desc("cluster_registered", "1 while a node is registered in its cluster, else 0.")
	clusterRight       = desc("cluster_right_seconds", "For how much longer a node may serve if the store of the cluster confirms nothing meanwhile; 0: it may not.")
	clusterRightLeast  = desc("cluster_right_least_seconds", "The least that was left of that when it was renewed, since the start; 0: it has run out.")
	clusterWithout     = desc("cluster_without_right_seconds_total", "For how long a node that owned partitions had no right to serve them.")
	clusterBeats       = desc("cluster_heartbeats_total", "Heartbeats of a node, by what became of them.", "result")
	clusterRound       = desc("cluster_heartbeat_seconds", "How long the last heartbeat took that was answered.")
	clusterCompares    = desc("cluster_failed_compares_total", "Transactions of the store whose compare failed.")
	clusterUnknown     = desc("cluster_unknown_transactions_total", "Transactions of the store whose outcome was not known at first.")
	clusterReads       = desc("cluster_failed_reads_total", "Reads of the store without an answer.")
	clusterDeposed     = desc("cluster_deposed_total", "Times that a node has lost its registration, and dropped all that it had.")
	clusterMap         = desc("cluster_map_version", "The version of the map by which a node serves.")
	clusterLag         = desc("cluster_map_lag", "By how many versions the map of a node is behind the store's, by node.", "node")
	clusterPartitions  = desc("cluster_partitions", "Partitions that a node has, by their state.", "state")
	clusterOwned       = desc("cluster_owned_partitions", "Partitions that the map says each node owns.", "node")
	clusterSilence     = desc("cluster_silence_seconds", "For how long a node's registration has not changed, as this one sees it, by node.", "node")
	clusterRecovering  = desc("cluster_recovering_seconds", "For how long the partitions have recovered that have for longest; 0: none does.")
	clusterFrozen      = desc("cluster_frozen_seconds", "For how long the move that is under way has stood still for; 0: none is.")
	clusterFrozenMost  = desc("cluster_frozen_longest_seconds", "The longest time that a move has had partitions frozen, since the start.")
	clusterHeadroom    = desc("cluster_token_headroom", "How far the highest fencing token is below what may be granted.")
	clusterDeletions   = desc("cluster_deletions_total", "Nodes that this one has deleted, as they were silent.")
	clusterMoves       = desc("cluster_moves_total", "Partitions that a node has moved away, or that stayed, by result.", "result")
	clusterJumps       = desc("cluster_clock_jumps_total", "Times that the time of day went another way than the clock.")
	clusterRewinds     = desc("cluster_store_rewinds_total", "Times that the store has shown an older state than before.")
	clusterClaims      = desc("cluster_claims_total", "Holds that were claimed at a new owner, by result.", "result")
	clusterUnavailable = desc("cluster_unavailable_total", "Requests that were answered with Unavailable, as who serves the name could not be asked.")
	clusterLinkUp      = desc("cluster_link_up", "1 while requests reach another node, else 0, by node.", "node")
	clusterLinkAge     = desc("cluster_link_confirmed_seconds", "How old the last answer of another node is by which what is held there is believed, by node. Not there before the first.", "node")
	clusterLinkHeld    = desc("cluster_link_holds", "Holds that a node's clients have at another one, by node.", "node")
)

func describeCluster(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		clusterRegistered, clusterRight, clusterRightLeast, clusterWithout, clusterBeats, clusterRound, clusterCompares, clusterUnknown,
		clusterReads, clusterDeposed, clusterMap, clusterLag, clusterPartitions, clusterOwned, clusterSilence, clusterRecovering, clusterFrozen,
		clusterFrozenMost, clusterHeadroom, clusterDeletions, clusterMoves, clusterJumps, clusterRewinds, clusterClaims, clusterUnavailable,
		clusterLinkUp, clusterLinkAge, clusterLinkHeld,
	} {
		ch <- d
	}
}

func collectCluster(ch chan<- prometheus.Metric, h cluster.Health, s *session.NodeState) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	yes := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	gauge(clusterRegistered, yes(h.Registered))
	gauge(clusterRight, h.Right.Seconds())
	gauge(clusterRightLeast, h.RightLeast.Seconds())
	ch <- prometheus.MustNewConstMetric(clusterWithout, prometheus.CounterValue, h.WithoutRight.Seconds())
	counter(clusterBeats, h.Beats, "confirmed")
	counter(clusterBeats, h.FailedBeats, "failed")
	gauge(clusterRound, h.RoundTrip.Seconds())
	counter(clusterCompares, h.FailedCompares)
	counter(clusterUnknown, h.Unknown)
	counter(clusterReads, h.FailedReads)
	counter(clusterDeposed, h.Deposed)
	gauge(clusterMap, float64(s.Version))
	gauge(clusterPartitions, float64(s.Partitions.Serving), "serving")
	gauge(clusterPartitions, float64(s.Partitions.Recovering), "recovering")
	gauge(clusterPartitions, float64(s.Partitions.Frozen), "frozen")
	gauge(clusterRecovering, s.Recovering.Seconds())
	gauge(clusterFrozen, h.FrozenFor.Seconds())
	gauge(clusterFrozenMost, h.FrozenMost.Seconds())
	gauge(clusterHeadroom, float64(h.Headroom))
	counter(clusterDeletions, h.Deletions)
	counter(clusterMoves, h.Moves, "moved")
	counter(clusterMoves, h.MovesFailed, "stayed")
	counter(clusterJumps, h.ClockJumps)
	counter(clusterRewinds, h.Rewinds)
	counter(clusterClaims, s.Moved-min(s.Moved, s.Refused), "taken")
	counter(clusterClaims, s.Refused, "refused")
	counter(clusterUnavailable, s.Unanswered)
	// A name is a label, which two processes may have for a while: the first is told of.
	seen := make(map[string]bool)
	for i := range h.Nodes {
		n := &h.Nodes[i]
		if seen[n.Name] {
			continue
		}
		seen[n.Name] = true
		gauge(clusterLag, float64(n.Lag), n.Name)
		gauge(clusterOwned, float64(n.Owned), n.Name)
		gauge(clusterSilence, n.Silence.Seconds(), n.Name)
	}
	clear(seen)
	for _, l := range s.Links {
		if seen[l.To.Name] {
			continue
		}
		seen[l.To.Name] = true
		gauge(clusterLinkUp, yes(l.Live), l.To.Name)
		if l.Silent >= 0 {
			gauge(clusterLinkAge, l.Silent.Seconds(), l.To.Name)
		}
		gauge(clusterLinkHeld, float64(l.Held), l.To.Name)
	}
}
