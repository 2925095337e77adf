package server

import (
	"net"
	"syscall"
	"testing"
)

// Listeners are of TCP and not of Multipath TCP, which older kernels do not let
// have the keep-alive times that connections inherit.
func TestListenersAreTCP(t *testing.T) {
	l, err := listenTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if p, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PROTOCOL); p != syscall.IPPROTO_TCP || err != nil {
			t.Errorf("the protocol is %d (%v)", p, err)
		}
	})
}
