//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/netlab"
)

// serveForRun starts a server for lockd run.
func serveForRun(t *testing.T) *daemon {
	t.Helper()
	return start(t, nil, "-t", anyPort, "--admin", "off")
}

// runner is a lockd run under way.
type runner struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err bytes.Buffer
}

// begin starts lockd run.
func begin(t *testing.T, d *daemon, args ...string) *runner {
	t.Helper()
	return beginAt(t, d.addr("tcp"), args...)
}

func beginAt(t *testing.T, server string, args ...string) *runner {
	t.Helper()
	return beginTo(t, nil, server, args...)
}

// beginTo gives it a stderr of its own, if not nil.
func beginTo(t *testing.T, stderr *os.File, server string, args ...string) *runner {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"run", "-s", server}, args...)...)
	if stderr != nil {
		cmd.Stderr = stderr
	}
	return beginCommand(t, cmd)
}

func beginCommand(t *testing.T, cmd *exec.Cmd) *runner {
	t.Helper()
	r := &runner{t: t, cmd: cmd}
	if cmd.Stderr == nil {
		cmd.Stderr = &r.err
	}
	// What a command leaves behind may hold stderr open.
	r.cmd.WaitDelay = time.Second
	var err error
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.out = bufio.NewReader(out)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { r.cmd.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		r.cmd.Process.Signal(syscall.SIGTERM)
		r.in.Close()
		r.cmd.Process.Kill()
		r.cmd.Wait()
	})
	return r
}

// says expects a line of the command.
func (r *runner) says(want string) {
	r.t.Helper()
	if got := r.line(); got != want {
		r.t.Fatalf("the command says %q, want %q", got, want)
	}
}

func (r *runner) line() string {
	r.t.Helper()
	line, err := r.out.ReadString('\n')
	if err != nil {
		r.cmd.Wait()
		r.t.Fatalf("the command said %q, %v; %q", line, err, r.err.String())
	}
	return strings.TrimSuffix(line, "\n")
}

// number expects a line with a number.
func (r *runner) number() int {
	r.t.Helper()
	n, err := strconv.Atoi(r.line())
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// ends expects the end with an exit code and nothing more on the output.
func (r *runner) ends(code int) {
	r.t.Helper()
	if rest, _ := io.ReadAll(r.out); len(rest) > 0 {
		r.t.Errorf("the command also says %q", rest)
	}
	r.exits(code)
}

// exits expects an exit code, whoever still has the output open.
func (r *runner) exits(code int) {
	r.t.Helper()
	r.cmd.Wait()
	if got := r.cmd.ProcessState.ExitCode(); got != code {
		r.t.Fatalf("exit code %d (%v), want %d; %q", got, r.cmd.ProcessState, code, r.err.String())
	}
}

// complains expects one line on stderr.
func (r *runner) complains(want string) {
	r.t.Helper()
	if got := r.err.String(); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "lockd: ") || !strings.Contains(got, want) {
		r.t.Errorf("stderr is %q, want one line with %q", got, want)
	}
}

// Commands to run.
const (
	untilInput = `echo ready; read line`        // ends when told to
	forever    = `while :; do sleep 0.05; done` // until a signal
	stubborn   = `trap "" TERM; echo ready; ` + forever
)

func TestRunReturnsTheExitCode(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	for script, want := range map[string]int{
		"exit 0":              0,
		"exit 1":              1,
		"exit 69":             69,
		"exit 255":            255,
		"kill -TERM $$":       128 + 15,
		"kill -KILL $$":       128 + 9,
		"kill -USR1 $$":       128 + int(syscall.SIGUSR1),
		"exec sh -c 'exit 3'": 3,
	} {
		r := begin(t, d, "name", "--", "sh", "-c", script)
		r.ends(want)
		if r.err.Len() > 0 {
			t.Errorf("%s: stderr %q", script, r.err.String())
		}
		dial(t, "tcp", d.addr("tcp")).ask("i name", "0 Lock Not Locked: name") // at once
	}
}

