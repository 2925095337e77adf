package main_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startProxy starts lockd proxy, and has its log read.
func startProxy(t *testing.T, args ...string) *daemon {
	t.Helper()
	p := start(t, nil, append([]string{"proxy"}, args...)...)
	for !strings.Contains(p.start, "msg=listening") {
		p.start = p.line()
	}
	go io.Copy(io.Discard, p.log)
	return p
}

// stopped stops a process, until it goes on.
func (d *daemon) stopped() (goOn func()) {
	d.t.Helper()
	d.cmd.Process.Signal(syscall.SIGSTOP)
	await(d.t, func() bool { return state(d.cmd.Process.Pid) == 'T' })
	return func() { d.cmd.Process.Signal(syscall.SIGCONT) }
}

// A wire passes on what comes for an address, until it is cut.
type wire struct {
	net.Listener
	mu    sync.Mutex // guards what follows
	conns []net.Conn
	cut   bool
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l}
	t.Cleanup(func() {
		l.Close()
		w.setCut(true)
	})
	go func() {
		for {
			here, err := l.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", to)
			if err != nil {
				here.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, here, there)
			if w.cut {
				w.endLocked()
			}
			w.mu.Unlock()
			pass := func(to, from net.Conn) {
				io.Copy(to, from)
				to.Close()
				from.Close()
			}
			go pass(here, there)
			go pass(there, here)
		}
	}()
	return w
}

func (w *wire) setCut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut = cut; cut {
		w.endLocked()
	}
}

func (w *wire) endLocked() {
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// gets asks until the answer is the server's: on a busy machine one that is there may need
// more time than clients stand.
func (c *client) gets(request, want string) {
	c.t.Helper()
	got := ""
	await(c.t, func() bool {
		fmt.Fprintf(c, "%s\n", request)
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("%s: %v", request, err)
		}
		got = strings.TrimSuffix(line, "\n")
		return !strings.HasPrefix(got, "0 Server Recovering: ")
	})
	if got != want {
		c.t.Errorf("%q: got %q, not %q", request, got, want)
	}
}

// A proxy that is stopped for longer than its server keeps anything for it tells nobody
// who held a lock anything any more when it goes on, but closes the connection: somebody
// else has the lock.
func TestProxyStopped(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--dead-peer-timeout", "2s", "--max-keep", "3s")
	w := newWire(t, d.addr("tcp"))
	p := startProxy(t, "-t", anyPort, "--unix", short(t)+"/p", "--admin", "off", "--dead-peer-timeout", "2s", "-s", w.Addr().String())
	holder, other := dial(t, "tcp", p.addr("tcp")), dial(t, "tcp", p.addr("tcp"))
	shares, waiter := dial(t, "unix", p.addr("unix")), dial(t, "unix", p.addr("unix"))
	holder.gets("g x", "1 Lock Get Success: x")
	shares.gets("sg s", "1 Shared Lock Get Success: s")
	holder.ask("ping", "1 pong")
	fmt.Fprintf(waiter, "gw 60000 x\n")
	other.gets("g x", "0 Lock Get Failure: x")

	goOn := p.stopped()
	w.setCut(true)
	direct := dial(t, "tcp", d.addr("tcp"))
	direct.ask("gw 60000 x", "1 Lock Get Success: x")
	fmt.Fprintf(holder, "ping\ng x\nt x\nr x\n")
	fmt.Fprintf(shares, "ping\nsg s\nsi s\n")
	fmt.Fprintf(other, "i x\n")
	goOn()
	holder.ended()
	shares.ended()
	waiter.ended()
	if got, err := other.in.ReadString('\n'); got != "1 Lock Is Locked: x\n" {
		t.Errorf("who held nothing is told %q, %v", got, err)
	}
	direct.ask("g x", "1 Lock Get Success: x")
	w.setCut(false)
	other.gets("g y", "1 Lock Get Success: y")
	other.gets("g x", "0 Lock Get Failure: x")
}

// While the server is stopped, clients of protocol 1 are answered, and when it goes on
// they have what they had.
func TestProxyOfStoppedServer(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	p := startProxy(t, "-t", anyPort, "--admin", "off", "-s", d.addr("tcp"))
	holder, other := dial(t, "tcp", p.addr("tcp")), dial(t, "tcp", p.addr("tcp"))
	holder.gets("g x", "1 Lock Get Success: x")
	holder.gets("g y", "1 Lock Get Success: y")
	goOn := d.stopped()
	for _, c := range []*client{other, dial(t, "tcp", p.addr("tcp"))} {
		c.ask("g new", "0 Server Recovering: new")
		c.ask("i x", "1 Lock Is Locked: x")
		c.ask("r x", "0 Lock Release Failure: x")
		c.ask("rl 5 1000 1 x", "0 Server Recovering: x")
	}
	holder.ask("g x", "1 Lock Get Success: x")
	holder.ask("r y", "1 Lock Release Success: y")
	time.Sleep(3 * time.Second) // so that the proxy tries another connection; if it has not yet, the test says less
	other.ask("g y", "0 Server Recovering: y")
	goOn()
	other.gets("g y", "1 Lock Get Success: y")
	other.gets("g x", "0 Lock Get Failure: x")
	holder.ask("r x", "1 Lock Release Success: x")
	direct := dial(t, "tcp", d.addr("tcp"))
	direct.ask("g y", "0 Lock Get Failure: y")
	await(t, func() bool { // what was granted to who was told otherwise
		fmt.Fprintf(direct, "i new\n")
		got, err := direct.in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return got == "0 Lock Not Locked: new\n"
	})
}
