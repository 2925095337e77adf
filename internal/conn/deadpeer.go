package conn

import (
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// How a client is found dead whose machine, or the way to it, has vanished: nobody
// closes its connection.
//
// The rule: a client that has been asked something, and of which nothing has been
// heard for H (session.Config.DeadPeer) since, is gone. What asks is
//
//   - while nothing is under way, the kernel's keep-alive, which ends the connection
//     by itself;
//   - while replies are under way, their retransmission, or a probe of a window that
//     is closed. There keep-alive rests, and the kernel goes on for a quarter of an
//     hour; so connections are looked at that something was sent over (look).
//
// TCP_USER_TIMEOUT would be less work. But it also ends the connection of a client
// that is there and does not read, since it counts from when the window closed and
// not from the last probe that was answered: such a client would lose its locks,
// although the server hears it.
//
// Sooner when it matters: while somebody wants what the client holds (Want), it is
// asked every second, and gone after wantedLimit, unless it rests on H.

// keepIdle is how long a connection is silent before keep-alive asks.
const keepIdle = 15 * time.Second

// keepAliveFor returns what makes keep-alive end a connection H after the last that
// was heard of the client, or a little later, as it counts seconds: never before,
// since the client may rely on that.
func keepAliveFor(h time.Duration) net.KeepAliveConfig {
	seconds := int((h + time.Second - 1) / time.Second)
	idle := max(1, min(int(keepIdle/time.Second), seconds*3/4))
	every := max(1, (seconds-idle)/5)
	return net.KeepAliveConfig{
		Enable: true, Idle: time.Duration(idle) * time.Second, Interval: time.Duration(every) * time.Second,
		Count: (seconds - idle + every - 1) / every,
	}
}

// wantedLimit is how long a client that somebody wants may be silent when it has
// been asked for wantedLeast, and wantedFor how long it is wanted after the last time
// that somebody said so.
const (
	wantedLimit = 4 * time.Second
	wantedLeast = 3 * time.Second
	wantedFor   = 5 * time.Second
	wantedEvery = time.Second // it need not be said more often
)

// wantedKeepAlive asks every second.
var wantedKeepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}

// A pace is how often connections are looked at: every round, a part of them each
// tick, and those that are wanted each tick.
type pace struct{ tick time.Duration }

// roundTicks is how many ticks a round has, and roundsOf how many rounds H has.
const (
	roundTicks = 8
	roundsOf   = 10
	leastTick  = 25 * time.Millisecond
	mostTick   = time.Second
)

func paceOf(h time.Duration) pace {
	return pace{min(max(h/(roundTicks*roundsOf), leastTick), mostTick)}
}

// A heard is what the kernel knows of a connection.
type heard struct {
	ago        time.Duration // since something was heard of the other side
	unanswered bool          // something has been sent since, and is not confirmed
	pending    bool          // something is to be confirmed, or to be sent
}

// dead tells whether a client is gone that may be silent for so long. What was sent
// must have been unanswered at the look before, too: it may have been sent only now.
func (h heard) dead(before bool, limit time.Duration) bool {
	return h.unanswered && before && h.ago >= limit
}

// A wanting is about a client that somebody wants.
type wanting struct {
	since, until time.Time
	told         time.Time // when somebody said so last
	unanswered   bool      // at the last look
}

func (w *wanting) again(now time.Time) { w.told, w.until = now, now.Add(wantedFor) }

// dead tells whether the client is gone, by what was just looked up.
func (w *wanting) dead(h heard, now time.Time) bool {
	before := w.unanswered
	w.unanswered = h.unanswered
	return now.Sub(w.since) >= wantedLeast && h.dead(before, wantedLimit)
}

// tcpOf returns the TCP connection that a connection is, or that is below it, or nil.
func tcpOf(c net.Conn) *net.TCPConn {
	tcp, _ := socket(c).(*net.TCPConn)
	return tcp
}

// keep has the kernel end a connection whose client is dead, as far as it can.
func (s *Server) keep(c net.Conn) {
	if c := tcpOf(c); c != nil {
		c.SetKeepAliveConfig(s.keepAlive)
		if raw, err := c.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { boundRetries(int(fd), s.deadPeer) })
		}
	}
}

// vanished tells whether the kernel has ended a connection since the other side did
// not answer.
func vanished(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && (errno == syscall.ETIMEDOUT || errno == syscall.EHOSTUNREACH || errno == syscall.ENETUNREACH)
}

// logDead logs that a client is dead, and counts it, before its connection is ended. For how long it was silent is 0
// where the kernel has found out.
func (s *Server) logDead(st *session.Stream, silent time.Duration) {
	st.EndsFor(session.WhyDeadPeer)
	s.logVanished(st.Address(), silent)
}

func (s *Server) logVanished(client string, silent time.Duration) {
	s.dead.Add(1)
	attrs := []any{"client", client}
	if silent > 0 {
		attrs = append(attrs, "silent", silent.Round(time.Millisecond))
	}
	s.cfg.Logger.Info("a client has vanished: its connection is ended", attrs...)
}