func TestRunEnvironment(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	t.Run("names the lock and its token, which grows", func(t *testing.T) {
		last := 0
		for range 3 {
			r := begin(t, d, "  a \t b ", "--", "sh", "-c", `echo "$LOCKD_NAME"; echo $LOCKD_TOKEN`)
			r.says("a b")
			if token := r.number(); token <= last {
				t.Errorf("token %d follows %d", token, last)
			} else {
				last = token
			}
			r.ends(0)
		}
	})
	t.Run("token is the server's", func(t *testing.T) {
		r := begin(t, d, "fence", "--", "sh", "-c", `echo $LOCKD_TOKEN; read line`)
		token := r.number()
		r.in.Close()
		r.ends(1)
		c := dial(t, "tcp", d.addr("tcp"))
		c.ask("g fence", "1 Lock Get Success: fence")
		fmt.Fprintln(c, "t fence")
		line, _ := c.in.ReadString('\n')
		next, _, _ := strings.Cut(line, " ")
		if n, err := strconv.Atoi(next); err != nil || n <= token {
			t.Errorf("%q does not follow token %d", line, token)
		}
	})
	t.Run("of a run inside a run", func(t *testing.T) {
		r := begin(t, d, "outer", "--", binary, "run", "-s", d.addr("tcp"), "inner", "--shared", "--",
			"sh", "-c", `echo $LOCKD_NAME ${LOCKD_TOKEN-unset}`)
		r.says("inner unset")
		r.ends(0)
	})
	t.Run("bytes", func(t *testing.T) {
		begin(t, d, "\xff\x01", "--", "sh", "-c", `printf %s "$LOCKD_NAME"`).ends2("\xff\x01")
	})
	t.Run("LOCKD_SERVER", func(t *testing.T) {
		cmd := exec.Command(binary, "run", "name", "--", "echo", "hi")
		cmd.Env = append(os.Environ(), "LOCKD_SERVER=tcp://"+d.addr("tcp"))
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "hi\n" {
			t.Errorf("%q, %v", out, err)
		}
	})
}

func TestRunPassesArgumentsAndInput(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	r := begin(t, d, "name", "--", "printf", `[%s]\n`, "a  b", "a,b", "\xff", "$HOME;*", "", "--wait", "--")
	for _, want := range []string{"[a  b]", "[a,b]", "[\xff]", "[$HOME;*]", "[]", "[--wait]", "[--]"} {
		r.says(want)
	}
	r.ends(0)

	r = begin(t, d, "name", "echo", "-n", "without", "--shared")
	r.ends2("without --shared")

	r = begin(t, d, "name", "--", "sh", "-c", "cat; echo problem >&2")
	io.WriteString(r.in, "one\ntwo\n")
	r.in.Close()
	r.says("one")
	r.says("two")
	r.ends(0)
	if got := r.err.String(); got != "problem\n" {
		t.Errorf("stderr is %q", got)
	}
}

// ends2 expects the rest of the output, and success.
func (r *runner) ends2(want string) {
	r.t.Helper()
	if rest, _ := io.ReadAll(r.out); string(rest) != want {
		r.t.Errorf("the command says %q, want %q", rest, want)
	}
	r.exits(0)
}

func TestRunOverUnixSocket(t *testing.T) {
	t.Parallel()
	path := short(t) + "/s"
	start(t, nil, "--unix", path, "--admin", "off")
	r := beginAt(t, "unix://"+path, "name", "--", "echo", "hi")
	r.says("hi")
	r.ends(0)
}

