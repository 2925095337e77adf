//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPidFileIsAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(short(t), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	code, _, stderr := run("-t", anyPort, "--admin", "off", "-p", path)
	if code != 1 || !strings.Contains(stderr, "not a regular file") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the pipe is now %v, %v", info, err)
	}
}

// TestPidFileLockedByOthers: the message blames nobody who cannot be it.
func TestPidFileLockedByOthers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(short(t), "pid")
	self := strconv.Itoa(os.Getpid())
	for content, want := range map[string]string{
		self + "\n9999\n": "(" + self + ", says the pid file)",
		self + "\n":       "(" + self + ", says the pid file)",
		// More than any system's numbers, and more than the kernel looks at.
		"2147483647\n9999\n": "not 2147483647, whose number is in the pid file and who is gone: `fuser " + path + ".lock` or lslocks",
		"4294967297\n9999\n": "not 4294967297, whose number is in the pid file and who is gone",
		"":                   "another process has locked " + path + ".lock: `fuser " + path + ".lock` or lslocks finds it",
	} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(path + ".lock")
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := run("-t", anyPort, "--admin", "off", "-p", path)
		if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, %q, want %q", content, code, stderr, want)
		}
		f.Close()
	}
}

// TestPidFileIsForReaders: others may read it, and whatever they do with it then
// keeps no server from starting.
func TestPidFileIsForReaders(t *testing.T) {
	t.Parallel()
	dir := short(t)
	path := filepath.Join(dir, "pid")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d := startWith(t, exec.Command("sh", "-c", `umask 022; exec "$0" "$@"`, binary, "-t", anyPort, "--admin", "off", "-p", path))
		for file, want := range map[string]os.FileMode{path: 0o644, path + ".lock": 0o600} {
			if info, err := os.Stat(file); err != nil || info.Mode() != want {
				t.Errorf("%s: %v, %v, want mode %v", file, info, err, want)
			}
		}
		reader, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		if err := syscall.Flock(int(reader.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			t.Errorf("who locks the pid file: %v", err)
		}
		if os.Geteuid() == 0 {
			other := exec.Command("sh", "-c", `cat "$0" && if cat "$0.lock" 2>&1; then echo opened; fi`, path)
			other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			out, err := other.CombinedOutput()
			if !strings.HasPrefix(string(out), strconv.Itoa(d.cmd.Process.Pid)+"\n") || strings.Contains(string(out), "opened") {
				t.Errorf("another user reads %q, %v", out, err)
			}
		}
		d.stop(syscall.SIGKILL) // it leaves both, and the reader has its lock
	}
}

// TestPidFileIsOurs: others do not choose where it lies.
func TestPidFileIsOurs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(short(t), "pid")
	if err := os.WriteFile(path, []byte("123\n9999\n"), 0o600); err != nil { // as older versions left it
		t.Fatal(err)
	}
	d := startWith(t, exec.Command("sh", "-c", `umask 027; exec "$0" "$@"`, binary, "-t", anyPort, "--admin", "off", "-p", path))
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("%v, %v, want mode 0640, as the umask says", info, err)
	}
	d.stop(syscall.SIGTERM)
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	target := path + ".target"
	if err := os.WriteFile(target, []byte("123\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := run("-t", anyPort, "--admin", "off", "-p", path)
	if got, _ := os.ReadFile(target); code != 1 || !strings.Contains(stderr, "not a regular file") || string(got) != "123\n" {
		t.Errorf("a link: exit code %d, %q; its target is now %q", code, stderr, got)
	}
}

// TestPidFileCannotBeWritten: a server that does not start leaves no files.
func TestPidFileCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := short(t)
	serve := exec.Command("sh", "-c", `ulimit -f 0; exec "$0" "$@"`, binary,
		"--unix", filepath.Join(dir, "s"), "--admin", "off", "-p", filepath.Join(dir, "pid"))
	out, _ := serve.CombinedOutput()
	if code := serve.ProcessState.ExitCode(); code != 1 || !strings.Contains(string(out), "cannot write the pid file") {
		t.Errorf("exit code %d, %q", code, out)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestLogReaderDies: nobody's locks depend on who reads the log.
func TestLogReaderDies(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d := &daemon{t: t, cmd: exec.Command(binary, "-t", anyPort, "--admin", "off", "-v"), log: bufio.NewReader(r)}
	d.cmd.Stderr = w
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.cmd.Process.Kill(); d.cmd.Wait() })
	w.Close()
	d.start = d.line()
	r.Close()
	for range 20 {
		dial(t, "tcp", d.addr("tcp")).ask("i a", "0 Lock Not Locked: a")
	}
	if code, _ := d.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("%v", d.cmd.ProcessState)
	}
}

