package conn

import "sync/atomic"

// trafficStripes is over how many sets of counters the connections are spread,
// lest one is written by all.
const trafficStripes = 64

// traffic counts bytes.
type traffic struct {
	in  atomic.Uint64 // from clients
	out atomic.Uint64 // to clients
	_   [112]byte
}

// trafficOf returns the counters of connection number n.
func (s *Server) trafficOf(n uint64) *traffic { return &s.traffic[n%trafficStripes] }

// Stats is what a Server counts, beside its sessions.
type Stats struct {
	BytesIn   uint64            // from clients
	BytesOut  uint64            // to clients
	Rejected  map[string]uint64 // by reason
	Dead      uint64            // connections whose clients had vanished
	Limit     int               // how many connections there may be
	Unlogged  uint64            // losses that the log was to have, and has not
	Transport [Transports]TransportStats
}

// TransportStats counts connections of one transport.
type TransportStats struct {
	Open     int
	Accepted uint64
}

// Stats sums what the connections have counted.
func (s *Server) Stats() Stats {
	st := Stats{Rejected: make(map[string]uint64), Dead: s.dead.Load(), Limit: s.cfg.MaxConnections, Unlogged: s.losses.omitted.Load()}
	for i := range s.traffic {
		st.BytesIn += s.traffic[i].in.Load()
		st.BytesOut += s.traffic[i].out.Load()
	}
	for r := range refusals {
		st.Rejected[r.String()] = s.admission.refused[r].Load()
	}
	for t := range Transports {
		st.Transport[t] = TransportStats{
			Open:     int(s.admission.open[t].Load()),
			Accepted: s.admission.accepted[t].Load(),
		}
	}
	return st
}

// Connections implements session.Network.
func (s *Server) Connections() (n int) {
	for t := range Transports {
		n += int(s.admission.open[t].Load())
	}
	return n
}