// TestRunOverWebSocket: a WebSocket carries it all as TCP does.
func TestRunOverWebSocket(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "-w", anyPort, "--admin", "off")
	server := "ws://" + d.addr("websocket")
	holder := beginAt(t, server, "name", "--", "sh", "-c", `echo ${LOCKD_TOKEN:+token}; read line`)
	holder.says("token")
	r := beginAt(t, server, "name", "--wait", "0", "--", "echo", "wrong")
	r.ends(1)
	r.complains(`"name" is held by others`)
	waiting := beginAt(t, server, "name", "--rate", "5/1s", "--", "echo", "hi")
	holder.in.Close()
	holder.ends(1)
	waiting.ends2("hi\n")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("i name", "0 Lock Not Locked: name") // at once

	killed := beginAt(t, server, "name", "--", "sh", "-c", "echo ready; read line")
	killed.says("ready")
	killed.cmd.Process.Kill()
	c.ask("gw 30000 name", "1 Lock Get Success: name")
	c.ask("r name", "1 Lock Release Success: name")

	losing := beginAt(t, server, "name", "--", "sh", "-c", "echo ready; "+forever)
	losing.says("ready")
	d.stop(syscall.SIGKILL)
	losing.ends(128 + 15)
	losing.complains(`lost the lock "name" (the server closed the connection)`)
}

func TestRunExcludes(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	first := begin(t, d, "name", "--", "sh", "-c", untilInput)
	first.says("ready")

	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--wait", "0"}, 1, `"name" is held by others`},
		{[]string{"--wait", "50ms"}, 1, "waited 50ms"},
		{[]string{"--wait=0", "-E", "75"}, 75, "is held by others"},
		{[]string{"--wait=0", "--conflict-exit-code=0"}, 0, "is held by others"},
	} {
		r := begin(t, d, append(append([]string{"name"}, test.args...), "--", "echo", "wrong")...)
		r.ends(test.code)
		r.complains(test.want)
	}

	var waiting []*runner
	for _, wait := range [][]string{nil, {"--wait", "1h"}} {
		waiting = append(waiting, begin(t, d, append(append([]string{"name"}, wait...), "--", "sh", "-c", untilInput)...))
	}
	first.in.Close()
	first.ends(1) // read met the end
	// One of them after the other, in either order.
	said := make(chan *runner)
	for _, r := range waiting {
		go func() {
			if line, _ := r.out.ReadString('\n'); line == "ready\n" {
				said <- r
			}
		}()
	}
	for range waiting {
		r := <-said
		c := dial(t, "tcp", d.addr("tcp"))
		c.ask("i name", "1 Lock Is Locked: name")
		select {
		case <-said:
			t.Fatal("two hold it")
		default:
		}
		io.WriteString(r.in, "go\n")
		r.ends(0)
	}
}

func TestRunSharedLimit(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	args := []string{"name", "--shared", "--limit", "2", "--"}
	var two []*runner
	for range 2 {
		r := begin(t, d, append(args, "sh", "-c", untilInput)...)
		r.says("ready")
		two = append(two, r)
	}
	r := begin(t, d, append([]string{"--wait", "0"}, append(args, "true")...)...)
	r.ends(1)
	r.complains("held by others")
	r = begin(t, d, append([]string{"--wait", "10ms"}, append(args, "true")...)...)
	r.ends(1)

	third := begin(t, d, append(args, "sh", "-c", untilInput)...)
	two[0].in.Close()
	third.says("ready")
	dial(t, "tcp", d.addr("tcp")).ask("si name", "2 Shared Lock Is Locked: name")
	two[1].in.Close()
	third.in.Close()
	two[1].ends(1)
	third.ends(1)
	dial(t, "tcp", d.addr("tcp")).ask("si name", "0 Shared Lock Not Locked: name")
}

func TestRunRate(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	hour := func(args ...string) *runner {
		return begin(t, d, append(append([]string{"name", "--rate", "2/1h"}, args...), "--", "echo", "hi")...)
	}
	hour().ends2("hi\n")
	hour("--shared").ends2("hi\n") // the same rate
	for _, wait := range []string{"0", "50ms"} {
		r := hour("--wait", wait, "-E", "9")
		r.ends(9)
		r.complains(`"name" is over its rate, which opens in `)
	}
	dial(t, "tcp", d.addr("tcp")).ask("i name", "0 Lock Not Locked: name")
	// It waits for its unit.
	for range 3 {
		begin(t, d, "other", "--rate", "1/20ms", "--", "echo", "hi").ends2("hi\n")
	}
}

