package client

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// The heartbeat of a mux: a timer asks the server over and over, and a watchdog
// ends the mux when the last request that was answered was sent too long ago.
//
// The holder has to know first: a server frees what a client holds when it has not
// heard the client for H, and it has heard a request that it answered when that was
// sent, or later. So what counts is when it was sent; what comes from the server
// proves nothing, it may have been sent by one that hears nobody.

// looks is how many requests there are in the time within which one has to be
// answered.
const looks = 4

// The limits that a server has told.
type limits struct {
	deadPeer time.Duration // H; 0: unknown
	maxKeep  time.Duration // the longest that it keeps anything; 0: nothing
	maps     bool          // it is a node of a cluster, and tells who serves what
}

// parseLimits reads what follows the number of the reply to `limits`: pairs, of
// which there may be more than are known here.
func parseLimits(text []byte) (l limits) {
	for _, pair := range bytes.Fields(text) {
		key, value, _ := bytes.Cut(pair, []byte("="))
		if string(key)+"=" == wire.MapIs {
			l.maps = true
			continue
		}
		ms, err := strconv.ParseUint(string(value), 10, 32)
		if err != nil {
			continue
		}
		switch string(key) + "=" {
		case wire.DeadPeer:
			l.deadPeer = time.Duration(ms) * time.Millisecond
		case wire.MaxKeep:
			l.maxKeep = time.Duration(ms) * time.Millisecond
		}
	}
	return l
}

// patience is how old the last request that was answered may be: what the options
// say, but three quarters of H at most, and so short that who works under a lock has
// stopped before H. If that needs longer than there is, it gets what there is, but
// for a quarter. Negative options mean no bound.
func (l limits) patience(readTimeout, stop time.Duration) time.Duration {
	h := l.deadPeer
	if h <= 0 || readTimeout <= 0 {
		return max(readTimeout, 0)
	}
	return min(readTimeout, max(min(h*3/4, h*9/10-stop), h/4))
}

// A silentError tells how long ago the last request was sent that was answered.
type silentError struct{ d time.Duration }

func (e silentError) Error() string { return fmt.Sprintf("%v: no reply for %v", ErrTimeout, e.d) }
func (e silentError) Unwrap() error { return ErrTimeout }

// Silent is for those who say so in other words.
func (e silentError) Silent() time.Duration { return e.d }

// interval is between two requests.
func (m *mux) interval() time.Duration {
	d := restTime
	if m.timeout > 0 {
		d = m.timeout / looks
	}
	if k := m.keeping; k != nil {
		d = min(d, k.lease.Span()/(2*looks)) // so much less there is for coming back
	}
	return d
}

// asks tells whether the server is asked at all.
func (m *mux) asks() bool { return m.timeout > 0 || m.keeping != nil }

// look is called by the timer: it asks the server, unless it has yet to answer. It
// also ends sessions that nobody needs any more.
func (m *mux) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err() != nil {
		return
	}
	if !m.down {
		if s := m.sessions.get(0); m.asks() && s.state.Load() == quiet {
			m.askingLocked()
			m.tellLocked(s, ping)
		}
		m.full = false
		m.endRestedLocked()
		if m.reads && m.idleLocked() {
			switch {
			case m.isRetired():
				go m.leave(errUnneeded)
			case m.of != nil && !m.of.isNeeded():
				m.retireLocked()
			}
		}
	}
	m.timer.Reset(m.interval())
}

// askingLocked notes that the server is about to be asked by session 0, which does
// nothing else.
func (m *mux) askingLocked() {
	m.asked = time.Now()
	if k := m.keeping; k != nil {
		k.sent = k.clock()
	}
}

// silence is how long ago the server was heard.
func (m *mux) silence() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.transport.silence()
}

// beatenLocked takes note of the answer. If it comes late, such as when the process was
// stopped meanwhile, it says little, and the next one is asked for at once. It returns
// false if it is too late for what is kept.
func (m *mux) beatenLocked(v *verb) bool {
	m.watch.extend(m.asked)
	if m.timer != nil && m.asks() && time.Since(m.asked) >= m.interval() {
		m.timer.Reset(0)
	}
	switch k := m.keeping; {
	case k == nil:
		return true
	case v == claimed:
		return m.claimedLocked()
	default:
		return k.lease.Answered(k.clock(), k.sent)
	}
}

// giveUp is called by the watchdog. While a long reply is coming in, the answer to
// what was asked is behind it. So that counts, too: the server sends no more than
// there is room for on the way without hearing that it has come. But it counts as
// older than it is, for what is on the way.
func (m *mux) giveUp() {
	m.mu.Lock()
	heard := time.Now().Add(-m.transport.silence() - m.timeout/2)
	listing := m.listsLocked() && time.Since(heard) < m.timeout
	m.mu.Unlock()
	if listing {
		m.watch.extend(heard)
		return
	}
	m.drop(silentError{m.timeout})
}

// listsLocked tells whether a reply of many lines is under way.
func (m *mux) listsLocked() bool {
	for s := range m.sessions.all() {
		if state := s.state.Load(); (state == calling || state == forsaken) && s.lines != nil {
			return true
		}
	}
	return false
}
