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
	"slices"
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

// serve starts a server, and returns what it says until it listens.
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
	said := ""
	for !strings.Contains(said, "listening") {
		line, err := in.ReadString('\n')
		if said += line; err != nil {
			t.Fatalf("%q, %v", said, err)
		}
	}
	t.Cleanup(func() {
		timer.Stop()
		cmd.Process.Signal(syscall.SIGTERM)
		rest, _ := io.ReadAll(in)
		if err := cmd.Wait(); err != nil || !strings.Contains(string(rest), "stopped") {
			t.Errorf("it ends with %v, %s", err, rest)
		}
	})
	return said
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

// services are those that there are units for, each with its socket unit.
var services = []string{"lockd", "lockd-proxy"}

// The services are confined: systemd's own figure is below 2.0.
func TestUnitIsConfined(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	if out, err := exec.Command(analyze, "security", "--help").CombinedOutput(); err != nil || !strings.Contains(string(out), "--offline") {
		t.Skip("this systemd-analyze cannot look at a file")
	}
	for _, name := range services {
		out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=19", "--no-pager", "systemd/"+name+".service").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// systemd understands all that is in the units.
func TestUnitsVerify(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	dir := t.TempDir()
	verify := func(change string) (string, error) {
		args := []string{"verify", "--man=no"}
		for _, name := range services {
			for _, ending := range []string{".service", ".socket"} {
				unit := strings.Replace(read(t, "systemd/"+name+ending), "/usr/local/bin/lockd", binary, 1) // has to be there
				if err := os.WriteFile(filepath.Join(dir, name+ending), []byte(unit+change), 0o644); err != nil {
					t.Fatal(err)
				}
				args = append(args, filepath.Join(dir, name+ending))
			}
		}
		out, err := exec.Command(analyze, args...).CombinedOutput()
		return string(out), err
	}
	if out, _ := verify("\n[Service]\nKillTheMode=no\n"); !strings.Contains(out, "KillTheMode") {
		t.Skipf("this systemd-analyze does not tell a wrong unit: %s", out)
	}
	if out, err := verify(""); err != nil || out != "" {
		t.Errorf("%v\n%s", err, out)
	}
}

// What the proxy may do is what the server may, but for the folder of the state file.
func TestSameConfinement(t *testing.T) {
	t.Parallel()
	confinement := func(name string) (all []string) {
		_, rest, found := strings.Cut(read(t, "systemd/"+name+".service"), "\n# It needs its sockets and nothing else")
		if !found {
			t.Fatalf("%s.service has nothing of it", name)
		}
		rest, _, _ = strings.Cut(rest, "[Install]")
		for line := range strings.Lines(rest) {
			if name, _, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") && !strings.HasPrefix(name, "StateDirectory") && name != "RuntimeDirectory" {
				all = append(all, strings.TrimSpace(line))
			}
		}
		return all
	}
	server, proxy := confinement("lockd"), confinement("lockd-proxy")
	if len(server) < 25 || !slices.Equal(server, proxy) {
		t.Errorf("the server has %q\nand the proxy %q", server, proxy)
	}
}

// The state file is where the service may write, and is one line of its settings, which
// beats the unit's, as systemd has it, since these are in a file.
func TestUnitHasState(t *testing.T) {
	t.Parallel()
	folder, mode := setting(t, "lockd.service", "StateDirectory"), setting(t, "lockd.service", "StateDirectoryMode")
	if got := setting(t, "lockd.service", "Environment"); len(got) != 1 || got[0] != "LOCKD_STATE=/var/lib/"+folder[0]+"/state" || mode[0] != "0700" {
		t.Errorf("%q, in %q, mode %q", got, folder, mode)
	}
	if start := setting(t, "lockd.service", "ExecStart")[0]; strings.Contains(start, "--state") {
		t.Errorf("nobody can switch it off in the file with settings: %s", start)
	}
	if unit := read(t, "systemd/lockd.service"); strings.Contains(unit, "\nExecStartPre") {
		t.Error("something runs before each start, when a state file may be missing that was lost")
	}
}

// What the services start takes the sockets that their socket units open: the server,
// with a state file and, by one line, without, and the proxy, which asks that server.
func TestUnitsServe(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("systemd is Linux's")
	}
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	if out, err := exec.Command(binary, "state", "new", state).CombinedOutput(); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	variable, _, _ := strings.Cut(setting(t, "lockd.service", "Environment")[0], "=")
	addrs := passSockets(t, "lockd", variable+"="+state)
	if out, err := exec.Command(binary, "state", "show", state).CombinedOutput(); err != nil {
		t.Errorf("%v, %s", err, out)
	}
	if _, err := os.Stat(state + ".lock"); err != nil {
		t.Errorf("the server does not have the state file: %v", err)
	}
	passSockets(t, "lockd", variable+"=") // as a second one that had the file it would not start

	server := addrs["unix"]
	proxy := passSockets(t, "lockd-proxy", "LOCKD_SERVER=unix://"+server)
	c, err := net.Dial("unix", proxy["unix"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "gw 30000 a\n") // who may not wait hears earlier that a busy server is late
	if got, err := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(got, "1 ") {
		t.Errorf("the proxy says %q, %v", got, err)
	}
	ask(t, "unix", server, "i a", "1 Lock Is Locked: a")
}

// passSockets starts a service with sockets as its socket unit has them, asks over each,
// and returns their addresses by network.
func passSockets(t *testing.T, name string, environment ...string) map[string]string {
	t.Helper()
	args := strings.Fields(setting(t, name+".service", "ExecStart")[0])
	if !strings.HasSuffix(args[0], "/lockd") {
		t.Fatalf("the service starts %s", args[0])
	}
	passed := setting(t, name+".socket", "FileDescriptorName")[0]
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "-", binary}, append(args[1:], "--admin", "off")...)...)
	addrs := map[string]string{}
	var names []string
	for _, stream := range setting(t, name+".socket", "ListenStream") {
		network, addr := "tcp", "127.0.0.1:0" // not the very one, which may be in use
		if strings.HasPrefix(stream, "/") {
			network, addr = "unix", filepath.Join(t.TempDir(), "s")
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
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		names, addrs[network] = append(names, passed), l.Addr().String()
	}
	cmd.Env = append(append(os.Environ(), environment...), "LISTEN_FDNAMES="+strings.Join(names, ":"), fmt.Sprint("LISTEN_FDS=", len(names)))
	line := serve(t, cmd)
	for network, addr := range addrs {
		if !strings.Contains(line, network+"="+addr) {
			t.Errorf("%s does not listen on %s: %s", name, addr, line)
		}
		ask(t, network, addr, "ping", "1 pong")
	}
	if len(addrs) < 2 {
		t.Errorf("%s has only %q", name, addrs)
	}
	return addrs
}

