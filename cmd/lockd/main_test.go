package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// binary is the real program, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "lockd-test")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "lockd")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
		os.Exit(1)
	}
	// What lockd is started with must not depend on who runs the tests: nohup and
	// a script's & ignore signals, which all that is started here would inherit.
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// patience is how long a test waits for what should come at once.
const patience = 30 * time.Second

// daemon is a running lockd.
type daemon struct {
	t     *testing.T
	cmd   *exec.Cmd
	log   *bufio.Reader
	start string // the line that says where it listens
}

// start runs lockd and waits for its start line.
func start(t *testing.T, env []string, args ...string) *daemon {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), env...)
	return startWith(t, cmd)
}

func startWith(t *testing.T, cmd *exec.Cmd) *daemon {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, cmd: cmd, log: bufio.NewReader(stderr)}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	d.start = d.line()
	return d
}

func (d *daemon) line() string {
	d.t.Helper()
	line, err := d.log.ReadString('\n')
	if err != nil {
		d.t.Fatalf("the log ended: %v %q", err, line)
	}
	return line
}

// addr returns the address of a transport from the start line.
func (d *daemon) addr(transport string) string {
	d.t.Helper()
	m := regexp.MustCompile(` ` + transport + `=([^\s,]+)`).FindStringSubmatch(d.start)
	if m == nil {
		d.t.Fatalf("no %s address in the start line %q", transport, d.start)
	}
	return m[1]
}

// stop sends a signal and returns the exit code and the rest of the log.
func (d *daemon) stop(sig syscall.Signal) (int, string) {
	d.t.Helper()
	d.cmd.Process.Signal(sig)
	return d.wait()
}

func (d *daemon) wait() (int, string) {
	d.t.Helper()
	timer := time.AfterFunc(patience, func() { d.cmd.Process.Kill() })
	defer timer.Stop()
	rest, _ := io.ReadAll(d.log)
	d.cmd.Wait()
	return d.cmd.ProcessState.ExitCode(), string(rest)
}

// run runs lockd to its end.
func run(args ...string) (code int, stdout, stderr string) {
	cmd := exec.Command(binary, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// client speaks to a server.
type client struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, network, addr string) *client {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) ask(request, want string) {
	c.t.Helper()
	fmt.Fprintf(c, "%s\n", request)
	got, err := c.in.ReadString('\n')
	if err != nil || got != want+"\n" {
		c.t.Fatalf("%s: got %q, %v, want %q", request, got, err, want)
	}
}

func (c *client) ended() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		c.t.Fatalf("want the connection's end, got %q, %v", rest, err)
	}
}

// short returns a folder whose path is short enough for a unix socket.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lockd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

const anyPort = "127.0.0.1:0"

func TestServesOnEveryListener(t *testing.T) {
	t.Parallel()
	dir := short(t)
	d := start(t, nil, "-t", anyPort, "--tcp", anyPort, "--unix", dir+"/a", "--unix", dir+"/b",
		"--unix-mode", "0600", "-w", anyPort, "--admin", anyPort)
	for _, want := range []string{"level=INFO", "msg=listening", "version=" + server.Version, "admin=127.0.0.1:"} {
		if !strings.Contains(d.start, want) {
			t.Errorf("start line %q lacks %q", d.start, want)
		}
	}
	if !regexp.MustCompile(` tcp=127.0.0.1:\d+,127.0.0.1:\d+ `).MatchString(d.start) {
		t.Errorf("want two TCP addresses in %q", d.start)
	}
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g foo", "1 Lock Get Success: foo")
	for _, name := range []string{"/a", "/b"} {
		dial(t, "unix", dir+name).ask("g foo", "0 Lock Get Failure: foo")
		if info, err := os.Stat(dir + name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", name, info.Mode(), err)
		}
	}
	for path, want := range map[string]string{
		"/healthz": "ok\n",
		"/readyz":  "ok\n",
		"/metrics": `lockd_locks_held{kind="exclusive"} 1`,
		"/":        "/metrics",
	} {
		resp, err := http.Get("http://" + d.addr("admin") + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s %q, want %q in it", path, resp.Status, body, want)
		}
	}
}

