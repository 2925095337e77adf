//go:build linux && !noloop

package conn

import (
	"syscall"
	"testing"

	"github.com/nylen/lockd/internal/session"
)

// A read or a write may be told first that the kernel has given a client up: it has
// vanished then, as with an event that says so. Other errors are no such news.
func TestCallsTellOfDeadPeers(t *testing.T) {
	s := NewServer(testConfig())
	defer drainNow(s)
	c := &client{loop: &loop{server: s}}
	for _, test := range []struct {
		errno syscall.Errno
		why   string
	}{
		{syscall.ETIMEDOUT, "dead_peer"}, {syscall.EHOSTUNREACH, "dead_peer"}, {syscall.ECONNRESET, "disconnect"}, {syscall.EPIPE, "disconnect"},
	} {
		before, dead := s.Hub().LastLoss(), s.dead.Load()
		c.stream = new(session.Stream)
		c.stream.Begin(s.Hub(), session.Address{Name: "a:1"}, c, new(session.Turn))
		c.stream.Advance([]byte("g x\n"), nil)
		c.noteFailed(test.errno)
		c.stream.Close()
		got := s.Hub().LossesSince(before, 2)
		if len(got) != 1 || got[0].Why.String() != test.why || (s.dead.Load() > dead) != (test.why == "dead_peer") {
			t.Errorf("%v: %v", test.errno, got)
		}
	}
}