func TestRunForwardsSignals(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	for name, sig := range map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP,
		"QUIT": syscall.SIGQUIT, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
	} {
		r := begin(t, d, name, "--", "sh", "-c", `trap "echo got; exit 42" `+name+`; echo ready; `+forever)
		r.says("ready")
		r.cmd.Process.Signal(sig)
		r.says("got")
		r.ends(42)
	}
	r := begin(t, d, "name", "--", "sh", "-c", "echo ready; exec sleep 1000")
	r.says("ready")
	r.cmd.Process.Signal(syscall.SIGINT)
	r.ends(128 + 2)
}

func TestRunWhenTheServerIsKilled(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, script string
		args         []string
		code         int
	}{
		{"obeys", "echo ready; " + forever, []string{"--kill-after", "1h"}, 128 + 15},
		{"cleans up", "exec 2>/dev/null; trap 'echo bye; exit 3' TERM; echo ready; " + forever, []string{"--kill-after", "1h"}, 3},
		{"ignores TERM", stubborn, []string{"--kill-after", "200ms"}, 128 + 9},
		{"stopped", "echo ready; kill -STOP $$", []string{"--kill-after", "1h"}, 128 + 15},
		{"at once", stubborn, []string{"--kill-after", "0"}, 128 + 9},
		// The command obeys, what it started does not: the output's end shows
		// that nothing is left of the group.
		{"its child ignores TERM", "(" + stubborn + ") & wait", []string{"--kill-after", "200ms"}, 128 + 15},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := serveForRun(t)
			r := begin(t, d, append(append([]string{"name"}, test.args...), "--", "sh", "-c", test.script)...)
			r.says("ready")
			d.stop(syscall.SIGKILL)
			if test.code == 3 {
				r.says("bye")
			}
			r.ends(test.code)
			r.complains(`lost the lock "name"`)
		})
	}
	// Whatever became of who reads stderr, the command is ended.
	for name, spoil := range map[string]func(r, w *os.File){
		"stderr is closed": func(r, _ *os.File) { r.Close() },
		"stderr is full": func(_, w *os.File) {
			w.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			for err := error(nil); err == nil; {
				_, err = w.Write(make([]byte, 4096))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := serveForRun(t)
			in, out, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			defer out.Close()
			spoil(in, out)
			r := beginTo(t, out, d.addr("tcp"), "name", "--kill-after", "200ms", "--", "sh", "-c", "exec 2>/dev/null; "+stubborn)
			r.says("ready")
			d.stop(syscall.SIGKILL)
			r.ends(128 + 9)
		})
	}
}

// stats reads the counters up to the one of waits, which has to be there.
func stats(c *client) string {
	fmt.Fprintf(c, "q\n")
	var all string
	for {
		line, err := c.in.ReadString('\n')
		all += line
		if err != nil || strings.HasPrefix(line, "shared_orphans: ") {
			return all
		}
	}
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	for begin := time.Now(); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatal("in vain")
		}
	}
}

func TestRunWhenTheServerFallsSilent(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	r := begin(t, d, "name", "--lost-after", "2s", "--", "sh", "-c", "echo ready; "+forever)
	r.says("ready")
	d.cmd.Process.Signal(syscall.SIGSTOP)
	r.ends(128 + 15)
	r.complains("silent for 2s")
}

// TestRunStoppedForLong: what was stopped for longer than --lost-after has
// missed pings, but not lost its lock.
func TestRunStoppedForLong(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	r := begin(t, d, "name", "--lost-after", "2s", "--", "sh", "-c", untilInput)
	r.says("ready")
	r.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(3 * time.Second)
	r.cmd.Process.Signal(syscall.SIGCONT)
	io.WriteString(r.in, "go\n")
	r.ends(0)
	if r.err.Len() > 0 {
		t.Errorf("stderr %q", r.err.String())
	}
}

func TestRunLeavesChildrenAlone(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	r := begin(t, d, "name", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 </dev/null & echo $!; exit 5")
	pid := r.number()
	r.ends(5)
	dial(t, "tcp", d.addr("tcp")).ask("i name", "0 Lock Not Locked: name")
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the child: %v", err)
	}
	syscall.Kill(pid, syscall.SIGKILL)
}