func TestEnvironmentSetsFlags(t *testing.T) {
	t.Parallel()
	dir := short(t)
	// An empty one is not set.
	d := start(t, []string{"LOCKD_TCP=" + anyPort + ", " + anyPort, "LOCKD_UNIX=" + dir + "/a, b", "LOCKD_ADMIN=off",
		"LOCKD_DISABLE_DUMP=true", "LOCKD_DISABLE_REGISTRY=true", "LOCKD_MAX_LOCKS=1",
		"LOCKD_MAX_LINE=", "LOCKD_PID_FILE=", "LOCKD_LOG_FORMAT=", "LOCKD_WEBSOCKET="})
	dial(t, "unix", dir+"/a, b").ask("i a", "0 Lock Not Locked: a")
	if strings.Contains(d.start, "admin=") {
		t.Errorf("LOCKD_ADMIN=off: %q", d.start)
	}
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("d", "0 disabled")
	c.ask("iam x", "0 disabled")
	c.ask("g a", "1 Lock Get Success: a")
	c.ask("g b", "0 Too Many Locks: b")
}

// TestJSONLog: a key once a line, and words rather than numbers and objects.
func TestJSONLog(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "-t", anyPort, "--admin", "off", "-v", "--log-format", "json")
	if strings.Count(d.start, `"tcp":`) != 1 {
		t.Errorf("start line %q", d.start)
	}
	m := regexp.MustCompile(`"tcp":"([\d.:]+),([\d.:]+)"`).FindStringSubmatch(d.start)
	if m == nil {
		t.Fatalf("start line %q", d.start)
	}
	for _, addr := range m[1:] {
		dial(t, "tcp", addr).ask("i a", "0 Lock Not Locked: a")
	}
	_, log := d.stop(syscall.SIGTERM)
	for _, want := range []string{`"transport":"tcp"`, `"signal":"terminated"`, `"drain-timeout":"10s"`, `"level":"INFO"`} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in the log %s", want, log)
		}
	}
}

func TestVerboseLogsConnectionsAsJSON(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "serve", "-t", anyPort, "--admin", "off", "-v", "--log-format", "json")
	var line struct{ Level, Msg, TCP, Client string }
	if err := json.Unmarshal([]byte(d.start), &line); err != nil || line.Msg != "listening" {
		t.Fatalf("%q: %v", d.start, err)
	}
	c := dial(t, "tcp", line.TCP)
	c.ask("g a", "1 Lock Get Success: a")
	if err := json.Unmarshal([]byte(d.line()), &line); err != nil || line.Msg != "connected" ||
		line.Client != c.LocalAddr().String() {
		t.Errorf("%+v, %v", line, err)
	}
}

func TestWarnsBeyondLoopback(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", "0.0.0.0:0", "--admin", "off")
	if line := d.line(); !strings.Contains(line, "level=WARN") || !strings.Contains(line, "firewall") {
		t.Errorf("got %q", line)
	}
}

// TestWarnsOfAdminBeyondLoopback: no locks can be taken there, but much be seen.
func TestWarnsOfAdminBeyondLoopback(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "0.0.0.0:0")
	if line := d.line(); !strings.Contains(line, "level=WARN") || !strings.Contains(line, "the admin address") || strings.Contains(line, "take and release") {
		t.Errorf("got %q", line)
	}
	d = start(t, nil, "-t", anyPort, "--admin", anyPort)
	if _, log := d.stop(syscall.SIGTERM); strings.Contains(log, "WARN") {
		t.Errorf("on loopback: log %q", log)
	}
	path := filepath.Join(short(t), "auth")
	if err := os.WriteFile(path, []byte("a read sha256:"+strings.Repeat("0", 64)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d = start(t, nil, "-t", anyPort, "--admin", "0.0.0.0:0", "--auth-file", path)
	if _, log := d.stop(syscall.SIGTERM); strings.Contains(log, "the admin address") {
		t.Errorf("with an auth file: log %q", log)
	}
}

// seek reads the log up to a line with a text, and returns that line.
func (d *daemon) seek(want string) string {
	d.t.Helper()
	for {
		if line := d.line(); strings.Contains(line, want) {
			return line
		}
	}
}

func TestSignalDrains(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		d := start(t, nil, "-t", anyPort, "--admin", anyPort, "--drain-timeout", "1h")
		idle := dial(t, "tcp", d.addr("tcp"))
		idle.ask("i a", "0 Lock Not Locked: a")
		holder := dial(t, "tcp", d.addr("tcp"))
		holder.ask("g a", "1 Lock Get Success: a")
		d.cmd.Process.Signal(sig)
		idle.ended()
		if line := d.seek("waiting for clients"); !strings.Contains(line, "connections=1 locks=1 waiters=0") {
			t.Errorf("log line %q", line)
		}
		// Who holds a lock goes on, nobody gets one any more, and the balancer is told.
		late := dial(t, "tcp", d.addr("tcp"))
		late.ask("i a", "1 Lock Is Locked: a")
		late.ask("gw 1000 a", "0 Shutting Down: a")
		late.ended()
		if resp, err := http.Get("http://" + d.addr("admin") + "/readyz"); err != nil || resp.StatusCode != 503 {
			t.Errorf("/readyz: %v, %v, want 503", resp, err)
		}
		holder.ask("sg b", "0 Shutting Down: b")
		holder.ask("r a", "1 Lock Release Success: a")
		holder.ended()
		if code, log := d.wait(); code != 0 || !strings.Contains(log, "stopped") || strings.Contains(log, "level=ERROR") {
			t.Errorf("exit code %d, log %q", code, log)
		}
	}
}

