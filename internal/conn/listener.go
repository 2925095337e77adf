package conn

import (
	"errors"
	"net"
	"time"
)

// Serve serves the line protocol to the connections of a listener until it is
// closed.
func (h *Hub) Serve(l net.Listener) error {
	t := TCP
	if l.Addr().Network() == "unix" {
		t = Unix
	}
	var delay time.Duration
	for {
		c, err := l.Accept()
		if err == nil {
			delay = 0
			setKeepAlive(c)
			if !h.adopt(c, t) {
				go h.ServeLines(c, t)
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) || h.draining.Load() {
			return err
		}
		// Such as no more descriptors: it passes when connections end.
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		h.cfg.Logger.Warn("cannot accept a connection", "addr", l.Addr(), "err", err, "retry", delay)
		select {
		case <-time.After(delay):
		case <-h.quit:
		}
	}
}

// keepAlive finds out within some 35 seconds that a client's machine is gone,
// so that the locks of the dead are free again even when nobody closed the
// connection.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4}

func setKeepAlive(c net.Conn) {
	if c, ok := c.(*net.TCPConn); ok {
		c.SetKeepAliveConfig(keepAlive)
	}
}
