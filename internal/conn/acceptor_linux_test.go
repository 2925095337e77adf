//go:build linux && !noloop

package conn

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/nylen/lockd/internal/wire"
)

// serveDoors serves a hub at an address of its own, whose listener the loops
// have, until end is called, which returns what Serve did.
func serveDoors(t *testing.T, h *Server, network, addr string) (l *Listener, end func() error) {
	t.Helper()
	inner, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	l = NewOwnListener(inner, h.cfg.Logger)
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	return l, func() error {
		l.Close()
		return <-served
	}
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// expect sends a request and fails unless the reply is this one.
func expect(t *testing.T, c net.Conn, request, reply string) {
	t.Helper()
	io.WriteString(c, request)
	got := make([]byte, len(reply))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != reply {
		t.Fatalf("%q: got %q, %v, want %q", request, got[:n], err, reply)
	}
}

func drain(h *Server) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h.Drain(ctx)
}

// openFiles is how many descriptors the process has.
func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// A client's address comes with its connection. When a listener is closed, its
// address is free at once, Serve returns, and no descriptor is left.
func TestLoopsAccept(t *testing.T) {
	net.Dial("tcp", "127.0.0.1:1") // the netpoller has its descriptors
	before := openFiles(t)
	for _, at := range [][2]string{
		{"tcp", "127.0.0.1:0"}, {"tcp", ":0"}, {"tcp6", "[::1]:0"}, {"unix", filepath.Join(t.TempDir(), "s")}, {"unix", "@lockd-acceptor-test"},
	} {
		h := NewServer(testConfig())
		l, end := serveDoors(t, h, at[0], at[1])
		for h.loops.running.Load() == nil {
			runtime.Gosched()
		}
		for range 3 {
			c := dial(t, l)
			if addr := c.LocalAddr().String(); at[0] == "unix" {
				io.WriteString(c, "me\n")
				got := make([]byte, len("1 unix:"))
				if io.ReadFull(c, got); string(got) != "1 unix:" {
					t.Errorf("%s: %q", at[1], got)
				}
			} else {
				expect(t, c, "me\n", "1 "+addr+" "+addr+"\n")
			}
			c.Close()
		}
		if n := h.accepting.Load(); n != 0 {
			t.Errorf("%s: a goroutine accepts", at[1])
		}
		addr := l.Addr().String()
		if err := end(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: Serve returned %v", addr, err)
		}
		if again, err := net.Listen(at[0], addr); err != nil {
			t.Error(err)
		} else {
			again.Close()
		}
		drain(h)
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d descriptors, before there were %d", after, before)
	}
}

// Those that a listening socket passes on are set by nobody else.
func TestAcceptedSocketsInherit(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	listening, err := duplicate(ln.(*net.TCPListener))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(listening)
	s := NewServer(testConfig())
	s.inherit(listening)
	dial(t, ln)
	var peer syscall.RawSockaddrAny
	fd, errno := accept4(listening, &peer)
	if errno != 0 {
		t.Fatal(errno)
	}
	defer syscall.Close(fd)
	for _, o := range []struct {
		name                 string
		level, option, value int
	}{
		{"SO_KEEPALIVE", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
		{"TCP_KEEPINTVL", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 1},
		{"TCP_KEEPCNT", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 5},
		{"TCP_NODELAY", syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1},
	} {
		if v, err := syscall.GetsockoptInt(fd, o.level, o.option); v != o.value || err != nil {
			t.Errorf("%s is %d (%v), want %d", o.name, v, err, o.value)
		}
	}
	if flags, _, _ := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFL, 0); flags&syscall.O_NONBLOCK == 0 {
		t.Error("it blocks")
	}
	if flags, _, _ := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0); flags&syscall.FD_CLOEXEC == 0 {
		t.Error("programs inherit it")
	}
}

