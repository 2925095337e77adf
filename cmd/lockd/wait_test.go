//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/user"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// free returns an address at which nobody listens, and which stays free while a
// server is restarted: the kernel gives ports from 32768 on to whoever asks for
// any, and to clients.
func free(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.N(12000))
		if _, taken := given.LoadOrStore(addr, true); taken {
			continue
		}
		if refused(addr) {
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

var given sync.Map // what free has returned

// refused tells whether nobody listens at an address. A listener that was closed
// may do so for a moment: of a process that is being started, which has a copy of
// it up to its exec.
func refused(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		c.Close()
	}
	return err != nil
}

// serveAt starts a server at an address, again if need be.
func serveAt(t *testing.T, addr string) *daemon {
	t.Helper()
	return start(t, nil, "-t", addr, "--admin", "off", "--drain-timeout", "1s")
}

// log is what a lockd run says, which can be read while it says it.
type log struct {
	mu    sync.Mutex
	all   bytes.Buffer
	ended chan struct{}
}

// whole returns all of it, when the command has ended.
func (l *log) whole() string {
	<-l.ended
	return l.String()
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// logged starts lockd run with such a log.
func logged(t *testing.T, server string, args ...string) (*runner, *log) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l := &log{ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		io.Copy(l, r)
		r.Close()
	}()
	run := beginTo(t, w, server, args...)
	w.Close()
	t.Cleanup(func() {
		run.cmd.Process.Kill()
		<-l.ended
	})
	return run, l
}

// queued waits until so many wait for locks.
func queued(t *testing.T, addr, name string, n int) {
	t.Helper()
	c := dial(t, "tcp", addr)
	await(t, func() bool {
		fmt.Fprintf(c, "look %s\n", name)
		waits := 0
		for {
			line, err := c.in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, "\twaits\t") {
				waits++
			}
			if line == "1 End\n" {
				return waits == n
			}
		}
	})
}

// firstInLine returns the address of who waits for a lock.
func firstInLine(t *testing.T, server, name string) string {
	t.Helper()
	c := dial(t, "tcp", server)
	fmt.Fprintf(c, "look %s\n", name)
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if fields := strings.Split(strings.TrimSpace(line), "\t"); len(fields) > 5 && fields[2] == "waits" {
			return fields[5]
		}
	}
}

// TestRunWaitsThroughARestart: who holds nothing has lost nothing.
func TestRunWaitsThroughARestart(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for what, args := range map[string][]string{
			"exclusive": nil,
			"shared":    {"--shared", "--limit", "1"},
			"bounded":   {"--wait", "1h", "--wait-for-server", "1h"},
		} {
			t.Run(fmt.Sprint(what, " ", sig), func(t *testing.T) {
				t.Parallel()
				addr := free(t)
				d := serveAt(t, addr)
				c := dial(t, "tcp", addr)
				get := "g name"
				if what == "shared" {
					get = "sg name"
					c.ask(get, "1 Shared Lock Get Success: name")
				} else {
					c.ask(get, "1 Lock Get Success: name")
				}
				r, log := logged(t, addr, append(append([]string{"name"}, args...), "--", "sh", "-c", untilInput)...)
				queued(t, addr, "name", 1)
				d.stop(sig)
				await(t, func() bool {
					return strings.Contains(log.String(), "lockd: cannot reach "+addr+": connection refused; waiting for it, and then for \"name\"\n") ||
						strings.Contains(log.String(), "lockd: "+addr+": connection lost: the server closed the connection; waiting for it, and then for \"name\"\n") ||
						strings.Contains(log.String(), "lockd: "+addr+": the server is shutting down; waiting for it, and then for \"name\"\n")
				})
				serveAt(t, addr)
				r.says("ready")
				want := "1 Lock Is Locked: name"
				ask := "i name"
				if what == "shared" {
					want, ask = "1 Shared Lock Is Locked: name", "si name"
				}
				dial(t, "tcp", addr).ask(ask, want)
				io.WriteString(r.in, "go\n")
				r.ends(0)
				if got := log.whole(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "lockd: "+addr+" is back, after ") {
					t.Errorf("stderr %q", got)
				}
			})
		}
	}
}

