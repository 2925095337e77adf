//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A keeper is a server for one client that is kept, as far as lockd run asks for it.
type keeper struct {
	t        *testing.T
	addr     string
	listener net.Listener

	mu      sync.Mutex
	kept    string // what `keep` is answered; KEY stands for that
	resumed string // and `resume`
	claim   string // and `claim`
	conns   []net.Conn
	asked   []string // of what comes in, the requests of sessions
}

const keeperKey = "0123456789abcdef0123456789abcdef"

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{t: t, kept: "60000 Kept: KEY", resumed: "2 Resumed: KEY", claim: "9 Lock Claim Success: name"}
	k.listen(anyPort)
	t.Cleanup(func() { k.cut(true) })
	return k
}

func (k *keeper) listen(addr string) {
	k.t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		k.t.Fatal(err)
	}
	k.listener, k.addr = l, l.Addr().String()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			k.mu.Lock()
			k.conns = append(k.conns, conn)
			k.mu.Unlock()
			go func() {
				defer conn.Close()
				for in := bufio.NewScanner(conn); in.Scan(); {
					reply := k.answer(in.Text())
					io.WriteString(conn, reply)
					if strings.HasSuffix(reply, " bye\n") {
						return
					}
				}
			}()
		}
	}()
}

// cut ends all connections, and with down nobody can connect any more.
func (k *keeper) cut(down bool) {
	if down {
		k.listener.Close()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, conn := range k.conns {
		conn.Close()
	}
	k.conns = nil
}

func (k *keeper) answer(line string) string {
	switch line {
	case "ping":
		return "1 pong\n"
	case "limits":
		return "1 dead_peer_ms=20000 max_keep_ms=3600000\n"
	case "hello 2 notices":
		return "2 lockd test\n"
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	session, request, _ := strings.Cut(line, " ")
	if request != "ping" {
		k.asked = append(k.asked, request)
	}
	verb, rest, _ := strings.Cut(request, " ")
	if verb == "rl" {
		rest = rest[strings.LastIndexByte(rest, ' ')+1:]
	}
	reply, ok := map[string]string{
		"iam": "1 ok", "ping": "1 pong", "bye": "1 bye", "claimed": "1 ok", "keep": k.kept, "resume": k.resumed,
		"claim": k.claim, "rl": "0 Rate Limited 3600000 ms: " + rest, "g": "9 Lock Get Success: " + rest, "r": "1 Lock Release Success: " + rest,
	}[verb]
	if !ok {
		k.t.Errorf("server got %q", line)
	}
	return session + " " + strings.ReplaceAll(reply, "KEY", keeperKey) + "\n"
}

// last are the last requests of sessions.
func (k *keeper) last(n int) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.asked[max(0, len(k.asked)-n):])
}

func (k *keeper) set(what *string, text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	*what = text
}

func (k *keeper) awaits(request string) {
	k.t.Helper()
	await(k.t, func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return slices.Contains(k.asked, request)
	})
}

// TestRunKeep: the command does not notice that the connection is lost, nor that the
// server is restarted, and who reads stderr does. In the end the server is told.
func TestRunKeep(t *testing.T) {
	for resumed, says := range map[string]string{
		"2 Resumed: KEY":          `: the lock "name" is still held`,
		"0 Claims Open 5000: KEY": `: the server was restarted, and the lock "name" is still held`,
	} {
		t.Run(resumed, func(t *testing.T) {
			t.Parallel()
			k := newKeeper(t)
			k.set(&k.resumed, resumed)
			r, log := logged(t, k.addr, "name", "--keep", "20s", "--kill-after", "2s", "--", "sh", "-c", untilInput)
			r.says("ready")
			k.awaits("keep 23158") // (20 + 2) / 0.95, rounded up
			k.cut(false)
			await(t, func() bool { return strings.Count(log.String(), "\n") == 2 })
			io.WriteString(r.in, "go\n")
			r.ends(0)
			lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
			if len(lines) != 2 || !strings.HasPrefix(lines[0], `lockd: connection lost (the server closed the connection): the lock "name" is kept for another 5`) ||
				!strings.HasPrefix(lines[1], "lockd: connected again after ") || !strings.HasSuffix(lines[1], says) {
				t.Errorf("stderr %q", lines)
			}
			if got := k.last(2); !slices.Equal(got, []string{"r name", "bye"}) {
				t.Errorf("asked %q at last", got)
			}
		})
	}
}

