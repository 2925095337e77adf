package main_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A fakeManager is the socket on which a service manager listens.
type fakeManager struct {
	t *testing.T
	*net.UnixConn
	path string
}

func listenAsManager(t *testing.T) *fakeManager {
	t.Helper()
	path := filepath.Join(short(t), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &fakeManager{t, c, path}
}

// next is what it hears next, pings aside.
func (m *fakeManager) next() string {
	m.t.Helper()
	for {
		if got := m.any(); got != "WATCHDOG=1" {
			return got
		}
	}
}

func (m *fakeManager) any() string {
	m.t.Helper()
	m.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4096)
	n, err := m.Read(b)
	if err != nil {
		m.t.Fatalf("the manager hears nothing: %v", err)
	}
	return string(b[:n])
}

// TestNotify: a manager hears that the server serves, reads files again and stops,
// and in between that it is well.
func TestNotify(t *testing.T) {
	t.Parallel()
	m := listenAsManager(t)
	d := start(t, []string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=20000"},
		"-t", anyPort, "--admin", "off", "--drain-timeout", "5m", "--drain-delay", "1ms")
	if got := m.any(); got != "READY=1\nSTATUS=serving" {
		t.Errorf("at first it heard %q", got)
	}
	for range 3 {
		if got := m.any(); got != "WATCHDOG=1" {
			t.Errorf("then %q", got)
		}
	}
	d.cmd.Process.Signal(syscall.SIGHUP)
	if got := m.next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("on SIGHUP it heard %q", got)
	} else if _, err := strconv.ParseUint(strings.TrimPrefix(got, "RELOADING=1\nMONOTONIC_USEC="), 10, 64); err != nil {
		t.Error(err)
	}
	if got := m.next(); got != "READY=1" {
		t.Errorf("then %q", got)
	}
	holder := dial(t, "tcp", d.addr("tcp"))
	holder.ask("g a", "1 Lock Get Success: a")
	d.cmd.Process.Signal(syscall.SIGTERM)
	if got := m.next(); got != "STOPPING=1\nSTATUS=stopping, in 5m0.001s at most\nEXTEND_TIMEOUT_USEC=310001000" {
		t.Errorf("on SIGTERM it heard %q", got)
	}
	for range 3 { // one that drains is watched, too
		if got := m.any(); got != "WATCHDOG=1" {
			t.Errorf("then %q", got)
		}
	}
	// From here on it listens to nobody: that must not keep the server from ending.
	holder.ask("r a", "1 Lock Release Success: a")
	holder.ended()
	if code, log := d.wait(); code != 0 || strings.Contains(log, "cutting") || strings.Contains(log, "ERROR") {
		t.Errorf("exit code %d, log %q", code, log)
	}
}

// TestNotifyIsForThisProcess: without a watchdog nobody hears that all is well, nor
// if the variables are about another process.
func TestNotifyIsForThisProcess(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{nil, {"WATCHDOG_USEC=1000", "WATCHDOG_PID=1"}} {
		m := listenAsManager(t)
		d := start(t, append(env, "NOTIFY_SOCKET="+m.path), "-t", anyPort, "--admin", "off")
		if got := m.any(); !strings.HasPrefix(got, "READY=1\n") {
			t.Errorf("at first it heard %q", got)
		}
		for range 20 {
			dial(t, "tcp", d.addr("tcp")).ask("ping", "1 pong")
		}
		d.stop(syscall.SIGTERM)
		if got := m.any(); !strings.HasPrefix(got, "STOPPING=1\n") {
			t.Errorf("then %q", got)
		}
	}
	// Nor does a manager that is gone keep the server from anything.
	d := start(t, []string{"NOTIFY_SOCKET=/nonexistent/notify"}, "-t", anyPort, "--admin", "off")
	dial(t, "tcp", d.addr("tcp")).ask("ping", "1 pong")
	if code, log := d.stop(syscall.SIGTERM); code != 0 || strings.Count(log, "cannot tell systemd") != 1 {
		t.Errorf("exit code %d, log %q", code, log)
	}
}