func TestDrainTimeoutCutsOff(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--drain-timeout", "10ms")
	holder := dial(t, "tcp", d.addr("tcp"))
	holder.ask("g a", "1 Lock Get Success: a")
	if code, log := d.stop(syscall.SIGTERM); code != 0 || !strings.Contains(log, `msg="cutting clients off" connections=1 locks=1 waiters=0 reason="drain timeout"`) {
		t.Errorf("exit code %d, log %q", code, log)
	}
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--drain-timeout", "1h")
	holder := dial(t, "tcp", d.addr("tcp"))
	holder.ask("g a", "1 Lock Get Success: a")
	d.cmd.Process.Signal(syscall.SIGTERM)
	if line := d.line(); !strings.Contains(line, "shutting down") {
		t.Fatal(line)
	}
	if code, log := d.stop(syscall.SIGTERM); code != 0 || !strings.Contains(log, `reason="second signal"`) {
		t.Errorf("exit code %d, log %q", code, log)
	}
}

func TestPidFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(short(t), "pid")
	d := start(t, nil, "-t", anyPort, "--admin", "off", "-p", path)
	_, port, _ := net.SplitHostPort(d.addr("tcp"))
	want := fmt.Sprintf("%d\n%s\n", d.cmd.Process.Pid, port)
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("pid file is %q, %v, want %q", got, err, want)
	}
	code, _, stderr := run("-t", anyPort, "--admin", "off", "-p", path)
	if code == 0 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, fmt.Sprint(d.cmd.Process.Pid)) {
		t.Errorf("a second server: exit code %d, %q", code, stderr)
	}
	if got, _ := os.ReadFile(path); string(got) != want {
		t.Errorf("the second server changed the pid file to %q", got)
	}
	// One that was killed leaves its file behind, but does not hold it.
	d.stop(syscall.SIGKILL)
	d = start(t, nil, "-t", anyPort, "--admin", "off", "--pid-file", path)
	if code, _ := d.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestPidFileFormat: with one line, kill $(cat FILE) reaches the server alone.
func TestPidFileFormat(t *testing.T) {
	t.Parallel()
	path := filepath.Join(short(t), "pid")
	for _, c := range []struct{ format, want string }{{"pid", "%d\n"}, {"glockd", "%d\n%s\n"}} {
		d := start(t, nil, "-t", anyPort, "--admin", "off", "-p", path, "--pid-file-format", c.format)
		_, port, _ := net.SplitHostPort(d.addr("tcp"))
		want := fmt.Sprintf(c.want, []any{d.cmd.Process.Pid, port}[:strings.Count(c.want, "%")]...)
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: the pid file is %q, %v, want %q", c.format, got, err, want)
		}
		d.stop(syscall.SIGKILL) // the next one takes over what either has left
	}
	code, _, stderr := run("-p", path, "--pid-file-format", "two")
	if code != 2 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "glockd") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}

