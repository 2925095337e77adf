//go:build linux && !noloop

package conn

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// asker is a client that asks and reads replies of one line.
type asker struct {
	net.Conn
	in *bufio.Reader
}

func dialAsker(t *testing.T, network, addr string) *asker {
	t.Helper()
	var c net.Conn
	var err error
	if network == "tls" {
		c, err = tls.Dial("tcp", addr, clientTLS())
	} else {
		c, err = net.Dial(network, addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &asker{c, bufio.NewReader(c)}
}

func (a *asker) ask(t *testing.T, request, want string) {
	t.Helper()
	io.WriteString(a, request+"\n")
	if got, err := a.in.ReadString('\n'); got != want+"\n" {
		t.Fatalf("%s: %q, %v, want %q", request, got, err, want)
	}
}

// keepAsking has some clients ask all the time for what another one holds, until the
// test ends.
func keepAsking(t *testing.T, network, addr string) {
	holder := dialAsker(t, network, addr)
	holder.ask(t, "g held", "1 Lock Get Success: held")
	t.Cleanup(func() { holder.Close() })
	for range 3 {
		c := dialAsker(t, network, addr)
		go func() {
			for {
				if _, err := io.WriteString(c, "g held\n"); err != nil {
					return
				}
				if _, err := c.in.ReadString('\n'); err != nil {
					return
				}
			}
		}()
		t.Cleanup(func() { c.Close() })
	}
}

// Who has closed a connection finds free what it held when it asks over another
// one at once, whichever loops the two are on and whoever polls meanwhile, and
// counts do not count it; also who closes that one's sending side at once.
func TestClosedIsClosed(t *testing.T) {
	rounds := 900
	if testing.Short() {
		rounds = 200
	}
	for _, loops := range []int{1, 2, 4} {
		for _, network := range []string{"tcp", "unix", "tls"} {
			t.Run(fmt.Sprintf("%s/%d", network, loops), func(t *testing.T) {
				rounds := rounds
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(loops))
				listens, addr := network, "127.0.0.1:0"
				switch network {
				case "unix":
					addr = filepath.Join(t.TempDir(), "s")
				case "tls":
					listens = "tcp"
				}
				ln, err := net.Listen(listens, addr)
				if err != nil {
					t.Fatal(err)
				}
				cfg := testConfig()
				cfg.Session.Postpone = time.Minute // the machine may be busy
				h := NewServer(cfg)
				served := make(chan error)
				go func() {
					if network == "tls" {
						served <- h.ServeTLS(NewListener(ln, cfg.Logger), serverTLS())
					} else {
						served <- h.Serve(ln)
					}
				}()
				addr = ln.Addr().String()
				other := dialAsker(t, network, addr)
				keepAsking(t, network, addr)
				if network == "tls" { // a handshake takes as long as all the rest
					rounds = rounds / 5
				}
				for i := range rounds {
					a, b := dialAsker(t, network, addr), dialAsker(t, network, addr)
					a.ask(t, "g x", "1 Lock Get Success: x")
					a.ask(t, "sg x", "1 Shared Lock Get Success: x")
					b.ask(t, "g x", "0 Lock Get Failure: x")
					if i%2 == 0 {
						b.ask(t, "sg x", "2 Shared Lock Get Success: x")
						b.Close()
					}
					if i%3 == 1 {
						b.Close()
						half := dialAsker(t, network, addr)
						a.Close()
						io.WriteString(half, "i x\nsi x\ni x\n")
						half.Conn.(interface{ CloseWrite() error }).CloseWrite()
						for _, want := range []string{"0 Lock Not Locked: x\n", "0 Shared Lock Not Locked: x\n", "0 Lock Not Locked: x\n"} {
							if got, err := half.in.ReadString('\n'); got != want {
								t.Fatalf("who closes its sending side: %q, %v, want %q", got, err, want)
							}
						}
						half.Close()
					}
					a.Close()
					switch i % 6 {
					case 0:
						other.ask(t, "i x", "0 Lock Not Locked: x")
					case 1:
						other.ask(t, "g x", "1 Lock Get Success: x")
					case 2:
						other.ask(t, "si x", "0 Shared Lock Not Locked: x")
					case 3:
						other.ask(t, "sgl 1 x", "1 Shared Lock Get Success: x")
					case 4:
						other.ask(t, "sg x", "1 Shared Lock Get Success: x")
					case 5:
						other.ask(t, "gw 0 x", "1 Lock Get Success: x")
					}
					other.ask(t, "g x", "1 Lock Get Success: x")
					other.ask(t, "sg x", "1 Shared Lock Get Success: x")
					other.ask(t, "r x", "1 Lock Release Success: x")
					other.ask(t, "sr x", "1 Shared Lock Release Success: x")
					b.Close()
				}
				other.Close()
				ln.Close()
				<-served
				cut, cancel := context.WithCancel(context.Background())
				cancel()
				h.Drain(cut)
			})
		}
	}
}

// clients gives a loop some clients, whose other ends it returns, too.
func clients(t *testing.T, l *loop, n int) (all []*client, ends []int) {
	t.Helper()
	for range n {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		l.letIn(pair[1], Unix)
		all, ends = append(all, l.clients[len(l.clients)-1]), append(ends, pair[0])
	}
	return all, ends
}

// What a client has sent behind a request it may have sent after a look of the
// same turn at somebody who was there then.
func TestClosedDuringATurn(t *testing.T) {
	h := NewServer(testConfig())
	l := still(t, h, 1)[0]
	all, ends := clients(t, l, 3)
	write(ends[0], []byte("g x\n"))
	l.turn()
	l.shared.Begin(looksEach)
	write(ends[1], []byte("g x\n"))
	all[1].event(syscall.EPOLLIN)
	if all[1].next != session.Idle {
		t.Errorf("a look at somebody who is there: next is %d", all[1].next)
	}
	write(ends[2], []byte("ping\n"))
	syscall.Close(ends[0])
	write(ends[2], []byte("g x\n"))
	all[2].event(syscall.EPOLLIN)
	if all[2].next != session.Waiting {
		t.Errorf("somebody who has closed the connection is in the way: next is %d", all[2].next)
	}
	syscall.Close(ends[1])
	syscall.Close(ends[2])
	for h.Connections() > 0 {
		l.turn()
	}
}

// A client that has closed its side and waits for who is gone is no event: its
// loop would do nothing else.
func TestHalfClosedIsNoEvent(t *testing.T) {
	cfg := testConfig()
	cfg.Session.Postpone = time.Minute
	h := NewServer(cfg)
	l := still(t, h, 1)[0]
	all, ends := clients(t, l, 2)
	write(ends[0], []byte("g x\n"))
	l.turn()
	syscall.Close(ends[0])
	write(ends[1], []byte("i x\n"))
	syscall.Shutdown(ends[1], syscall.SHUT_WR)
	l.shared.Begin(looksEach)
	all[1].lastEvent(syscall.EPOLLIN | syscall.EPOLLRDHUP)
	for _, ev := range l.events[:epollWait(l.epoll, l.events[:])] {
		if l.clientOf(ev) == all[1] {
			t.Errorf("events %#x", ev.Events)
		}
	}
	for h.Connections() > 0 {
		l.turn()
	}
	reply := make([]byte, 100)
	if n, _ := read(ends[1], reply); string(reply[:n]) != "0 Lock Not Locked: x\n" {
		t.Errorf("%q", reply[:n])
	}
	syscall.Close(ends[1])
}

// While a loop may be within a call about a client's socket, whoever looks at that
// client knows it: the kernel may have put its end aside.
func TestCallsAreKnown(t *testing.T) {
	h := NewServer(testConfig())
	l := still(t, h, 1)[0]
	all, ends := clients(t, l, 3)
	write(ends[1], []byte("g x\n"))
	all[1].read()
	if l.calling.Load() != all[1] {
		t.Error("a read is not known")
	}
	l.calling.Store(nil)
	all[2].send([]byte("1 pong\n"))
	if l.calling.Load() != all[2] {
		t.Error("a write is not known")
	}
	for _, fd := range ends {
		syscall.Close(fd)
	}
	for h.Connections() > 0 {
		l.turn()
	}
}