// TestRunWaitsOnAfterARestart: behind whoever was faster, and in two restarts as
// in one.
func TestRunWaitsOnAfterARestart(t *testing.T) {
	t.Parallel()
	addr := free(t)
	d := serveAt(t, addr)
	dial(t, "tcp", addr).ask("g name", "1 Lock Get Success: name")
	r, _ := logged(t, addr, "name", "--", "echo", "hi")
	end := func() { d.stop(syscall.SIGKILL) }
	for range 2 {
		queued(t, addr, "name", 1)
		end()
		end = serveHeld(t, addr) // nobody sees the moment between its start and our lock
	}
	queued(t, addr, "name", 1)
	end()
	serveAt(t, addr)
	r.ends2("hi\n")
}

// serveHeld serves at an address, with a lock that was held before anybody could
// connect: the server is behind a relay that listens later. It returns what ends
// both.
func serveHeld(t *testing.T, addr string) (end func()) {
	t.Helper()
	path := short(t) + "/s"
	d := start(t, nil, "--unix", path, "--admin", "off")
	dial(t, "unix", path).ask("g name", "1 Lock Get Success: name")
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("unix", path)
			if err != nil {
				c.Close()
				continue
			}
			go func() { io.Copy(c, s); c.Close() }()
			go func() { io.Copy(s, c); s.Close() }()
		}
	}()
	return func() {
		l.Close()
		await(t, func() bool { return refused(addr) })
		d.stop(syscall.SIGKILL)
	}
}

// TestRunWaitsThroughARestartForItsRate: the lock that is held meanwhile is lost,
// but nothing was done under it.
func TestRunWaitsThroughARestartForItsRate(t *testing.T) {
	t.Parallel()
	addr := free(t)
	d := serveAt(t, addr)
	c := dial(t, "tcp", addr)
	c.ask("rl 1 3600000 1 name", "1 Rate Allowed: name")
	r, log := logged(t, addr, "name", "--rate", "1/1h", "--", "echo", "hi")
	await(t, func() bool {
		return strings.Contains(log.String(), `lockd: waiting for the rate of "name", which opens in `)
	})
	c.ask("i name", "1 Lock Is Locked: name")
	d.stop(syscall.SIGKILL)
	serveAt(t, addr) // which has forgotten the rate
	r.ends2("hi\n")
}

// TestRunWaitsThroughARestartOfAnOldServer: as with one that has queues.
func TestRunWaitsThroughARestartOfAnOldServer(t *testing.T) {
	t.Parallel()
	addr := free(t)
	stop := oldServerAt(t, addr, "\r\n", "name")
	r, log := logged(t, addr, "name", "--", "echo", "hi")
	await(t, func() bool { return strings.Contains(log.String(), "lockd: waiting for \"name\"\n") })
	stop()
	await(t, func() bool { return strings.Contains(log.String(), "; waiting for it, and then for \"name\"\n") })
	oldServerAt(t, addr, "\r\n")
	r.ends2("hi\n")
	if !strings.Contains(log.whole(), addr+" is back, after ") {
		t.Errorf("stderr %q", log.String())
	}
}