func TestRunDoesNotStart(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	dir := short(t)
	for name, mode := range map[string]os.FileMode{"plain": 0o600, "garbage": 0o700} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("\x00\x01"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		code int
		want string
		args []string
	}{
		{127, "lockd: no-such-command: command not found\n", []string{"name", "--", "no-such-command"}},
		{127, "lockd: " + dir + "/none: no such file or directory\n", []string{"name", "--", dir + "/none"}},
		{127, dir + "/script: its interpreter does not exist\n", []string{"name", "--", dir + "/script"}},
		{126, "lockd: " + dir + "/garbage: exec format error\n", []string{"name", "--", dir + "/garbage"}},
		{2, "the command is empty", []string{"name", "--", ""}},
		{2, "--limit: must be at least 1 and at most 4294967294", []string{"name", "--shared", "--limit", "0", "--", "true"}},
		{2, "1ms to 24h", []string{"name", "--rate", "10/25h", "--", "true"}},
		{2, "--server: must not be empty", []string{"name", "-s", "", "--", "true"}},
		{2, "(see lockd run --help)", []string{"name", "--bogus", "--", "true"}},
		{69, ": connection refused\n", []string{"name", "-s", netlab.Nobody, "--", "true"}},
		{126, "permission denied", []string{"name", "--", dir + "/plain"}},
		{126, "exec format error", []string{"name", "--", dir + "/garbage"}},
		{126, dir, []string{"name", "--", dir}},
		{69, "cannot reach", []string{"name", "-s", netlab.Nobody, "--", "true"}},
		{69, "cannot reach", []string{"name", "-s", "unix://" + dir + "/none", "--", "true"}},
		{69, "the name is too long", []string{strings.Repeat("x", 5000), "--", "true"}},
		{69, "cannot reach ws://" + netlab.Nobody, []string{"name", "-s", "ws://" + netlab.Nobody, "--", "true"}},
		{2, "want tcp://, tls://, unix://, ws:// or wss://", []string{"name", "-s", "http://localhost:1", "--", "true"}},
		{2, "HOST:PORT", []string{"name", "-s", "localhost", "--", "true"}},
		{2, "no command", []string{"name", "--"}},
		{2, "command", []string{"name"}},
		{2, "--shared", []string{"name", "--limit", "2", "--", "true"}},
		{2, "no rate", []string{"name", "--rate", "10", "--", "true"}},
		{2, "no rate", []string{"name", "--rate", "0/1s", "--", "true"}},
		{2, "no rate", []string{"name", "--rate", "1/48h", "--", "true"}},
		{2, "--wait", []string{"name", "--wait=-1s", "--", "true"}},
		{2, "--wait", []string{"name", "--wait", "soon", "--", "true"}},
		{2, "--conflict-exit-code", []string{"name", "-E", "x", "--", "true"}},
		{2, "at least 0 and at most 255, not 256", []string{"name", "-E", "256", "--", "true"}},
		{2, "--kill-after", []string{"name", "--kill-after=-1s", "--", "true"}},
		{2, "--lost-after", []string{"name", "--lost-after=0", "--", "true"}},
		{2, "--connect-timeout", []string{"name", "--connect-timeout=0", "--", "true"}},
		{2, "--wiat", []string{"name", "--wiat", "1s", "--", "true"}},
		{2, "line break", []string{"a\ng b", "--", "true"}},
	} {
		r := begin(t, d, test.args...)
		r.ends(test.code)
		r.complains(test.want)
	}
	dial(t, "tcp", d.addr("tcp")).ask("i name", "0 Lock Not Locked: name")
}

// TestRunQuits: without Go's stack traces.
func TestRunQuits(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g name", "1 Lock Get Success: name")
	r := begin(t, d, "name", "--", "echo", "wrong")
	await(t, func() bool { return strings.Contains(stats(c), "command_gw: 1\n") })
	r.cmd.Process.Signal(syscall.SIGQUIT)
	r.ends(128 + 3)
	if r.err.Len() > 0 {
		t.Errorf("stderr %q", r.err.String())
	}
}

