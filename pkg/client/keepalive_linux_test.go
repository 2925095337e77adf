package client

import (
	"net"
	"syscall"
	"testing"
)

// TestKeepAlive: a client notices that its server has vanished before that gives up
// the client, which an old one does 35 s after it has heard it last, so 20 s after
// it could have heard it the last time.
func TestKeepAlive(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := New(Options{Target: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-c.Connected()
	raw, err := c.transport.(*lineTransport).conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		option := func(name int) int {
			n, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, name)
			if err != nil {
				t.Error(err)
			}
			return n
		}
		idle, every, probes := option(syscall.TCP_KEEPIDLE), option(syscall.TCP_KEEPINTVL), option(syscall.TCP_KEEPCNT)
		if after := idle + every*probes; after != 14 {
			t.Errorf("noticed after %d s", after)
		}
	})
}