// Who connects before the server serves has not inherited what it had not set. All do
// who wait for a server to come back.
func TestEarlyConnectionsAreKeptAlive(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := NewServer(testConfig())
	fds := make(chan int, 100)
	stubbed(h, func(fd int, peer *syscall.RawSockaddrAny) (int, syscall.Errno) {
		fd, errno := accept4(fd, peer)
		if errno == 0 {
			fds <- fd
		}
		return fd, errno
	})
	var clients []net.Conn
	for range 40 { // more than are accepted in one turn
		clients = append(clients, dial(t, ln))
	}
	l := NewOwnListener(ln, h.cfg.Logger)
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	for _, c := range clients {
		expect(t, c, "ping\n", "1 pong\n")
	}
	expect(t, dial(t, l), "ping\n", "1 pong\n")
	for range len(clients) + 1 {
		fd := <-fds
		if v, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE); v != 1 || err != nil {
			t.Errorf("a connection has SO_KEEPALIVE %d (%v)", v, err)
		}
		if v, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE); v != 15 || err != nil {
			t.Errorf("a connection has TCP_KEEPIDLE %d (%v)", v, err)
		}
	}
	l.Close()
	<-served
	drain(h)
}

// However many connect, few are accepted in one turn.
func TestAcceptsAreBounded(t *testing.T) {
	calls, there := 0, 1000
	l := &loop{accept: func(int, *syscall.RawSockaddrAny) (int, syscall.Errno) {
		calls++
		if there == 0 {
			return -1, syscall.EAGAIN
		}
		there--
		return -1, syscall.ECONNABORTED // one that has gone again
	}}
	a := &acceptor{loop: l, quota: 1, fd: 0}
	turns := func(n int) (all []int) {
		for range n {
			calls = 0
			a.work()
			all = append(all, calls)
		}
		return all
	}
	if got, want := turns(7), []int{1, 2, 4, 8, 16, 16, 16}; !slices.Equal(got, want) {
		t.Errorf("accepted %v, want %v", got, want)
	}
	there = 3
	if got, want := turns(2), []int{4, 1}; got[0] != 4 || got[1] > 3 {
		t.Errorf("accepted %v, want %v", got, want)
	}
}

// stubbed makes all loops of a hub accept with a function.
func stubbed(h *Server, f func(fd int, peer *syscall.RawSockaddrAny) (int, syscall.Errno)) {
	for _, l := range h.startedLoops() {
		l.accept = f
	}
}

// A listener that fails for a reason that passes is left alone for longer and
// longer, although it stays readable, and then goes on.
func TestDoorPauses(t *testing.T) {
	log := newTold()
	cfg := testConfig()
	cfg.Logger = slog.New(log)
	h := NewServer(cfg)
	var calls atomic.Int32
	var began time.Time
	stubbed(h, func(fd int, peer *syscall.RawSockaddrAny) (int, syscall.Errno) {
		if n := calls.Add(1); n == 1 {
			began = time.Now()
		}
		if time.Since(began) < 100*time.Millisecond {
			return -1, syscall.EMFILE
		}
		return accept4(fd, peer)
	})
	l, end := serveDoors(t, h, "tcp", "127.0.0.1:0")
	expect(t, dial(t, l), "ping\n", "1 pong\n")
	if n := calls.Load(); n > 8 { // 5, 10, 20, 40, 80 ms
		t.Errorf("tried %d times in 100 ms", n)
	}
	if len(log.at) != 1 {
		t.Errorf("the log has %d lines", len(log.at))
	}
	end()
	drain(h)
}