// registered answers a client that says who it is, as servers of both protocols
// do; else it returns nothing.
func registered(line string) (reply string) {
	switch {
	case strings.HasPrefix(line, "iam "):
		return "1 ok\n"
	case strings.HasPrefix(line, "0 iam "):
		return "0 1 ok\n"
	}
	return ""
}

// script serves connections to somebody who takes the lines of a client one
// by one, but for who it is, and returns what to send. When it says so, the
// connection ends.
func script(t *testing.T, answer func() func(line string) (reply string, end bool)) string {
	t.Helper()
	listener, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				answer := answer()
				for in := bufio.NewScanner(c); in.Scan(); {
					reply, end := registered(in.Text()), false
					if reply == "" {
						reply, end = answer(in.Text())
					}
					if io.WriteString(c, reply); end {
						// What is unread when it is closed would reset it.
						c.(*net.TCPConn).CloseWrite()
						c.SetReadDeadline(time.Now().Add(patience))
						io.Copy(io.Discard, c)
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// TestRunTakesNoLateReply: a server that greets late, when the lock was asked
// for already, has not granted it: that is asked over a connection of its own.
func TestRunTakesNoLateReply(t *testing.T) {
	t.Parallel()
	addr := script(t, func() func(string) (string, bool) {
		late := ""
		return func(line string) (string, bool) {
			switch verb, name, _ := strings.Cut(line, " "); verb {
			case "i":
				return "0 Lock Not Locked: " + name + "\n", false
			case "hello":
				late = "2 lockd 0.1.0\n"
			case "g":
				return late + "0 Lock Get Failure: " + name + "\n", false
			}
			return "", false
		}
	})
	r := beginAt(t, addr, "name", "--wait", "0", "--", "echo", "wrong")
	r.ends(1)
	r.complains(`"name" is held by others`)

	// Nor one whose pong is there and whose greeting is not.
	addr = script(t, func() func(string) (string, bool) {
		late := ""
		return func(line string) (string, bool) {
			switch verb, name, _ := strings.Cut(line, " "); verb {
			case "ping":
				return "1 pong\n", false
			case "i":
				return "0 Lock Not Locked: " + name + "\n", false
			case "hello":
				late = "2 lockd 0.1.0\n"
			default:
				return late, false
			}
			return "", false
		}
	})
	r = beginAt(t, addr, "name", "--connect-timeout", "500ms", "--", "echo", "wrong")
	r.ends(69)
	r.complains("no answer within 500ms")
}

func TestRunSaysWhyInPlainWords(t *testing.T) {
	t.Parallel()
	mute := script(t, func() func(string) (string, bool) {
		return func(string) (string, bool) { return "", false }
	})
	rude := script(t, func() func(string) (string, bool) {
		return func(string) (string, bool) { return "", true }
	})
	const hint = ": if it speaks TLS here, use tls://"
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"run", "-s", mute, "--connect-timeout", "100ms", "a", "--", "true"}, mute + ": no answer within 100ms"},
		{[]string{"run", "-s", rude, "a", "--", "true"}, rude + ": the server closed the connection without a word" + hint},
		{[]string{"ping", "-s", mute, "--timeout", "100ms"}, mute + ": no reply within 100ms: if the server speaks TLS here, use tls://"},
		{[]string{"ping", "-s", rude}, rude + ": the server closed the connection without a word" + hint},
	} {
		code, stdout, stderr := run(test.args...)
		if code != 69 || stdout != "" || stderr != "lockd: "+test.want+"\n" {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", test.args, code, stdout, stderr)
		}
	}
}

