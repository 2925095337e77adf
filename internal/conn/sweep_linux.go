//go:build linux && !noloop

package conn

import (
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// A sweep looks which of a loop's clients are dead, see deadpeer.go. In each tick it
// comes to a part of the places, so that it delays nobody, and of those to which
// nothing was sent it passes by without a system call. It stops when there is
// nothing to look at: a loop all of whose clients are idle is not woken.
type sweep struct {
	on    bool // there is a next tick
	timer *time.Timer
	place int  // the next to look at
	found bool // in this round, something to look at again

	wanted map[*client]*wanting
}

// beginSweep begins, unless it has begun, since there is somebody to look at.
func (l *loop) beginSweep() {
	s := &l.sweep
	s.found = true
	if !s.on {
		s.on = true
		if s.timer == nil {
			s.timer = time.AfterFunc(l.server.pace.tick, func() { l.post(task{what: sweepLoop}) })
		} else {
			s.timer.Reset(l.server.pace.tick)
		}
	}
}

// look is a tick.
func (l *loop) look() {
	s := &l.sweep
	now := time.Now()
	for c, w := range s.wanted {
		l.lookWanted(c, w, now)
	}
	// Those that come meanwhile are looked at in the next round.
	end := min(len(l.clients), s.place+len(l.clients)/roundTicks+1)
	for ; s.place < end; s.place++ {
		if c := l.clients[s.place]; c != nil && !c.ended && c.lookAt(now) {
			s.found = true
		}
	}
	if s.place >= len(l.clients) {
		if !s.found && len(s.wanted) == 0 {
			s.on, s.place = false, 0
			return
		}
		s.place, s.found = 0, false
	}
	s.timer.Reset(l.server.pace.tick)
}

// lookAt ends a client that is dead, and tells whether to look at it again.
func (c *client) lookAt(now time.Time) (again bool) {
	if c.transport == Unix {
		c.asked = false
		return false
	}
	s := c.loop.server
	if c.asked {
		h, ok := hear(int(c.fd))
		if !ok || !h.pending {
			c.asked, c.unheard = false, false
		} else {
			if h.dead(c.unheard, s.deadPeer) {
				c.endDead(h.ago)
				return false
			}
			c.unheard = h.unanswered
		}
	}
	if c.frames == nil {
		return c.asked
	}
	if c.loop.sweep.wanted[c] == nil { // else it has been looked at in this tick
		c.lookAtFrames(now, false)
	}
	return true
}

// lookAtFrames has a WebSocket client asked by a ping, or ends it if it has not
// answered one.
func (c *client) lookAtFrames(now time.Time, wanted bool) {
	p := &c.frames.pulse
	silent, next := p.look(c.loop.server, now, wanted)
	switch {
	case next == pulseDead:
		c.endDead(silent)
	case next == pulseAsk && c.out == nil && !c.ended: // else it does not read, or is about to be sent something
		p.asked(c.loop.server, now)
		ping := appendPing(nil)
		sent, ok := c.send(ping)
		switch {
		case !ok:
			c.end(false)
		case sent == 0:
			p.notAsked()
		case sent < len(ping):
			c.keep(c.in, true, ping[sent:])
			c.block(true)
		}
	}
}

// endDead ends a client that is dead.
func (c *client) endDead(silent time.Duration) {
	c.loop.server.logDead(c.stream, silent)
	c.end(false)
}

// noteDead logs that a client is dead if that is why the kernel has ended its
// connection.
func (c *client) noteDead() {
	if errno, err := syscall.GetsockoptInt(int(c.fd), syscall.SOL_SOCKET, syscall.SO_ERROR); err == nil {
		c.noteFailed(syscall.Errno(errno))
	}
}

// noteFailed does the same with the error of a read or a write: the kernel tells once,
// and it may be one of those that comes first.
func (c *client) noteFailed(errno syscall.Errno) {
	if vanished(errno) {
		c.loop.server.logDead(c.stream, 0)
	}
}

// wantFromLoop tells a client's loop that somebody wants what it holds.
func wantFromLoop(carrier session.Carrier) {
	if c, ok := carrier.(*client); ok && c.transport != Unix && !c.wanted.Load() && c.wanted.CompareAndSwap(false, true) {
		c.loop.post(task{what: wantClient, client: c})
	}
}

// want has a client asked, from now on every second. One that rests on its time is
// not, and stays marked, so that nobody says it again.
func (l *loop) want(c *client) {
	if c.ended || c.gone || c.parting != nil || c.stream.Rests() {
		return
	}
	s, now := &l.sweep, time.Now()
	if s.wanted == nil {
		s.wanted = make(map[*client]*wanting)
	}
	w := s.wanted[c]
	if w == nil {
		w = &wanting{since: now}
		s.wanted[c] = w
		setKeepAlive(int(c.fd), wantedKeepAlive.Idle, wantedKeepAlive.Interval, wantedKeepAlive.Count)
	}
	w.again(now)
	l.beginSweep()
}

// lookWanted looks at a client that somebody wants, or has wanted until now.
func (l *loop) lookWanted(c *client, w *wanting, now time.Time) {
	s := l.server
	switch {
	case c.ended:
		delete(l.sweep.wanted, c)
		return
	case now.After(w.until) || c.stream.Rests():
		delete(l.sweep.wanted, c)
		setKeepAlive(int(c.fd), s.keepAlive.Idle, s.keepAlive.Interval, s.keepAlive.Count)
		c.wanted.Store(c.stream.Rests())
		return
	case now.Sub(w.told) >= wantedEvery:
		c.wanted.Store(false)
	}
	if h, ok := hear(int(c.fd)); ok && w.dead(h, now) {
		c.endDead(h.ago)
	} else if c.frames != nil {
		c.lookAtFrames(now, true)
	}
}

// setKeepAlive sets when keep-alive asks, and when it ends a connection; if it is
// time already, it asks at once.
func setKeepAlive(fd int, idle, interval time.Duration, count int) {
	for _, o := range [...]struct{ option, value int }{
		{syscall.TCP_KEEPINTVL, int(interval / time.Second)},
		{syscall.TCP_KEEPCNT, count},
		{syscall.TCP_KEEPIDLE, int(idle / time.Second)},
	} {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, o.option, o.value)
	}
}
