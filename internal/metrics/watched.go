package metrics

import (
	"github.com/nylen/lockd/internal/shard"
	"github.com/prometheus/client_golang/prometheus"
)

// Names of locks are no labels: there may be millions. Those few that somebody has
// chosen when the server was started are looked at when a page is made, and cost
// requests nothing.
var (
	watchedHolders = desc("watched_holders", "How many hold the lock with this name.", "name", "kind")
	watchedHeld    = desc("watched_held_seconds", "For how long the one has held it who has for longest; 0: nobody holds it.", "name", "kind")
	watchedWaiters = desc("watched_waiters", "How many wait for the lock with this name.", "name", "kind")
	watchedOldest  = desc("watched_oldest_wait_seconds", "How long the first one in its queue has waited; 0: nobody waits.", "name", "kind")
	watchedOpen    = desc("watched_rate_open", "Units that are open of the rate with this name, while some are not.", "name")
)

func describeWatched(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{watchedHolders, watchedHeld, watchedWaiters, watchedOldest, watchedOpen} {
		ch <- d
	}
}

func collectWatched(ch chan<- prometheus.Metric, name string, v shard.Sight) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for kind := range shard.Kinds {
		gauge(watchedHolders, float64(v.Holders[kind]), name, kind.String())
		gauge(watchedHeld, float64(v.Held[kind])/1e3, name, kind.String())
		gauge(watchedWaiters, float64(v.Waiters[kind]), name, kind.String())
		gauge(watchedOldest, float64(v.Waits[kind])/1e3, name, kind.String())
	}
	if v.Rate {
		gauge(watchedOpen, float64(v.Open), name)
	}
}