func TestRunIsRefused(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--max-locks", "1", "--max-connections", "2", "--max-sessions", "2")
	holder := begin(t, d, "a", "--lost-after", "400ms", "--", "sh", "-c", untilInput)
	holder.says("ready")
	r := begin(t, d, "b", "--", "true")
	r.ends(69)
	r.complains("too many locks")
	// The place of one that is gone is free in a moment.
	var c *client
	await(t, func() bool {
		c = dial(t, "tcp", d.addr("tcp"))
		fmt.Fprintln(c, "i a")
		line, _ := c.in.ReadString('\n')
		return line == "1 Lock Is Locked: a\n"
	})
	r = begin(t, d, "b", "--", "true")
	r.ends(69)
	r.complains("too many connections")
	holder.in.Close()
	holder.ends(1)
}

// oldServer speaks of protocol 1 what lockd run needs, and is silent on the
// rest. glockd ends one of its lines with \r\n, and loses what it has read behind
// a request.
func oldServer(t *testing.T, eol string) string {
	addr := free(t)
	oldServerAt(t, addr, eol)
	return addr
}

// oldServerAt gives it an address, and locks that somebody else holds. To stop it
// ends its connections, too.
func oldServerAt(t *testing.T, addr, eol string, held ...string) (stop func()) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	stop = func() {
		listener.Close()
		await(t, func() bool { return refused(addr) })
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	}
	t.Cleanup(stop)
	holder := make(map[string]net.Conn)
	for _, name := range held {
		holder[name], _ = net.Pipe()
	}
	serve := func(c net.Conn) {
		for in := bufio.NewReader(c); ; {
			if eol == "\r\n" {
				in = bufio.NewReaderSize(c, 4096)
			}
			line, err := in.ReadString('\n')
			if err != nil {
				break
			}
			verb, name, _ := strings.Cut(strings.TrimRight(line, " \n"), " ")
			mu.Lock()
			switch h := holder[name]; {
			case verb == "iam":
				io.WriteString(c, registered(line))
			case verb == "i" && h == nil:
				fmt.Fprintf(c, "0 Lock Not Locked: %s%s", name, eol)
			case verb == "i":
				fmt.Fprintf(c, "1 Lock Is Locked: %s\n", name)
			case verb == "g" && h == nil:
				holder[name] = c
				fmt.Fprintf(c, "1 Lock Get Success: %s\n", name)
			case verb == "g":
				fmt.Fprintf(c, "0 Lock Get Failure: %s\n", name)
			case verb == "r" && h == c:
				delete(holder, name)
				fmt.Fprintf(c, "1 Lock Release Success: %s\n", name)
			case verb == "sg":
				fmt.Fprintf(c, "1 Shared Lock Get Success: %s\n", name)
			case verb == "sr":
				fmt.Fprintf(c, "1 Shared Lock Release Success: %s\n", name)
			}
			mu.Unlock()
		}
		c.Close()
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			go serve(c)
		}
	}()
	return stop
}

func TestRunWithAnOldServer(t *testing.T) {
	t.Parallel()
	for name, eol := range map[string]string{"glockd": "\r\n", "lockd for Node.js": "\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runWithAnOldServer(t, oldServer(t, eol))
		})
	}
}

func runWithAnOldServer(t *testing.T, addr string) {
	holder := beginAt(t, addr, "name", "--", "sh", "-c", `echo ${LOCKD_TOKEN-unset}; read line`)
	holder.says("unset")
	once := beginAt(t, addr, "name", "--wait", "0", "--", "echo", "wrong")
	late := beginAt(t, addr, "name", "--wait", "10ms", "--", "echo", "wrong")
	patient := beginAt(t, addr, "name", "--", "echo", "hi")
	shared := beginAt(t, addr, "name", "--shared", "--", "echo", "hi")
	limit := beginAt(t, addr, "name", "--shared", "--limit", "2", "--", "echo", "wrong")
	rate := beginAt(t, addr, "name", "--rate", "2/s", "--", "echo", "wrong")
	once.ends(1)
	late.ends(1)
	shared.ends2("hi\n")
	for _, r := range []*runner{limit, rate} {
		r.ends(69)
		r.complains("neither --limit nor --rate")
	}
	holder.in.Close()
	holder.ends(1)
	patient.ends2("hi\n")
}

