package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// A garrison are clients that hold a lock each, and ask all the time whether the
// server is there and whether they hold it still. Whatever others do, they are to
// have their answers.
type garrison struct {
	tb   testing.TB
	stop chan struct{}
	wg   sync.WaitGroup
	ask  []func() error // one for each client
}

func (g *garrison) add(c *client, two bool) {
	g.tb.Helper()
	name, prefix := fmt.Sprint("held ", len(g.ask)), ""
	if two {
		c.ask("hello 2", "2 lockd "+server.Version)
		prefix = "3 "
	}
	c.send(prefix + "g " + name + "\n" + prefix + "t " + name + "\n")
	c.line()
	token := c.line()
	if !strings.Contains(token, "Lock Token: "+name) {
		g.tb.Fatalf("it does not hold its lock: %q", token)
	}
	g.ask = append(g.ask, func() error {
		c.SetDeadline(time.Now().Add(giveUp))
		if _, err := io.WriteString(c, prefix+"ping\n"+prefix+"t "+name+"\n"); err != nil {
			return err
		}
		for _, want := range []string{prefix + "1 pong\n", token} {
			if got, err := c.in.ReadString('\n'); got != want {
				return fmt.Errorf("%s reads %q (%v), not %q", name, got, err, want)
			}
		}
		return nil
	})
}