// TestRunDoesNotWaitForTheServerForEver crosses the bounds of time while the
// server is away.
func TestRunDoesNotWaitForTheServerForEver(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"--wait":                     {[]string{"--wait", "1500ms"}, `connection refused; waited 1.5s for "name"`},
		"--wait-for-server":          {[]string{"--wait-for-server", "300ms"}, "connection refused; waited 300ms for it"},
		"--wait, which is less":      {[]string{"--wait", "1500ms", "--wait-for-server", "1h"}, `connection refused; waited 1.5s for "name"`},
		"--wait-for-server, likwise": {[]string{"--wait", "1h", "--wait-for-server", "300ms"}, "connection refused; waited 300ms for it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := free(t)
			d := serveAt(t, addr)
			dial(t, "tcp", addr).ask("g name", "1 Lock Get Success: name")
			r, log := logged(t, addr, append(append([]string{"name", "-E", "7"}, test.args...), "--", "echo", "wrong")...)
			queued(t, addr, "name", 1)
			d.stop(syscall.SIGKILL)
			r.ends(69)
			if want := "lockd: cannot reach " + addr + ": " + test.want + "\n"; !strings.HasSuffix(log.whole(), want) {
				t.Errorf("stderr %q, want %q at its end", log.String(), want)
			}
		})
	}
	t.Run("at the start", func(t *testing.T) {
		t.Parallel()
		addr := free(t)
		r, log := logged(t, addr, "name", "--wait", "0", "--wait-for-server", "500ms", "--", "echo", "wrong")
		r.ends(69)
		if want := "lockd: cannot reach " + addr + ": connection refused; waited 500ms for it\n"; log.whole() != want {
			t.Errorf("stderr %q, want %q", log.String(), want)
		}
	})
	t.Run("of one that ends connections", func(t *testing.T) {
		t.Parallel()
		// The bound is longer than the pause between two attempts can be.
		var asked atomic.Int32
		greet := modern(func(string) string { return "" })
		rude := script(t, func() func(string) (string, bool) {
			answer := greet()
			return func(line string) (string, bool) {
				if strings.HasSuffix(line, " g name") {
					asked.Add(1)
					return "", true
				}
				return answer(line)
			}
		})
		r, log := logged(t, rude, "name", "--wait-for-server", "6s", "--", "echo", "wrong")
		r.ends(69)
		for _, want := range []string{
			"lockd: " + rude + ": connection lost: the server closed the connection; waiting for it, and then for \"name\"\n",
			"lockd: " + rude + ": connection lost: the server closed the connection; waited 6s for it\n",
		} {
			if !strings.Contains(log.whole(), want) {
				t.Errorf("stderr %q, want %q", log.whole(), want)
			}
		}
		if n := asked.Load(); n < 2 || n > 20 {
			t.Errorf("asked %d times in 6 s", n)
		}
	})
	t.Run("at the start, in time", func(t *testing.T) {
		t.Parallel()
		addr := free(t)
		r, log := logged(t, addr, "name", "--wait", "0", "--wait-for-server", "1h", "--", "echo", "hi")
		await(t, func() bool { return strings.Contains(log.String(), "connection refused; waiting for it") })
		serveAt(t, addr)
		r.ends2("hi\n")
	})
	t.Run("at the start, of one that does not answer", func(t *testing.T) {
		t.Parallel()
		mute := script(t, func() func(string) (string, bool) {
			return func(string) (string, bool) { return "", false }
		})
		r, log := logged(t, mute, "name", "--wait-for-server", "300ms", "--", "echo", "wrong")
		r.ends(69)
		if want := "lockd: " + mute + ": no answer within 300ms; waited 300ms for it\n"; log.whole() != want {
			t.Errorf("stderr %q, want %q", log.String(), want)
		}
	})
}

// TestRunGivesUpANonsensicalServer: what answers with nonsense is not waited for.
func TestRunGivesUpANonsensicalServer(t *testing.T) {
	t.Parallel()
	addr := script(t, modern(func(request string) string {
		return strings.Fields(request)[0] + " 1 what?\n"
	}))
	r := beginAt(t, addr, "name", "--", "echo", "wrong")
	r.ends(69)
	r.complains("unexpected reply")
}