// TestPidFileIsNobodyElses: what is no pid file, or not this one any more, is
// left alone.
func TestPidFileIsNobodyElses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(short(t), "file")
	const precious = "42 is the answer\n"
	if err := os.WriteFile(path, []byte(precious), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-t", anyPort}, {"-t", "127.0.0.1:1", "--unix", path + "/none"}} {
		code, _, stderr := run(append(args, "--admin", "off", "-p", path)...)
		if got, _ := os.ReadFile(path); code != 1 || !strings.Contains(stderr, "something else") || string(got) != precious {
			t.Errorf("%v: exit code %d, %q; the file is now %q", args, code, stderr, got)
		}
	}
	os.Remove(path)
	first := start(t, nil, "-t", anyPort, "--admin", "off", "-p", path)
	os.Remove(path)
	os.Remove(path + ".lock")
	second := start(t, nil, "-t", anyPort, "--admin", "off", "-p", path)
	first.stop(syscall.SIGTERM)
	if got, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(got), fmt.Sprint(second.cmd.Process.Pid)) {
		t.Errorf("the first server's end leaves of the second one's pid file %q, %v", got, err)
	}
	// Also where the system gives a new file the number of one that was removed.
	const another = "1\n"
	if err := os.WriteFile(path, []byte(another), 0o600); err != nil {
		t.Fatal(err)
	}
	second.stop(syscall.SIGTERM)
	if got, err := os.ReadFile(path); err != nil || string(got) != another {
		t.Errorf("a server's end leaves of another one's pid file %q, %v", got, err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	t.Parallel()
	path := short(t) + "/s"
	d := start(t, nil, "--unix", path, "--admin", "off")
	if code, _, stderr := run("--unix", path, "--admin", "off"); code == 0 || !strings.Contains(stderr, "another server") {
		t.Errorf("a live socket: exit code %d, %q", code, stderr)
	}
	dial(t, "unix", path).ask("i a", "0 Lock Not Locked: a")
	d.stop(syscall.SIGKILL)
	if _, err := os.Stat(path); err != nil {
		t.Fatal("kill -9 left no stale socket to test with")
	}
	start(t, nil, "--unix", path, "--admin", "off")
	dial(t, "unix", path).ask("i a", "0 Lock Not Locked: a")
}

// TestOneServerAtASocket: of several that start at once where another was
// killed, one gets the path.
func TestOneServerAtASocket(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no lock files there")
	}
	path := short(t) + "/s"
	for range 5 {
		type racer struct {
			cmd *exec.Cmd
			log *bufio.Reader
		}
		var racers []*racer
		for range 4 {
			cmd := exec.Command(binary, "--unix", path, "--admin", "off")
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			racers = append(racers, &racer{cmd: cmd, log: bufio.NewReader(stderr)})
		}
		for _, r := range racers {
			if err := r.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.cmd.Process.Kill(); r.cmd.Wait() })
		}
		var winners []*racer
		for _, r := range racers {
			switch line, err := r.log.ReadString('\n'); {
			case err != nil:
				t.Fatal(err)
			case strings.Contains(line, "msg=listening"):
				winners = append(winners, r)
			case !strings.Contains(line, "another server"):
				t.Error(line)
			}
		}
		if len(winners) != 1 {
			t.Fatalf("%d servers listen at one path", len(winners))
		}
		dial(t, "unix", path).ask("i a", "0 Lock Not Locked: a")
		winners[0].cmd.Process.Kill()
		winners[0].cmd.Wait()
		for _, file := range []string{path, path + ".lock"} {
			if _, err := os.Lstat(file); err != nil {
				t.Fatalf("kill -9 left nothing to test with: %v", err)
			}
		}
	}
}

func TestKillFreesNothingButEndsConnections(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g a", "1 Lock Get Success: a")
	d.stop(syscall.SIGKILL)
	c.ended()
}