// TestRunKeepMoves: when it comes back to another node, which never had the lock, that is
// said, and where from and to.
func TestRunKeepMoves(t *testing.T) {
	t.Parallel()
	from, to := newKeeper(t), newKeeper(t)
	for _, k := range []*keeper{from, to} {
		k.set(&k.kept, "60000 Kept Everywhere: KEY")
		k.set(&k.resumed, "0 Claims Open 5000: KEY")
	}
	r, log := logged(t, from.addr+","+to.addr, "name", "--keep", "20s", "--kill-after", "2s", "--", "sh", "-c", untilInput)
	r.says("ready")
	if len(from.last(1)) == 0 {
		from, to = to, from // one of both is taken
	}
	from.cut(true)
	await(t, func() bool { return strings.Count(log.String(), "\n") == 2 })
	io.WriteString(r.in, "go\n")
	r.ends(0)
	lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "lockd: connection to "+from.addr+` lost (the server closed the connection): the lock "name" is kept for another 5`) ||
		!strings.HasPrefix(lines[1], "lockd: connected again after ") || !strings.HasSuffix(lines[1], ", to "+to.addr+" instead of "+from.addr+`: the lock "name" is still held`) {
		t.Errorf("stderr %q", lines)
	}
}

// TestRunKeepLoses: when the lock is lost all the same, the command is ended, and why is
// said.
func TestRunKeepLoses(t *testing.T) {
	for name, test := range map[string]struct {
		keep    string
		trouble func(*keeper)
		says    string
	}{
		"not back in time": {"1s", func(k *keeper) {
			k.cut(true)
		}, `lost the lock "name" (no connection to the server for `},
		"forgotten": {"20s", func(k *keeper) {
			k.set(&k.resumed, "0 Unknown Key: KEY")
			k.set(&k.kept, "0 Keep Disabled")
			k.cut(false)
		}, `lost the lock "name" (the server has not kept it)`},
		"somebody else's": {"20s", func(k *keeper) {
			k.set(&k.resumed, "0 Claims Open 5000: KEY")
			k.set(&k.claim, "0 Lock Claim Failure: name")
			k.cut(false)
		}, `lost the lock "name" (the server has taken it away)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeeper(t)
			k.set(&k.kept, map[string]string{"1s": "2106 Kept: KEY", "20s": "60000 Kept: KEY"}[test.keep])
			r := beginAt(t, k.addr, "name", "--keep", test.keep, "--kill-after", "1s", "--", "sh", "-c", "echo ready; "+forever)
			r.says("ready")
			test.trouble(k)
			r.ends(128 + 15)
			lines := strings.Split(strings.TrimSuffix(r.err.String(), "\n"), "\n")
			slices.Sort(lines) // they are said by two who don't wait for each other
			if len(lines) != 2 || !strings.HasPrefix(lines[0], "lockd: connection lost (") || !strings.HasPrefix(lines[1], "lockd: "+test.says) {
				t.Errorf("stderr %q", lines)
			}
		})
	}
}

// TestRunKeepRefuses: a server that keeps the lock for less, or not at all, is told of
// before the command starts.
func TestRunKeepRefuses(t *testing.T) {
	t.Parallel()
	for kept, says := range map[string]string{
		"11000 Kept: KEY":     "--keep 30s, and --kill-after 10s: the server keeps locks without a connection for a shorter time: ",
		"0 Keep Disabled":     "--keep 30s, and --kill-after 10s: the server keeps no locks without a connection",
		"0 Server Full: keep": "--keep 30s, and --kill-after 10s: the server keeps no locks without a connection",
	} {
		k := newKeeper(t)
		k.set(&k.kept, kept)
		r := beginAt(t, k.addr, "name", "--keep", "30s", "--", "echo", "wrong")
		r.ends(69)
		r.complains(says)
		if kept == "11000 Kept: KEY" {
			if got := k.last(1); got[0] != "bye" {
				t.Errorf("asked %q at last", got)
			}
		}
	}
	r := beginAt(t, script(t, modern(func(request string) string {
		t.Errorf("asked %q", request)
		return ""
	})), "name", "--keep", "30s", "--", "echo", "wrong")
	r.ends(69)
	r.complains("the server keeps no locks without a connection")
}

// TestRunKeepBlipsOnly: that the server does not keep the lock over its own restart is
// said, and no more.
func TestRunKeepBlipsOnly(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	k.set(&k.kept, "60000 Kept Blips Only: KEY")
	r := beginAt(t, k.addr, "name", "--keep", "20s", "--", "echo", "hi")
	r.says("hi")
	r.ends(0)
	r.complains("the server runs without --state")
}

// TestRunKeepEndedWaiting: who waits and is ended by a signal tells the server, too.
func TestRunKeepEndedWaiting(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		k := newKeeper(t)
		r := beginAt(t, k.addr, "name", "--keep", "20s", "--rate", "1/1h", "--", "echo", "wrong")
		k.awaits(fmt.Sprintf("rl 1 %d 1 name", time.Hour.Milliseconds()))
		r.cmd.Process.Signal(s)
		r.ends(-1)
		if got := k.last(1); got[0] != "bye" {
			t.Errorf("asked %q at last", got)
		}
	}
}

// TestRunKeepServerKilled: a server that is killed and started again has the lock
// where it was, and nobody else gets it in between.
func TestRunKeepServerKilled(t *testing.T) {
	t.Parallel()
	for what, args := range map[string][]string{
		"exclusive": nil,
		"shared":    {"--shared", "--limit", "1"},
	} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			t.Run(fmt.Sprint(what, " ", sig), func(t *testing.T) {
				t.Parallel()
				addr, file := free(t), filepath.Join(t.TempDir(), "state")
				if out, err := exec.Command(binary, "state", "new", file).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				serve := []string{"-t", addr, "--admin", "off", "--state", file, "--drain-timeout", "1s"}
				d := start(t, nil, serve...)
				options := append([]string{"name", "--keep", "15s"}, args...)
				r, log := logged(t, addr, append(slices.Clone(options), "--", "sh", "-c", untilInput)...)
				r.says("ready")
				waits := beginAt(t, addr, append(slices.Clone(options), "--", "echo", "next")...)
				queued(t, addr, "name", 1)
				for n := range 2 {
					d.stop(sig)
					d = start(t, nil, serve...)
					await(t, func() bool {
						return strings.Count(log.String(), `the server was restarted, and the lock "name" is still held`) == n+1
					})
				}
				io.WriteString(r.in, "go\n")
				r.ends(0)
				if got := log.String(); strings.Contains(got, "lost the lock") {
					t.Errorf("stderr %q", got)
				}
				waits.says("next")
				waits.ends(0)
			})
		}
	}
}

// TestRunKeepStoppedForLong: what was stopped for longer than the server keeps the lock
// has lost it, whatever it finds when it wakes.
func TestRunKeepStoppedForLong(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	k.set(&k.kept, "2106 Kept: KEY")
	r := beginAt(t, k.addr, "name", "--keep", "1s", "--kill-after", "1s", "--", "sh", "-c", "echo ready; "+forever)
	r.says("ready")
	r.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(1500 * time.Millisecond)
	r.cmd.Process.Signal(syscall.SIGCONT)
	r.ends(128 + 15)
	r.complains(`lost the lock "name" (no request was answered for longer than the server keeps the locks`)
}

// TestRunKeepRecovering: while the server recovers one stands in line, or is told why there
// is nothing to be had.
func TestRunKeepRecovering(t *testing.T) {
	t.Parallel()
	addr, file := free(t), filepath.Join(t.TempDir(), "state")
	if out, err := exec.Command(binary, "state", "new", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	serve := []string{"-t", addr, "--admin", "off", "--state", file, "--drain-timeout", "1s"}
	d := start(t, nil, append(slices.Clone(serve), "--grace", "1h")...)
	r := beginAt(t, addr, "name", "--wait", "0", "--", "echo", "wrong")
	r.ends(1)
	r.complains(`"name" may be held by others: the server has just been started and is recovering`)
	waits := beginAt(t, addr, "name", "--", "echo", "hi")
	queued(t, addr, "name", 1)
	d.stop(syscall.SIGTERM)
	start(t, nil, serve...)
	waits.says("hi")
	waits.ends(0)
}