// TestLogReaderStalls: a pipe that is full stops nobody.
func TestLogReaderStalls(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off", "-v")
	for range 1000 { // two lines each
		c := dial(t, "tcp", d.addr("tcp"))
		c.ask("i a", "0 Lock Not Locked: a")
		c.Close()
	}
	code, log := d.stop(syscall.SIGTERM)
	if code != 0 || !strings.HasSuffix(log, "msg=stopped\n") || strings.Count(log, "msg=connected") != 1000 {
		t.Errorf("exit code %d, %d lines: ... %s", code, strings.Count(log, "\n"), log[max(0, len(log)-200):])
	}
}

// TestHangupStopsNothing: it comes from those who want files read again, and
// from terminals that are closed. Not even one while the server drains counts as
// the second signal.
func TestHangupStopsNothing(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--drain-timeout", "1h")
	holder := dial(t, "tcp", d.addr("tcp"))
	holder.ask("g a", "1 Lock Get Success: a")
	for range 2 {
		d.cmd.Process.Signal(syscall.SIGHUP)
		if line := d.line(); !strings.Contains(line, `level=INFO msg="there is nothing to read again: going on" signal=hangup`) {
			t.Errorf("log line %q", line)
		}
	}
	holder.ask("g a", "1 Lock Get Success: a")
	dial(t, "tcp", d.addr("tcp")).ask("g a", "0 Lock Get Failure: a")
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.seek("waiting for clients")
	for range 3 {
		d.cmd.Process.Signal(syscall.SIGHUP)
		holder.ask("g a", "1 Lock Get Success: a")
	}
	holder.ask("r a", "1 Lock Release Success: a")
	holder.ended()
	if code, log := d.wait(); code != 0 || strings.Contains(log, "cutting") || !strings.Contains(log, "stopped") {
		t.Errorf("exit code %d, log %q", code, log)
	}
}

func TestServeKeepsIgnoredHangups(t *testing.T) {
	t.Parallel()
	d := startWith(t, exec.Command("sh", "-c", `trap "" HUP; exec "$@"`, "-", binary, "-t", anyPort, "--admin", "off"))
	d.cmd.Process.Signal(syscall.SIGHUP)
	dial(t, "tcp", d.addr("tcp")).ask("i a", "0 Lock Not Locked: a")
	if code, log := d.stop(syscall.SIGTERM); code != 0 || !strings.Contains(log, "signal=terminated") || strings.Contains(log, "hangup") {
		t.Errorf("exit code %d, log %q", code, log)
	}
}

// The default leaves 64 descriptors, and two for each processor that is used; with an
// admin address 33 more.
func TestMaxConnectionsAndOpenFiles(t *testing.T) {
	t.Parallel()
	d := startWith(t, exec.Command("sh", "-c", `ulimit -n 128 && GOMAXPROCS=3 exec "$@"`, "-", binary, "-t", anyPort, "--admin", "off",
		"--max-connections", "1000000"))
	if !strings.Contains(d.start, "level=WARN") || !strings.Contains(d.start, "wanted=1000000 allowed=58") {
		t.Fatalf("first line %q", d.start)
	}
	d.start = d.line()
	dial(t, "tcp", d.addr("tcp")).ask("i a", "0 Lock Not Locked: a")
}