// TestFailsInOneLine: whatever keeps the server from starting is one clear
// line on stderr and an exit code that is not 0.
func TestFailsInOneLine(t *testing.T) {
	t.Parallel()
	used, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	dir := short(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-t", used.Addr().String()}, "--tcp: cannot listen on " + used.Addr().String() + ": address already in use"},
		{[]string{"-w", used.Addr().String()}, "--websocket: cannot listen on "},
		{[]string{"-t", anyPort, "--admin", used.Addr().String()}, "address already in use (off disables it)"},
		{[]string{"-t", "abc"}, `--tcp: "abc": want [HOST:]PORT`},
		{[]string{"-w", "127.0.0.1"}, `--websocket: "127.0.0.1": want [HOST:]PORT`},
		{[]string{"-t", ""}, "--tcp: must not be empty"},
		{[]string{"-t", anyPort + ","}, "--tcp: must not be empty"},
		{[]string{"--unix", ""}, "--unix: must not be empty"},
		{[]string{"--admin", ""}, "--admin: must not be empty"},
		{[]string{"-p", ""}, "--pid-file: must not be empty"},
		{[]string{"--websocket-origin", ""}, "--websocket-origin: must not be empty"},
		{[]string{"--unix", "/tmp/" + strings.Repeat("x", 200)}, "at most"},
		{[]string{"--drain-timeout=-1s"}, `lockd: --drain-timeout: "-1s" is no time such as 30s, 5m, 1h30m, or 30 or 0.5 for seconds (see lockd --help)`},
		{[]string{"serve", "--max-waiters=-1"}, "--max-waiters: must be at least 1, not -1 (see lockd serve --help)"},
		{[]string{"serv"}, "unknown command serv (see lockd --help)"},
		// glockd's flags, which would otherwise be short ones with a value.
		{[]string{"-port=9999"}, "-port is a flag of glockd; here it is -t PORT (see lockd --help)"},
		{[]string{"-v", "-pidfile", "x"}, "-pidfile is a flag of glockd; here it is -p FILE"},
		{[]string{"serve", "-dump=false"}, "-dump is a flag of glockd; here it is --disable-dump for -dump=false"},
		{[]string{"serve", "foo"}, "unexpected argument foo (see lockd serve --help)"},
		{[]string{"-t", "no-port:"}, "no-port:"},
		{[]string{"-t", "localhost:99999"}, "99999"},
		{[]string{"--unix", file}, "not a socket"},
		{[]string{"--unix", dir + "/none/s"}, "no such file"},
		{[]string{"-p", dir}, "not a regular file"},
		{[]string{"-p", dir + "/none/pid"}, "no such file"},
		{[]string{"--bogus"}, "--bogus"},
		{[]string{"--unix-mode", "9999"}, "no file mode"},
		{[]string{"--log-format", "xml"}, "--log-format"},
		{[]string{"--shards", "3"}, "--shards: must be a power of two"},
		{[]string{"--shards", "131072"}, "65536"},
		{[]string{"--max-line", "3"}, "max-line"},
		{[]string{"--max-locks", "-1"}, "max-locks"},
		{[]string{"--max-connections", "x"}, "--max-connections"},
		{[]string{"--websocket-origin", "example.com"}, "https://example.com"},
		{[]string{"--drain-timeout", "soon"}, "--drain-timeout"},
		{[]string{"frobnicate"}, "frobnicate"},
	} {
		args := test.args
		if !strings.Contains(strings.Join(args, " "), "admin") {
			args = append(args, "--admin", "off")
		}
		code, stdout, stderr := run(args...)
		if code <= 0 || stdout != "" || strings.Count(stderr, "\n") != 1 ||
			!strings.HasPrefix(stderr, "lockd: ") || !strings.Contains(stderr, test.want) {
			t.Errorf("lockd %s: exit code %d, stdout %q, stderr %q, want one line with %q",
				strings.Join(args, " "), code, stdout, stderr, test.want)
		}
		if usage := strings.Contains(stderr, " (see lockd "); usage != (code == 2) {
			t.Errorf("lockd %s: exit code %d, stderr %q", strings.Join(args, " "), code, stderr)
		}
	}
	if got, _ := os.ReadFile(file); string(got) != "precious" {
		t.Errorf("a file in the socket's place is now %q", got)
	}
}

func TestVersionCommand(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"version", "--version"} {
		code, out, _ := run(word)
		if m, _ := regexp.MatchString("^lockd "+server.Version+` \(`+runtime.Version()+`, revision \S+\)\n$`, out); code != 0 || !m {
			t.Errorf("%s: %d %q", word, code, out)
		}
	}
}
