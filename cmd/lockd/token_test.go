package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// tokenLine is what token add prints, and all of it.
var tokenLine = regexp.MustCompile(`^lockd_[0-9A-Za-z]{43}\n$`)

// A token is made, works at once after a reload, and does not once it is removed.
func TestTokens(t *testing.T) {
	t.Parallel()
	path := filepath.Join(short(t), "auth")
	add := func(args ...string) string {
		t.Helper()
		code, stdout, stderr := run(append([]string{"token", "add", "--auth-file", path}, args...)...)
		if code != 0 || !tokenLine.MatchString(stdout) || strings.Contains(stderr, "lockd_") {
			t.Fatalf("exit code %d, %q, %q", code, stdout, stderr)
		}
		return strings.TrimSpace(stdout)
	}
	first := add("ci", "--role", "lock:deploy/")
	if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), first) {
		t.Fatalf("%q, %v", text, err)
	}
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--auth-file", path)
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g deploy/x", "0 Not Authenticated")
	c.ask("auth "+first, "1 ok")
	c.ask("g deploy/x", "1 Lock Get Success: deploy/x")
	c.ask("g x", "0 Not Allowed: g")

	second := add("ci", "--role", "lock:deploy/")
	add("ops", "--role", "admin")
	code, stdout, stderr := run("token", "list", "--auth-file", path)
	list := regexp.MustCompile(`^NAME +ROLE +HOW\nci +lock:deploy/ +(sha256:[0-9a-f]{12})\nci +lock:deploy/ +sha256:[0-9a-f]{12}\nops +admin +sha256:[0-9a-f]{12}\n$`)
	match := list.FindStringSubmatch(stdout)
	if code != 0 || stderr != "" || match == nil {
		t.Fatalf("exit code %d, %q, %q", code, stdout, stderr)
	}

	// Of two lines one is said, and the other goes on.
	if code, _, stderr := run("token", "remove", "ci", "--auth-file", path); code != 1 || !strings.Contains(stderr, "ci has 2 lines: say which, "+match[1]) {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if code, stdout, stderr := run("token", "remove", "ci", match[1], "--auth-file", path); code != 0 || stdout != "" || !strings.Contains(stderr, "removed ci lock:deploy/ "+match[1]) {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	d.cmd.Process.Signal(syscall.SIGHUP)
	d.seek(`msg="read again"`)
	c.ask("i deploy/x", "0 Not Authenticated")
	c.ask("auth "+first, "0 Auth Failed")
	c.ask("auth "+second, "1 ok")
	c.ask("r deploy/x", "1 Lock Release Success: deploy/x")

	// A broken file keeps what was.
	if err := os.WriteFile(path, []byte("ci\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.cmd.Process.Signal(syscall.SIGHUP)
	if line := d.seek("level=ERROR"); !strings.Contains(line, path+":1:1: a line has three words") {
		t.Errorf("%q", line)
	}
	c.ask("g deploy/x", "1 Lock Get Success: deploy/x")
}

// Without a file it says which line to add.
func TestTokenWithoutAFile(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := run("token", "add", "ci", "--role", "read")
	if code != 0 || !tokenLine.MatchString(stdout) || !regexp.MustCompile(`\nci read sha256:[0-9a-f]{64}\n$`).MatchString(stderr) {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

func TestTokenErrors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(short(t), "auth")
	if err := os.WriteFile(path, []byte("a lock uid:1\na lock uid:2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"add ci", 2, "missing flags: --role=ROLE[:PREFIX] (see lockd token add --help)"},
		{"add ci --role write", 2, "--role: a role is lock, read, admin or node"},
		{"add ci --role admin:x", 2, "admin cannot have a prefix"},
		{"add ci --role lock:", 2, "the prefix behind the colon is missing"},
		{"add #ci --role lock", 2, "a name cannot begin with #"},
		{"add a --role read --auth-file " + path, 1, "a has another role in line 1"},
		{"add b --role read --auth-file " + filepath.Dir(path), 1, "is not a regular file"},
		{"list", 2, "--auth-file is missing"},
		{"list --auth-file " + path + ".no", 1, "cannot read the auth file " + path + ".no"},
		{"remove a", 2, "--auth-file is missing"},
		{"remove b --auth-file " + path, 1, "has no line of b"},
		{"remove a uid:3 --auth-file " + path, 1, "has no line of a that begins so"},
		{"remove a uid: --auth-file " + path, 1, "a has 2 lines: say which, uid:1 or uid:2, or --all"},
		{"remove a uid:1 --all --auth-file " + path, 2, "there is no HOW with it"},
		{"remove a --auth-file " + path + ".no", 1, "there is no file " + path + ".no"},
	} {
		code, stdout, stderr := run(append([]string{"token"}, strings.Fields(c.args)...)...)
		if code != c.code || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d, %q, %q", c.args, code, stdout, stderr)
		}
	}
	if code, _, stderr := run("token", "remove", "a", "--all", "--auth-file", path); code != 0 || strings.Count(stderr, "removed a lock uid:") != 2 {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if code, stdout, stderr := run("token", "list", "--auth-file", path); code != 0 || stdout != "" || stderr != "lockd: nobody is let in\n" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

// What is open, and what crosses the network, is told at the start.
func TestWarnsOfTokensUnencrypted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(short(t), "auth")
	if err := os.WriteFile(path, []byte("a lock uid:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want string
	}{
		{"-t 0.0.0.0:0", "tokens for these addresses cross the network unencrypted"},
		{"-t 0.0.0.0:0 --auth-on websocket", "anybody who reaches these addresses can take and release locks"},
		{"-w 0.0.0.0:0 --auth-on websocket", "tokens for these addresses cross the network unencrypted"},
		{"-t 127.0.0.1:0", ""},
		{"-t 127.0.0.1:0 --admin 0.0.0.0:0", "tokens for these addresses cross the network unencrypted"},
		{"-t 127.0.0.1:0 --admin 127.0.0.1:0", ""},
	} {
		args := append(strings.Fields(c.args), "--auth-file", path)
		if !strings.Contains(c.args, "--admin") {
			args = append(args, "--admin", "off")
		}
		d := start(t, nil, args...)
		_, log := d.stop(syscall.SIGTERM)
		var warned []string
		for line := range strings.Lines(log) {
			if strings.Contains(line, "address") && strings.Contains(line, "level=WARN") {
				warned = append(warned, line)
			}
		}
		if len(warned) != min(1, len(c.want)) || len(warned) == 1 && !strings.Contains(warned[0], c.want) {
			t.Errorf("%s: %q, want %q", c.args, warned, c.want)
		}
	}
	code, _, stderr := run("--auth-on", "tcp", "-t", anyPort)
	if code != 2 || !strings.Contains(stderr, "--auth-on: needs an auth file") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}
