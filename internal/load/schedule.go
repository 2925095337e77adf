package load

// A schedule is when the requests of an open loop are due: at even distances,
// the connections in turn. It goes on whatever the server does.
type schedule struct {
	interval    float64 // nanoseconds between two requests of the worker
	offset      float64 // of its first one
	connections int64   // of the worker
	next        int64   // the number of the request that is due next
}

// newSchedule returns the schedule of a worker with so many of all the connections.
func newSchedule(rate float64, worker, workers, connections, all int) *schedule {
	interval := 1e9 / rate * float64(all) / float64(connections)
	return &schedule{interval: interval, offset: interval * float64(worker) / float64(workers), connections: int64(connections)}
}

// due returns when a request is due.
func (s *schedule) due(n int64) int64 { return int64(s.offset + float64(n)*s.interval) }

// take returns the connection whose turn it is, if a request is due.
func (s *schedule) take(now int64) (connection int, ok bool) {
	if s.due(s.next) > now {
		return 0, false
	}
	connection = int(s.next % s.connections)
	s.next++
	return connection, true
}

// of returns when the n-th request of a connection is due.
func (s *schedule) of(connection int, n int64) int64 {
	return s.due(n*s.connections + int64(connection))
}
