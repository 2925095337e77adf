package client

import (
	"fmt"
	"time"
)

// The heartbeat of a mux: a timer looks whether the server was heard, and has
// it asked if not; the watchdog takes care of the answer.

// looks is how many there are in a timeout. The server is asked after one to two
// of them in silence, so that nearly all of the time in which it has to be heard
// is left for the answer.
const looks = 4

// interval is between two looks.
func (m *mux) interval() time.Duration {
	if m.period == 0 {
		return restTime
	}
	return m.period
}

// look is called by the timer: a server that has said nothing since the last one
// is asked to, and given up when it has not for a timeout. It also ends sessions that nobody
// needs any more.
func (m *mux) look() {
	m.mu.Lock()
	ask := m.lookLocked()
	m.mu.Unlock()
	if ask {
		m.watch.expect()
	}
}

// lookLocked tells whether the server was asked.
func (m *mux) lookLocked() (ask bool) {
	if m.err() != nil {
		return false
	}
	if last := m.transport.lastHeard(); last != m.heard {
		m.heard, m.asked = last, time.Time{}
	} else if m.period > 0 && m.asked.IsZero() {
		ask, m.asked = true, time.Now()
		if s := m.sessions.get(0); s.state.Load() == quiet {
			m.tellLocked(s, ping)
		}
	}
	m.full = false
	m.endRestedLocked()
	m.timer.Reset(m.interval())
	return ask
}

// giveUp is called by the watchdog: it ends the mux if nothing came since the
// server was asked, a timeout ago. An earlier question, answered since, expires at
// the moment of a look, which may just have asked another one.
func (m *mux) giveUp() {
	m.mu.Lock()
	silent := !m.asked.IsZero() && time.Since(m.asked) >= m.timeout && m.transport.lastHeard() == m.heard
	m.mu.Unlock()
	if silent {
		m.close(fmt.Errorf("%w: no sign of life for %v", ErrTimeout, m.timeout))
	}
}