// One that is closed while it is left alone is closed for good.
func TestDoorIsClosedInAPause(t *testing.T) {
	h := NewServer(testConfig())
	tried := make(chan struct{}, 1000)
	stubbed(h, func(int, *syscall.RawSockaddrAny) (int, syscall.Errno) {
		tried <- struct{}{}
		return -1, syscall.ENFILE
	})
	l, end := serveDoors(t, h, "tcp", "127.0.0.1:0")
	dial(t, l)
	<-tried
	if err := end(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	time.Sleep(4 * firstPause) // it would be tried again
	drain(h)
}

// Any other error is for good: Serve returns it as Accept would have.
func TestDoorFails(t *testing.T) {
	h := NewServer(testConfig())
	stubbed(h, func(int, *syscall.RawSockaddrAny) (int, syscall.Errno) { return -1, syscall.EINVAL })
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewOwnListener(inner, h.cfg.Logger)
	served := make(chan error)
	go func() { served <- h.Serve(l) }()
	if c, err := net.Dial("tcp", inner.Addr().String()); err == nil { // or it was reset at once
		c.Close()
	}
	err = <-served
	if want := "accept tcp " + inner.Addr().String() + ": accept4: invalid argument"; !errors.Is(err, syscall.EINVAL) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	drain(h)
}

// Without loops, as when the server has shut down, a goroutine accepts.
func TestNoDoorAfterTheEnd(t *testing.T) {
	h := NewServer(testConfig())
	h.startedLoops()
	drain(h)
	l, end := serveDoors(t, h, "tcp", "127.0.0.1:0")
	c := dial(t, l)
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes", n)
	}
	if err := end(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	// And acceptors end with the loops.
	h = NewServer(testConfig())
	_, end = serveDoors(t, h, "tcp", "127.0.0.1:0")
	for h.loops.running.Load() == nil {
		runtime.Gosched()
	}
	drain(h)
	if err := end(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// All that are too many are told so, on the loop.
func TestDoorTurnsAway(t *testing.T) {
	cfg := testConfig()
	cfg.MaxConnections = 1
	for _, network := range []string{"tcp", "unix"} {
		h := NewServer(cfg)
		addr := "127.0.0.1:0"
		if network == "unix" {
			addr = filepath.Join(t.TempDir(), "s")
		}
		l, end := serveDoors(t, h, network, addr)
		first := dial(t, l)
		expect(t, first, "ping\n", "1 pong\n")
		for range 100 {
			c := dial(t, l)
			if got, err := io.ReadAll(c); string(got) != wire.TooManyConnections || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			c.Close()
		}
		// Those who do not close their side have their time, but some only.
		var open []net.Conn
		for range 2 * maxPartings {
			c := dial(t, l)
			if got, err := io.ReadAll(c); string(got) != wire.TooManyConnections || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			open = append(open, c)
			if n := h.partings.n.Load(); n > maxPartings {
				t.Errorf("%d are parting", n)
			}
		}
		for _, c := range open {
			c.Close()
		}
		expect(t, first, "ping\n", "1 pong\n")
		if n := h.Connections(); n != 1 {
			t.Errorf("%d connections", n)
		}
		end()
		drain(h)
		if n, looped := h.partings.n.Load(), h.timely; n != 0 || looped != 0 {
			t.Errorf("%d are parting, %d on loops, when all is over", n, looped)
		}
	}
}

// Whichever loop accepts, all have as many connections.
func TestConnectionsAreSpread(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	h := NewServer(testConfig())
	l, end := serveDoors(t, h, "tcp", "127.0.0.1:0")
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range 100 {
				expect(t, dial(t, l), "ping\n", "1 pong\n")
			}
		})
	}
	all.Wait()
	h.mu.Lock()
	for i, l := range h.loops.all {
		if l.load != 250 {
			t.Errorf("loop %d has %d connections", i, l.load)
		}
	}
	h.mu.Unlock()
	end()
	drain(h)
	for i, l := range h.loops.all {
		if l.load != 0 {
			t.Errorf("loop %d has %d connections when all is over", i, l.load)
		}
	}
}

// The name of an interface is looked up once a minute.
func TestZone(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Skip(err)
	}
	l := &loop{}
	a := (*syscall.RawSockaddrInet6)(unsafe.Pointer(&l.peer))
	a.Family, a.Scope_id = syscall.AF_INET6, uint32(lo.Index)
	a.Addr = [16]byte{0: 0xfe, 1: 0x80, 15: 1}
	if got := l.peerAddress(-1, TCP).IP.Addr().String(); got != "fe80::1%lo" {
		t.Errorf("got %s", got)
	}
	l.zones.names[uint32(lo.Index)] = "known"
	if got := l.peerAddress(-1, TCP).IP.Addr().String(); got != "fe80::1%known" {
		t.Errorf("got %s", got)
	}
	l.zones.until = time.Now().Add(-1)
	if got := l.peerAddress(-1, TCP).IP.Addr().String(); got != "fe80::1%lo" {
		t.Errorf("got %s", got)
	}
	a.Scope_id = 1 << 30
	if got := l.peerAddress(-1, TCP).IP.Addr().String(); got != "fe80::1%1073741824" {
		t.Errorf("got %s", got)
	}
	// An IPv4 address is one, also on a socket for both.
	a.Scope_id, a.Addr = 0, [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: 1}
	if got := l.peerAddress(-1, TCP).IP.Addr().String(); got != "10.0.0.1" {
		t.Errorf("got %s", got)
	}
}
