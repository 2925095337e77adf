package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A file is made for a first start, once, and shown, also while a server has it.
func TestState(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	code, out, errs := run("state", "new", path)
	if code != 0 || out != "" || errs != "" {
		t.Fatalf("new: %d, %q, %q", code, out, errs)
	}
	if code, _, errs := run("state", "new", path); code != 1 || !strings.Contains(errs, "there is one already") {
		t.Errorf("new again: %d, %q", code, errs)
	}
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--state", path)
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("hello 2", "2 lockd "+version(t))
	fmt.Fprintln(c, "0 keep 20000")
	if got, err := c.in.ReadString('\n'); !strings.HasPrefix(got, "0 20000 Kept: ") {
		t.Fatalf("keep: %q, %v", got, err)
	}
	code, out, errs = run("state", "show", path)
	if want := regexp.MustCompile(`(?s)^start of the machine  .*\nkept clients          1, for 20s\ntokens                below \d+ \(.*\)\n$`); code != 0 || !want.MatchString(out) || errs != "" {
		t.Errorf("show: %d, %q, %q", code, out, errs)
	}
	if code, _, errs := run("serve", "-t", anyPort, "--admin", "off", "--state", path); code == 0 || !strings.Contains(errs, "another server has it") {
		t.Errorf("a second server: %d, %q", code, errs)
	}
	other := filepath.Join(t.TempDir(), "other")
	os.WriteFile(other, []byte("hello\n"), 0o600)
	for _, args := range [][]string{{"state", "show", other}, {"serve", "-t", anyPort, "--admin", "off", "--state", other}} {
		if code, _, errs := run(args...); code == 0 || !strings.Contains(errs, "ove it away") {
			t.Errorf("%q of another file: %d, %q", args, code, errs)
		}
	}
}

// A file for a server that follows others says so, and its server gives larger tokens than
// they did, however far behind its clock is.
func TestStateAfterOthers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	above := time.Now().Add(9 * time.Hour).UnixMicro()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--tokens-above", "9007199254740991"}, 2, "--tokens-above must be below "},
		{[]string{"--tokens-above", "0"}, 2, "must be at least 1"},
		{[]string{"--from-cluster", "http://a:1"}, 2, "--from-cluster: \"http://a:1\" is no etcd's URL"},
		{[]string{"--from-cluster", "etcd://127.0.0.1:1/c", "--timeout", "300ms"}, 69, "no answer within 300ms"},
		{[]string{"--tokens-above", fmt.Sprint(above)}, 0, ""},
		{[]string{"--tokens-above", fmt.Sprint(above)}, 1, "there is one already"},
		{[]string{"--from-cluster", "etcd://127.0.0.1:1/c"}, 1, "there is one already"},
	} {
		code, out, errs := run(append([]string{"state", "new", path}, c.args...)...)
		if code != c.code || out != "" || !strings.Contains(errs, c.want) || (errs == "") != (c.want == "") {
			t.Errorf("%q: %d, %q, %q; want %d, %q", c.args, code, out, errs, c.code, c.want)
		}
	}
	if _, out, _ := run("state", "show", path); !strings.Contains(out, "none yet: the file follows other servers") {
		t.Errorf("show: %q", out)
	}
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--state", path, "--max-keep", "2s", "--dead-peer-timeout", "2s")
	d.start = d.line() // after that it recovers
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g x", "0 Server Recovering: x")
	c.ask("gw 20000 x", "1 Lock Get Success: x")
	fmt.Fprintln(c, "t x")
	got, err := c.in.ReadString('\n')
	var token int64
	if fmt.Sscan(got, &token); err != nil || token <= above {
		t.Errorf("%q, %v; want more than %d", got, err, above)
	}
	// A cluster cannot follow a server that is there, nor one that nobody knows.
	const url = "etcd://127.0.0.1:1/c"
	for _, args := range [][]string{
		{"--state", path}, {"--state", path + "x"}, {"--state", "state_test.go"},
	} {
		code, _, errs := run(append([]string{"cluster", "init", "--cluster", url}, args...)...)
		if want := map[string]string{path: "another server has it", path + "x": "no such file", "state_test.go": "ove it away"}[args[1]]; code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%q: %d, %q", args, code, errs)
		}
	}
	if code, _, errs := run("cluster", "init", "--cluster", url, "--tokens-above", "9007199254740991"); code != 2 || !strings.Contains(errs, "--tokens-above must be below ") {
		t.Errorf("%d, %q", code, errs)
	}
}

// A file in the place of another one goes on with its tokens, and its server waits for
// nobody.
func TestStateInPlaceOf(t *testing.T) {
	t.Parallel()
	old := filepath.Join(t.TempDir(), "state.old")
	path := strings.TrimSuffix(old, ".old")
	above := time.Now().Add(9 * time.Hour).UnixMicro()
	if code, _, errs := run("state", "new", old, "--tokens-above", fmt.Sprint(above)); code != 0 {
		t.Fatal(errs)
	}
	if _, out, _ := run("state", "show", old); !strings.Contains(out, ", ahead of this clock: a new file needs --in-place-of, or --tokens-above\n") {
		t.Errorf("show: %q", out)
	}
	if code, _, errs := run("state", "new", path, "--in-place-of", old, "--tokens-above", "1"); code != 2 || !strings.Contains(errs, "--in-place-of is for a server that waits for nobody") {
		t.Errorf("%d, %q", code, errs)
	}
	if code, _, errs := run("state", "new", path, "--in-place-of", path); code != 1 || !strings.Contains(errs, "no such file") {
		t.Errorf("%d, %q", code, errs)
	}
	if code, out, errs := run("state", "new", path, "--in-place-of", old); code != 0 || out != "" || errs != "" {
		t.Fatalf("%d, %q, %q", code, out, errs)
	}
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--state", path)
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g x", "1 Lock Get Success: x")
	fmt.Fprintln(c, "t x")
	got, err := c.in.ReadString('\n')
	var token int64
	if fmt.Sscan(got, &token); err != nil || token <= above {
		t.Errorf("%q, %v; want more than %d", got, err, above)
	}
}

// A cluster that would not wait for all whom a server has kept is not made.
func TestInitAfterKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	run("state", "new", path)
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--state", path, "--max-keep", "100s")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("hello 2", "2 lockd "+version(t))
	fmt.Fprintln(c, "0 keep 100000")
	if got, err := c.in.ReadString('\n'); !strings.HasPrefix(got, "0 100000 Kept: ") {
		t.Fatalf("keep: %q, %v", got, err)
	}
	d.cmd.Process.Kill()
	d.cmd.Wait()
	init := func(args ...string) string {
		code, _, errs := run(append([]string{"cluster", "init", "--cluster", "etcd://127.0.0.1:1/c", "--timeout", "300ms", "--state", path}, args...)...)
		return fmt.Sprint(code, " ", errs)
	}
	got := init()
	m := regexp.MustCompile(`^1 .*keeps clients for up to 1m40s, .* for 33s only: --holder-timeout (\S+)\n`).FindStringSubmatch(got)
	if m == nil {
		t.Fatalf("%q", got)
	}
	if got := init("--holder-timeout", m[1]); !strings.HasPrefix(got, "69 ") {
		t.Errorf("%q", got)
	}
}