// TestAdminTakesNoDescriptors: 140 connections to the admin address that hang, in
// each way, leave clients as many as --max-connections says, and the admin address
// has its own when clients have all of theirs.
func TestAdminTakesNoDescriptors(t *testing.T) {
	t.Parallel()
	for what, request := range map[string]string{
		"POSTs with withheld bodies": "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
		"pipelined pages unread":     strings.Repeat("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
		"no requests":                "",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			const allowed = 256 - 64 - 2*2 - 33
			d := startWith(t, exec.Command("sh", "-c", `ulimit -n 256 && GOMAXPROCS=2 exec "$@"`, "-", binary, "-t", anyPort, "--admin", anyPort,
				"--max-connections", "1000"))
			if want := "wanted=1000 allowed=" + strconv.Itoa(allowed); !strings.Contains(d.start, want) {
				t.Fatalf("first line %q, want %q", d.start, want)
			}
			d.start = d.line()
			for range 140 {
				c := dial(t, "tcp", d.addr("admin"))
				go io.WriteString(c, request)
			}
			for range allowed {
				dial(t, "tcp", d.addr("tcp")).ask("i a", "0 Lock Not Locked: a")
			}
			if line, _ := dial(t, "tcp", d.addr("tcp")).in.ReadString('\n'); line != "0 Too Many Connections\n" {
				t.Errorf("one too many: %q", line)
			}
			c := dial(t, "tcp", d.addr("admin"))
			io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if line, err := c.in.ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
				t.Errorf("the admin address: %q, %v", line, err)
			}
			if _, log := d.stop(syscall.SIGTERM); strings.Contains(log, "cannot accept") {
				t.Errorf("the log: %q", log)
			}
		})
	}
}

// TestSaysOnceThatItIsFull: a line a minute, not one for each refusal.
func TestSaysOnceThatItIsFull(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--max-connections", "1")
	dial(t, "tcp", d.addr("tcp")).ask("i a", "0 Lock Not Locked: a")
	began := time.Now()
	for range 3 {
		if all, _ := io.ReadAll(dial(t, "tcp", d.addr("tcp"))); string(all) != "0 Too Many Connections\n" {
			t.Errorf("a connection too many reads %q", all)
		}
	}
	if time.Since(began) > time.Minute {
		t.Skip("the machine is too slow for this test")
	}
	if _, log := d.stop(syscall.SIGTERM); strings.Count(log, `msg="too many connections: refusing more" max-connections=1`) != 1 {
		t.Errorf("log %q", log)
	}
}

// beginBench starts lockd bench for an hour.
func beginBench(t *testing.T, server string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	cmd := exec.Command(binary, "bench", "-s", server, "-c", "2", "-d", "1h")
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	t.Cleanup(func() { timer.Stop(); cmd.Process.Kill(); cmd.Wait() })
	return cmd, &out
}

func TestBenchIsTerminated(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	cmd, out := beginBench(t, d.addr("tcp"))
	c := dial(t, "tcp", d.addr("tcp"))
	await(t, func() bool { return !strings.Contains(stats(c), "command_g: 0\n") })
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 0 || !strings.Contains(out.String(), "throughput") {
		t.Errorf("%v, %q", cmd.ProcessState, out)
	}
}

// TestBenchWithoutReplies: one line, no table of zeros, and no success.
func TestBenchWithoutReplies(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	target := "redis://" + d.addr("tcp")
	code, stdout, stderr := run("bench", "-s", target, "-c", "2", "-d", "10ms")
	if code != 69 || stdout != "" || stderr != "lockd: "+target+" replied to nothing for 5s: is it a redis server?\n" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

// TestBenchInterruptedTwice: the first Ctrl-C waits for replies, which never
// come from a server that is stopped; the second one does not.
func TestBenchInterruptedTwice(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	c := dial(t, "tcp", d.addr("tcp"))
	for range 10 {
		before := stats(c)
		cmd, _ := beginBench(t, d.addr("tcp"))
		await(t, func() bool { return command(stats(c), "g") > command(before, "g") })
		d.cmd.Process.Signal(syscall.SIGSTOP)
		status := interrupt(cmd)
		d.cmd.Process.Signal(syscall.SIGCONT)
		switch {
		case status.Signaled() && status.Signal() == syscall.SIGINT:
			return
		case status.ExitStatus() != 0:
			t.Fatalf("status %v", status)
		}
		// It had all its replies when the server stopped: once more.
	}
	t.Error("it is never ended by the second signal")
}

// interrupt signals a process until it ends.
func interrupt(cmd *exec.Cmd) syscall.WaitStatus {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-ended:
			return cmd.ProcessState.Sys().(syscall.WaitStatus)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// command returns how often a verb was used, from what q replied.
func command(stats, verb string) int {
	_, rest, _ := strings.Cut(stats, "command_"+verb+": ")
	count, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.Atoi(count)
	return n
}