// modern speaks of protocol 2 what lockd run needs, knows no newer requests, and
// leaves the rest to answer.
func modern(answer func(request string) (reply string)) func() func(string) (string, bool) {
	return func() func(string) (string, bool) {
		return func(line string) (string, bool) {
			switch verb, name, _ := strings.Cut(line, " "); verb {
			case "i":
				return "0 Lock Not Locked: " + name + "\n", false
			case "ping":
				return "1 pong\n", false
			case "limits":
				return "", false
			case "hello":
				return "2 lockd test\n", false
			}
			if words := strings.Fields(line); words[1] == "look" {
				return words[0] + " 0 Invalid Command: look\n", false
			}
			return answer(line), false
		}
	}
}

// TestRunPauses: a server that says at once to try again is not asked over and
// over, and not for longer than one waits.
func TestRunPauses(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	addr := script(t, modern(func(request string) string {
		switch words := strings.Fields(request); words[1] {
		case "g":
			return "1 9 Lock Get Success: name\n"
		case "r":
			return "1 1 Lock Release Success: name\n"
		case "rl":
			asked.Add(1)
			return words[0] + " 0 Rate Limited 0 ms: name\n"
		}
		return ""
	}))
	r := beginAt(t, addr, "name", "--rate", "7/1s", "--wait", "100ms", "--", "echo", "wrong")
	r.ends(1)
	r.complains("over its rate")
	if n := asked.Load(); n > 101 {
		t.Errorf("asked %d times in 100 ms", n)
	}
}

// TestRunSettlesItsWait: when the time is up, the server has taken the wait back
// before lockd ends; a server that does not answer has not said no.
func TestRunSettlesItsWait(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answers bool
		code    int
		says    string
	}{
		"it answers": {true, 1, `"name" is held by others, waited 100ms`},
		"it is mute": {false, 69, "the server has been silent for 900ms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var waits, settled atomic.Bool
			addr := script(t, modern(func(request string) string {
				words := strings.Fields(request)
				switch {
				case waits.Load() && !test.answers:
				case words[1] == "gw":
					waits.Store(true)
				case words[1] == "cancel":
					return words[0] + " 0 Lock Get Canceled: name\n" + words[0] + " 1 ok\n"
				case words[1] == "g":
					settled.Store(waits.Load())
					time.Sleep(20 * time.Millisecond)
					return words[0] + " 0 Lock Get Failure: name\n"
				case words[1] == "ping":
					return words[0] + " 1 pong\n"
				}
				return ""
			}))
			r := beginAt(t, addr, "name", "--wait", "100ms", "--lost-after", "900ms", "--", "echo", "wrong")
			r.ends(test.code)
			r.complains(test.says)
			if settled.Load() != test.answers {
				t.Error("the server was not asked once more")
			}
		})
	}
}

// TestRunPollsOn: with an old server, the end of a connection on which no lock
// is asked for is not that of the wait.
func TestRunPollsOn(t *testing.T) {
	t.Parallel()
	var conns, asked atomic.Int32
	addr := script(t, func() func(string) (string, bool) {
		conn, slow := conns.Add(1), true
		return func(line string) (string, bool) {
			switch verb, name, _ := strings.Cut(line, " "); {
			case verb == "hello" && conn == 1:
				for asked.Load() == 0 {
					time.Sleep(time.Millisecond)
				}
				return "", true
			case verb == "i":
				if conn == 3 && slow {
					time.Sleep(1100 * time.Millisecond) // most likely the next attempt finds no connection
					slow = false
				}
				return "0 Lock Not Locked: " + name + "\n", false
			case verb == "r":
				return "1 Lock Release Success: " + name + "\n", false
			case verb != "g":
				return "", false
			case asked.Add(1) == 1:
				return "0 Lock Get Failure: " + name + "\n", false
			default:
				return "1 Lock Get Success: " + name + "\n", false
			}
		}
	})
	r := beginAt(t, addr, "name", "--", "echo", "hi")
	r.ends2("hi\n")
}
