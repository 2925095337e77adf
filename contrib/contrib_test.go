// Package contrib_test tries what stands beside the program: systemd's units and
// the container's recipe.
package contrib_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what should come at once.
const patience = time.Minute

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestMain builds lockd once, as the container's recipe does.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "lockd-contrib")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "lockd")
		cmd := exec.Command("go", "build", "-o", binary, "./cmd/lockd")
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
			return 1
		}
		return m.Run()
	}())
}

var binary string

// serve starts a server and returns its first line.
func serve(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	in := bufio.NewReader(stderr)
	line, err := in.ReadString('\n')
	if err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	t.Cleanup(func() {
		timer.Stop()
		cmd.Process.Signal(syscall.SIGTERM)
		rest, _ := io.ReadAll(in)
		if err := cmd.Wait(); err != nil || !strings.Contains(string(rest), "stopped") {
			t.Errorf("it ends with %v, %s", err, rest)
		}
	})
	return line
}

func ask(t *testing.T, network, addr, request, want string) {
	t.Helper()
	c, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, request+"\n")
	if got, err := bufio.NewReader(c).ReadString('\n'); got != want+"\n" {
		t.Errorf("%s: got %q, %v, not %q", request, got, err, want)
	}
}

// setting returns the values that a unit gives a setting.
func setting(t *testing.T, unit, name string) (all []string) {
	t.Helper()
	for line := range strings.Lines(read(t, filepath.Join("systemd", unit))) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			all = append(all, value)
		}
	}
	if all == nil {
		t.Fatalf("%s does not set %s", unit, name)
	}
	return all
}

// The service is confined: systemd's own figure is below 2.0.
func TestUnitIsConfined(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	if out, err := exec.Command(analyze, "security", "--help").CombinedOutput(); err != nil || !strings.Contains(string(out), "--offline") {
		t.Skip("this systemd-analyze cannot look at a file")
	}
	out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=19", "--no-pager", "systemd/lockd.service").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// What the service starts takes the sockets that its socket unit opens.
func TestUnitsServe(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("systemd is Linux's")
	}
	dir := t.TempDir()
	args := strings.Fields(setting(t, "lockd.service", "ExecStart")[0])
	if !strings.HasSuffix(args[0], "/lockd") {
		t.Fatalf("the service starts %s", args[0])
	}
	name := setting(t, "lockd.socket", "FileDescriptorName")[0]
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "-", binary}, append(args[1:], "--admin", "off")...)...)
	var names, addrs []string
	for i, stream := range setting(t, "lockd.socket", "ListenStream") {
		network, addr := "tcp", "127.0.0.1:0" // not the very one, which may be in use
		if strings.HasPrefix(stream, "/") {
			network, addr = "unix", filepath.Join(dir, fmt.Sprint(i))
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		names, addrs = append(names, name), append(addrs, network+" "+l.Addr().String())
	}
	cmd.Env = append(os.Environ(), "LISTEN_FDNAMES="+strings.Join(names, ":"), fmt.Sprint("LISTEN_FDS=", len(names)))
	line := serve(t, cmd)
	for _, a := range addrs {
		network, addr, _ := strings.Cut(a, " ")
		if !strings.Contains(line, network+"="+addr) {
			t.Errorf("it does not listen on %s: %s", a, line)
		}
		ask(t, network, addr, "ping", "1 pong")
	}
	if len(addrs) < 2 {
		t.Errorf("only %q", addrs)
	}
}

// The container's program serves from a root that has nothing else, cannot be
// written to, and is somebody's who is not root.
func TestContainer(t *testing.T) {
	t.Parallel()
	recipe := read(t, "../Dockerfile")
	words := func(what string) (all []string) {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + what + ` (\[.*\])$`).FindStringSubmatch(recipe)
		if m == nil || json.Unmarshal([]byte(m[1]), &all) != nil {
			t.Fatalf("the recipe has no %s", what)
		}
		return all
	}
	user := regexp.MustCompile(`(?m)^USER (\d+:\d+)$`).FindStringSubmatch(recipe)
	if user == nil || strings.HasPrefix(user[1], "0:") {
		t.Fatalf("its user is %q", user)
	}
	entry, args, health := words("ENTRYPOINT"), words("CMD"), words("HEALTHCHECK CMD")
	if os.Geteuid() != 0 {
		t.Skip("only root can change the root")
	}
	for _, program := range []string{"unshare", "mount", "chroot"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("there is no ", program)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lockd"), []byte(read(t, binary)), 0o755); err != nil {
		t.Fatal(err)
	}
	enter := func(args ...string) *exec.Cmd {
		const script = `d=$1 u=$2; shift 2
			mount --bind "$d" "$d" && mount -o remount,ro,bind "$d" && exec chroot --userspec="$u" "$d" "$@"`
		return exec.Command("unshare", append([]string{"-m", "-n", "sh", "-c", script, "-", dir, user[1]}, args...)...)
	}
	if out, err := enter("/lockd", "version").CombinedOutput(); err != nil {
		t.Skipf("no namespaces here: %v, %s", err, out)
	}
	// In a network of its own without an interface that is up: so the port is free,
	// and health is asked in the same one.
	cmd := enter(append(entry, args...)...)
	if line := serve(t, cmd); !strings.Contains(line, "listening") || !strings.Contains(line, "tcp=[::]:9999") {
		t.Errorf("first line %q", line)
	}
	inside := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(cmd.Process.Pid), "-n", "sh", "-c", `ip link set lo up; exec "$@"`, "-", filepath.Join(dir, health[0])}, health[1:]...)...)
	if out, err := inside.CombinedOutput(); err != nil {
		t.Errorf("health: %v, %s", err, out)
	}
}

// TestREADME: who looks for something beside the program finds it there.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.Contains(string(readme), "]("+e.Name()) {
			t.Errorf("contrib/README.md does not have %s", e.Name())
		}
	}
}
