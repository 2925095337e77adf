package main_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// What this program is for other tests, if its environment says so.
const (
	beginWith = "LOCKD_TEST_START_WITH" // sets of signals to ignore and to block, before it becomes its arguments
	stayAs    = "LOCKD_TEST_STAY_AS"    // a user to become for good, until the end of the input
)

func init() {
	if sets := os.Getenv(beginWith); sets != "" {
		becomeWith(sets)
	}
	if user := os.Getenv(stayAs); user != "" {
		stay(user)
	}
}

// becomeWith starts a program with signals as an old-fashioned parent would have
// left them.
func becomeWith(sets string) {
	var ignored, blocked uint64
	if _, err := fmt.Sscanf(sets, "%x %x", &ignored, &blocked); err != nil {
		panic(err)
	}
	runtime.LockOSThread()
	os.Unsetenv(beginWith)
	for s := range uintptr(64) {
		action := [8]uintptr{uintptr(ignored >> s & 1)} // the handler comes first
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, s+1, uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
	const setmask = 2
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setmask, uintptr(unsafe.Pointer(&blocked)), 0, 8, 0, 0)
	panic(syscall.Exec(os.Args[1], os.Args[1:], os.Environ()))
}

func stay(user string) {
	uid, err := strconv.Atoi(user)
	if err == nil {
		err = syscall.Setuid(uid)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(os.Getpid())
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// TestRunKeepsSignals: a command starts with the signals ignored and blocked
// with which it would start without lockd run.
func TestRunKeepsSignals(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Skip(err)
	}
	direct := []string{cat, "/proc/self/status"}
	status := func(t *testing.T, ignored, blocked uint64, args ...string) string {
		t.Helper()
		cmd := exec.Command(self, args...)
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%x %x", beginWith, ignored, blocked))
		out, err := cmd.CombinedOutput()
		var lines []string
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "SigIgn:") || strings.HasPrefix(line, "SigBlk:") {
				lines = append(lines, line)
			}
		}
		if err != nil || len(lines) != 2 {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.Join(lines, "")
	}
	check := func(t *testing.T, ignored, blocked uint64) {
		t.Helper()
		name := fmt.Sprintf("of/%x/%x", ignored, blocked)
		run := append([]string{binary, "run", "-s", d.addr("tcp"), name, "--"}, direct...)
		if got, want := status(t, ignored, blocked, run...), status(t, ignored, blocked, direct...); got != want {
			t.Errorf("ignoring %x, blocking %x: it starts with\n%s, without lockd run with\n%s", ignored, blocked, got, want)
		}
	}
	const all = 1<<64 - 1
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		for _, set := range []uint64{0, all} {
			check(t, set, all-set)
			check(t, set, set)
		}
	})
	for s := range 64 {
		t.Run(strconv.Itoa(s+1), func(t *testing.T) {
			t.Parallel()
			check(t, 1<<s, 0)
			check(t, 0, 1<<s)
		})
	}
}

// TestRunKeepsIgnoredSignals: what the caller ignores ends neither lockd run
// nor its command.
func TestRunKeepsIgnoredSignals(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	for _, name := range []string{"HUP", "INT", "QUIT", "TERM", "USR1"} {
		cmd := exec.Command("sh", "-c", `trap "" `+name+`; exec "$@"`, "-", binary, "run", "-s", d.addr("tcp"), name, "--",
			"sh", "-c", fmt.Sprintf(`kill -%s $PPID; kill -%[1]s $$; echo alive`, name))
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "alive\n" {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
	// A command that is not to be told of its children tells us of its end.
	cmd := exec.Command("sh", "-c", `trap "" CHLD; exec "$@"`, "-", binary, "run", "-s", d.addr("tcp"), "CHLD", "--", "sh", "-c", "exit 7")
	if cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("CHLD: %v", cmd.ProcessState)
	}
}

// TestRunStageTells: what cannot be executed is told as ever, though another
// process than lockd has found out.
func TestRunStageTells(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	garbage := short(t) + "/garbage"
	if err := os.WriteFile(garbage, []byte("\x00\x01"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, binary, "run", "-s", d.addr("tcp"), "name", "--", garbage)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%x 0", beginWith, 1<<(syscall.SIGCHLD-1)))
	out, _ := cmd.CombinedOutput()
	if code, want := cmd.ProcessState.ExitCode(), "lockd: "+garbage+": exec format error\n"; code != 126 || string(out) != want {
		t.Errorf("exit code %d, %q, want 126, %q", code, out, want)
	}
	dial(t, "tcp", d.addr("tcp")).ask("i name", "0 Lock Not Locked: name")
}

// TestRunKeepsDescriptors: those that it was started with, and how many there
// may be.
func TestRunKeepsDescriptors(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const script = `ulimit -n; echo three >&3; ls /proc/self/fd | wc -l`
	for name, set := range map[string]uint64{"as ever": 0, "by a stage": 1 << (syscall.SIGCHLD - 1)} {
		run := func(args ...string) string {
			cmd := exec.Command("sh", "-c", `ulimit -S -n 77; exec "$@" 3>&1`, "-", self)
			cmd.Args = append(cmd.Args, args...)
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%x 0", beginWith, set))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return string(out)
		}
		sh, err := exec.LookPath("sh")
		if err != nil {
			t.Skip(err)
		}
		got := run(binary, "run", "-s", d.addr("tcp"), name, "--", sh, "-c", script)
		if want := run(sh, "-c", script); got != want || !strings.HasPrefix(got, "77\nthree\n") {
			t.Errorf("%s: %q, without lockd run %q", name, got, want)
		}
	}
}

// TestRunWakes: a signal that asks it to end is seen by a command that is
// stopped, too.
func TestRunWakes(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		r := begin(t, d, s.String(), "--", "sh", "-c", "ulimit -c 0; echo $$; kill -STOP $$")
		pid := r.number()
		await(t, func() bool { return state(pid) == 'T' })
		r.cmd.Process.Signal(s)
		r.ends(128 + int(s))
	}
}