// passed is a command that starts lockd as systemd does, with open sockets.
func passed(names string, files []*os.File, args ...string) *exec.Cmd {
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=` + strconv.Itoa(len(files)) + ` exec "$@"`, "-", binary}, args...)...)
	cmd.Env = append(os.Environ(), "LISTEN_FDNAMES="+names)
	cmd.ExtraFiles = files
	return cmd
}

func socketFile(t *testing.T, network, addr string) (*os.File, string) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, l.Addr().String()
}

// TestActivation: the sockets are another process's, so whoever connects while
// there is no server waits for the next one, and is not refused.
func TestActivation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(short(t), "s")
	tcp, tcpAddr := socketFile(t, "tcp", "127.0.0.1:0")
	unix, _ := socketFile(t, "unix", path)
	ws, wsAddr := socketFile(t, "tcp", "127.0.0.1:0")
	admin, adminAddr := socketFile(t, "tcp", "127.0.0.1:0")
	files := []*os.File{tcp, unix, ws, admin}
	serve := func() *daemon {
		return startWith(t, passed("lines:lines:ws:admin", files,
			"-t", "systemd:lines", "--unix", "systemd:lines", "-w", "systemd:ws", "--admin", "systemd:admin"))
	}
	d := serve()
	for transport, want := range map[string]string{"tcp": tcpAddr, "unix": path, "websocket": wsAddr, "admin": adminAddr} {
		if got := d.addr(transport); got != want {
			t.Errorf("%s: it listens on %s, not on %s", transport, got, want)
		}
	}
	for range 3 {
		holder := dial(t, "unix", path)
		holder.ask("g a", "1 Lock Get Success: a")
		dial(t, "tcp", tcpAddr).ask("g a", "0 Lock Get Failure: a")
		if r, err := http.Get("http://" + adminAddr + "/readyz"); err != nil || r.StatusCode != 200 {
			t.Errorf("/readyz: %v", err)
		}
		if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		d.seek("waiting for a client")
		holder.ask("r a", "1 Lock Release Success: a")
		holder.ended()
		if code, log := d.wait(); code != 0 {
			t.Errorf("exit code %d, log %q", code, log)
		}
		// Nobody serves: these wait.
		var waiting []io.ReadWriter
		for network, addr := range map[string]string{"tcp": tcpAddr, "unix": path} {
			c, err := net.Dial(network, addr)
			if err != nil {
				t.Fatalf("while there is no server: %v", err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, "ping\n")
			waiting = append(waiting, c)
		}
		d = serve()
		for _, c := range waiting {
			if got, err := bufio.NewReader(c).ReadString('\n'); got != "1 pong\n" {
				t.Errorf("who has waited reads %q, %v", got, err)
			}
		}
	}
}

// TestActivationMistakes: one line says what is wrong.
func TestActivationMistakes(t *testing.T) {
	t.Parallel()
	a, addr := socketFile(t, "tcp", "127.0.0.1:0")
	b, path := socketFile(t, "unix", filepath.Join(short(t), "s"))
	for _, c := range []struct {
		names string
		files []*os.File
		args  []string
		want  string
	}{
		{"", nil, []string{"-t", "systemd:x"}, "--tcp: systemd:x: no sockets were passed to this process"},
		{"a:b", []*os.File{a, b}, []string{"-t", "systemd:b"}, "--tcp: systemd:b: no tcp socket with that name was passed to this process, but a (tcp " + addr + "), b (unix " + path + ")"},
		{"a:b", []*os.File{a, b}, []string{"-t", "systemd:a"}, "--unix: the socket b (" + path + "), which was passed to this process, is served by nobody: serve it by systemd:b"},
		{"a", []*os.File{a}, []string{"-t", "systemd:a", "-w", "systemd:a"}, "--websocket: systemd:a: no tcp socket with that name was passed to this process, but a (tcp " + addr + ", in use)"},
		{"a:a", []*os.File{a, a}, []string{"-t", anyPort, "--admin", "systemd:a"}, "there are 2 sockets with that name, and one is wanted"},
	} {
		out, err := passed(c.names, c.files, append(c.args, "--admin", "off")[:len(c.args)+2*btoi(c.args[len(c.args)-2] != "--admin")]...).CombinedOutput()
		if code := exitCode(err); code != 2 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), c.want) {
			t.Errorf("%v: exit code %d, %q, want %q", c.args, code, out, c.want)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func exitCode(err error) int {
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	return 0
}

// TestDrainDelay: for as long as balancers need, /readyz says 503 and nothing else
// changes. A second signal ends that, too.
func TestDrainDelay(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", anyPort, "--drain-delay", "1h", "--drain-timeout", "1h")
	readyz := func() int {
		t.Helper()
		r, err := http.Get("http://" + d.addr("admin") + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r.StatusCode
	}
	if got := readyz(); got != 200 {
		t.Errorf("/readyz is %d", got)
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	if line := d.line(); !strings.Contains(line, "drain-delay=1h0m0s") {
		t.Errorf("log line %q", line)
	}
	if got := readyz(); got != 503 {
		t.Errorf("/readyz is %d", got)
	}
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g a", "1 Lock Get Success: a")
	dial(t, "tcp", d.addr("tcp")).ask("g b", "1 Lock Get Success: b")
	code, log := d.stop(syscall.SIGTERM)
	if code != 0 || !strings.Contains(log, `reason="second signal"`) {
		t.Errorf("exit code %d, log %q", code, log)
	}
}