// The container's program serves from a root that has nothing else, cannot be
// written to, and is somebody's who is not root; with a volume of his for a state file,
// too, made as docs/deploying.md says.
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
	dir := filepath.Join(t.TempDir(), "root")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "var/lib/lockd"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "lockd"), []byte(read(t, binary)), 0o755))
	var uid, gid int
	if _, err := fmt.Sscanf(user[1], "%d:%d", &uid, &gid); err != nil {
		t.Fatal(err)
	}
	must(os.Mkdir(dir+".volume", 0o700))
	must(os.Chown(dir+".volume", uid, gid))
	enter := func(args ...string) *exec.Cmd {
		const script = `d=$1 u=$2; shift 2
			mount --bind "$d" "$d" && mount --bind "$d.volume" "$d/var/lib/lockd" && mount -o remount,ro,bind "$d" && exec chroot --userspec="$u" "$d" "$@"`
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

	// The commands of docs/deploying.md.
	const volume = " -v lockd:/var/lib/lockd lockd "
	commands := 0
	for line := range strings.Lines(strings.ReplaceAll(read(t, "../docs/deploying.md"), "\\\n", "")) {
		_, args, found := strings.Cut(strings.Join(strings.Fields(line), " "), volume)
		if !found {
			continue
		}
		commands++
		cmd := enter(append(slices.Clip(entry), strings.Fields(args)...)...)
		if strings.HasPrefix(args, "state new ") {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v, %s", args, err, out)
			}
			continue
		}
		// No /proc is mounted in here, so the start of the machine is another one.
		if said := serve(t, cmd); strings.Contains(said, "no state file") {
			t.Errorf("%s: %s", args, said)
		}
	}
	if commands != 2 {
		t.Errorf("%d commands with a volume are in docs/deploying.md", commands)
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
