//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what should come at once.
const patience = time.Minute

func TestLintian(t *testing.T) {
	t.Parallel()
	is(t, "lintian")
	out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", one(t, made.first, ".deb")).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		if out, err := exec.Command("sh", "-n", "../../contrib/package/deb-"+script).CombinedOutput(); err != nil {
			t.Errorf("%v, %s", err, out)
		}
	}
}

// A debian is a Debian of the smallest kind in a folder, of its own.
type debian struct {
	t   *testing.T
	dir string
}

// newDebian unpacks one, which tools/testdeps.sh has made.
func newDebian(t *testing.T) *debian {
	t.Helper()
	is(t, "unshare", "mount", "chroot", "tar", "dpkg")
	if os.Geteuid() != 0 {
		t.Skip("only root can change the root")
	}
	archive, err := filepath.Abs("../../bin/tools/debian.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(archive); err != nil {
		t.Skip("there is no bin/tools/debian.tar.gz, which tools/testdeps.sh makes with mmdebstrap")
	}
	d := &debian{t, t.TempDir()}
	if out, err := exec.Command("tar", "-xzf", archive, "-C", d.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	if out, err := d.command("true").CombinedOutput(); err != nil {
		t.Skipf("no namespaces here: %v, %s", err, out)
	}
	return d
}

// command is one in there, with a /proc, in a network of its own, which go with it.
func (d *debian) command(args ...string) *exec.Cmd {
	const script = `d=$1; shift; mount -t proc proc "$d/proc" && exec chroot "$d" "$@"`
	cmd := exec.Command("unshare", append([]string{"-m", "-n", "--propagation", "private", "sh", "-c", script, "-", d.dir}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// run runs a command in there.
func (d *debian) run(args ...string) string {
	d.t.Helper()
	out, err := d.command(args...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (d *debian) path(name string) string { return filepath.Join(d.dir, name) }

func (d *debian) read(name string) string {
	d.t.Helper()
	text, err := os.ReadFile(d.path(name))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

func (d *debian) write(name, text string, mode os.FileMode) {
	d.t.Helper()
	if err := os.WriteFile(d.path(name), []byte(text), mode); err != nil {
		d.t.Fatal(err)
	}
}

// put copies a file there, and returns what it is called there.
func (d *debian) put(file string) string {
	d.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		d.t.Fatal(err)
	}
	d.write(filepath.Base(file), string(text), 0o644)
	return "/" + filepath.Base(file)
}

// files are all names in there, but those of what says that it was used.
func (d *debian) files() (all []string) {
	d.t.Helper()
	err := filepath.WalkDir(d.dir, func(path string, _ os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, d.dir)
		if !strings.HasPrefix(name, "/var/lib/dpkg/") && !strings.HasPrefix(name, "/var/log/") && !strings.HasPrefix(name, "/var/cache/") &&
			!regexp.MustCompile(`^/lockd[^/]*\.(deb|rpm)$|^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$|^/etc/\.pwd\.lock$|^/var/lib/rpm|^/usr/lib/sysimage/rpm|^/etc/(subuid|subgid)$`).MatchString(name) {
			all = append(all, name)
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

// setting returns the values that a unit gives a setting.
func (d *debian) setting(unit, name string) (all []string) {
	d.t.Helper()
	for line := range strings.Lines(d.read(unit)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			all = append(all, value)
		}
	}
	if all == nil {
		d.t.Fatalf("%s does not set %s", unit, name)
	}
	return all
}

// A service is one that runs in there.
type service struct {
	d     *debian
	cmd   *exec.Cmd
	in    *bufio.Reader
	first string // all that it says until it listens
	unix  string // its unix socket
}

// start starts a service as its units say, and as systemd would, with more variables in
// its environment.
func (d *debian) start(units, name string, more ...string) *service {
	t := d.t
	t.Helper()
	unit, socket := units+"/"+name+".service", units+"/"+name+".socket"
	user, group := d.setting(unit, "User")[0], d.setting(unit, "Group")[0]
	args := []string{"-m", "-n", "--propagation", "private", "sh", "-c", `mount -t proc proc "$1/proc" && shift && LISTEN_PID=$$ exec "$@"`, "-",
		d.dir, "chroot", "--userspec=" + user + ":" + group, d.dir}
	args = append(args, strings.Fields(d.setting(unit, "ExecStart")[0])...)
	s := &service{d: d, cmd: exec.Command("unshare", args...)}
	s.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	text := d.read(unit)
	for line := range strings.Lines(text) {
		if pair, ok := strings.CutPrefix(strings.TrimSpace(line), "Environment="); ok {
			s.cmd.Env = append(s.cmd.Env, pair)
		}
	}
	for line := range strings.Lines(d.read(strings.TrimPrefix(d.setting(unit, "EnvironmentFile")[0], "-"))) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			s.cmd.Env = append(s.cmd.Env, line)
		}
	}
	if strings.Contains(text, "\nStateDirectory=") {
		folder := "/var/lib/" + d.setting(unit, "StateDirectory")[0]
		d.run("sh", "-ec", `mkdir -p -m 0700 "$2"; [ "$(stat -c %U:%G "$2")" = "$1" ] || chown -R "$1" "$2"`, "-", user+":"+group, folder)
	}
	var names []string
	for _, stream := range d.setting(socket, "ListenStream") {
		network, addr := "tcp", "127.0.0.1:0" // not the very one, which may be in use
		if strings.HasPrefix(stream, "/") {
			network, addr, s.unix = "unix", d.path(stream), stream
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
			os.Chmod(addr, 0o666) // whoever its group may be
		}
		defer l.Close()
		f, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s.cmd.ExtraFiles = append(s.cmd.ExtraFiles, f)
		names = append(names, d.setting(socket, "FileDescriptorName")[0])
	}
	s.cmd.Env = append(append(s.cmd.Env, more...), "LISTEN_FDNAMES="+strings.Join(names, ":"), fmt.Sprint("LISTEN_FDS=", len(names)))
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { s.cmd.Process.Kill() })
	defer timer.Stop()
	for s.in = bufio.NewReader(stderr); !strings.Contains(s.first, "listening"); {
		line, err := s.in.ReadString('\n')
		if s.first += line; err != nil {
			t.Fatalf("%s says %q, %v", name, s.first, err)
		}
	}
	status := d.readHost(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if uid := regexp.MustCompile(`(?m)^Uid:\t(\d+)\t`).FindStringSubmatch(status); uid == nil || uid[1] == "0" ||
		!strings.Contains(d.read("/etc/passwd"), "lockd:x:"+uid[1]+":") {
		t.Errorf("%s runs as %q", name, uid)
	}
	if out := d.run("lockd", "ping", "-s", "unix://"+s.unix); !strings.Contains(out, "replied in") {
		t.Errorf("ping: %q", out)
	}
	return s
}

func (s *service) stop() {
	t := s.d.t
	t.Helper()
	timer := time.AfterFunc(patience, func() { s.cmd.Process.Kill() })
	defer timer.Stop()
	s.cmd.Process.Signal(syscall.SIGTERM)
	rest, _ := io.ReadAll(s.in)
	if err := s.cmd.Wait(); err != nil || !strings.Contains(string(rest), "stopped") {
		t.Errorf("it ends with %v, %s", err, rest)
	}
	if err := os.Remove(s.d.path(s.unix)); err != nil { // as its socket unit would when it is stopped
		t.Error(err)
	}
}

// serve has the server run, asks it, and returns all that it says until it listens.
func (d *debian) serve(units string) string {
	d.t.Helper()
	s := d.start(units, "lockd")
	s.stop()
	return s.first
}

const (
	stateFile = "/var/lib/lockd/state"
	waits     = "there was no state file" // says a server that waits for whomever it may have kept
)

// firstState checks the state file of a first installation: the server's own, with
// nobody in it, and nothing beside it.
func (d *debian) firstState() {
	d.t.Helper()
	if got := d.run("stat", "-c", "%U:%G %a", "/var/lib/lockd", stateFile); got != "lockd:lockd 700\nlockd:lockd 600\n" {
		d.t.Errorf("the state file and its folder are %q", got)
	}
	if entries, err := os.ReadDir(d.path("/var/lib/lockd")); err != nil || len(entries) != 1 {
		d.t.Errorf("beside the state file: %v, %v", entries, err)
	}
	if got := d.run("lockd", "state", "show", stateFile); !regexp.MustCompile(`(?m)^start of the machine  .*, which goes on$(?s:.*)^kept clients          none$`).MatchString(got) {
		d.t.Errorf("the state file has in it\n%s", got)
	}
}

// keep has the server keep somebody who is gone, and ends it.
func (d *debian) keep(units string) {
	t := d.t
	t.Helper()
	s := d.start(units, "lockd")
	c, err := net.Dial("unix", d.path(s.unix))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "hello 2\n0 keep 5000\n")
	in := bufio.NewReader(c)
	in.ReadString('\n')
	if got, err := in.ReadString('\n'); !strings.HasPrefix(got, "0 5000 Kept: ") {
		t.Errorf("the server does not keep clients over a restart: %q, %v", got, err)
	}
	s.stop()
}

// proxy has the proxy run before a server.
func (d *debian) proxy(units string) {
	d.t.Helper()
	server := d.start(units, "lockd")
	proxy := d.start(units, "lockd-proxy", "LOCKD_SERVER=unix://"+server.unix)
	if proxy.unix == server.unix {
		d.t.Errorf("both have %s", proxy.unix)
	}
	if out := d.run("lockd", "run", "-s", "unix://"+proxy.unix, "a lock", "--", "lockd", "inspect", "-s", "unix://"+server.unix, "a lock"); !strings.Contains(out, "exclusive: held") {
		d.t.Errorf("under the proxy's lock the server says %s", out)
	}
	proxy.stop()
	server.stop()
}

func (d *debian) readHost(name string) string {
	d.t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

// fakeSystemd has maintainer scripts believe that systemd runs, and tells what
// they ask of it.
func (d *debian) fakeSystemd() (asked func() string) {
	d.t.Helper()
	if err := os.MkdirAll(d.path("/run/systemd/system"), 0o755); err != nil {
		d.t.Fatal(err)
	}
	d.write("/usr/bin/systemctl", `#!/bin/sh
echo "$*" >>/tmp/asked
for unit; do :; done # the last
file=/lib/systemd/system/$unit
wants=/etc/systemd/system/$(sed -n 's/^WantedBy=//p' "$file" 2>/dev/null).wants/$unit
case " $* " in
*" preset "*) mkdir -p "${wants%/*}" && ln -sf "$file" "$wants" ;;
*" is-enabled "*) if [ -L "$wants" ]; then echo enabled; else echo disabled; exit 1; fi ;;
*" is-active "*) [ -e /tmp/active ] ;;
*" start "*) : >/tmp/active ;;
*" stop "*) rm -f /tmp/active ;;
esac
`, 0o755)
	return func() string {
		text, _ := os.ReadFile(d.path("/tmp/asked"))
		os.Remove(d.path("/tmp/asked"))
		return string(text)
	}
}

// A package's life: installed, served from, changed by its owner, replaced by
// the next version, removed, installed again, purged.
func TestDebian(t *testing.T) {
	t.Parallel()
	d := newDebian(t)
	asked := d.fakeSystemd()
	before := d.files()
	first, later := d.put(one(t, made.first, ".deb")), d.put(one(t, made.later, ".deb"))

	out := d.run("dpkg", "-i", first)
	if strings.Contains(out, "old version") {
		t.Errorf("installing says %s", out)
	}
	if got := asked(); !strings.Contains(got, "daemon-reload") || !regexp.MustCompile(`(?m)^(--quiet )?(--system )?start .*lockd\.socket.*lockd\.service`).MatchString(got) {
		t.Errorf("installing asks systemd %q", got)
	}
	for _, link := range []string{"multi-user.target.wants/lockd.service", "sockets.target.wants/lockd.socket"} {
		if _, err := os.Lstat(d.path("/etc/systemd/system/" + link)); err != nil {
			t.Errorf("it is not enabled: %v", err)
		}
	}
	for _, link := range []string{"multi-user.target.wants/lockd-proxy.service", "sockets.target.wants/lockd-proxy.socket"} {
		if _, err := os.Lstat(d.path("/etc/systemd/system/" + link)); err == nil {
			t.Errorf("%s is there: the proxy is enabled, without a server", link)
		}
	}
	user := regexp.MustCompile(`(?m)^lockd:x:(\d+):\d+:[^:]*:/nonexistent:/usr/sbin/nologin$`).FindString(d.read("/etc/passwd"))
	if user == "" {
		t.Errorf("no system user in\n%s", d.read("/etc/passwd"))
	}
	d.firstState()
	if line := d.serve("/lib/systemd/system"); strings.HasPrefix(line, "{") || strings.Contains(line, "recovering") {
		t.Errorf("at first it says %q", line)
	}
	d.proxy("/lib/systemd/system")
	d.keep("/lib/systemd/system")
	kept := d.read(stateFile)

	// The owner's settings are kept, whatever the next version brings.
	mine := d.read("/etc/default/lockd") + "LOCKD_LOG_FORMAT=json\n"
	d.write("/etc/default/lockd", mine, 0o644)
	if err := os.Remove(d.path("/etc/systemd/system/sockets.target.wants/lockd.socket")); err != nil { // disabled
		t.Fatal(err)
	}
	wanted := d.path("/etc/systemd/system/sockets.target.wants/lockd-proxy.socket")
	if err := os.Symlink("/lib/systemd/system/lockd-proxy.socket", wanted); err != nil { // enabled
		t.Fatal(err)
	}
	if out := d.run("dpkg", "--force-confdef", "--force-confold", "-i", later); !strings.Contains(out, "systemctl restart lockd") {
		t.Errorf("the next version does not say that the old one goes on:\n%s", out)
	}
	if got := asked(); strings.Contains(got, "restart") || strings.Contains(got, "stop") {
		t.Errorf("the next version frees all locks: systemd is asked %q", got)
	}
	if got := d.run("dpkg-query", "-W", "-f", "${Version}", "lockd"); !strings.HasSuffix(got, "-2") {
		t.Errorf("version %q is installed", got)
	}
	if got := d.read("/etc/default/lockd"); got != mine {
		t.Errorf("/etc/default/lockd has become %q", got)
	}
	if !strings.Contains(d.read("/etc/default/lockd.dpkg-dist"), changed) {
		t.Error("the next version's /etc/default/lockd is not there to compare")
	}
	if _, err := os.Lstat(d.path("/etc/systemd/system/sockets.target.wants/lockd.socket")); err == nil {
		t.Error("it is enabled again")
	}
	if _, err := os.Lstat(wanted); err != nil {
		t.Errorf("the proxy is not enabled any more: %v", err)
	}
	if got := d.read(stateFile); got != kept {
		t.Errorf("the state file was\n%sand is\n%s", kept, got)
	}
	if line := d.serve("/lib/systemd/system"); !strings.HasPrefix(line, "{") || !strings.Contains(line, `"kept-clients":1`) {
		t.Errorf("with json in /etc/default/lockd, and somebody who was kept, it says %q", line)
	}
	// One line switches the state file off.
	d.write("/etc/default/lockd", mine+"LOCKD_STATE=\n", 0o644)
	if line := d.serve("/lib/systemd/system"); strings.Contains(line, "recovering") {
		t.Errorf("without a state file it says %q", line)
	}
	d.write("/etc/default/lockd", mine, 0o644)

	// Its settings and its user outlive the program.
	d.write("/etc/lockd/auth", "", 0o644)
	d.run("dpkg", "-r", "lockd")
	if got := asked(); !regexp.MustCompile(`(?m)^(--quiet )?(--system )?stop .*lockd\.service`).MatchString(got) {
		t.Errorf("removing asks systemd %q", got)
	}
	if got := d.read("/etc/default/lockd"); got != mine {
		t.Errorf("after it is removed, /etc/default/lockd is %q", got)
	}
	if _, err := os.Stat(d.path("/usr/bin/lockd")); err == nil {
		t.Error("the program is still there")
	}
	// Whom it kept is waited for by the next one, whatever was between them. But a file
	// that is gone is not made by any but the first.
	d.run("dpkg", "-i", later)
	if line := d.serve("/lib/systemd/system"); !strings.Contains(line, `"kept-clients":1`) {
		t.Errorf("installed again, it says %q", line)
	}
	os.Remove(d.path(stateFile))
	d.run("dpkg", "-i", later)
	if line := d.serve("/lib/systemd/system"); !strings.Contains(line, waits) {
		t.Errorf("when its state file was lost, it says %q", line)
	}
	d.run("dpkg", "-P", "lockd")
	if _, err := os.Lstat(d.path("/var/lib/lockd")); err == nil {
		t.Error("purged, it leaves its state file")
	}
	d.run("dpkg", "-i", later)
	if line := d.serve("/lib/systemd/system"); !strings.Contains(line, waits) {
		t.Errorf("purged and installed again, it says %q", line)
	}
	d.run("dpkg", "-P", "lockd")
	if got := d.read("/etc/passwd"); !strings.Contains(got, user) {
		t.Errorf("its user, %s, is no more", user)
	}
	if _, err := os.Stat(d.path("/etc/lockd/auth")); err != nil {
		t.Errorf("what its owner made is gone: %v", err)
	}
	os.RemoveAll(d.path("/etc/lockd"))
	asked()
	after := slices.DeleteFunc(d.files(), func(name string) bool { return slices.Contains(before, name) })
	for _, name := range after {
		if name != "/run/adduser" { // adduser's
			t.Errorf("purged, it leaves %s", name)
		}
	}
	if out, err := d.command("dpkg", "-l", "lockd").CombinedOutput(); err == nil && strings.Contains(string(out), "\nrc ") {
		t.Errorf("dpkg still knows it:\n%s", out)
	}
}

// The same in an image that is being built, where systemd does not run, and
// whose policy is to start nothing.
func TestDebianInAnImage(t *testing.T) {
	t.Parallel()
	d := newDebian(t)
	d.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
	d.run("dpkg", "-i", d.put(one(t, made.first, ".deb")))
	if _, err := os.Lstat(d.path("/etc/systemd/system/multi-user.target.wants/lockd.service")); err != nil {
		t.Errorf("it is not enabled: %v", err)
	}
	d.firstState()
	d.serve("/lib/systemd/system")
	d.run("dpkg", "-P", "lockd")
}

func TestRPM(t *testing.T) {
	t.Parallel()
	is(t, "rpm")
	file := one(t, made.first, ".rpm")
	query := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("rpm", append(args, file)...).CombinedOutput()
		if err != nil {
			t.Fatalf("rpm %q: %v, %s", args, err, out)
		}
		return string(out)
	}
	list := query("-qpl")
	for _, name := range []string{"/usr/bin/lockd", "/usr/lib/systemd/system/lockd.service", "/usr/lib/systemd/system/lockd.socket", "/etc/sysconfig/lockd", "/etc/lockd",
		"/usr/lib/systemd/system/lockd-proxy.service", "/usr/lib/systemd/system/lockd-proxy.socket", "/etc/sysconfig/lockd-proxy",
		"/usr/share/man/man8/lockd-serve.8.gz", "/usr/share/zsh/site-functions/_lockd", "/usr/share/doc/lockd/LICENSE"} {
		if !strings.Contains(list, name+"\n") {
			t.Errorf("no %s in\n%s", name, list)
		}
	}
	for _, name := range examples(t) { // as in Debian's: one list makes both
		if name = "/usr/share/doc/lockd/examples/" + name; !strings.Contains(list, name+"\n") {
			t.Errorf("no %s", name)
		}
	}
	if got := query("-qpc"); got != "/etc/sysconfig/lockd\n/etc/sysconfig/lockd-proxy\n" {
		t.Errorf("its settings: %q", got)
	}
	if got := query("-K", "--nosignature"); !strings.Contains(got, "OK") {
		t.Errorf("its digests: %s", got)
	}
	if got := query("-qp", "--qf", "%{NAME} %{LICENSE} %{BUILDTIME} %{BUILDHOST}"); got != "lockd MIT "+epoch+" lockd" {
		t.Errorf("it says %q", got)
	}

	// Installed, too, if in a Debian: by rpm of this machine, which knows nothing
	// of Debian's packages.
	d := newDebian(t)
	rpm := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("unshare", append([]string{"-m", "--propagation", "private", "sh", "-c", `mount -t proc proc "$1/proc" && exec rpm --nodeps --root "$@"`, "-", d.dir}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("rpm %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	asked := d.fakeSystemd()
	rpm("--test", "-i", file)
	rpm("-i", file)
	if got := asked(); !strings.Contains(got, "preset lockd.socket lockd.service") || strings.Contains(got, " start ") || strings.Contains(got, "proxy") {
		t.Errorf("installing asks systemd %q", got)
	}
	d.firstState()
	if line := d.serve("/usr/lib/systemd/system"); strings.Contains(line, "recovering") {
		t.Errorf("at first it says %q", line)
	}
	d.proxy("/usr/lib/systemd/system")
	d.keep("/usr/lib/systemd/system")
	kept := d.read(stateFile)
	mine := d.read("/etc/sysconfig/lockd") + "LOCKD_LOG_FORMAT=json\n"
	d.write("/etc/sysconfig/lockd", mine, 0o644)
	rpm("-U", one(t, made.later, ".rpm"))
	if got := asked(); strings.Contains(got, "restart") || strings.Contains(got, "stop") || strings.Contains(got, "disable") {
		t.Errorf("the next version frees all locks: systemd is asked %q", got)
	}
	if got := d.read("/etc/sysconfig/lockd"); got != mine {
		t.Errorf("/etc/sysconfig/lockd has become %q", got)
	}
	if got := d.read(stateFile); got != kept {
		t.Errorf("the state file was\n%sand is\n%s", kept, got)
	}
	if line := d.serve("/usr/lib/systemd/system"); !strings.HasPrefix(line, "{") || !strings.Contains(line, `"kept-clients":1`) {
		t.Errorf("with json in /etc/sysconfig/lockd, and somebody who was kept, it says %q", line)
	}
	rpm("-e", "lockd")
	if got := asked(); !strings.Contains(got, "disable --now lockd-proxy.service lockd-proxy.socket lockd.service lockd.socket") {
		t.Errorf("removing asks systemd %q", got)
	}
	if _, err := os.Stat(d.path("/usr/bin/lockd")); err == nil {
		t.Error("the program is still there")
	}
	if got := d.read("/etc/sysconfig/lockd.rpmsave"); got != mine {
		t.Errorf("its owner's settings are %q", got)
	}
	os.RemoveAll(d.path("/var/lib/lockd"))
	rpm("-i", file)
	if line := d.serve("/usr/lib/systemd/system"); !strings.Contains(line, waits) {
		t.Errorf("when its state file was lost, it says %q", line)
	}
}