// TestRunSaysForWhomItWaits: who holds the lock, since when, and the place in the
// line.
func TestRunSaysForWhomItWaits(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	self := func(r *runner, what string) string {
		return regexp.QuoteMeta(fmt.Sprintf("%s@%s %d %s", me.Username, host, r.cmd.Process.Pid, what))
	}
	const addr = ` \(127\.0\.0\.1:\d+#\d+\)`
	says := func(t *testing.T, log *log, want string) {
		t.Helper()
		pattern := regexp.MustCompile(`(?m)^lockd: ` + want + `$`)
		for begin := time.Now(); !pattern.MatchString(log.String()); time.Sleep(20 * time.Millisecond) {
			if time.Since(begin) > patience {
				t.Fatalf("stderr %q, want %s", log.String(), pattern)
			}
		}
	}
	t.Run("exclusive", func(t *testing.T) {
		t.Parallel()
		d := serveForRun(t)
		holder := begin(t, d, "name", "--", "sh", "-c", untilInput, "secret")
		holder.says("ready")
		first, firstLog := logged(t, d.addr("tcp"), "name", "--", "echo", "first")
		queued(t, d.addr("tcp"), "name", 1)
		second, secondLog := logged(t, d.addr("tcp"), "name", "--name", "night shift", "--", "echo", "second")
		queued(t, d.addr("tcp"), "name", 2)
		_, thirdLog := logged(t, d.addr("tcp"), "name", "--", "sh", "-c", "echo third")
		queued(t, d.addr("tcp"), "name", 3)
		by := `waiting for "name", held for \d+s by ` + self(holder, "sh") + addr
		says(t, firstLog, by+"; you are next")
		says(t, secondLog, by+"; 1 waits before you")
		says(t, thirdLog, by+"; 2 wait before you")
		entries := document(t, d.addr("tcp"), 0, "who")
		if got := fmt.Sprint(entries); !strings.Contains(got, fmt.Sprintf("%d night shift", second.cmd.Process.Pid)) || strings.Contains(got, "secret") {
			t.Errorf("who: %s", got)
		}
		io.WriteString(holder.in, "go\n")
		first.ends2("first\n")
		second.ends2("second\n")
	})
	t.Run("another holder", func(t *testing.T) {
		t.Parallel()
		d := serveForRun(t)
		c := dial(t, "tcp", d.addr("tcp"))
		c.ask("g name", "1 Lock Get Success: name")
		_, log := logged(t, d.addr("tcp"), "name", "--", "echo", "wrong")
		says(t, log, `waiting for "name", held for \d+s by `+c.LocalAddr().String()+`; you are next`)
		other := dial(t, "tcp", d.addr("tcp"))
		other.ask("iam \x1b[2J", "1 ok")
		// The queue is passed by who is kicked out of it, and comes back to its end.
		fmt.Fprintln(other, "gw 60000 name")
		queued(t, d.addr("tcp"), "name", 2)
		addr := firstInLine(t, d.addr("tcp"), "name")
		c.ask("kick "+addr, "1 Kicked: "+addr)
		c.ask("r name", "1 Lock Release Success: name")
		says(t, log, `waiting for "name", held for \d+s by "\\x1b\[2J" \(`+other.LocalAddr().String()+`\); you are next`)
	})
	t.Run("shared", func(t *testing.T) {
		t.Parallel()
		d := serveForRun(t)
		c := dial(t, "tcp", d.addr("tcp"))
		c.ask("sg name", "1 Shared Lock Get Success: name")
		holder := begin(t, d, "name", "--shared", "--", "sh", "-c", untilInput)
		holder.says("ready")
		_, log := logged(t, d.addr("tcp"), "name", "--shared", "--limit", "2", "--", "echo", "wrong")
		says(t, log, `waiting for "name", held by 2 of 2, the longest for \d+s by `+c.LocalAddr().String()+`; you are next`)
		_, log = logged(t, d.addr("tcp"), "name", "--shared", "--limit", "1", "--", "echo", "wrong")
		says(t, log, `waiting for "name", held by 2, more than 1, the longest for \d+s by `+c.LocalAddr().String()+`; 1 waits before you`)
	})
	t.Run("a long name", func(t *testing.T) {
		t.Parallel()
		var looks atomic.Int32
		protocol := modern(func(request string) (reply string) {
			if words := strings.Fields(request); words[1] == "g" {
				return words[0] + " 0 Lock Get Failure: name\n"
			}
			return ""
		})
		addr := script(t, func() func(string) (string, bool) {
			answer := protocol()
			return func(line string) (string, bool) {
				words := strings.Fields(line)
				if len(words) < 2 || words[1] != "look" {
					return answer(line)
				}
				looks.Add(1)
				return fmt.Sprintf("%s - name\texclusive\theld\t5000\t7\t192.0.2.1:5\t%s\n%[1]s 1 End\n", words[0], strings.Repeat("x", 3000)), false
			}
		})
		_, log := logged(t, addr, "name", "--", "echo", "wrong")
		says(t, log, `waiting for "name", held for 5s by x{1,300}… \(192\.0\.2\.1:5\)`)
		if n := looks.Load(); n != 1 {
			t.Errorf("the server was asked %d times for one line", n)
		}
	})
	for name, flag := range map[string]string{"dumps are disabled": "--disable-dump", "names are disabled": "--disable-registry"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := start(t, nil, "-t", anyPort, "--admin", "off", flag)
			c := dial(t, "tcp", d.addr("tcp"))
			c.ask("g name", "1 Lock Get Success: name")
			_, log := logged(t, d.addr("tcp"), "name", "--", "echo", "wrong")
			if flag == "--disable-dump" {
				says(t, log, `waiting for "name"`)
			} else {
				says(t, log, `waiting for "name", held for \d+s by `+c.LocalAddr().String())
			}
		})
	}
}
