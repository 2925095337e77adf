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
}

// parseLimits reads what follows the number of the reply to `limits`: pairs, of
// which there may be more than are known here.
func parseLimits(text []byte) (l limits) {
	for _, pair := range bytes.Fields(text) {
		key, value, _ := bytes.Cut(pair, []byte("="))
		if ms, err := strconv.ParseUint(string(value), 10, 32); err == nil && string(key)+"=" == wire.DeadPeer {
			l.deadPeer = time.Duration(ms) * time.Millisecond
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
	if m.timeout == 0 {
		return restTime
	}
	return m.timeout / looks
}

// look is called by the timer: it asks the server, unless it has yet to answer. It
// also ends sessions that nobody needs any more.
func (m *mux) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err() != nil {
		return
	}
	if s := m.sessions.get(0); m.timeout > 0 && s.state.Load() == quiet {
		m.asked = time.Now()
		m.tellLocked(s, ping) // it does nothing else
	}
	m.full = false
	m.endRestedLocked()
	m.timer.Reset(m.interval())
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
	m.close(silentError{m.timeout})
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