// watch has them ask until the test relieves them.
func (g *garrison) watch() {
	g.stop = make(chan struct{})
	for _, ask := range g.ask {
		g.wg.Go(func() {
			for {
				if err := ask(); err != nil {
					g.tb.Error(err)
					return
				}
				select {
				case <-g.stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
}

// relieve ends the watch, whose last question is asked after all that went before.
func (g *garrison) relieve() {
	close(g.stop)
	g.wg.Wait()
	for _, ask := range g.ask {
		if err := ask(); err != nil {
			g.tb.Error(err)
		}
	}
}

func newGarrison(tb testing.TB, s *testServer) *garrison {
	g := &garrison{tb: tb}
	for _, transport := range streams {
		g.add(s.dial(tb, transport), false)
		g.add(s.dial(tb, transport), true)
	}
	w := dialWS(tb, s.webSocketURL)
	w.ask("g framed", "1 Lock Get Success: framed")
	g.ask = append(g.ask, func() error {
		w.SetDeadline(time.Now().Add(giveUp))
		if _, err := io.WriteString(w, message(ws.OpText, "g framed")); err != nil {
			return err
		}
		f, err := ws.ReadFrame(w.in)
		if got := string(f.Payload); got != "1 Lock Get Success: framed\n" {
			return fmt.Errorf("the one over WebSocket reads %q (%v)", got, err)
		}
		return nil
	})
	g.watch()
	return g
}

// Connections that come and go as fast as they can: closed, reset, half-closed,
// with and without a request, with a lock. On two cores these are more than 10,000
// a second where nothing else runs; the log says.
func TestSiegeOfConnections(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	g := newGarrison(t, s)
	const attackers, each = 8, 2500
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range attackers {
		wg.Go(func() {
			network, addr := "tcp", s.tcp
			if i%4 == 3 {
				network, addr = "unix", s.unix
			}
			for n := range each {
				c, err := net.Dial(network, addr)
				for errors.Is(err, syscall.EAGAIN) { // a unix socket's queue is full: TCP would wait
					time.Sleep(time.Millisecond)
					c, err = net.Dial(network, addr)
				}
				if err != nil {
					t.Errorf("connection %d: %v", n, err)
					return
				}
				switch n % 6 {
				case 1:
					io.WriteString(c, "ping\n")
				case 2:
					fmt.Fprintf(c, "g taken %d\nsg shared\ngw 60000 held 0\n", i)
				case 3:
					io.WriteString(c, "half a li")
				case 4:
					c.(interface{ CloseWrite() error }).CloseWrite()
				}
				if tcp, ok := c.(*net.TCPConn); ok { // else the ports run out
					tcp.SetLinger(0)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	t.Logf("%.0f connections a second", attackers*each/time.Since(begun).Seconds())
	g.relieve()
	waitConnections(t, s.Server, len(g.ask))
	for name, want := range map[string]int{"lockd_locks_held": len(g.ask), "lockd_shared_holders": 0, "lockd_waiters": 0} {
		eventually(t, fmt.Sprint(name, " is ", want), func() bool { return metric(t, s.Server, name) == want })
	}
}

// Connections that stay and say nothing whole: half a line, half a frame, half a
// handshake, nothing at all, a side that is closed behind a reply that nobody
// reads.
func TestSiegeOfHalfOpenConnections(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{MaxConnections: 3000})
	g := newGarrison(t, s)
	for i := range 1500 {
		addr, in := s.tcp, ""
		switch i % 6 {
		case 1:
			in = "g half a li"
		case 2:
			in = "g taken by many\n" + strings.Repeat("dump\n", 50)
		case 3:
			in = strings.Repeat("x", 10_000) // a line that never ends
		case 4:
			addr, in = s.ws, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: web"
		case 5:
			addr = s.ws
		}
		c, err := net.Dial("tcp", addr)
		must(t, err)
		defer c.Close()
		io.WriteString(c, in)
		if i%4 == 2 {
			c.(*net.TCPConn).CloseWrite()
		}
	}
	for range 20 {
		s.dial(t, "tcp").ask("i held 0", "1 Lock Is Locked: held 0")
	}
	g.relieve()
}

// A process whose descriptors are used up, and whose listener's backlog is full,
// serves those whom it has, and the others when there are descriptors again.
func TestSiegeOfDescriptors(t *testing.T) {
	if os.Getenv("LOCKD_TEST_SIEGE") != "" {
		besieged()
		return
	}
	t.Parallel()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, "-test.run=^TestSiegeOfDescriptors$")
	cmd.Env = append(os.Environ(), "LOCKD_TEST_SIEGE=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	defer time.AfterFunc(2*giveUp, func() { cmd.Process.Kill() }).Stop()
	out := bufio.NewReader(stdout)
	say := func() string {
		t.Helper()
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatalf("the server has ended: %q, %v", line, err)
		}
		return strings.TrimSpace(line)
	}
	order := func(what string) {
		t.Helper()
		_, err := io.WriteString(in, what+"\n")
		must(t, err)
		if got := say(); got != what {
			t.Fatalf("got %q, not %q", got, what)
		}
	}
	addr := say()
	dial := func() *client {
		c, err := net.Dial("tcp", addr)
		return newClient(t, c, err)
	}
	g := &garrison{tb: t}
	for i := range 4 {
		g.add(dial(), i%2 == 1)
	}
	g.watch()
	for range 3 {
		order("use up descriptors")
		// The backlog takes five, then the kernel answers nobody: the others wait, too.
		// They try again all at the same moments, and each time less soon: so there are
		// no more of them than the backlog takes at once.
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(2 * giveUp)) // the kernel tries less and less often
				io.WriteString(c, "ping\n")
				if got, err := bufio.NewReader(c).ReadString('\n'); got != "1 pong\n" {
					t.Errorf("who has waited for a descriptor reads %q, %v", got, err)
				}
			})
		}
		time.Sleep(200 * time.Millisecond) // for them to be there
		order("give descriptors back")
		wg.Wait()
	}
	g.relieve()
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// besieged is the process that TestSiegeOfDescriptors is about.
func besieged() {
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	check(err)
	check(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(syscall.Listen(fd, 4))
	file := os.NewFile(uintptr(fd), "listener")
	l, err := net.FileListener(file)
	check(err)
	file.Close()
	s, err := server.New(server.Options{TCP: []string{"systemd:it"}, Inherited: map[string][]net.Listener{"it": {l}}})
	check(err)
	addr := l.Addr().String()
	check(s.Listen())
	fmt.Println(addr)
	limit := syscall.Rlimit{Cur: 200, Max: 200}
	check(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	var used []int
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); fmt.Println(lines.Text()) {
		if lines.Text() == "use up descriptors" {
			for {
				fd, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
				if err == syscall.EMFILE {
					break
				}
				check(err)
				used = append(used, fd)
			}
		} else {
			for _, fd := range used {
				syscall.Close(fd)
			}
			used = nil
		}
	}
	s.Shutdown(canceled()) // which cuts the holders off
}
